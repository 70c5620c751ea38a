/* SPDX-License-Identifier: MIT */
/*
 * mbedtls's AES-GCM and ChaCha20-Poly1305, made by libgcrypt (CONFIG_CIPHER_LIBGCRYPT): its functions
 * under the names, and with the results, that mbedtls's own have. See mbedtls/gcm.h and chachapoly.h.
 *
 * What libgcrypt allocates comes from mbedtls's allocator, so from ARENA_TLS. Before it can be told
 * so it takes a few hundred bytes from libc, once.
 */
#include <errno.h>
#include <gcrypt.h>
#include <mbedtls/chachapoly.h>
#include <mbedtls/cipher.h>
#include <mbedtls/constant_time.h>
#include <mbedtls/gcm.h>
#include <mbedtls/platform.h>
#include <mbedtls/platform_util.h>
#include <stdbool.h>
#include <string.h>

#define TAG_BYTES 16
#define NONCE_BYTES 12

/* ---- libgcrypt ---- */

static void *take(size_t size)
{
	return mbedtls_calloc(1, size);
}

static int is_secure(const void *block)
{
	(void)block;
	return 0;
}

/* Nothing that is used here asks for it. */
static void *take_again(void *block, size_t size)
{
	(void)block;
	(void)size;
	errno = ENOMEM;
	return NULL;
}

/* Once. Whatever the kernel or the environment says, not in FIPS mode: it would refuse the arena. */
static void start(void)
{
	static bool started;

	if (started)
		return;
	started = true;
	gcry_check_version(NULL);
	gcry_control(GCRYCTL_NO_FIPS_MODE, 0);
	gcry_control(GCRYCTL_DISABLE_SECMEM, 0);
	gcry_set_allocation_handler(take, take, is_secure, take_again, mbedtls_free);
	gcry_control(GCRYCTL_INITIALIZATION_FINISHED, 0);
}

/* Sets *handle, in place of what it was, to a cipher with this key. 0 or an error of mbedtls. */
static int open_cipher(struct gcry_cipher_handle **handle, int cipher, int mode,
		       const unsigned char *key, size_t len)
{
	start();
	gcry_cipher_close(*handle);
	*handle = NULL;
	if (gcry_cipher_open(handle, cipher, mode, 0))
		return MBEDTLS_ERR_CIPHER_ALLOC_FAILED;
	return gcry_cipher_setkey(*handle, key, len) ? MBEDTLS_ERR_CIPHER_BAD_INPUT_DATA : 0;
}

/* libgcrypt takes no input for an order to work in place. */
static bool feed(struct gcry_cipher_handle *handle, const unsigned char *data, size_t len)
{
	return len == 0 || gcry_cipher_authenticate(handle, data, len) == 0;
}

static bool crypt_bytes(struct gcry_cipher_handle *handle, bool encrypt, const unsigned char *in,
			unsigned char *out, size_t len)
{
	if (len == 0)
		return true;
	return (encrypt ? gcry_cipher_encrypt(handle, out, len, in, len)
			: gcry_cipher_decrypt(handle, out, len, in, len)) == 0;
}

/* Whether `tag` is the right one; otherwise nothing of what was decrypted remains. */
static bool is_authentic(const unsigned char *tag, const unsigned char *right, size_t tag_len,
			 unsigned char *out, size_t len)
{
	if (mbedtls_ct_memcmp(tag, right, tag_len) == 0)
		return true;
	mbedtls_platform_zeroize(out, len);
	return false;
}

/* ---- AES-GCM ---- */

void mbedtls_gcm_init(mbedtls_gcm_context *ctx)
{
	*ctx = (mbedtls_gcm_context){0};
}

void mbedtls_gcm_free(mbedtls_gcm_context *ctx)
{
	if (!ctx)
		return;
	gcry_cipher_close(ctx->handle);
	ctx->handle = NULL;
}

