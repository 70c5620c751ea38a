/* SPDX-License-Identifier: MIT */
/*
 * Stopping the moved process and its children for a moment, while they are being filled, so that
 * nothing of their memory changes: no signal, no wait status, no interrupted system call is seen of it.
 *
 * Only threads that are running, or in a call that changes memory, are stopped. One that sleeps in
 * another call cannot be about to change anything, and is left asleep: what it does when it wakes is
 * announced by its userfaultfd before it takes effect. The one change that goes on after it was
 * announced and read is madvise(2), which discards last (mm/madvise.c): so who is there is either
 * waited for, or waits itself for its event to be read, and has its range remembered.
 */
#ifndef BATON_HALT_H
#define BATON_HALT_H

#include "engine/process/family.h"

/* Ranges remembered one by one; further ones make the last one larger. */
#define HALT_RANGES 32

struct halt_thread {
	pid_t pid, tid;
	bool stopped;
	bool forked; /* it stopped where it had just made a process, or may have */
};

struct halt_range {
	uint64_t start, end;
};

struct halt {
	struct family family;
	struct halt_thread *threads; /* attached to by us */
	unsigned int nr, max;
	struct halt_range discards[HALT_RANGES];
	unsigned int nr_discards;
	bool no_forks; /* also those that wait in a fork are stopped, and kept until this is false */
};

/* Takes the table from the arena; before arena_seal. -ENOMEM. */
int halt_init(struct halt *h);

/*
 * Looks at every thread of the processes in h->family and stops those that could be changing memory,
 * without waiting for them. True when there was no such thread that was not stopped: of what was
 * announced and read before this began, nothing is still to be done but what halt_discards names.
 * False: again, soon. -EPERM: there is a thread that cannot be stopped now, for instance one that is
 * being debugged; -E2BIG: more than CONFIG_MAX_THREADS.
 */
int halt_sweep(struct halt *h);

/* True when a thread may be about to discard some of [start, end). */
bool halt_discards(const struct halt *h, uint64_t start, uint64_t end);

/*
 * Lets go of the threads that are stopped, with no_forks but for those that have just forked. They, and
 * those that were told to stop and have not (they are in a call that lasts) stay attached: as long as
 * h->nr is not 0, this has to be called again.
 */
void halt_release(struct halt *h);

#endif
