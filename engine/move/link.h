/* SPDX-License-Identifier: MIT */
/*
 * A link: the two lanes of one move, whoever dialed. The dialing side opens connections itself; the
 * listening side gets them from its supervisor (engine/move/supervise.h). Both can do it again after a
 * cut, with the same token, and accept only the peer they had before.
 */
#ifndef BATON_LINK_H
#define BATON_LINK_H

#include "transport/lane.h"
#include "transport/route.h"
#include "transport/socket.h"
#include "transport/tls.h"
#include <pb.h>
#include <stdbool.h>
#include <stdint.h>

#define LINK_PORT 7117
/* How long the dialing side waits for an answer to a connection, in ms. */
#define LINK_DIAL_TIMEOUT_MS 10000

/* What a worker tells its supervisor, one byte each; '0' and '1': give me a connection for that lane. */
#define LINK_TELL_KNOWN 'K'    /* the peer is authenticated */
#define LINK_TELL_ACCEPTED 'A' /* the move was accepted: it counts */
#define LINK_TELL_ENDED 'E'    /* and, in a second byte, its outcome */
#define LINK_TELL_MOVE 'M'     /* to a new supervisor: token, then the peer's address */

/* Descriptors that a link has open, in the arena's tables: for whoever comes after a process that died. */
struct link_fds {
	int lane[ROUTE_LANES];
	int supervisor;
	bool introduced; /* the supervisor knows which move this is */
};

struct link {
	struct link_fds *fds;
	struct lane fast; /* lane 0: control and faults */
	struct lane bulk; /* lane 1: the push */

	uint8_t token[ROUTE_TOKEN_BYTES];
	uint8_t fingerprint[TLS_FINGERPRINT_BYTES]; /* of the peer's certificate */
	bool known;                 /* fingerprint is valid: a later lane must show the same */
	bool was_open;              /* once: what is opened now is opened again */
	bool source;                /* our role, told in HELLO */
	enum pack_rule compress;    /* what we want, told in HELLO */
	char peer[SOCKET_NAME_MAX]; /* address and port, for messages */
	char name[TLS_NAME_MAX];    /* what the peer is trusted as */

	/* Opens both lanes to what is in this process, an image file; NULL: the peer is another device. */
	int (*open_local)(struct link *link, bool again);
	const char *address; /* dialing side: HOST[:PORT]; NULL on the listening side */
	int supervisor_fd;   /* listening side: where lanes come from; -1 */
	const char
		*door; /* socket in the state folder where a new supervisor is found; NULL: none */
	int door_folder;
	int first_fd; /* listening side: lane 0's connection, not yet used; -1 */
};

/* Takes the buffers of both lanes from the arena; before arena_seal. -ENOMEM. */
int link_init(struct link *link);

/* Dialing side: remembers the address and makes a token. -errno of getrandom(2). */
int link_dial(struct link *link, const char *address);

/* Listening side, in the worker: `first_fd` is the connection that was routed as lane 0. */
void link_accept(struct link *link, int first_fd, int supervisor_fd, const char *peer,
		 const uint8_t token[static ROUTE_TOKEN_BYTES]);

/*
 * Opens both lanes: TLS, HELLO with version and role. Also after a cut, on a closed link.
 * `timeout_ms` bounds the whole, on the listening side the wait for the first connection. A
 * connection that the listener drops before its handshake is dialed again within that time, when
 * the link was never open.
 * -ECONNREFUSED, -EHOSTUNREACH, -ETIMEDOUT: not reachable;
 * -EKEYREJECTED: not trusted here or there; -EPROTO: not a baton, or another version, or the same
 * role twice; -EINTR: asked to stop; -ENOLINK: nobody listens for us any more. On failure both lanes are closed.
 */
int link_open(struct link *link, int timeout_ms);

/* The HELLO of our role, on a lane that is open: for whoever sends it elsewhere. -errno of the lane. */
int link_say_hello(const struct link *link, struct lane *lane, int timeout_ms);

/* What is put up with on both lanes, from now on and over later links: see struct lane_patience. */
void link_patience(struct link *link, struct lane_patience patience);

/* Tells the supervisor, if there is one. */
void link_tell(const struct link *link, char what);

/*
 * Waits for the next frame on lane 0, which stays in link->fast until lane_receive_done. PING is
 * answered; ABORT is as link_check says, with the peer's words as the reason. -ETIMEDOUT, -ETIME when
 * the patience is over, -EINTR when asked to stop (only if `stoppable`), or what the lane says.
 * Where the patience asks for it a PING is sent now and then, also when nothing has to be waited for.
 */
int link_receive(struct link *link, int timeout_ms, bool stoppable);

/* The same, and the frame must be of this type: else -EPROTO. */
int link_expect(struct link *link, uint8_t type, int timeout_ms, bool stoppable);

/*
 * Judges the frame that lies in link->fast: 0 when it is of this type. ABORT and others as above;
 * -EACCES for an ABORT that refuses, -ECANCELED for one that says that nothing ever ran there,
 * -EOWNERDEAD that it is lost there, -ENODATA that nothing is known of it, -ECONNABORTED for any other.
 */
int link_check(struct link *link, uint8_t type);

/* Sends a frame on lane 0 and sees it leave. */
int link_send(struct link *link, uint8_t type, uint64_t addr);
int link_send_message(struct link *link, uint8_t type, const pb_msgdesc_t *fields, const void *msg);

/*
 * Tells the peer that it is over and why (lib/log.h's reason), then waits a moment for it to close,
 * so that the words are not lost with our end of the connection. True when it has said ABORT, too:
 * then it has read them.
 */
enum link_end { LINK_FAILED, LINK_REFUSED, LINK_NEVER_STARTED, LINK_LOST, LINK_UNKNOWN };
bool link_abort(struct link *link, enum link_end end);

/* After a failure to send: the peer may have said ABORT before it closed. When it did, its words
 * become the reason and its code (link_check) is returned; else `err`. */
int link_last_words(struct link *link, int err);

/* Closes both lanes. */
void link_close(struct link *link);

/* In place of a process that died: closes what it had open, without a word to the peer. */
void link_take_over(struct link *link);

/* Tells the supervisor how the move ended. */
void link_tell_end(const struct link *link, int outcome);

/* Set by the handlers of SIGINT and SIGTERM: stoppable waits end with -EINTR. */
bool link_stopping(void);
/* Installs those handlers. */
void link_catch_signals(void);

#endif
