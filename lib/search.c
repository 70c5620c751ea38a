/* SPDX-License-Identifier: MIT */
/*
 * The C library's searches under their own names, for us and for mbedtls. musl's are made for long texts and
 * patterns, and take 2.5 KiB for that; what is looked for here is short. Tests of parts are linked without
 * this file.
 */
#include <string.h>

void *memmem(const void *text, size_t len, const void *what, size_t what_len)
{
	const char *at = text, *end = at + len;

	if (!what_len)
		return (void *)text;
	while (at && (size_t)(end - at) >= what_len) {
		at = memchr(at, *(const unsigned char *)what, (size_t)(end - at) - what_len + 1);
		if (at && !memcmp(at, what, what_len))
			return (void *)at;
		at = at ? at + 1 : NULL;
	}
	return NULL;
}

char *strstr(const char *text, const char *what)
{
	return memmem(text, strlen(text), what, strlen(what));
}
