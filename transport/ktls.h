/* SPDX-License-Identifier: MIT */
/* TLS 1.3 by the kernel (CONFIG_TLS, Documentation/networking/tls.rst) on a connected TCP socket. */
#ifndef BATON_KTLS_H
#define BATON_KTLS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#define KTLS_SECRET_BYTES 32
#define KTLS_SEQUENCE_BYTES 8

/* Types of records (RFC 8446, 5.1). */
#define KTLS_ALERT 21
#define KTLS_HANDSHAKE 22
#define KTLS_DATA 23

/* One direction of a connection. */
struct ktls_direction {
	bool aes; /* AES-128-GCM, else ChaCha20-Poly1305; both with SHA-256 */
	uint8_t secret[KTLS_SECRET_BYTES];     /* client_ or server_application_traffic_secret_N */
	uint8_t sequence[KTLS_SEQUENCE_BYTES]; /* of the next record, big endian */
};

/*
 * HKDF-Expand-Label(secret, label, "", len) of RFC 8446, 7.1, for at most 32 bytes. 0, or an error of
 * mbedtls.
 */
int ktls_expand(const uint8_t secret[static KTLS_SECRET_BYTES], const char *label, uint8_t *out,
		size_t len);

/*
 * Prepares a socket; nothing changes yet for what is sent and received. -ENOENT: the kernel has no TLS.
 * Other -errno of setsockopt(2) with TCP_ULP.
 */
int ktls_attach(int fd);

/*
 * From now on the kernel encrypts what is sent (or decrypts what is received, beginning with what has not
 * been read yet), for as long as the socket lives, whichever process has it. -EINVAL, -ENOENT: it does
 * not know the cipher; -EIO: an error of mbedtls.
 */
int ktls_send_with(int fd, const struct ktls_direction *direction);
int ktls_receive_with(int fd, const struct ktls_direction *direction);

/*
 * Receives data of one record, or of several of KTLS_DATA, and says of which type. Bytes, 0 at the end of
 * the connection, -errno of recvmsg(2): -EBADMSG: not authentic; -EAGAIN.
 */
ssize_t ktls_receive(int fd, void *buf, size_t len, uint8_t *type);

/* Tells the peer that nothing more comes (close_notify). Best effort. */
void ktls_send_close(int fd);

#endif
