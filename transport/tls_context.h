/* SPDX-License-Identifier: MIT */
/* What transport/tls.c and transport/tls_session.c share; nobody else includes it. */
#ifndef BATON_TLS_CONTEXT_H
#define BATON_TLS_CONTEXT_H

#include "transport/ktls.h"
#include "transport/tls.h"
#include <mbedtls/ssl.h>

#define TLS_RECORD_HEADER_BYTES 5
/* With the type of its content and its authentication. */
#define TLS_RECORD_OVERHEAD (TLS_RECORD_HEADER_BYTES + 1 + 16)

struct tls_session {
	mbedtls_ssl_context ssl;
	const char
		*peer; /* address for messages: the lane's, or the caller's during the handshake */
	int fd;
	int sys_errno;       /* of the socket call that failed; 0 */
	int broken;          /* -errno after which nothing more is read or written; 0 */
	size_t pending;      /* bytes of a record that is made but not yet sent */
	size_t record_bytes; /* what one carries at most */
	int end_packet;      /* flags of send(2) */
	/* The beginning of the next record, read in the same call as the end of the one before. */
	uint8_t ahead[TLS_RECORD_HEADER_BYTES];
	uint8_t nr_ahead;

	/* With CONFIG_KTLS: what the kernel does, and what it is told once mbedtls is done. */
	bool kernel_sends, kernel_receives;
	uint8_t secrets[2][KTLS_SECRET_BYTES]; /* of who dialed, of who accepted */
	uint8_t alert;                         /* that the kernel has received; 0 */

	bool refused;         /* the peer's certificate is not trusted here */
	uint32_t chain_flags; /* what mbedtls has against the chain */
	uint8_t fingerprint[TLS_FINGERPRINT_BYTES];
	char name[TLS_NAME_MAX];
};

/* This device: valid after tls_setup. */
struct tls_identity {
	bool loaded, has_ca;
	size_t short_record;  /* bytes that the cipher deals with in 10 us */
	const char *keys_dir; /* for messages */
	int keys_fd;
	mbedtls_pk_context key;
	mbedtls_x509_crt cert, ca;
};
struct tls_identity *tls_identity(void);

/* A session from ARENA_TLS, set up for one end. NULL with a reason. */
struct tls_session *tls_session_make(bool accepting, int fd, const char *peer);
void tls_session_free(struct tls_session *session);

#endif
