/* SPDX-License-Identifier: MIT */
/*
 * The keys folder: making keys, trusting, what is refused and how it is named.
 *
 * needs: transport/keys.c transport/keymake.c transport/tls.c transport/tls_session.c transport/ktls.c
 * needs: transport/socket.c
 * needs: transport/address.c lib/arena.c lib/io.c lib/readers.c lib/text.c lib/log.c mbedtls
 */
#include "transport/keys.h"

#include "lib/arena.h"
#include "lib/io.h"
#include "lib/log.h"
#include "tests/unit/unit.h"
#include "transport/tls.h"
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static char folder[] = "/tmp/baton-test-keys-XXXXXX";
static char dir_a[64], dir_b[64], path[128];
static uint8_t print_a[32], print_b[32];

static const char *in(const char *dir, const char *file)
{
	snprintf(path, sizeof(path), "%s/%s", dir, file);
	return path;
}

static int setup(void **state)
{
	UNUSED(state);
	if (!mkdtemp(folder) || arena_init() || tls_init())
		return -1;
	snprintf(dir_a, sizeof(dir_a), "%s/deep/a", folder);
	snprintf(dir_b, sizeof(dir_b), "%s/b", folder);
	if (keys_create(dir_a, "alpha", print_a))
		return -1;
	return keys_create(dir_b, "beta", print_b);
}

static int teardown(void **state)
{
	char command[128];

	UNUSED(state);
	snprintf(command, sizeof(command), "rm -rf '%s'", folder);
	return system(command);
}

static int clear(void **state)
{
	UNUSED(state);
	log_reason_clear();
	return 0;
}

static void reason_has(const char *text)
{
	if (!strstr(log_reason(), text))
		fail_msg("'%s' is not in the reason: %s", text, log_reason());
}

static void test_modes(void **state)
{
	struct stat st;

	UNUSED(state);
	assert_int_equal(stat(in(dir_a, "key.pem"), &st), 0);
	assert_int_equal(st.st_mode & 07777, 0600);
	assert_int_equal(stat(in(dir_a, "cert.pem"), &st), 0);
	assert_int_equal(st.st_mode & 07777, 0644);
	assert_int_equal(stat(dir_a, &st), 0);
	assert_int_equal(st.st_mode & 07777, 0700);
	assert_int_equal(stat(in(dir_a, "peers"), &st), 0);
	assert_int_equal(st.st_mode & 07777, 0700);
}

static void test_no_overwriting(void **state)
{
	uint8_t print[32];

	UNUSED(state);
	assert_int_equal(keys_create(dir_a, "other", print), -EEXIST);
	reason_has("key.pem is there already");
	assert_int_equal(tls_setup(dir_a), 0);
}

static void test_names(void **state)
{
	static const char *const bad[] = {
		"",
		"a b",
		"../x",
		"a,O=x",
		".hidden",
		"\xc3\xa4",
		"a-name-of-sixty-four-characters-is-one-too-many-for-this-program"};
	uint8_t print[32];

	UNUSED(state);
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		assert_int_equal(keys_create(dir_a, bad[i], print), -EINVAL);
}

static void test_setup(void **state)
{
	UNUSED(state);
	assert_int_equal(tls_setup(dir_a), 0);
	assert_int_equal(tls_setup(dir_b), 0);
	assert_int_equal(tls_setup("/no/such/folder"), -ENOENT);
	reason_has("/no/such/folder");
	reason_has("baton keygen");
}

static void test_key_readable_by_others(void **state)
{
	UNUSED(state);
	chmod(in(dir_a, "key.pem"), 0640);
	assert_int_equal(tls_setup(dir_a), -EACCES);
	reason_has("key.pem can be read by others (mode 0640)");
	reason_has("chmod 600");
	chmod(in(dir_a, "key.pem"), 0600);
	assert_int_equal(tls_setup(dir_a), 0);
}

static void test_folder_writable_by_others(void **state)
{
	UNUSED(state);
	chmod(dir_a, 0777);
	assert_int_equal(tls_setup(dir_a), -EACCES);
	reason_has("can be written by others");
	chmod(dir_a, 0700);
}

static void test_wrong_certificate(void **state)
{
	char other[128];

	UNUSED(state);
	snprintf(other, sizeof(other), "%s/saved", dir_a);
	assert_int_equal(rename(in(dir_a, "cert.pem"), other), 0);
	assert_int_equal(tls_setup(dir_a), -ENOENT);
	reason_has("cert.pem");
	log_reason_clear();
	{
		char pem[KEYS_FILE_MAX];
		ssize_t len = io_read_file(AT_FDCWD, in(dir_b, "cert.pem"), pem, sizeof(pem));
		int fd = open(dir_a, O_RDONLY | O_DIRECTORY);

		assert_true(len > 0);
		assert_int_equal(io_replace_file(fd, "cert.pem", 0644, pem, (size_t)len), 0);
		close(fd);
	}
	assert_int_equal(tls_setup(dir_a), -EINVAL);
	reason_has("is not the certificate of");
	assert_int_equal(rename(other, in(dir_a, "cert.pem")), 0);
}

