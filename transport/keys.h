/* SPDX-License-Identifier: MIT */
/*
 * The keys folder: key.pem (only its owner may read it), cert.pem, peers/NAME.pem (who is trusted),
 * optionally ca.pem (whose signature is trusted). Needs tls_init for the memory of mbedtls.
 */
#ifndef BATON_KEYS_H
#define BATON_KEYS_H

#include <mbedtls/pk.h>
#include <mbedtls/x509_crt.h>
#include <stddef.h>
#include <stdint.h>

#define KEYS_FINGERPRINT_BYTES 32
#define KEYS_FINGERPRINT_TEXT 96 /* "ab:cd:..." and a NUL */
#define KEYS_NAME_MAX 64
#define KEYS_FILE_MAX 8192 /* bytes of a PEM file */

/* Opens the keys folder. -errno with its reason. */
int keys_open(const char *dir);

/*
 * Who may write into a folder, or a file of it, may choose whom this device obeys, and what is run: -EACCES, with its
 * reason, unless that is root and ourselves alone. Said as `dir` and `sub` together.
 */
int keys_check_owner(int fd, const char *dir, const char *sub);

/*
 * Key, certificate and CA into initialised mbedtls structures. The key must belong to the
 * certificate, be on P-256, be ours and unreadable to others. `ca` stays empty without ca.pem.
 */
int keys_load(int dir_fd, const char *dir, mbedtls_pk_context *key, mbedtls_x509_crt *cert,
	      mbedtls_x509_crt *ca);

/*
 * The peer in the open folder `dir` whose certificate has this SHA-256: 1 and its name, 0 when there is none, -errno
 * with its reason.
 */
int keys_find_peer(int dir_fd, const char *dir,
		   const uint8_t fingerprint[static KEYS_FINGERPRINT_BYTES],
		   char name[static KEYS_NAME_MAX]);

/*
 * Makes a key and a self-signed certificate for `name` in `dir`, which is made when missing.
 * -EEXIST when there is a key already; -EINVAL for a name that cannot stand in a certificate.
 */
int keys_create(const char *dir, const char *name,
		uint8_t fingerprint[static KEYS_FINGERPRINT_BYTES]);

/*
 * Puts the certificate in the file `path` under peers/. `name` becomes what it is kept under.
 * -EINVAL: not a certificate, a private key, not a key we can use, this device's own; -EEXIST is not an error: the
 * same certificate again changes nothing, another one under the same name gets one of its own.
 */
int keys_trust(const char *dir, const char *path, char name[static KEYS_NAME_MAX],
	       uint8_t fingerprint[static KEYS_FINGERPRINT_BYTES]);

/* The certificate in a PEM text of `len` bytes and a NUL; `what` names it. -EINVAL. */
int keys_parse_certificate(const char *what, const uint8_t *pem, size_t len,
			   mbedtls_x509_crt *cert);

/* SHA-256 of a certificate's DER form; and as text. */
int keys_fingerprint(const mbedtls_x509_crt *cert, uint8_t out[static KEYS_FINGERPRINT_BYTES]);
void keys_fingerprint_text(const uint8_t fingerprint[static KEYS_FINGERPRINT_BYTES],
			   char out[static KEYS_FINGERPRINT_TEXT]);

/* The common name of a certificate's subject, made of letters, digits and "._-" only. */
void keys_common_name(const mbedtls_x509_crt *cert, char name[static KEYS_NAME_MAX]);

#endif
