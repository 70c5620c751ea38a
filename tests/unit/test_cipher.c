/* SPDX-License-Identifier: MIT */
/*
 * The ciphers that this configuration has: published vectors, and byte for byte what mbedtls's own make of
 * every length. (Where it has mbedtls's own, they are compared with themselves.)
 *
 * needs: tests/unit/own_cipher.c lib/arena.c mbedtls
 */
#include "lib/arena.h"
#include "lib/config.h"
#include "tests/unit/own_cipher.h"
#include "tests/unit/unit.h"
#include <mbedtls/chachapoly.h>
#include <mbedtls/gcm.h>
#include <mbedtls/memory_buffer_alloc.h>
#include <psa/crypto.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define LEN_MAX 20000
#define AAD_MAX 100

/* The library wants it; nothing here does. */
psa_status_t mbedtls_psa_external_get_random(mbedtls_psa_external_random_context_t *context,
					     uint8_t *out, size_t size, size_t *filled)
{
	UNUSED(context);
	UNUSED(out);
	UNUSED(size);
	*filled = 0;
	return PSA_ERROR_NOT_SUPPORTED;
}

/* ---- one cipher or the other ---- */

union context {
	mbedtls_gcm_context gcm;
	mbedtls_chachapoly_context chacha;
};

static void begin(union context *ctx, unsigned int bits, const unsigned char *key)
{
	if (bits) {
		mbedtls_gcm_init(&ctx->gcm);
		assert_int_equal(mbedtls_gcm_setkey(&ctx->gcm, MBEDTLS_CIPHER_ID_AES, key, bits),
				 0);
	} else {
		mbedtls_chachapoly_init(&ctx->chacha);
		assert_int_equal(mbedtls_chachapoly_setkey(&ctx->chacha, key), 0);
	}
}

static void end(union context *ctx, unsigned int bits)
{
	if (bits)
		mbedtls_gcm_free(&ctx->gcm);
	else
		mbedtls_chachapoly_free(&ctx->chacha);
}

static int seal(union context *ctx, unsigned int bits, const unsigned char *nonce,
		const unsigned char *aad, size_t aad_len, const unsigned char *in,
		unsigned char *out, size_t len, unsigned char *tag)
{
	return bits ? mbedtls_gcm_crypt_and_tag(&ctx->gcm, MBEDTLS_GCM_ENCRYPT, len, nonce, 12, aad,
						aad_len, in, out, 16, tag)
		    : mbedtls_chachapoly_encrypt_and_tag(&ctx->chacha, len, nonce, aad, aad_len, in,
							 out, tag);
}

static int open_sealed(union context *ctx, unsigned int bits, const unsigned char *nonce,
		       const unsigned char *aad, size_t aad_len, const unsigned char *in,
		       unsigned char *out, size_t len, const unsigned char *tag)
{
	return bits ? mbedtls_gcm_auth_decrypt(&ctx->gcm, len, nonce, 12, aad, aad_len, tag, 16, in,
					       out)
		    : mbedtls_chachapoly_auth_decrypt(&ctx->chacha, len, nonce, aad, aad_len, tag,
						      in, out);
}

static int auth_failed(unsigned int bits)
{
	return bits ? MBEDTLS_ERR_GCM_AUTH_FAILED : MBEDTLS_ERR_CHACHAPOLY_AUTH_FAILED;
}

/* ---- vectors ---- */

struct vector {
	unsigned int bits; /* 0: ChaCha20-Poly1305 */
	const char *key, *nonce, *aad, *plain, *sealed, *tag;
};

#define GCM_KEY "feffe9928665731c6d6a8f9467308308"
#define GCM_PLAIN                                                                                  \
	"d9313225f88406e5a55909c5aff5269a86a7a9531534f7da2e4c303d8a318a72"                         \
	"1c3c0c95956809532fcf0e2449a6b525b16aedf5aa0de657ba637b39"
#define GCM_AAD "feedfacedeadbeeffeedfacedeadbeefabaddad2"
#define ZEROS_16 "00000000000000000000000000000000"
#define ZEROS_12 "000000000000000000000000"

