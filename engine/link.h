/* SPDX-License-Identifier: MIT */
/*
 * A link: the two lanes of one move, whoever dialed. The dialing side opens connections itself; the
 * listening side gets them from its supervisor (engine/supervise.h). Both can do it again after a
 * cut, with the same token, and accept only the peer they had before.
 */
#ifndef BATON_LINK_H
#define BATON_LINK_H

#include "transport/lane.h"
#include <stdbool.h>
#include <stdint.h>

#define LINK_TOKEN_BYTES 16
#define LINK_FINGERPRINT_BYTES 32

struct link {
	struct lane fast; /* lane 0: control and faults */
	struct lane bulk; /* lane 1: the push */

	uint8_t token[LINK_TOKEN_BYTES];
	uint8_t fingerprint[LINK_FINGERPRINT_BYTES]; /* of the peer's certificate */
	bool known;    /* fingerprint is valid: a later lane must show the same */
	bool source;   /* our role, told in HELLO */
	char peer[64]; /* address and port, for messages */
	char name[64]; /* the peer's name from its certificate */

	const char *address; /* dialing side: HOST[:PORT]; NULL on the listening side */
	int supervisor_fd;   /* listening side: where lanes come from; -1 */
	int first_fd;        /* listening side: lane 0's connection, not yet used; -1 */
};

/* Takes the buffers of both lanes from the arena; before arena_seal. -ENOMEM. */
int link_init(struct link *link);

/* Dialing side: remembers the address and makes a token. */
int link_dial(struct link *link, const char *address);

/* Listening side, in the worker: `first_fd` is the connection that was routed as lane 0. */
void link_accept(struct link *link, int first_fd, int supervisor_fd, const char *peer,
		 const uint8_t token[static LINK_TOKEN_BYTES]);

/*
 * Opens both lanes: TLS, HELLO with version and role. Also after a cut, on a closed link.
 * `timeout_ms` bounds the whole. -ECONNREFUSED, -EHOSTUNREACH, -ETIMEDOUT: not reachable;
 * -EKEYREJECTED: not trusted here or there; -EPROTO: not a baton, or another version, or the same
 * role twice; -EINTR: asked to stop.
 */
int link_open(struct link *link, int timeout_ms);

/* Closes both lanes. */
void link_close(struct link *link);

/* Set by the handlers of SIGINT and SIGTERM: blocking waits end with -EINTR. */
bool link_stopping(void);
/* Installs those handlers. */
void link_catch_signals(void);

#endif
