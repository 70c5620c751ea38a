/* SPDX-License-Identifier: MIT */
/*
 * Addresses and numbers as text.
 *
 * needs: transport/address.c lib/io.c lib/readers.c lib/text.c lib/log.c
 */
#include "lib/log.h"
#include "lib/text.h"
#include "transport/socket.h"

#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	char text[600], word[16], name[SOCKET_NAME_MAX];
	struct sockaddr_storage addr;
	const char *cursor = text;
	uint64_t number;
	int64_t with_sign;

	if (size >= sizeof(text))
		return 0;
	memcpy(text, data, size);
	text[size] = '\0';
	if (socket_parse(text, 7117, size & 1, &addr) == 0)
		socket_name(&addr, name);
	text_parse_u64(text, 10, &number);
	text_parse_i64(text, 16, &with_sign);
	while (*cursor != '\0') {
		if (!text_take_u64(&cursor, 16, &number) &&
		    !text_take_i64(&cursor, 10, &with_sign) &&
		    !text_take_word(&cursor, word, sizeof(word)))
			cursor++;
	}
	log_reason_clear();
	return 0;
}
