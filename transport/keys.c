/* SPDX-License-Identifier: MIT */
/* Reading the keys folder: this device's key and certificate, the CA, the pinned peers. */
#include "transport/keys.h"

#include "lib/arena.h"
#include "lib/io.h"
#include "lib/log.h"
#include "lib/text.h"
#include <errno.h>
#include <fcntl.h>
#include <mbedtls/oid.h>
#include <mbedtls/pem.h>
#include <mbedtls/platform_util.h>
#include <mbedtls/psa_util.h>
#include <mbedtls/sha256.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static const char pem_begin[] = "-----BEGIN CERTIFICATE-----";
static const char pem_end[] = "-----END CERTIFICATE-----";

int keys_check_owner(int fd, const char *dir, const char *sub)
{
	struct stat st;

	if (fstat(fd, &st) < 0)
		return -errno;
	if ((st.st_uid != geteuid() && st.st_uid != 0) || (st.st_mode & 022) != 0)
		return log_fail(
			EACCES,
			"%s%s can be written by others (owner %u, mode %04o); run: chown %u %s%s; "
			"chmod go-w %s%s",
			dir, sub, st.st_uid, st.st_mode & 07777, geteuid(), dir, sub, dir, sub);
	return 0;
}

int keys_open(const char *dir)
{
	int fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	int err;

	if (fd < 0)
		return log_fail(errno, "keys folder %s: %m; run: baton keygen --keys %s", dir, dir);
	err = keys_check_owner(fd, dir, "");
	if (err) {
		close(fd);
		return err;
	}
	return fd;
}

/* The key file is for its owner alone. */
static int check_private(int dir_fd, const char *dir)
{
	struct stat st;

	if (fstatat(dir_fd, "key.pem", &st, 0) < 0)
		return log_fail(errno, "%s/key.pem: %m; run: baton keygen --keys %s", dir, dir);
	if (st.st_uid != geteuid())
		return log_fail(EACCES,
				"%s/key.pem belongs to uid %u, not to uid %u that runs baton; "
				"run: chown %u %s/key.pem",
				dir, st.st_uid, geteuid(), geteuid(), dir);
	if ((st.st_mode & 077) != 0)
		return log_fail(EACCES,
				"%s/key.pem can be read by others (mode %04o); "
				"run: chmod 600 %s/key.pem",
				dir, st.st_mode & 07777, dir);
	return 0;
}

/* A PEM file into scratch, NUL-terminated. Bytes, or -errno with its reason. */
static ssize_t read_pem(int dir_fd, const char *dir, const char *name, uint8_t **text)
{
	ssize_t len;

	*text = arena_alloc(ARENA_SCRATCH, KEYS_FILE_MAX, 16);
	if (!*text)
		return log_fail(ENOMEM, "no memory left to read %s/%s", dir, name);
	len = io_read_file(dir_fd, name, *text, KEYS_FILE_MAX);
	if (len == -EFBIG)
		return log_fail(EFBIG, "%s/%s is larger than %d bytes: no certificate or key", dir,
				name, KEYS_FILE_MAX);
	if (len < 0)
		return log_fail((int)-len, "%s/%s: %m", dir, name);
	return len;
}

static int load_key(int dir_fd, const char *dir, mbedtls_pk_context *key)
{
	size_t mark = arena_mark();
	uint8_t *text;
	ssize_t len;
	int err;

	err = check_private(dir_fd, dir);
	if (err)
		return err;
	len = read_pem(dir_fd, dir, "key.pem", &text);
	if (len < 0) {
		err = (int)len;
	} else {
		err = mbedtls_pk_parse_key(key, text, (size_t)len + 1, NULL, 0,
					   mbedtls_psa_get_random, MBEDTLS_PSA_RANDOM_STATE);
		if (err || !mbedtls_pk_can_do(key, MBEDTLS_PK_ECKEY) ||
		    mbedtls_pk_get_bitlen(key) != 256)
			err = log_fail(EINVAL,
				       "%s/key.pem is no ECDSA P-256 key without a password "
				       "(mbedtls -0x%04x); make one with: baton keygen",
				       dir, (unsigned int)-err);
	}
	arena_reset(mark); /* wipes the text */
	return err;
}

static int load_certificate(int dir_fd, const char *dir, const char *name, mbedtls_x509_crt *cert)
{
	size_t mark = arena_mark();
	char what[256];
	uint8_t *text;
	ssize_t len = read_pem(dir_fd, dir, name, &text);
	int err = (int)len;

	if (len >= 0) {
		snprintf(what, sizeof(what), "%s/%s", dir, name);
		err = keys_parse_certificate(what, text, (size_t)len, cert);
	}
	arena_reset(mark);
	return err;
}

int keys_load(int dir_fd, const char *dir, mbedtls_pk_context *key, mbedtls_x509_crt *cert,
	      mbedtls_x509_crt *ca)
{
	int err = load_key(dir_fd, dir, key);

	if (!err)
		err = load_certificate(dir_fd, dir, "cert.pem", cert);
	if (!err &&
	    mbedtls_pk_check_pair(&cert->pk, key, mbedtls_psa_get_random, MBEDTLS_PSA_RANDOM_STATE))
		err = log_fail(EINVAL, "%s/cert.pem is not the certificate of %s/key.pem", dir,
			       dir);
	if (!err && faccessat(dir_fd, "ca.pem", F_OK, 0) == 0)
		err = load_certificate(dir_fd, dir, "ca.pem", ca);
	return err;
}