static const struct vector vectors[] = {
	/* NIST, "The Galois/Counter Mode of Operation", test cases 1 to 4 and 13 to 16 */
	{128, ZEROS_16, ZEROS_12, "", "", "", "58e2fccefa7e3061367f1d57a4e7455a"},
	{128, ZEROS_16, ZEROS_12, "", ZEROS_16, "0388dace60b6a392f328c2b971b2fe78",
	 "ab6e47d42cec13bdf53a67b21257bddf"},
	{128, GCM_KEY, "cafebabefacedbaddecaf888", "", GCM_PLAIN "1aafd255",
	 "42831ec2217774244b7221b784d0d49ce3aa212f2c02a4e035c17e2329aca12e"
	 "21d514b25466931c7d8f6a5aac84aa051ba30b396a0aac973d58e091473f5985",
	 "4d5c2af327cd64a62cf35abd2ba6fab4"},
	{128, GCM_KEY, "cafebabefacedbaddecaf888", GCM_AAD, GCM_PLAIN,
	 "42831ec2217774244b7221b784d0d49ce3aa212f2c02a4e035c17e2329aca12e"
	 "21d514b25466931c7d8f6a5aac84aa051ba30b396a0aac973d58e091",
	 "5bc94fbc3221a5db94fae95ae7121a47"},
	{256, ZEROS_16 ZEROS_16, ZEROS_12, "", "", "", "530f8afbc74536b9a963b4f1c4cb738b"},
	{256, ZEROS_16 ZEROS_16, ZEROS_12, "", ZEROS_16, "cea7403d4d606b6e074ec5d3baf39d18",
	 "d0d1c8a799996bf0265b98b5d48ab919"},
	{256, GCM_KEY GCM_KEY, "cafebabefacedbaddecaf888", "", GCM_PLAIN "1aafd255",
	 "522dc1f099567d07f47f37a32a84427d643a8cdcbfe5c0c97598a2bd2555d1aa"
	 "8cb08e48590dbb3da7b08b1056828838c5f61e6393ba7a0abcc9f662898015ad",
	 "b094dac5d93471bdec1a502270e3cc6c"},
	{256, GCM_KEY GCM_KEY, "cafebabefacedbaddecaf888", GCM_AAD, GCM_PLAIN,
	 "522dc1f099567d07f47f37a32a84427d643a8cdcbfe5c0c97598a2bd2555d1aa"
	 "8cb08e48590dbb3da7b08b1056828838c5f61e6393ba7a0abcc9f662",
	 "76fc6ece0f4e1768cddf8853bb2d551b"},
	/* RFC 8439, 2.8.2 */
	{0, "808182838485868788898a8b8c8d8e8f909192939495969798999a9b9c9d9e9f",
	 "070000004041424344454647", "50515253c0c1c2c3c4c5c6c7",
	 "4c616469657320616e642047656e746c656d656e206f662074686520636c6173"
	 "73206f66202739393a204966204920636f756c64206f6666657220796f75206f"
	 "6e6c79206f6e652074697020666f7220746865206675747572652c2073756e73"
	 "637265656e20776f756c642062652069742e",
	 "d31a8d34648e60db7b86afbc53ef7ec2a4aded51296e08fea9e2b5a736ee62d6"
	 "3dbea45e8ca9671282fafb69da92728b1a71de0a9e060b2905d6a5b67ecd3b36"
	 "92ddbd7f2d778b8c9803aee328091b58fab324e4fad675945585808b4831d7bc"
	 "3ff4def08e4b7a9de576d26586cec64b6116",
	 "1ae10b594f09e26a7e902ecbd0600691"},
};

static size_t unhex(const char *text, unsigned char *out)
{
	size_t len = strlen(text) / 2;

	for (size_t i = 0; i < len; i++) {
		unsigned int byte;

		assert_int_equal(sscanf(text + 2 * i, "%2x", &byte), 1);
		out[i] = (unsigned char)byte;
	}
	return len;
}

