/* SPDX-License-Identifier: MIT */
/* Signatures that outlive a connection. */
#include "transport/sign.h"

#include "lib/log.h"
#include "transport/tls_context.h"
#include <errno.h>
#include <mbedtls/psa_util.h>
#include <string.h>

int sign_certificate(uint8_t *cert, size_t cap, uint16_t *len)
{
	const mbedtls_x509_buf *own = &tls_identity()->cert.raw;

	if (own->len > cap)
		return log_fail(ENOSPC, "this device's certificate has %zu bytes, a seal takes %zu",
				own->len, cap);
	memcpy(cert, own->p, own->len);
	*len = (uint16_t)own->len;
	return 0;
}

int sign_make(const uint8_t digest[static 32], uint8_t *signature, size_t cap, uint16_t *len)
{
	size_t made = 0;
	int err = mbedtls_pk_sign(&tls_identity()->key, MBEDTLS_MD_SHA256, digest, 32, signature,
				  cap, &made, mbedtls_psa_get_random, MBEDTLS_PSA_RANDOM_STATE);

	if (err)
		return log_fail(EIO, "it cannot be signed (mbedtls -0x%04x)", (unsigned int)-err);
	*len = (uint16_t)made;
	return 0;
}

/* 1: trusted; 0: not; -errno. */
static int is_trusted(struct tls_identity *own, mbedtls_x509_crt *cert, char *name,
		      const uint8_t *fingerprint)
{
	uint32_t flags = 0;
	int found;

	if (cert->raw.len == own->cert.raw.len &&
	    !memcmp(cert->raw.p, own->cert.raw.p, cert->raw.len))
		return 1;
	/* As in a handshake: the name under which it was trusted goes before that of a CA. */
	found = keys_find_peer(own->keys_fd, own->keys_dir, fingerprint, name);
	if (found)
		return found;
	return own->has_ca &&
	       !mbedtls_x509_crt_verify(cert, &own->ca, NULL, NULL, &flags, NULL, NULL);
}

int sign_check(const char *what, const uint8_t digest[static 32], const uint8_t *der,
	       size_t der_len, const uint8_t *signature, size_t signature_len,
	       char name[static KEYS_NAME_MAX], uint8_t fingerprint[static KEYS_FINGERPRINT_BYTES])
{
	char hex[KEYS_FINGERPRINT_TEXT];
	mbedtls_x509_crt cert;
	int err, trusted;

	mbedtls_x509_crt_init(&cert);
	/* One certificate and nothing behind it: its SHA-256 is that of the bytes in the file. */
	err = mbedtls_x509_crt_parse_der(&cert, der, der_len);
	if (err || cert.raw.len != der_len || !mbedtls_pk_can_do(&cert.pk, MBEDTLS_PK_ECKEY) ||
	    keys_fingerprint(&cert, fingerprint)) {
		err = log_fail(EBADMSG, "%s is damaged: the certificate in it is none", what);
		goto out;
	}
	keys_common_name(&cert, name);
	trusted = is_trusted(tls_identity(), &cert, name, fingerprint);
	keys_fingerprint_text(fingerprint, hex);
	if (trusted < 0)
		err = trusted;
	else if (!trusted)
		err = log_fail(EKEYREJECTED,
			       "%s is signed by a device that is not trusted here (name %s, "
			       "SHA-256 %s); to "
			       "trust it run: baton trust CERT.pem",
			       what, name, hex);
	else if (mbedtls_pk_verify(&cert.pk, MBEDTLS_MD_SHA256, digest, 32, signature,
				   signature_len))
		err = log_fail(EBADMSG,
			       "%s is damaged, or was changed: the signature of %s does not fit",
			       what, name);
out:
	mbedtls_x509_crt_free(&cert);
	return err;
}
