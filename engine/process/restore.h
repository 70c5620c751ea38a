/* SPDX-License-Identifier: MIT */
/* The target's half: build a process from a stream of state messages. */
#ifndef BATON_RESTORE_H
#define BATON_RESTORE_H

#include "engine/state/state.h"

struct restore_options {
	const char
		*stdio; /* file for standard streams that led outside; NULL: the receiver's own */
	const struct rights *rights; /* of its files */
	bool pidns;                  /* a pid namespace of its own, with a small init */
	bool other_vdso;             /* it comes with the one that it knows */
	bool clocks_fit;             /* ours are as good as its own were, when it was offered */
	bool may_jump;               /* its clocks become ours, whatever they were */
};

/* Once, before arena_seal. */
int restore_init(struct restore *r);
void restore_begin(struct restore *r, const struct restore_options *options);

/* One received frame of type STATE, PAGES or ZERO. 0 or -errno with log_fail. */
int restore_frame(struct restore *r, const struct lane *lane);

/*
 * The description is complete: last steps of all kinds; userfaultfd is created in the process,
 * taken here and armed over every lazy range. On return the process is complete and stopped, with
 * its final registers; `*uffd` is the descriptor.
 */
int restore_finish(struct restore *r, int *uffd);

/* What is to be known of the memory that comes when the process runs. */
void restore_on_lazy(struct restore *r, const struct restore_lazy *lazy);

/* How far the process was let go; kept where whoever comes after us finds it. */
struct restore_start {
	bool released; /* no longer ours to discard: it runs, or stands in group-stop and shall run */
	bool masked;   /* its leader's signals are all blocked for a moment */
	bool done;
};

/*
 * Lets it run. If we die before `start->released` it is killed and has not run; if we die after, it is
 * not: then restore_go_on finds it running, or stopped. -ESRCH with the reason said: somebody else has killed
 * it, and it has not run.
 */
int restore_start(struct restore *r, struct restore_start *start);

/* In place of a process that died in or after restore_start: what is left of that. 0, -ESRCH. */
int restore_go_on(struct restore *r, struct restore_start *start);

/* Kills what was built. Safe in every state before restore_start. */
void restore_discard(struct restore *r);

#endif
