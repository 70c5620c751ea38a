/* SPDX-License-Identifier: MIT */
/*
 * System calls that the freeze interrupted: what the program must see of that is nothing.
 * See docs/design.md, "Interrupted system calls".
 */
#ifndef BATON_RESTART_H
#define BATON_RESTART_H

#include "arch/arch.h"
#include "engine/process/clocks.h"
#include "engine/process/remote.h"

struct freeze_thread;

/* A call whose relative timeout the kernel keeps, to be continued with what was left. */
struct restart_timed {
	uint32_t nr;      /* system call number; 0: nothing to do */
	uint64_t left_ns; /* of its timeout, at a moment that both sides know */
};

/*
 * The number of the call with a restart block that a thread sleeps in, by the function of the kernel that
 * /proc/PID/task/TID/wchan tells; SYS_nanosleep for any sleep. 0: it is in none, or the kernel does not tell.
 */
int restart_call_of(const char *wchan);

/*
 * Source: a call that was continued once before (after a move, or a SIGSTOP) has the number of
 * restart_syscall(2) in `regs`. Puts its own there, by what was seen while the thread still slept.
 */
void restart_name(struct arch_regs *regs, const struct freeze_thread *slept);

/*
 * Source: makes `regs` of a thread stopped in a signal stop ready to be continued elsewhere.
 * `blocked` is its own signal mask, not the one that it has while it works for us.
 * A timeout of which it is not known how long the thread had been asleep starts over. `timed`
 * is filled when the thread must be put back into its call by restart_arm: with what was left `then`.
 */
int restart_plan(const struct remote *thread, struct arch_regs *regs, uint64_t blocked,
		 const struct freeze_thread *slept, const struct clocks *then,
		 struct restart_timed *timed);

/*
 * Target: runs the call of `regs` with what is left now, until it sleeps; makes `regs` continue
 * through the kernel's restart block. The memory that the call reads (a futex, a poll set) must be
 * there. The last remote call of this thread but for unmapping.
 */
int restart_arm(struct remote *thread, struct arch_regs *regs, const struct restart_timed *timed,
		const struct clocks *then);

/*
 * Makes `regs` of a thread in a signal stop, whose own signal mask is `blocked`, run an interrupted
 * system call again where the kernel would not do it: they are for a thread that is not continued from
 * that stop. A relative timeout starts over.
 */
void restart_rewind(pid_t tid, struct arch_regs *regs, uint64_t blocked);

/* Source, move undone: an EINTR that only the stop caused becomes a repeated call. */
void restart_undo(pid_t tid);

/*
 * Memory that restart_arm's call reads or writes (a futex, a poll set, what is left of a sleep): its
 * pages must be there before. False when there is none.
 */
struct restart_range {
	uint64_t addr, len;
};
bool restart_touches(const struct arch_regs *regs, const struct restart_timed *timed,
		     struct restart_range *range);

#endif