static void test_vectors(void **state)
{
	UNUSED(state);
	for (size_t i = 0; i < sizeof(vectors) / sizeof(vectors[0]); i++) {
		const struct vector *v = &vectors[i];
		unsigned char key[32], nonce[12], aad[32], plain[128], sealed[128], tag[16];
		unsigned char out[128], made[16];
		union context ctx;
		size_t len = unhex(v->plain, plain), aad_len = unhex(v->aad, aad);

		unhex(v->key, key);
		unhex(v->nonce, nonce);
		assert_int_equal(unhex(v->sealed, sealed), len);
		unhex(v->tag, tag);
		begin(&ctx, v->bits, key);
		assert_int_equal(seal(&ctx, v->bits, nonce, aad, aad_len, plain, out, len, made),
				 0);
		assert_memory_equal(out, sealed, len);
		assert_memory_equal(made, tag, 16);
		assert_int_equal(
			open_sealed(&ctx, v->bits, nonce, aad, aad_len, sealed, out, len, tag), 0);
		assert_memory_equal(out, plain, len);
		end(&ctx, v->bits);
	}
}

/* ---- as mbedtls's own ---- */

static unsigned char plain[LEN_MAX], sealed[LEN_MAX], right[LEN_MAX], aad[AAD_MAX];
static unsigned char key[32], nonce[12];

static void randomise(unsigned char *at, size_t len)
{
	for (size_t i = 0; i < len; i++)
		at[i] = (unsigned char)random();
}

/* Both directions, into another buffer and in place; a wrong tag, text, AAD and nonce. */
static void compare(unsigned int bits, size_t len, size_t aad_len)
{
	unsigned char tag[16], right_tag[16];
	union context ctx;
	unsigned char *wrong[] = {tag + len % 16, nonce + len % 12, aad_len ? aad : NULL,
				  len ? sealed + len / 2 : NULL};

	randomise(nonce, sizeof(nonce));
	randomise(aad, aad_len);
	assert_int_equal(own_seal(bits, key, nonce, aad, aad_len, plain, right, len, right_tag), 0);
	begin(&ctx, bits, key);
	assert_int_equal(seal(&ctx, bits, nonce, aad, aad_len, plain, sealed, len, tag), 0);
	assert_memory_equal(sealed, right, len);
	assert_memory_equal(tag, right_tag, 16);
	memcpy(sealed, plain, len);
	assert_int_equal(seal(&ctx, bits, nonce, aad, aad_len, sealed, sealed, len, tag), 0);
	assert_memory_equal(sealed, right, len);
	assert_memory_equal(tag, right_tag, 16);

	for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
		if (!wrong[i])
			continue;
		*wrong[i] ^= (unsigned char)(1U << (len % 8));
		memset(right, 1, len);
		assert_int_equal(
			open_sealed(&ctx, bits, nonce, aad, aad_len, sealed, right, len, tag),
			auth_failed(bits));
		/* Nothing of what is not authentic may be seen. */
		for (size_t at = 0; at < len; at++)
			assert_int_equal(right[at], 0);
		*wrong[i] ^= (unsigned char)(1U << (len % 8));
	}
	assert_int_equal(open_sealed(&ctx, bits, nonce, aad, aad_len, sealed, right, len, tag), 0);
	assert_memory_equal(right, plain, len);
	assert_int_equal(open_sealed(&ctx, bits, nonce, aad, aad_len, sealed, sealed, len, tag), 0);
	assert_memory_equal(sealed, plain, len);
	end(&ctx, bits);
}

/* What the next cipher is opened with must not depend on the last. */
static void every_length(unsigned int bits)
{

	randomise(plain, sizeof(plain));
	for (size_t len = 0; len <= 4096; len++) { /* not a page */
		randomise(key, sizeof(key));
		compare(bits, len, len % 33);
	}
	for (int i = 0; i < 50; i++) {
		randomise(key, sizeof(key));
		compare(bits, (size_t)random() % LEN_MAX, (size_t)random() % AAD_MAX);
	}
}

static void test_aes_128(void **state)
{
	UNUSED(state);
	every_length(128);
}

