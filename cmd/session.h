/* SPDX-License-Identifier: MIT */
/* What send, receive, dump --serve and restore --from have in common: memory, keys, one move. */
#ifndef BATON_SESSION_H
#define BATON_SESSION_H

#include "cmd/options.h"
#include "engine/move/link.h"

struct session {
	struct link link;
	struct move_options move;
	enum move_role role;
	bool json;
	void (*tend)(void *data); /* called about every second while it listens; NULL: nothing */
	int give_up_ms;           /* see struct supervise_options */
	struct movestate resumed; /* the move that is gone on with */
};

/*
 * Memory, keys and state folder for moves in one role; after it nothing is allocated any more.
 * OUTCOME_DONE, or what the command ends with (the reason is said).
 */
int session_begin(struct session *session, const struct options *options, enum move_role role);

/* The same without keys: for what needs no peer. In the role of a source. */
int session_begin_offline(struct session *session, const struct options *options);

/* One move over the session's link: runs it, prints the result, says why it failed. */
enum outcome session_move(struct session *session);

/* The same as a worker of the supervisor: `data` is the session. */
enum outcome session_work(struct link *link, void *data);

/* Listens and works until it ends; see supervise_run. */
int session_listen(struct session *session, const struct options *options, const char *listen,
		   bool once, enum outcome (*work)(struct link *, void *));

/*
 * The same for the source of a process that is the first argument; `address` is where it dials or
 * listens. -1 when the process can be moved, nobody else moves it, and nobody will until we end. Else
 * what the command ends with: also after a move of it that nobody worked on was gone on with.
 */
int session_begin_source(struct session *session, const char *argv0, const struct options *options,
			 const char *address, bool listening);

/* The same for a process that is to be written into a file. */
int session_begin_save(struct session *session, const char *argv0, const struct options *options);

/*
 * Goes on with a move: of which this device is the source, or whose target it was and dialed. With `peer_is_dead` the process runs here again.
 * What the command ends with.
 */
int session_resume(struct session *session, const struct options *options,
		   const struct movestate *state, bool peer_is_dead);

#endif
