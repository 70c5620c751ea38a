/* SPDX-License-Identifier: MIT */
#undef CONFIG_CIPHER_LIBGCRYPT

#define mbedtls_gcm_init own_gcm_init
#define mbedtls_gcm_setkey own_gcm_setkey
#define mbedtls_gcm_starts own_gcm_starts
#define mbedtls_gcm_update_ad own_gcm_update_ad
#define mbedtls_gcm_update own_gcm_update
#define mbedtls_gcm_finish own_gcm_finish
#define mbedtls_gcm_crypt_and_tag own_gcm_crypt_and_tag
#define mbedtls_gcm_auth_decrypt own_gcm_auth_decrypt
#define mbedtls_gcm_free own_gcm_free
#define mbedtls_chachapoly_init own_chachapoly_init
#define mbedtls_chachapoly_setkey own_chachapoly_setkey
#define mbedtls_chachapoly_starts own_chachapoly_starts
#define mbedtls_chachapoly_update_aad own_chachapoly_update_aad
#define mbedtls_chachapoly_update own_chachapoly_update
#define mbedtls_chachapoly_finish own_chachapoly_finish
#define mbedtls_chachapoly_encrypt_and_tag own_chachapoly_encrypt_and_tag
#define mbedtls_chachapoly_auth_decrypt own_chachapoly_auth_decrypt
#define mbedtls_chachapoly_free own_chachapoly_free

/* The library's folder lies beside that of its headers. */
#include <../library/chachapoly.c>
#include <../library/gcm.c>
/* after the above, whose names it must see */
#include "tests/unit/own_cipher.h"

int own_seal(unsigned int bits, const unsigned char *key, const unsigned char *nonce,
	     const unsigned char *aad, size_t aad_len, const unsigned char *in, unsigned char *out,
	     size_t len, unsigned char tag[16])
{
	mbedtls_gcm_context gcm;
	mbedtls_chachapoly_context chacha;
	int err;

	mbedtls_gcm_init(&gcm);
	mbedtls_chachapoly_init(&chacha);
	if (bits) {
		err = mbedtls_gcm_setkey(&gcm, MBEDTLS_CIPHER_ID_AES, key, bits);
		if (!err)
			err = mbedtls_gcm_crypt_and_tag(&gcm, MBEDTLS_GCM_ENCRYPT, len, nonce, 12,
							aad, aad_len, in, out, 16, tag);
	} else {
		err = mbedtls_chachapoly_setkey(&chacha, key);
		if (!err)
			err = mbedtls_chachapoly_encrypt_and_tag(&chacha, len, nonce, aad, aad_len,
								 in, out, tag);
	}
	mbedtls_gcm_free(&gcm);
	mbedtls_chachapoly_free(&chacha);
	return err;
}