int mbedtls_gcm_setkey(mbedtls_gcm_context *ctx, mbedtls_cipher_id_t cipher,
		       const unsigned char *key, unsigned int keybits)
{
	int algorithm = keybits == 128   ? GCRY_CIPHER_AES128
			: keybits == 192 ? GCRY_CIPHER_AES192
					 : GCRY_CIPHER_AES256;

	if (cipher != MBEDTLS_CIPHER_ID_AES || (keybits != 128 && keybits != 192 && keybits != 256))
		return MBEDTLS_ERR_GCM_BAD_INPUT;
	return open_cipher(&ctx->handle, algorithm, GCRY_CIPHER_MODE_GCM, key, keybits / 8);
}

int mbedtls_gcm_starts(mbedtls_gcm_context *ctx, int mode, const unsigned char *iv, size_t iv_len)
{
	ctx->mode = mode;
	return iv_len == 0 || gcry_cipher_setiv(ctx->handle, iv, iv_len) ? MBEDTLS_ERR_GCM_BAD_INPUT
									 : 0;
}

int mbedtls_gcm_update_ad(mbedtls_gcm_context *ctx, const unsigned char *add, size_t add_len)
{
	return feed(ctx->handle, add, add_len) ? 0 : MBEDTLS_ERR_GCM_BAD_INPUT;
}

int mbedtls_gcm_update(mbedtls_gcm_context *ctx, const unsigned char *input, size_t input_length,
		       unsigned char *output, size_t output_size, size_t *output_length)
{
	if (output_size < input_length)
		return MBEDTLS_ERR_GCM_BUFFER_TOO_SMALL;
	*output_length = input_length;
	return crypt_bytes(ctx->handle, ctx->mode == MBEDTLS_GCM_ENCRYPT, input, output,
			   input_length)
		       ? 0
		       : MBEDTLS_ERR_GCM_BAD_INPUT;
}

int mbedtls_gcm_finish(mbedtls_gcm_context *ctx, unsigned char *output, size_t output_size,
		       size_t *output_length, unsigned char *tag, size_t tag_len)
{
	unsigned char whole[TAG_BYTES];

	(void)output;
	(void)output_size;
	*output_length = 0;
	if (tag_len < 4 || tag_len > TAG_BYTES || gcry_cipher_gettag(ctx->handle, whole, TAG_BYTES))
		return MBEDTLS_ERR_GCM_BAD_INPUT;
	memcpy(tag, whole, tag_len);
	return 0;
}

int mbedtls_gcm_crypt_and_tag(mbedtls_gcm_context *ctx, int mode, size_t length,
			      const unsigned char *iv, size_t iv_len, const unsigned char *add,
			      size_t add_len, const unsigned char *input, unsigned char *output,
			      size_t tag_len, unsigned char *tag)
{
	size_t none;
	int err = mbedtls_gcm_starts(ctx, mode, iv, iv_len);

	if (!err)
		err = mbedtls_gcm_update_ad(ctx, add, add_len);
	if (!err)
		err = mbedtls_gcm_update(ctx, input, length, output, length, &none);
	return err ? err : mbedtls_gcm_finish(ctx, NULL, 0, &none, tag, tag_len);
}

int mbedtls_gcm_auth_decrypt(mbedtls_gcm_context *ctx, size_t length, const unsigned char *iv,
			     size_t iv_len, const unsigned char *add, size_t add_len,
			     const unsigned char *tag, size_t tag_len, const unsigned char *input,
			     unsigned char *output)
{
	unsigned char right[TAG_BYTES];
	int err = mbedtls_gcm_crypt_and_tag(ctx, MBEDTLS_GCM_DECRYPT, length, iv, iv_len, add,
					    add_len, input, output, tag_len, right);

	if (!err && !is_authentic(tag, right, tag_len, output, length))
		err = MBEDTLS_ERR_GCM_AUTH_FAILED;
	return err;
}

