/* SPDX-License-Identifier: MIT */
/* mbedtls's AES-GCM context where libgcrypt does the work (MBEDTLS_GCM_ALT); mbedtls gives the name. */
#ifndef BATON_GCM_ALT_H
#define BATON_GCM_ALT_H

struct gcry_cipher_handle;

typedef struct mbedtls_gcm_context {
	struct gcry_cipher_handle *handle; /* from mbedtls_gcm_setkey on */
	int mode; /* MBEDTLS_GCM_ENCRYPT or _DECRYPT, of what is under way */
} mbedtls_gcm_context;

#endif
