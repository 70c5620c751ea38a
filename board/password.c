/* SPDX-License-Identifier: MIT */
/* The password of the console. */
#include <errno.h>
#include <mbedtls/sha256.h>
#include <stdio.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>

#include "board/password.h"
#include "lib/io.h"
#include "lib/log.h"
#include "lib/text.h"
#include "transport/keys.h"

#define FILE_NAME "console"
#define SCHEME "pbkdf2-sha256 "
/* About 0.1 s on a small processor without instructions for it; more can be in the file. */
#define ITERATIONS 100000
#define ITERATIONS_LEAST 1000
#define ITERATIONS_MOST 100000000
#define BLOCK_BYTES 64
#define FILE_MAX_BYTES 256

/* HMAC with a key whose both first blocks were hashed already: two blocks a round instead of four. */
struct hmac {
	mbedtls_sha256_context inner, outer;
};

static int hmac_key(struct hmac *hmac, const char *key)
{
	uint8_t block[BLOCK_BYTES] = {0};
	size_t len = strlen(key);
	int err = 0;

	if (len > sizeof(block))
		err = mbedtls_sha256((const uint8_t *)key, len, block, 0);
	else
		for (size_t i = 0; i < len; i++)
			block[i] = (uint8_t)key[i];
	mbedtls_sha256_init(&hmac->inner);
	mbedtls_sha256_init(&hmac->outer);
	for (size_t i = 0; i < sizeof(block); i++)
		block[i] ^= 0x36;
	err |= mbedtls_sha256_starts(&hmac->inner, 0);
	err |= mbedtls_sha256_update(&hmac->inner, block, sizeof(block));
	for (size_t i = 0; i < sizeof(block); i++)
		block[i] ^= 0x36 ^ 0x5c;
	err |= mbedtls_sha256_starts(&hmac->outer, 0);
	err |= mbedtls_sha256_update(&hmac->outer, block, sizeof(block));
	explicit_bzero(block, sizeof(block));
	return err;
}

/* Of `a` and then `b`. */
static int hmac_take(const struct hmac *hmac, const uint8_t *a, size_t a_len, const uint8_t *b,
		     size_t b_len, uint8_t out[static PASSWORD_KEY_BYTES])
{
	mbedtls_sha256_context hash = hmac->inner;
	int err = mbedtls_sha256_update(&hash, a, a_len);

	err |= mbedtls_sha256_update(&hash, b, b_len);
	err |= mbedtls_sha256_finish(&hash, out);
	hash = hmac->outer;
	err |= mbedtls_sha256_update(&hash, out, PASSWORD_KEY_BYTES);
	err |= mbedtls_sha256_finish(&hash, out);
	explicit_bzero(&hash, sizeof(hash));
	return err;
}

int password_derive(const char *password, const uint8_t *salt, size_t salt_len, uint32_t iterations,
		    uint8_t key[static PASSWORD_KEY_BYTES])
{
	static const uint8_t first[4] = {0, 0, 0, 1};
	uint8_t round[PASSWORD_KEY_BYTES];
	struct hmac hmac;
	int err = hmac_key(&hmac, password);

	err |= hmac_take(&hmac, salt, salt_len, first, sizeof(first), round);
	memcpy(key, round, sizeof(round));
	for (uint32_t i = 1; i < iterations && !err; i++) {
		err = hmac_take(&hmac, round, sizeof(round), NULL, 0, round);
		for (size_t at = 0; at < sizeof(round); at++)
			key[at] ^= round[at];
	}
	explicit_bzero(&hmac, sizeof(hmac));
	explicit_bzero(round, sizeof(round));
	return err ? -EIO : 0;
}

struct stored {
	uint64_t iterations;
	uint8_t salt[PASSWORD_SALT_BYTES], key[PASSWORD_KEY_BYTES];
};