static void test_aes_256(void **state)
{
	UNUSED(state);
	every_length(256);
}

static void test_chacha(void **state)
{
	UNUSED(state);
	every_length(0);
}

/* In pieces, as the multi-part functions of mbedtls are called: the same as at once. */
static void test_pieces(void **state)
{
	unsigned char tag[16], right_tag[16];
	union context ctx;
	size_t put, none;

	UNUSED(state);
	randomise(plain, sizeof(plain));
	assert_int_equal(own_seal(128, key, nonce, aad, 20, plain, right, 5000, right_tag), 0);
	begin(&ctx, 128, key);
	assert_int_equal(mbedtls_gcm_starts(&ctx.gcm, MBEDTLS_GCM_ENCRYPT, nonce, 12), 0);
	assert_int_equal(mbedtls_gcm_update_ad(&ctx.gcm, aad, 20), 0);
	for (size_t at = 0; at < 5000; at += 500)
		assert_int_equal(
			mbedtls_gcm_update(&ctx.gcm, plain + at, 500, sealed + at, 500, &put), 0);
	assert_int_equal(mbedtls_gcm_finish(&ctx.gcm, NULL, 0, &none, tag, 16), 0);
	end(&ctx, 128);
	assert_memory_equal(sealed, right, 5000);
	assert_memory_equal(tag, right_tag, 16);

	assert_int_equal(own_seal(0, key, nonce, aad, 20, plain, right, 5000, right_tag), 0);
	begin(&ctx, 0, key);
	assert_int_equal(mbedtls_chachapoly_starts(&ctx.chacha, nonce, MBEDTLS_CHACHAPOLY_ENCRYPT),
			 0);
	assert_int_equal(mbedtls_chachapoly_update_aad(&ctx.chacha, aad, 20), 0);
	for (size_t at = 0; at < 5000; at += 500)
		assert_int_equal(
			mbedtls_chachapoly_update(&ctx.chacha, 500, plain + at, sealed + at), 0);
	assert_int_equal(mbedtls_chachapoly_finish(&ctx.chacha, tag), 0);
	end(&ctx, 0);
	assert_memory_equal(sealed, right, 5000);
	assert_memory_equal(tag, right_tag, 16);
}

/* All memory is given back, and where there is none a key cannot be set. */
static void test_memory(void **state)
{
	size_t used, blocks, used_after;
	mbedtls_gcm_context ctx;
	static unsigned char small[1024] __attribute__((aligned(16)));

	UNUSED(state);
	mbedtls_memory_buffer_alloc_cur_get(&used, &blocks);
	compare(128, 1000, 5);
	compare(0, 1000, 5);
	mbedtls_memory_buffer_alloc_cur_get(&used_after, &blocks);
	assert_int_equal(used_after, used);

	mbedtls_memory_buffer_alloc_free();
	mbedtls_memory_buffer_alloc_init(small, sizeof(small));
	mbedtls_gcm_init(&ctx);
	assert_int_equal(mbedtls_gcm_setkey(&ctx, MBEDTLS_CIPHER_ID_AES, key, 128) ==
				 MBEDTLS_ERR_CIPHER_ALLOC_FAILED,
			 IS_ENABLED(CONFIG_CIPHER_LIBGCRYPT));
	mbedtls_gcm_free(&ctx);
}

static int setup(void **state)
{
	struct arena_usage usage;
	void *region;

	UNUSED(state);
	if (arena_init())
		return -1;
	arena_usage(ARENA_TLS, &usage);
	region = arena_alloc(ARENA_TLS, usage.size_bytes, 16);
	mbedtls_memory_buffer_alloc_init(region, usage.size_bytes);
	srandom(1);
	return 0;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_vectors), cmocka_unit_test(test_aes_128),
		cmocka_unit_test(test_aes_256), cmocka_unit_test(test_chacha),
		cmocka_unit_test(test_pieces),  cmocka_unit_test(test_memory),
	};

	return cmocka_run_group_tests_name("cipher", tests, setup, NULL);
}
