/* SPDX-License-Identifier: MIT */
/* Signatures of this device's key (ECDSA P-256) under what outlives a connection, and whom they are trusted from. */
#ifndef BATON_SIGN_H
#define BATON_SIGN_H

#include "transport/keys.h"
#include <stddef.h>
#include <stdint.h>

/* This device's certificate (DER), and its signature of a digest. After tls_setup. -ENOSPC, -EIO with log_fail. */
int sign_certificate(uint8_t *cert, size_t cap, uint16_t *len);
int sign_make(const uint8_t digest[static 32], uint8_t *signature, size_t cap, uint16_t *len);

/*
 * Whose certificate that is and whether the signature is its: trusted is what this device made itself, what is in
 * peers/, and what ca.pem has signed. `what` names the thing for messages. 0, with name and SHA-256 of the certificate;
 * -EKEYREJECTED: somebody else's; -EBADMSG: not its signature. The reason is said.
 */
int sign_check(const char *what, const uint8_t digest[static 32], const uint8_t *cert,
	       size_t cert_len, const uint8_t *signature, size_t signature_len,
	       char name[static KEYS_NAME_MAX], uint8_t fingerprint[static KEYS_FINGERPRINT_BYTES]);

#endif