int keys_parse_certificate(const char *what, const uint8_t *pem, size_t len, mbedtls_x509_crt *cert)
{
	int err;

	if (memmem(pem, len, "PRIVATE KEY-----", 16))
		return log_fail(EINVAL,
				"%s is a private key, which should never leave its device; "
				"give the other device's cert.pem",
				what);
	if (!memmem(pem, len, pem_begin, sizeof(pem_begin) - 1))
		return log_fail(EINVAL, "%s is no certificate in PEM form", what);
	err = mbedtls_x509_crt_parse(cert, pem, len + 1);
	if (err)
		return log_fail(EINVAL,
				"%s is no certificate with an ECDSA P-256 key (mbedtls -0x%04x)",
				what, (unsigned int)-err);
	if (!mbedtls_pk_can_do(&cert->pk, MBEDTLS_PK_ECKEY) ||
	    mbedtls_pk_get_bitlen(&cert->pk) != 256)
		return log_fail(EINVAL, "%s has another key than ECDSA P-256", what);
	return 0;
}

int keys_fingerprint(const mbedtls_x509_crt *cert, uint8_t out[static KEYS_FINGERPRINT_BYTES])
{
	return mbedtls_sha256(cert->raw.p, cert->raw.len, out, 0) ? -EIO : 0;
}

void keys_fingerprint_text(const uint8_t fingerprint[static KEYS_FINGERPRINT_BYTES],
			   char out[static KEYS_FINGERPRINT_TEXT])
{
	text_put_hex(out, fingerprint, KEYS_FINGERPRINT_BYTES, ':');
}

void keys_common_name(const mbedtls_x509_crt *cert, char name[static KEYS_NAME_MAX])
{
	size_t len = 0;

	for (const mbedtls_x509_name *part = &cert->subject; part; part = part->next) {
		if (MBEDTLS_OID_CMP(MBEDTLS_OID_AT_CN, &part->oid) != 0)
			continue;
		for (; len < part->val.len && len < KEYS_NAME_MAX - 1; len++) {
			char c = (char)part->val.p[len];
			bool plain = (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') ||
				     (c >= 'A' && c <= 'Z') || c == '_' || c == '-' ||
				     (c == '.' && len > 0);

			name[len] = plain ? c : '_';
		}
		break;
	}
	name[len] = '\0';
}

/* Does this file hold the certificate with this SHA-256? Broken files are told and passed over. */
static int peer_matches(int peers_fd, const char *dir, const char *file, const uint8_t *fingerprint)
{
	uint8_t hash[KEYS_FINGERPRINT_BYTES];
	mbedtls_pem_context pem;
	size_t mark = arena_mark(), used, der_len;
	uint8_t *text = arena_alloc(ARENA_SCRATCH, KEYS_FILE_MAX, 16);
	int matches = 0;
	ssize_t len;

	if (!text)
		return log_fail(ENOMEM, "no memory left to read %s/peers/%s", dir, file);
	mbedtls_pem_init(&pem);
	len = io_read_file(peers_fd, file, text, KEYS_FILE_MAX);
	if (len < 0 || mbedtls_pem_read_buffer(&pem, pem_begin, pem_end, text, NULL, 0, &used)) {
		log_warn("%s/peers/%s is no certificate in PEM form; it is passed over", dir, file);
	} else {
		const uint8_t *der = mbedtls_pem_get_buffer(&pem, &der_len);

		matches = mbedtls_sha256(der, der_len, hash, 0) == 0 &&
			  memcmp(hash, fingerprint, sizeof(hash)) == 0;
	}
	mbedtls_pem_free(&pem);
	arena_reset(mark);
	return matches;
}

int keys_find_peer(int dir_fd, const char *dir,
		   const uint8_t fingerprint[static KEYS_FINGERPRINT_BYTES],
		   char name[static KEYS_NAME_MAX])
{
	struct dir_reader peers;
	const char *file;
	int found = 0, err;

	err = dir_reader_open(&peers, dir_fd, "peers");
	if (err == -ENOENT)
		return 0;
	if (err)
		return log_fail(-err, "%s/peers: %m", dir);
	err = keys_check_owner(peers.fd, dir, "/peers");
	while (!err && !found) {
		size_t len;

		err = dir_reader_next(&peers, &file, NULL);
		if (err <= 0)
			break;
		err = 0;
		len = strlen(file);
		if (file[0] == '.' || len < 5 || strcmp(file + len - 4, ".pem") != 0)
			continue;
		found = peer_matches(peers.fd, dir, file, fingerprint);
		if (found < 0)
			err = found;
		else if (found)
			snprintf(name, KEYS_NAME_MAX, "%.*s", (int)(len - 4), file);
	}
	dir_reader_close(&peers);
	return err ? err : found;
}
