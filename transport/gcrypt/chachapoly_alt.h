/* SPDX-License-Identifier: MIT */
/* mbedtls's ChaCha20-Poly1305 context where libgcrypt does the work (MBEDTLS_CHACHAPOLY_ALT). */
#ifndef BATON_CHACHAPOLY_ALT_H
#define BATON_CHACHAPOLY_ALT_H

struct gcry_cipher_handle;

typedef struct mbedtls_chachapoly_context {
	struct gcry_cipher_handle *handle; /* from mbedtls_chachapoly_setkey on */
	mbedtls_chachapoly_mode_t mode;    /* of what is under way */
} mbedtls_chachapoly_context;

#endif
