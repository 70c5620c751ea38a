/* SPDX-License-Identifier: MIT */
/*
 * TLS 1.3 with certificates on both sides. mbedtls lives here and in transport/keys.c only; what it
 * allocates comes from ARENA_TLS.
 */
#ifndef BATON_TLS_H
#define BATON_TLS_H

#include "transport/lane.h"
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#define TLS_FINGERPRINT_BYTES 32
#define TLS_NAME_MAX 64

/*
 * Gives mbedtls its region of the arena and starts its random source. Once, after arena_init and
 * before arena_seal; called again it does nothing. -ENOMEM when the region is too small.
 */
int tls_init(void);

/*
 * Loads this device's key and certificate, and the CA when there is one, from the keys folder, and
 * keeps the folder open: peers are looked up there at each handshake, so that what `trust` adds
 * counts at once. May be called again, while no session is open. Calls tls_init. `keys_dir` stays in use, for messages.
 * -ENOENT, -EACCES (the key is readable by others), -EINVAL, ... each with its reason.
 */
int tls_setup(const char *keys_dir);

/*
 * The handshake on a connected socket, as the side that accepted or that dialed; `peer` is its
 * address for messages. The whole takes at most `timeout_ms`. When 0 is returned both sides have
 * said that they trust each other's certificate, the lane is open and owns `fd`. On failure `fd`
 * is closed.
 * -EKEYREJECTED: the peer is not trusted here, or we are not there; -EPROTO: it does not speak TLS
 * 1.3; -ETIMEDOUT; -ECONNRESET: it closed or broke; -ENOMEM; -EINTR. The reason tells which.
 */
int tls_accept(struct lane *lane, int fd, const char *peer, int timeout_ms);
int tls_connect(struct lane *lane, int fd, const char *peer, int timeout_ms);

/* SHA-256 of the peer's certificate (DER) of an open lane, and its name: the file it is pinned
 * with, else the common name. -ENOTCONN on a closed lane. */
int tls_fingerprint(const struct lane *lane, uint8_t out[static TLS_FINGERPRINT_BYTES]);
const char *tls_peer_name(const struct lane *lane);

/*
 * For transport/lane.c: bytes moved, 0 when it would block, -errno with the reason. After 0
 * tls_write must be called again with at least the same bytes.
 */
ssize_t tls_write(struct lane *lane, const void *buf, size_t len);
ssize_t tls_read(struct lane *lane, void *buf, size_t len);
bool tls_has_pending(const struct lane *lane);
/* What the next record carries at most. */
size_t tls_record_bytes(const struct lane *lane);
/* Tells the peer that this is the end (best effort) and frees the session. */
void tls_close(struct lane *lane);
/* Frees the session without a word. */
void tls_forget(struct lane *lane);

#endif
