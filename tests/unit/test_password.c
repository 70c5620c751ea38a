/* SPDX-License-Identifier: MIT */
/*
 * The password of the console: the derivation against published vectors (RFC 7914, section 11), the file.
 *
 * needs: board/password.c transport/keys.c transport/tls.c transport/tls_session.c transport/socket.c
 * needs: transport/ktls.c transport/address.c lib/arena.c lib/io.c lib/readers.c lib/text.c lib/log.c mbedtls
 */
#include "board/password.h"

#include "lib/log.h"
#include "tests/unit/unit.h"
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static char folder[] = "/tmp/baton-test-password-XXXXXX";
static char path[64];

static int setup(void **state)
{
	UNUSED(state);
	if (!mkdtemp(folder))
		return -1;
	snprintf(path, sizeof(path), "%s/console", folder);
	return 0;
}

static int teardown(void **state)
{
	UNUSED(state);
	unlink(path);
	return rmdir(folder);
}

static void test_vectors(void **unused)
{
	static const uint8_t passwd[32] = {0x55, 0xac, 0x04, 0x6e, 0x56, 0xe3, 0x08, 0x9f,
					   0xec, 0x16, 0x91, 0xc2, 0x25, 0x44, 0xb6, 0x05,
					   0xf9, 0x41, 0x85, 0x21, 0x6d, 0xde, 0x04, 0x65,
					   0xe6, 0x8b, 0x9d, 0x57, 0xc2, 0x0d, 0xac, 0xbc};
	static const uint8_t password[32] = {0x4d, 0xdc, 0xd8, 0xf6, 0x0b, 0x98, 0xbe, 0x21,
					     0x83, 0x0c, 0xee, 0x5e, 0xf2, 0x27, 0x01, 0xf9,
					     0x64, 0x1a, 0x44, 0x18, 0xd0, 0x4c, 0x04, 0x14,
					     0xae, 0xff, 0x08, 0x87, 0x6b, 0x34, 0xab, 0x56};
	uint8_t key[32];

	UNUSED(unused);
	assert_int_equal(password_derive("passwd", (const uint8_t *)"salt", 4, 1, key), 0);
	assert_memory_equal(key, passwd, sizeof(key));
	assert_int_equal(password_derive("Password", (const uint8_t *)"NaCl", 4, 80000, key), 0);
	assert_memory_equal(key, password, sizeof(key));
}

static void test_long_password(void **unused)
{
	char text[200];
	uint8_t a[32], b[32];

	UNUSED(unused);
	memset(text, 'x', sizeof(text));
	text[199] = '\0';
	assert_int_equal(password_derive(text, (const uint8_t *)"s", 1, 2, a), 0);
	text[198] = '\0';
	assert_int_equal(password_derive(text, (const uint8_t *)"s", 1, 2, b), 0);
	assert_memory_not_equal(a, b, sizeof(a));
}

static void test_file(void **unused)
{
	struct stat st;

	UNUSED(unused);
	assert_int_equal(password_wanted(folder), 0);
	assert_int_equal(password_set(folder, "short"), -EINVAL);
	assert_int_equal(password_wanted(folder), 0);
	assert_int_equal(password_set(folder, "long enough"), 0);
	assert_int_equal(stat(path, &st), 0);
	assert_int_equal(st.st_mode & 0777, 0600);
	assert_int_equal(password_wanted(folder), 1);
	assert_int_equal(password_check(folder, "long enough"), 0);
	assert_int_equal(password_check(folder, "long enougH"), -EACCES);
	assert_int_equal(password_check(folder, ""), -EACCES);
	assert_int_equal(password_set(folder, "another one"), 0);
	assert_int_equal(password_check(folder, "long enough"), -EACCES);
	assert_int_equal(password_check(folder, "another one"), 0);
}

static void put_file(const char *text)
{
	FILE *file = fopen(path, "w");

	assert_non_null(file);
	fputs(text, file);
	fclose(file);
}

/* A file that cannot be used lets nobody in. */
static void test_bad_file(void **unused)
{
	static const char *const texts[] = {
		"",
		"long enough",
		"pbkdf2-sha256 1 00112233445566778899aabbccddeeff 00",
		"pbkdf2-sha256 100000 00112233445566778899aabbccddeeff 0011",
		"pbkdf2-sha256 1 00112233445566778899aabbccddeeff "
		"00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff",
	};

	UNUSED(unused);
	for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
		put_file(texts[i]);
		log_reason_clear();
		assert_true(password_wanted(folder) < 0);
		assert_non_null(strstr(log_reason(), "--set-password"));
		assert_true(password_check(folder, "long enough") < 0);
	}
	log_reason_clear();
	assert_int_equal(password_set(folder, "long enough"), 0);
	assert_int_equal(chmod(path, 0644), 0);
	assert_true(password_check(folder, "long enough") < 0);
	assert_non_null(strstr(log_reason(), "chmod 600"));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_vectors),
		cmocka_unit_test(test_long_password),
		cmocka_unit_test(test_file),
		cmocka_unit_test(test_bad_file),
	};

	return cmocka_run_group_tests(tests, setup, teardown);
}
