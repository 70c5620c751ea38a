/* SPDX-License-Identifier: MIT */
/* The two roles of a move, each in two files: before anything is stopped, and after. */
#ifndef BATON_MOVE_ROLES_H
#define BATON_MOVE_ROLES_H

#include "engine/move/guard.h"
#include "engine/move/move.h"
#include "engine/move/offer.h"
#include "engine/process/rights.h"
#include "engine/process/restore.h"

struct source_move {
	struct move move;
	int64_t frozen_us;
	bool described;  /* the target may be ready */
	bool committed;  /* GO may have been sent */
	bool untraced;   /* we are not its tracer: another process was, which died or ended */
	bool held;       /* a SIGSTOP of ours keeps it from running when we die */
	bool started;    /* the target's STARTED was seen */
	bool other_vdso; /* the target's kernel has another one */
	uint64_t pages_resident;
};

/* Probe, offer, files, answer: the process runs. OUTCOME_DONE: the target takes it. */
enum outcome source_offer(struct source_move *m);

/* While it is frozen: files that were mapped, opened or changed after the answer. 0 or -errno. */
int source_check_again(struct source_move *m);

struct target_move {
	struct move move;
	bool accepted;   /* the answer was yes */
	bool built;      /* there is something to discard */
	bool said_ready; /* the source may have committed */
	bool forgotten;  /* the source has said that it gave up */
	struct guard guard;
	struct restore_start start; /* how far the threads were let go */
	bool answered;              /* the source asked about a move that no worker here has */
	bool filled;                /* all pages are there */
	bool over;                  /* the source has said DONE: there is nothing left to prove */
	bool starving;              /* it was said that there is no memory for the process here */
	int64_t starving_tell_ms;   /* not to be said again before */
	bool check_only;            /* the source only wants to know */
	bool recall;                /* and that is what came from it */
	bool other_vdso;            /* the source's kernel has another one */
	unsigned int nr_refused;    /* of a check: reasons against the move */
	struct rights rights;       /* with which files are looked at and opened */
	struct offer_clocks clocks; /* of the process, on this device */
	uint64_t nr_eager;          /* pages that came with the description */
	uint64_t lazy_bytes;
};

/* Reads the offer and answers it. OUTCOME_DONE: it was accepted. */
enum outcome target_take_offer(struct target_move *m);

/*
 * Reads FILE frames, the first of which lies in the fast lane, up to CHECK and answers; `*refused`
 * becomes the first reason against it. 0 or -errno of the link.
 */
int target_answer_check(struct target_move *m, int *refused);

/* A GO for a move that no worker here has: it is answered from what is on disk. */
enum outcome target_answer_for_dead(struct target_move *m);
/* The source has given up: what was ready here and has no worker is forgotten. */
void target_forget_dead(struct target_move *m);

#endif