/* ---- ChaCha20-Poly1305 ---- */

void mbedtls_chachapoly_init(mbedtls_chachapoly_context *ctx)
{
	*ctx = (mbedtls_chachapoly_context){0};
}

void mbedtls_chachapoly_free(mbedtls_chachapoly_context *ctx)
{
	if (!ctx)
		return;
	gcry_cipher_close(ctx->handle);
	ctx->handle = NULL;
}

int mbedtls_chachapoly_setkey(mbedtls_chachapoly_context *ctx, const unsigned char key[32])
{
	return open_cipher(&ctx->handle, GCRY_CIPHER_CHACHA20, GCRY_CIPHER_MODE_POLY1305, key, 32);
}

int mbedtls_chachapoly_starts(mbedtls_chachapoly_context *ctx, const unsigned char nonce[12],
			      mbedtls_chachapoly_mode_t mode)
{
	ctx->mode = mode;
	return gcry_cipher_setiv(ctx->handle, nonce, NONCE_BYTES) ? MBEDTLS_ERR_CHACHAPOLY_BAD_STATE
								  : 0;
}

int mbedtls_chachapoly_update_aad(mbedtls_chachapoly_context *ctx, const unsigned char *aad,
				  size_t aad_len)
{
	return feed(ctx->handle, aad, aad_len) ? 0 : MBEDTLS_ERR_CHACHAPOLY_BAD_STATE;
}

int mbedtls_chachapoly_update(mbedtls_chachapoly_context *ctx, size_t len,
			      const unsigned char *input, unsigned char *output)
{
	return crypt_bytes(ctx->handle, ctx->mode == MBEDTLS_CHACHAPOLY_ENCRYPT, input, output, len)
		       ? 0
		       : MBEDTLS_ERR_CHACHAPOLY_BAD_STATE;
}

int mbedtls_chachapoly_finish(mbedtls_chachapoly_context *ctx, unsigned char mac[16])
{
	return gcry_cipher_gettag(ctx->handle, mac, TAG_BYTES) ? MBEDTLS_ERR_CHACHAPOLY_BAD_STATE
							       : 0;
}

static int crypt_and_tag(mbedtls_chachapoly_context *ctx, mbedtls_chachapoly_mode_t mode,
			 size_t length, const unsigned char nonce[12], const unsigned char *aad,
			 size_t aad_len, const unsigned char *input, unsigned char *output,
			 unsigned char tag[16])
{
	int err = mbedtls_chachapoly_starts(ctx, nonce, mode);

	if (!err)
		err = mbedtls_chachapoly_update_aad(ctx, aad, aad_len);
	if (!err)
		err = mbedtls_chachapoly_update(ctx, length, input, output);
	return err ? err : mbedtls_chachapoly_finish(ctx, tag);
}

int mbedtls_chachapoly_encrypt_and_tag(mbedtls_chachapoly_context *ctx, size_t length,
				       const unsigned char nonce[12], const unsigned char *aad,
				       size_t aad_len, const unsigned char *input,
				       unsigned char *output, unsigned char tag[16])
{
	return crypt_and_tag(ctx, MBEDTLS_CHACHAPOLY_ENCRYPT, length, nonce, aad, aad_len, input,
			     output, tag);
}

int mbedtls_chachapoly_auth_decrypt(mbedtls_chachapoly_context *ctx, size_t length,
				    const unsigned char nonce[12], const unsigned char *aad,
				    size_t aad_len, const unsigned char tag[16],
				    const unsigned char *input, unsigned char *output)
{
	unsigned char right[TAG_BYTES];
	int err = crypt_and_tag(ctx, MBEDTLS_CHACHAPOLY_DECRYPT, length, nonce, aad, aad_len, input,
				output, right);

	if (!err && !is_authentic(tag, right, TAG_BYTES, output, length))
		err = MBEDTLS_ERR_CHACHAPOLY_AUTH_FAILED;
	return err;
}
