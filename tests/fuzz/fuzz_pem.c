/* SPDX-License-Identifier: MIT */
/*
 * Certificates given to `trust`: any text, through the checks and mbedtls's parser.
 *
 * needs: transport/keys.c transport/tls.c transport/tls_session.c transport/ktls.c
 * needs: transport/socket.c transport/address.c
 * needs: transport/lane.c transport/pack.c transport/traffic.c transport/frame.c lib/arena.c lib/io.c lib/readers.c lib/text.c
 * needs: lib/log.c mbedtls
 */
#include "transport/keys.h"

#include "lib/arena.h"
#include "lib/log.h"
#include "transport/tls.h"
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static bool ready;
	uint8_t text[KEYS_FILE_MAX], print[KEYS_FINGERPRINT_BYTES];
	struct arena_usage before, after;
	char name[KEYS_NAME_MAX];
	mbedtls_x509_crt cert;

	if (!ready && (arena_init() || tls_init()))
		abort();
	ready = true;
	if (size >= sizeof(text))
		return 0;
	memcpy(text, data, size);
	text[size] = '\0';
	arena_usage(ARENA_TLS, &before);
	mbedtls_x509_crt_init(&cert);
	if (keys_parse_certificate("fuzz.pem", text, size, &cert) == 0) {
		if (keys_fingerprint(&cert, print))
			abort();
		keys_common_name(&cert, name);
		if (strlen(name) >= sizeof(name) || strchr(name, '/'))
			abort();
	}
	mbedtls_x509_crt_free(&cert);
	arena_usage(ARENA_TLS, &after);
	if (after.used_bytes != before.used_bytes)
		abort();
	log_reason_clear();
	return 0;
}
