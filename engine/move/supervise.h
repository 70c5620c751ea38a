/* SPDX-License-Identifier: MIT */
/*
 * The listening side: accepts connections, reads their preambles, forks one worker a move and hands
 * it the further connections of that move. A stranger costs a slot and a timer, never a move.
 */
#ifndef BATON_SUPERVISE_H
#define BATON_SUPERVISE_H

#include "engine/move/link.h"
#include "lib/outcome.h"
#include <stdbool.h>

struct supervise_options {
	const char *listen;    /* ADDR:PORT, see socket_listen */
	const char *port_file; /* NULL: none */
	const char *door;      /* name of a socket in the state folder, see link.h; NULL: none */
	bool once;             /* ends after one move that was accepted, with its outcome */
	int give_up_ms;        /* ends when no move was accepted in that time; 0: never */
	bool pass_signals;     /* SIGTERM and SIGINT go to the workers, which may undo their move */
	void (*tend)(void *data); /* called about every second; NULL: nothing */
	struct link *link;        /* initialised; the worker's, ready for link_open */
	/* One move, in a process of its own. Its result becomes that process' exit status. */
	enum outcome (*work)(struct link *link, void *data);
	void *data;
};

/* Takes its table from the arena; before arena_seal. -ENOMEM. */
int supervise_init(void);

/*
 * Runs until SIGTERM or SIGINT (then no new move is taken, and those under way are waited for), or
 * with `once` until one move has ended. OUTCOME_FAILED or OUTCOME_SYSTEM when it cannot listen, with
 * the reason.
 */
enum outcome supervise_run(const struct supervise_options *options);

#endif