static void test_trust(void **state)
{
	char name[KEYS_NAME_MAX], cert[128];
	uint8_t print[32];
	int fd;

	UNUSED(state);
	fd = keys_open(dir_a);
	assert_true(fd >= 0);
	assert_int_equal(keys_find_peer(fd, dir_a, print_b, name), 0);
	snprintf(cert, sizeof(cert), "%s/cert.pem", dir_b);
	assert_int_equal(keys_trust(dir_a, cert, name, print), 0);
	assert_string_equal(name, "beta");
	assert_memory_equal(print, print_b, 32);
	assert_int_equal(keys_find_peer(fd, dir_a, print_b, name), 1);
	assert_string_equal(name, "beta");
	assert_int_equal(keys_find_peer(fd, dir_a, print_a, name), 0);
	/* Again: nothing new. */
	assert_int_equal(keys_trust(dir_a, cert, name, print), 0);
	assert_string_equal(name, "beta");
	close(fd);
}

static void test_trust_same_name(void **state)
{
	char name[KEYS_NAME_MAX], dir[96], cert[128];
	uint8_t print[32];
	int fd;

	UNUSED(state);
	snprintf(dir, sizeof(dir), "%s/b2", folder);
	assert_int_equal(keys_create(dir, "beta", print), 0);
	snprintf(cert, sizeof(cert), "%s/cert.pem", dir);
	assert_int_equal(keys_trust(dir_a, cert, name, print), 0);
	assert_memory_equal(name, "beta-", 5);
	fd = keys_open(dir_a);
	assert_int_equal(keys_find_peer(fd, dir_a, print, name), 1);
	assert_int_equal(keys_find_peer(fd, dir_a, print_b, name), 1);
	close(fd);
}

static void test_trust_refuses(void **state)
{
	char name[KEYS_NAME_MAX], file[128];
	uint8_t print[32];

	UNUSED(state);
	snprintf(file, sizeof(file), "%s/key.pem", dir_b);
	assert_int_equal(keys_trust(dir_a, file, name, print), -EINVAL);
	reason_has("private key");
	log_reason_clear();
	assert_int_equal(keys_trust(dir_a, "/proc/self/status", name, print), -EINVAL);
	reason_has("no certificate");
	log_reason_clear();
	assert_int_equal(keys_trust(dir_a, "/no/such.pem", name, print), -ENOENT);
	log_reason_clear();
	assert_int_equal(keys_trust(dir_a, "/proc/self/exe", name, print), -EFBIG);
	log_reason_clear();
	/* Its own, wherever it lies: the file that was to be carried the other way. */
	snprintf(file, sizeof(file), "%s/cert.pem", dir_a);
	assert_int_equal(keys_trust(dir_a, file, name, print), -EINVAL);
	reason_has("of this device itself, 'alpha'");
}

static void test_peers_writable_by_others(void **state)
{
	char peers[128], name[KEYS_NAME_MAX];
	int fd;

	UNUSED(state);
	snprintf(peers, sizeof(peers), "%s/peers", dir_a);
	fd = keys_open(dir_a);
	assert_int_equal(chmod(peers, 0777), 0);
	assert_int_equal(keys_find_peer(fd, dir_a, print_b, name), -EACCES);
	reason_has("run: chown");
	reason_has(peers);
	assert_int_equal(chmod(peers, 0700), 0);
	close(fd);
}

static void test_broken_pem(void **state)
{
	static const char broken[] =
		"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
	mbedtls_x509_crt cert;

	UNUSED(state);
	mbedtls_x509_crt_init(&cert);
	assert_int_equal(
		keys_parse_certificate("x.pem", (const uint8_t *)broken, sizeof(broken) - 1, &cert),
		-EINVAL);
	reason_has("x.pem");
	mbedtls_x509_crt_free(&cert);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup(test_modes, clear),
		cmocka_unit_test_setup(test_no_overwriting, clear),
		cmocka_unit_test_setup(test_names, clear),
		cmocka_unit_test_setup(test_setup, clear),
		cmocka_unit_test_setup(test_key_readable_by_others, clear),
		cmocka_unit_test_setup(test_folder_writable_by_others, clear),
		cmocka_unit_test_setup(test_wrong_certificate, clear),
		cmocka_unit_test_setup(test_trust, clear),
		cmocka_unit_test_setup(test_trust_same_name, clear),
		cmocka_unit_test_setup(test_trust_refuses, clear),
		cmocka_unit_test_setup(test_peers_writable_by_others, clear),
		cmocka_unit_test_setup(test_broken_pem, clear),
	};

	return cmocka_run_group_tests(tests, setup, teardown);
}
