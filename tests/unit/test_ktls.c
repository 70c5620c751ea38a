/* SPDX-License-Identifier: MIT */
/*
 * TLS by the kernel: the keys it is told, and records through it (skipped where it has no TLS).
 *
 * needs: transport/ktls.c lib/arena.c mbedtls
 */
#include "transport/ktls.h"

#include "tests/unit/unit.h"
#include <arpa/inet.h>
#include <errno.h>
#include <mbedtls/memory_buffer_alloc.h>
#include <netinet/in.h>
#include <psa/crypto.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

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

static int setup(void **state)
{
	static uint8_t memory[65536] __attribute__((aligned(16)));

	UNUSED(state);
	mbedtls_memory_buffer_alloc_init(memory, sizeof(memory));
	return psa_crypto_init() == PSA_SUCCESS ? 0 : -1;
}

/* RFC 8448, section 3: the server's traffic secret, and the key and iv made of it. */
static void test_expand(void **state)
{
	static const uint8_t secret[32] = {0xa1, 0x1a, 0xf9, 0xf0, 0x55, 0x31, 0xf8, 0x56,
					   0xad, 0x47, 0x11, 0x6b, 0x45, 0xa9, 0x50, 0x32,
					   0x82, 0x04, 0xb4, 0xf4, 0x4b, 0xfb, 0x6b, 0x3a,
					   0x4b, 0x4f, 0x1f, 0x3f, 0xcb, 0x63, 0x16, 0x43};
	static const uint8_t key[16] = {0x9f, 0x02, 0x28, 0x3b, 0x6c, 0x9c, 0x07, 0xef,
					0xc2, 0x6b, 0xb9, 0xf2, 0xac, 0x92, 0xe3, 0x56};
	static const uint8_t iv[12] = {0xcf, 0x78, 0x2b, 0x88, 0xdd, 0x83,
				       0x54, 0x9a, 0xad, 0xf1, 0xe9, 0x84};
	uint8_t out[32];

	UNUSED(state);
	assert_int_equal(ktls_expand(secret, "key", out, sizeof(key)), 0);
	assert_memory_equal(out, key, sizeof(key));
	assert_int_equal(ktls_expand(secret, "iv", out, sizeof(iv)), 0);
	assert_memory_equal(out, iv, sizeof(iv));
	assert_int_not_equal(ktls_expand(secret, "a label that is far too long", out, 16), 0);
	assert_int_not_equal(ktls_expand(secret, "key", out, 33), 0);
}

static void make_pair(int fds[2])
{
	struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr = {htonl(INADDR_LOOPBACK)}};
	socklen_t len = sizeof(at);
	int listening = socket(AF_INET, SOCK_STREAM, 0);

	assert_int_equal(bind(listening, (struct sockaddr *)&at, len), 0);
	assert_int_equal(getsockname(listening, (struct sockaddr *)&at, &len), 0);
	assert_int_equal(listen(listening, 1), 0);
	fds[0] = socket(AF_INET, SOCK_STREAM, 0);
	assert_int_equal(connect(fds[0], (struct sockaddr *)&at, len), 0);
	fds[1] = accept(listening, NULL, NULL);
	assert_true(fds[1] >= 0);
	close(listening);
}

/* Data both ways, then the end, which is a record of another type. */
static void test_records(void **state)
{
	struct ktls_direction ways[2] = {{.secret = {1}, .sequence = {[7] = 1}},
					 {.secret = {2}, .sequence = {[7] = 1}}};
	uint8_t buf[64], type;
	int fds[2], err;

	UNUSED(state);
	make_pair(fds);
	err = ktls_attach(fds[0]);
	if (err) {
		/* As without it: what is sent arrives. */
		assert_int_equal(err, -ENOENT);
		assert_int_equal(send(fds[0], "plain", 5, 0), 5);
		assert_int_equal(recv(fds[1], buf, sizeof(buf), 0), 5);
		close(fds[0]);
		close(fds[1]);
		print_message("the kernel has no TLS\n");
		skip();
	}
	assert_int_equal(ktls_attach(fds[1]), 0);
	for (int aes = 0; aes < 2; aes++) {
		if (aes) {
			make_pair(fds);
			assert_int_equal(ktls_attach(fds[0]), 0);
			assert_int_equal(ktls_attach(fds[1]), 0);
		}
		for (int end = 0; end < 2; end++) {
			ways[end].aes = aes;
			assert_int_equal(ktls_send_with(fds[end], &ways[end]), 0);
		}
		/* What has come before the keys is decrypted with them, too. */
		assert_int_equal(send(fds[0], "there", 5, 0), 5);
		for (int end = 0; end < 2; end++) {
			ways[!end].aes = aes;
			assert_int_equal(ktls_receive_with(fds[end], &ways[!end]), 0);
		}
		assert_int_equal(ktls_receive(fds[1], buf, sizeof(buf), &type), 5);
		assert_int_equal(type, KTLS_DATA);
		assert_memory_equal(buf, "there", 5);
		assert_int_equal(send(fds[1], "back", 4, 0), 4);
		assert_int_equal(ktls_receive(fds[0], buf, sizeof(buf), &type), 4);
		assert_memory_equal(buf, "back", 4);
		ktls_send_close(fds[0]);
		assert_int_equal(ktls_receive(fds[1], buf, sizeof(buf), &type), 2);
		assert_int_equal(type, KTLS_ALERT);
		assert_int_equal(buf[1], 0);
		close(fds[0]);
		close(fds[1]);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_expand),
		cmocka_unit_test(test_records),
	};

	return cmocka_run_group_tests_name("ktls", tests, setup, NULL);
}
