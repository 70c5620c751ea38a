/* SPDX-License-Identifier: MIT */
/* Writing into the keys folder: a new key and its certificate, a peer that is to be trusted. */
#include "transport/keys.h"

#include "lib/arena.h"
#include "lib/io.h"
#include "lib/log.h"
#include "lib/text.h"
#include <errno.h>
#include <fcntl.h>
#include <mbedtls/asn1write.h>
#include <mbedtls/oid.h>
#include <mbedtls/platform_util.h>
#include <mbedtls/psa_util.h>
#include <psa/crypto.h>
#include <stdio.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#define PEM_BYTES 2048 /* a P-256 key or a certificate as we make them takes less than 1 KiB */

/* A name becomes a file name and a part of a certificate: plain characters only. */
static int check_name(const char *name)
{
	size_t plain =
		strspn(name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-");

	if (name[0] == '\0' || name[0] == '.' || name[plain] != '\0' || plain >= KEYS_NAME_MAX)
		return log_fail(EINVAL,
				"'%s' is no name for a device: 1 to %d letters, digits, dots, "
				"dashes and underscores; choose one with --name",
				name, KEYS_NAME_MAX - 1);
	return 0;
}

/* Makes the folder and the one for peers, and opens it. */
static int make_folder(const char *dir)
{
	int err = io_make_dirs(dir, 0700);
	int fd;

	if (err)
		return log_fail(-err, "%s cannot be made: %m", dir);
	fd = keys_open(dir);
	if (fd < 0)
		return fd;
	if (mkdirat(fd, "peers", 0700) < 0 && errno != EEXIST) {
		err = log_fail(errno, "%s/peers cannot be made: %m", dir);
		close(fd);
		return err;
	}
	return fd;
}

static int make_key(mbedtls_pk_context *key)
{
	psa_key_attributes_t kind = PSA_KEY_ATTRIBUTES_INIT;
	psa_key_id_t made;
	int err;

	psa_set_key_type(&kind, PSA_KEY_TYPE_ECC_KEY_PAIR(PSA_ECC_FAMILY_SECP_R1));
	psa_set_key_bits(&kind, 256);
	psa_set_key_algorithm(&kind, PSA_ALG_ECDSA(PSA_ALG_SHA_256));
	psa_set_key_usage_flags(&kind, PSA_KEY_USAGE_SIGN_HASH | PSA_KEY_USAGE_EXPORT);
	if (psa_generate_key(&kind, &made) != PSA_SUCCESS)
		return MBEDTLS_ERR_PK_ALLOC_FAILED;
	err = mbedtls_pk_copy_from_psa(made, key);
	psa_destroy_key(made);
	return err;
}

/*
 * The common name, and nothing else, as a certificate's subject or issuer. mbedtls's own way reads a text
 * in which any attribute may stand, with a table of them all (3 KiB). An error of mbedtls.
 */
static int set_name(mbedtls_asn1_named_data **list, const char *name)
{
	mbedtls_asn1_named_data *part = mbedtls_asn1_store_named_data(
		list, MBEDTLS_OID_AT_CN, MBEDTLS_OID_SIZE(MBEDTLS_OID_AT_CN), (const uint8_t *)name,
		strlen(name));

	if (!part)
		return MBEDTLS_ERR_X509_ALLOC_FAILED;
	part->val.tag = MBEDTLS_ASN1_UTF8_STRING;
	return 0;
}

/* The certificate of `key` for `name`, signed by itself, as PEM. An error of mbedtls. */
static int make_certificate(mbedtls_pk_context *key, const char *name, uint8_t *pem)
{
	mbedtls_x509write_cert cert;
	uint8_t serial[16];
	int err;

	if (getrandom(serial, sizeof(serial), 0) != (ssize_t)sizeof(serial))
		return -1;
	serial[0] = (serial[0] & 0x7f) | 0x40; /* positive, and of this length */

	mbedtls_x509write_crt_init(&cert);
	mbedtls_x509write_crt_set_version(&cert, MBEDTLS_X509_CRT_VERSION_3);
	mbedtls_x509write_crt_set_md_alg(&cert, MBEDTLS_MD_SHA256);
	mbedtls_x509write_crt_set_subject_key(&cert, key);
	mbedtls_x509write_crt_set_issuer_key(&cert, key);
	err = set_name(&cert.MBEDTLS_PRIVATE(subject), name);
	if (!err)
		err = set_name(&cert.MBEDTLS_PRIVATE(issuer), name);
	if (!err)
		err = mbedtls_x509write_crt_set_serial_raw(&cert, serial, sizeof(serial));
	/* Nobody looks at the dates (transport/mbedtls_config.h); tools want some. */
	if (!err)
		err = mbedtls_x509write_crt_set_validity(&cert, "20200101000000", "20991231235959");
	if (!err)
		err = mbedtls_x509write_crt_set_basic_constraints(&cert, 0, -1);
	if (!err)
		err = mbedtls_x509write_crt_set_key_usage(&cert, MBEDTLS_X509_KU_DIGITAL_SIGNATURE);
	if (!err)
		err = mbedtls_x509write_crt_pem(&cert, pem, PEM_BYTES, mbedtls_psa_get_random,
						MBEDTLS_PSA_RANDOM_STATE);
	mbedtls_x509write_crt_free(&cert);
	return err;
}

/* Fingerprint of a certificate given as PEM text. */
static int fingerprint_of(const char *what, const uint8_t *pem, uint8_t *fingerprint, char *name)
{
	mbedtls_x509_crt cert;
	int err;

	mbedtls_x509_crt_init(&cert);
	err = keys_parse_certificate(what, pem, strlen((const char *)pem), &cert);
	if (!err)
		err = keys_fingerprint(&cert, fingerprint);
	if (!err && name)
		keys_common_name(&cert, name);
	mbedtls_x509_crt_free(&cert);
	return err;
}

static int write_pem(int fd, const char *dir, const char *name, mode_t mode, const uint8_t *pem)
{
	int err = io_replace_file(fd, name, mode, pem, strlen((const char *)pem));

	if (err)
		return log_fail(-err, "%s/%s cannot be written: %m", dir, name);
	return 0;
}

/* Key and certificate into the open folder. */
static int create_in(int fd, const char *dir, const char *name, uint8_t *fingerprint)
{
	uint8_t key_pem[PEM_BYTES], cert_pem[PEM_BYTES];
	mbedtls_pk_context key;
	int err;

	if (faccessat(fd, "key.pem", F_OK, AT_SYMLINK_NOFOLLOW) == 0)
		return log_fail(EEXIST,
				"%s/key.pem is there already and stays as it is; remove it first "
				"if this device shall get a new identity",
				dir);
	mbedtls_pk_init(&key);
	err = make_key(&key);
	if (!err)
		err = make_certificate(&key, name, cert_pem);
	if (!err)
		err = mbedtls_pk_write_key_pem(&key, key_pem, sizeof(key_pem));
	mbedtls_pk_free(&key);
	if (err)
		err = log_fail(EIO, "the key cannot be made (mbedtls -0x%04x)", (unsigned int)-err);
	if (!err)
		err = fingerprint_of("cert.pem", cert_pem, fingerprint, NULL);
	/* The key last: where there is a key there is its certificate. */
	if (!err)
		err = write_pem(fd, dir, "cert.pem", 0644, cert_pem);
	if (!err)
		err = write_pem(fd, dir, "key.pem", 0600, key_pem);
	mbedtls_platform_zeroize(key_pem, sizeof(key_pem));
	return err;
}

int keys_create(const char *dir, const char *name,
		uint8_t fingerprint[static KEYS_FINGERPRINT_BYTES])
{
	int err = check_name(name);
	int fd;

	if (err)
		return err;
	fd = make_folder(dir);
	if (fd < 0)
		return fd;
	err = create_in(fd, dir, name, fingerprint);
	close(fd);
	return err;
}

/* Keeps the certificate under its name; when another peer has that, under name-fingerprint. */
static int keep_peer(int fd, const char *dir, const uint8_t *pem, const uint8_t *fingerprint,
		     char name[static KEYS_NAME_MAX])
{
	char file[KEYS_NAME_MAX + 32], short_hex[17], known[KEYS_NAME_MAX];
	int err = keys_find_peer(fd, dir, fingerprint, known);

	if (err < 0)
		return err;
	if (err == 1) {
		memcpy(name, known, KEYS_NAME_MAX);
		return 0;
	}
	text_put_hex(short_hex, fingerprint, 8, '\0');
	if (name[0] == '\0')
		memcpy(name, short_hex, sizeof(short_hex));
	snprintf(file, sizeof(file), "peers/%s.pem", name);
	if (faccessat(fd, file, F_OK, AT_SYMLINK_NOFOLLOW) == 0) {
		char base[KEYS_NAME_MAX];

		memcpy(base, name, KEYS_NAME_MAX);
		snprintf(name, KEYS_NAME_MAX, "%.40s-%s", base, short_hex);
	}
	snprintf(file, sizeof(file), "%s.pem", name);
	fd = openat(fd, "peers", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0)
		return log_fail(errno, "%s/peers: %m", dir);
	err = write_pem(fd, "peers", file, 0644, pem);
	close(fd);
	return err;
}

/* Who trusts itself has taken the wrong file. */
static int check_other(int fd, const char *dir, const char *path, const uint8_t *fingerprint)
{
	size_t mark = arena_mark();
	uint8_t *pem = arena_alloc(ARENA_SCRATCH, KEYS_FILE_MAX, 16);
	char name[KEYS_NAME_MAX] = "";
	uint8_t own[KEYS_FINGERPRINT_BYTES];
	int err = 0;

	if (!pem)
		err = log_fail(ENOMEM, "no memory left to read %s/cert.pem", dir);
	else if (io_read_file(fd, "cert.pem", pem, KEYS_FILE_MAX) > 0 &&
		 !fingerprint_of("cert.pem", pem, own, name) &&
		 !memcmp(own, fingerprint, sizeof(own)))
		err = log_fail(EINVAL,
			       "%s is the certificate of this device itself, '%s' (%s/cert.pem); "
			       "give the other device's cert.pem",
			       path, name, dir);
	if (!err)
		log_reason_clear();
	arena_reset(mark);
	return err;
}

int keys_trust(const char *dir, const char *path, char name[static KEYS_NAME_MAX],
	       uint8_t fingerprint[static KEYS_FINGERPRINT_BYTES])
{
	size_t mark = arena_mark();
	uint8_t *pem = arena_alloc(ARENA_SCRATCH, KEYS_FILE_MAX, 16);
	ssize_t len;
	int err, fd;

	if (!pem)
		return log_fail(ENOMEM, "no memory left to read %s", path);
	len = io_read_file(AT_FDCWD, path, pem, KEYS_FILE_MAX);
	if (len < 0)
		err = log_fail((int)-len, "%s: %s", path,
			       len == -EFBIG ? "larger than any certificate" : strerror((int)-len));
	else
		err = fingerprint_of(path, pem, fingerprint, name);
	if (!err) {
		fd = make_folder(dir);
		err = fd < 0 ? fd : check_other(fd, dir, path, fingerprint);
		if (!err)
			err = keep_peer(fd, dir, pem, fingerprint, name);
		if (fd >= 0)
			close(fd);
	}
	arena_reset(mark);
	return err;
}