static int parse(const char *text, struct stored *stored)
{
	char salt[2 * PASSWORD_SALT_BYTES + 1], key[2 * PASSWORD_KEY_BYTES + 1];
	const char *at = text_after(text, SCHEME);

	if (!at || !text_take_u64(&at, 10, &stored->iterations) ||
	    stored->iterations < ITERATIONS_LEAST || stored->iterations > ITERATIONS_MOST ||
	    !text_take_word(&at, salt, sizeof(salt)) || !text_take_word(&at, key, sizeof(key)) ||
	    *at)
		return -EINVAL;
	return text_parse_hex(salt, stored->salt, sizeof(stored->salt)) ||
			       text_parse_hex(key, stored->key, sizeof(stored->key))
		       ? -EINVAL
		       : 0;
}

/* -ENOENT: there is none. */
static int read_stored(const char *keys_dir, struct stored *stored)
{
	char text[FILE_MAX_BYTES];
	struct stat st;
	int dir_fd = keys_open(keys_dir);
	ssize_t len;

	if (dir_fd < 0)
		return dir_fd;
	len = io_read_file(dir_fd, FILE_NAME, text, sizeof(text));
	if (len >= 0 && (fstatat(dir_fd, FILE_NAME, &st, 0) || st.st_mode & 077))
		len = log_fail(EPERM,
			       "%s/" FILE_NAME
			       " can be read by others; run: chmod 600 %s/" FILE_NAME,
			       keys_dir, keys_dir);
	io_close(&dir_fd);
	if (len == -ENOENT || len == -EPERM)
		return (int)len;
	if (len < 0)
		return log_fail((int)-len, "%s/" FILE_NAME ": %s", keys_dir, strerror((int)-len));
	text[strcspn(text, "\n")] = '\0';
	if (parse(text, stored))
		return log_fail(EINVAL,
				"%s/" FILE_NAME
				" makes no sense; run: baton console --set-password",
				keys_dir);
	return 0;
}

int password_wanted(const char *keys_dir)
{
	struct stored stored;
	int err = read_stored(keys_dir, &stored);

	explicit_bzero(&stored, sizeof(stored));
	if (err != -ENOENT)
		return err ? err : 1;
	log_reason_clear();
	return 0;
}

int password_check(const char *keys_dir, const char *password)
{
	uint8_t key[PASSWORD_KEY_BYTES], differ = 0;
	struct stored stored = {0};
	int err = read_stored(keys_dir, &stored);

	if (!err)
		err = password_derive(password, stored.salt, sizeof(stored.salt),
				      (uint32_t)stored.iterations, key);
	if (err)
		return err;
	for (size_t i = 0; i < sizeof(key); i++)
		differ |= key[i] ^ stored.key[i];
	explicit_bzero(key, sizeof(key));
	explicit_bzero(&stored, sizeof(stored));
	return differ ? -EACCES : 0;
}

int password_set(const char *keys_dir, const char *password)
{
	uint8_t salt[PASSWORD_SALT_BYTES], key[PASSWORD_KEY_BYTES];
	char salt_text[3 * PASSWORD_SALT_BYTES + 1], key_text[3 * PASSWORD_KEY_BYTES + 1];
	char line[FILE_MAX_BYTES];
	int dir_fd, len, err;

	if (strlen(password) < PASSWORD_LEAST)
		return log_fail(EINVAL, "a password of at least %d characters is wanted",
				PASSWORD_LEAST);
	dir_fd = keys_open(keys_dir);
	if (dir_fd < 0)
		return dir_fd;
	err = getrandom(salt, sizeof(salt), 0) == sizeof(salt) ? 0 : -EIO;
	if (!err)
		err = password_derive(password, salt, sizeof(salt), ITERATIONS, key);
	if (!err) {
		text_put_hex(salt_text, salt, sizeof(salt), '\0');
		text_put_hex(key_text, key, sizeof(key), '\0');
		len = snprintf(line, sizeof(line), SCHEME "%d %s %s\n", ITERATIONS, salt_text,
			       key_text);
		err = io_replace_file(dir_fd, FILE_NAME, 0600, line, (size_t)len);
	}
	io_close(&dir_fd);
	return err ? log_fail(-err, "%s/" FILE_NAME ": %s", keys_dir, strerror(-err)) : 0;
}
