/* SPDX-License-Identifier: MIT */
/* What an evacuation moves, in which order, and how far each is. Fixed size; moves nothing itself. */
#ifndef BATON_PLAN_H
#define BATON_PLAN_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#define PLAN_MOST 32
#define PLAN_NAME_BYTES 40

enum plan_state {
	PLAN_WAITING, /* its turn has not come, or comes again */
	PLAN_SENDING, /* on its way, and can still be undone */
	PLAN_THERE,   /* runs over there; its memory follows */
	PLAN_DONE,    /* runs over there, complete */
	PLAN_HELD,    /* handed over, and nobody knows the rest (exit code 4) */
	PLAN_STAYS,   /* runs here */
	PLAN_ABSENT,  /* does not run here */
	PLAN_UNKNOWN, /* whether it runs here is not known */
};

struct plan_item {
	char name[PLAN_NAME_BYTES], after[PLAN_NAME_BYTES];
	int priority;
	bool listed;      /* by that name in the list of what matters; else a guest */
	pid_t pid, child; /* child: the send that is ours; 0: somebody else's, or none */
	enum plan_state state;
	int outcome; /* of the last send */
	int tries;
	int64_t again_ms; /* not before */
};

struct plan {
	struct plan_item items[PLAN_MOST];
	unsigned int nr;
	bool full; /* there was one more */
};

/* One more; NULL: there is no room, or it is there already (by its pid). */
struct plan_item *plan_add(struct plan *plan, const char *name, pid_t pid);

/*
 * The one that is to be sent next: one at a time until it runs over there, the highest priority first (then the one
 * that was added first), after what it is to come after, which has then run over there or will not. One that is
 * tried again later keeps only those waiting. NULL: none now. Where each waits for another one, priority decides alone.
 */
struct plan_item *plan_next(struct plan *plan, int64_t now_ms);

/* How many are in this state. */
unsigned int plan_count(const struct plan *plan, enum plan_state state);

#endif
