/* SPDX-License-Identifier: MIT */
/* Text in JSON. */
#include "cmd/json.h"

#include <stddef.h>
#include <stdio.h>

/* Length of the UTF-8 sequence at `text`, 0 when it is none. Continuation bytes stop it by themselves. */
static size_t utf8_len(const unsigned char *text)
{
	size_t len = text[0] >= 0xc2 && text[0] <= 0xdf   ? 2
		     : text[0] >= 0xe0 && text[0] <= 0xef ? 3
		     : text[0] >= 0xf0 && text[0] <= 0xf4 ? 4
							  : 0;

	for (size_t i = 1; i < len; i++)
		if ((text[i] & 0xc0) != 0x80)
			return 0;
	return len;
}

void json_print_string(const char *text)
{
	const unsigned char *at = (const unsigned char *)text;
	size_t len;

	putchar('"');
	for (; *at; at += len) {
		len = utf8_len(at);
		if (len) {
			fwrite(at, 1, len, stdout);
			continue;
		}
		len = 1;
		if (*at == '"' || *at == '\\')
			printf("\\%c", *at);
		else if (*at < ' ' || *at >= 0x7f)
			printf("\\u%04x", *at);
		else
			putchar(*at);
	}
	putchar('"');
}

void json_print_member(const char *key, const char *text)
{
	printf("\"%s\": ", key);
	json_print_string(text);
}
