/* SPDX-License-Identifier: MIT */
/*
 * Questions to a stopped thread: system calls that change nothing. Those that are known beforehand are asked all at
 * once: as steps on its way back (arch_sigreturn_step), so that nothing but registers and never used memory is needed,
 * and should we die it takes what is left of them on its way.
 */
#ifndef BATON_ASK_H
#define BATON_ASK_H

#include "engine/process/proc.h"
#include "engine/process/remote.h"

#define QUESTION_ROOM_MAX 144

struct question {
	long nr;
	uint64_t args[6];
	unsigned int
		rooms; /* bits: these arguments are offsets in a room that the call fills ... */
	size_t len;    /* ... of so many bytes, zeros at first; at most QUESTION_ROOM_MAX */
};

/*
 * Chooses the signal that says the end of the steps: one that the process ignores, so that it is nothing to it when
 * we are not there any more to take it. `leader`: its status, `mask` its signals that are blocked. Without such a
 * signal, a way back with steps, or room for them at r->steps, every question is a call of its own.
 */
void ask_begin(struct remote *r, const struct proc_status *leader, uint64_t mask);

/* Notes a question for ask_run. Best effort. */
void ask_ahead(struct remote *r, const struct question *q);
/* Asks all that were noted of this thread. 0 also when they will be asked one by one; -ESRCH: it has died; other -errno of
 * ptrace(2) and of its memory. */
int ask_run(struct remote *r);

/*
 * The result of the call, as remote_run has it; *out: what is in its room then. Asked now unless it was asked ahead,
 * and each answer is given once.
 */
int64_t ask_for(struct remote *r, const struct question *q, void *out);

/* The answers that nobody has taken mean nothing any more. */
void ask_forget(void);

#endif
