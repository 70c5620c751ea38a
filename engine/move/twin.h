/* SPDX-License-Identifier: MIT */
/*
 * Two processes for one move: the worker, which does everything, and the keeper, which waits. They share
 * the table of descriptors (CLONE_FILES) and the arena's tables; whoever survives makes the other anew.
 * See docs/crash-safety.md.
 */
#ifndef BATON_TWIN_H
#define BATON_TWIN_H

#include "lib/outcome.h"
#include <stdbool.h>

struct twin_work {
	/*
	 * The worker's whole work. `again`: in place of a worker that died, of which only descriptors and
	 * tables are left. Its result is the worker's exit status.
	 */
	enum outcome (*run)(void *data, bool again);
	/* Called in the worker at the end, once: says what came of it. */
	void (*finish)(void *data, enum outcome outcome);
	void *data;
	bool pass_signals; /* SIGINT, SIGTERM and SIGHUP are for the worker; else both ignore them */
};

/* Takes what both share from the arena's tables; before arena_seal. -ENOMEM. */
int twin_init(void);

/*
 * Makes the tables of the arena shared, forks the worker, and is its keeper until it has ended. The
 * worker has to sleep in io_poll, or to call io_let_signals_in, so that it hears of its keeper's death. The
 * result is the worker's; OUTCOME_SYSTEM when there can be none. To be called with nothing but poll
 * or a system call between us and a consistent state: the worker begins as a copy.
 */
enum outcome twin_run(const struct twin_work *work);

#endif
