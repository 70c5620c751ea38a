/* SPDX-License-Identifier: MIT */
/*
 * The password of the console: the file `console` in the keys folder, readable by its owner only, one line
 *
 *     pbkdf2-sha256 ITERATIONS SALT KEY       salt and key in hexadecimal
 */
#ifndef BATON_PASSWORD_H
#define BATON_PASSWORD_H

#include <stddef.h>
#include <stdint.h>

#define PASSWORD_KEY_BYTES 32
#define PASSWORD_SALT_BYTES 16
#define PASSWORD_LEAST 8 /* characters */

/*
 * PBKDF2 with HMAC-SHA-256 (RFC 8018), one block of output. Needs no memory but its stack. -EIO.
 */
int password_derive(const char *password, const uint8_t *salt, size_t salt_len, uint32_t iterations,
		    uint8_t key[static PASSWORD_KEY_BYTES]);

/* Whether a password is asked for: 1, 0 (there is no such file), or -errno with its reason: it cannot be read. */
int password_wanted(const char *keys_dir);

/*
 * 0: it is the one. -EACCES: it is not. Else -errno with its reason: the file cannot be read or understood,
 * and nobody gets in. Takes as long for a wrong one as for the right one.
 */
int password_check(const char *keys_dir, const char *password);

/* Makes the file, or replaces it. -EINVAL: shorter than PASSWORD_LEAST. -errno with its reason. */
int password_set(const char *keys_dir, const char *password);

#endif
