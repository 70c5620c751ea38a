/* SPDX-License-Identifier: MIT */
/* Stopping and releasing all threads of a process. */
#ifndef BATON_FREEZE_H
#define BATON_FREEZE_H

#include "arch/arch.h"
#include "engine/process/vdso.h"
#include <stdbool.h>

struct freeze_thread {
	pid_t tid;        /* as seen from here */
	pid_t tid_inside; /* as the program knows it (innermost pid namespace) */
	int64_t waited_ns; /* how long it had been in the system call it was stopped in; -1: unknown */
	int sleeps_in;     /* restart_call_of */
	bool stopped;      /* was in group-stop (state T) already */
};

struct freeze {
	pid_t pid;
	struct freeze_thread *threads; /* threads[0] is the leader */
	unsigned int nr, max;          /* max: CONFIG_MAX_THREADS */
	bool frozen, held;
	bool filtered; /* a thread has a seccomp filter, which it meets as soon as we are gone */
};

/* Takes the table from the arena; before arena_seal. */
int freeze_init(struct freeze *f);

/* Shortly before freeze_process: what it needs to tell how long threads have been asleep. */
void freeze_prepare(void);

/*
 * SEIZEs and INTERRUPTs every thread of `pid`, again until no new thread appears. Masks are left
 * alone. On failure everything is released. -ESRCH, -EPERM, -E2BIG (more threads than
 * CONFIG_MAX_THREADS), each with log_fail.
 */
int freeze_process(struct freeze *f, pid_t pid);

/*
 * Lets each thread whose program counter is in one of the ranges run on, alone and for a moment, until it is
 * in none; threads that come into being meanwhile are stopped as well. Only while nothing of the process was
 * read. -EAGAIN: one stays inside; -errno of freeze_process. On failure the threads stay frozen.
 */
int freeze_leave(struct freeze *f, const struct vdso_range *ranges, unsigned int nr);

/* Lets every thread run on as if nothing had happened. Idempotent; threads that died are no error. */
int freeze_thaw(struct freeze *f);

/* True when the process was in group-stop before it was frozen: it must be so again on the target. */
bool freeze_is_stopped(const struct freeze *f);

/* True when a signal is pending that is not in `blocked`: an EINTR is then the program's own. */
bool freeze_signal_deliverable(pid_t tid, uint64_t blocked);

/*
 * Leaves SIGSTOP pending: whoever lets the threads go now, also by dying, leaves the process stopped,
 * before an instruction of it has run. Nothing for one that was stopped before. May be repeated,
 * against a SIGCONT from elsewhere.
 */
int freeze_hold(struct freeze *f);

/*
 * Takes that back; the threads stay frozen. True when a SIGCONT is pending for it, which the program must
 * not see: the caller takes it (rt_sigtimedwait) before the threads go on.
 */
bool freeze_unhold(struct freeze *f);

/*
 * The process was held, and whoever had done it is dead: it is in group-stop. Takes its threads over. -ESRCH,
 * -EPERM, -E2BIG.
 */
int freeze_take_over(struct freeze *f, pid_t pid);

#endif
