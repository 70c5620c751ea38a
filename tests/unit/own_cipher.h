/* SPDX-License-Identifier: MIT */
/* mbedtls's own ciphers under other names, beside whatever CONFIG_CIPHER_* has put in their place. */
#ifndef BATON_OWN_CIPHER_H
#define BATON_OWN_CIPHER_H

#include <stddef.h>

/*
 * Encrypts `len` bytes and makes their tag; nonces have 12 bytes. bits: 128, 192 or 256 for AES-GCM, 0 for
 * ChaCha20-Poly1305. 0, or an error of mbedtls.
 */
int own_seal(unsigned int bits, const unsigned char *key, const unsigned char *nonce,
	     const unsigned char *aad, size_t aad_len, const unsigned char *in, unsigned char *out,
	     size_t len, unsigned char tag[16]);

#endif
