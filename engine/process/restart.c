/* SPDX-License-Identifier: MIT */
/* System calls that the freeze interrupted. Source: kernel/signal.c, restart_block users, signal(7). */
#include "engine/process/restart.h"

#include "engine/process/freeze.h"
#include "lib/log.h"

#include <errno.h>
#include <limits.h>
#include <linux/futex.h>
#include <poll.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <time.h>

#define NS_PER_SEC 1000000000ULL
#define NS_PER_MS 1000000ULL
/* A timeout that has run out while the process was on its way ends at once, but through the kernel. */
#define LEFT_MIN_NS 1000ULL
/* Below what the ABI lets a function use under its stack pointer (128 bytes on x86-64). */
#define BELOW_STACK 160
/* The number of a clock is below that, an address is not. */
#define CLOCK_NUMBERS 16
#ifndef TIMER_ABSTIME
#define TIMER_ABSTIME 1
#endif

/*
 * Calls that answer EINTR for good when a stop wakes them, though no signal handler has run
 * (signal(7), "Interruption of system calls and library functions by stop signals"; with a timeout
 * also what reads or writes a socket). All of them may be run again: EINTR says that nothing was done.
 * close(2) and connect(2) may not.
 */
static bool may_repeat(long nr)
{
	switch (nr) {
#ifdef SYS_epoll_wait
	case SYS_epoll_wait:
#endif
	case SYS_epoll_pwait:
	case SYS_epoll_pwait2:
	case SYS_rt_sigtimedwait:
	case SYS_semop:
	case SYS_semtimedop:
	case SYS_io_getevents:
	case SYS_recvfrom:
	case SYS_recvmsg:
	case SYS_recvmmsg:
	case SYS_accept:
	case SYS_accept4:
	case SYS_sendto:
	case SYS_sendmsg:
	case SYS_sendmmsg:
	case SYS_read:
	case SYS_readv:
	case SYS_write:
	case SYS_writev:
	case SYS_sendfile:
	case SYS_splice:
		return true;
	default:
		return false;
	}
}

static int read_timespec(const struct remote *thread, uint64_t addr, uint64_t *ns)
{
	struct timespec ts;
	int err = remote_read(thread, addr, &ts, sizeof(ts));

	if (err)
		return err;
	if (ts.tv_sec < 0 || ts.tv_nsec < 0 || ts.tv_nsec >= (long)NS_PER_SEC)
		return -EINVAL;
	if ((uint64_t)ts.tv_sec > INT64_MAX / NS_PER_SEC - 1)
		*ns = INT64_MAX;
	else
		*ns = (uint64_t)ts.tv_sec * NS_PER_SEC + (uint64_t)ts.tv_nsec;
	return 0;
}

static struct timespec to_timespec(uint64_t ns)
{
	return (struct timespec){(time_t)(ns / NS_PER_SEC), (long)(ns % NS_PER_SEC)};
}

static uint64_t left_of(uint64_t timeout_ns, int64_t waited_ns)
{
	uint64_t left = timeout_ns;

	if (waited_ns > 0)
		left = left > (uint64_t)waited_ns ? left - (uint64_t)waited_ns : 0;
	return left < LEFT_MIN_NS ? LEFT_MIN_NS : left;
}

/* Index of the argument that is a millisecond timeout (*ms) or points to a timespec; -1: none. */
static int timeout_arg(long nr, bool *ms)
{
	*ms = false;
	switch (nr) {
#ifdef SYS_epoll_wait
	case SYS_epoll_wait:
#endif
	case SYS_epoll_pwait:
		*ms = true;
		return 3;
	case SYS_epoll_pwait2:
	case SYS_semtimedop:
		return 3;
	case SYS_rt_sigtimedwait:
		return 2;
	case SYS_io_getevents:
	case SYS_recvmmsg:
		return 4;
	default:
		return -1;
	}
}

/*
 * Shortens the timeout of a call that is repeated: no restart block keeps it. One in memory is the
 * program's own and stays; what is left goes below the stack, where the call reads it once.
 */
static void shorten(const struct remote *thread, struct arch_regs *regs, long nr,
		    const uint64_t *args, int64_t waited_ns)
{
	uint64_t ns, where = (arch_regs_sp(regs) - BELOW_STACK) & ~15ULL;
	struct timespec left;
	bool ms;
	int index = timeout_arg(nr, &ms);

	if (index < 0 || waited_ns <= 0)
		return;
	if (ms && (int32_t)args[index] > 0) {
		ns = left_of((uint64_t)(int32_t)args[index] * NS_PER_MS, waited_ns);
		arch_restart_set_arg(regs, index, (ns + NS_PER_MS - 1) / NS_PER_MS);
	} else if (!ms && args[index] && read_timespec(thread, args[index], &ns) == 0) {
		left = to_timespec(left_of(ns, waited_ns));
		if (remote_write(thread, where, &left, sizeof(left)) == 0)
			arch_restart_set_arg(regs, index, where);
	}
}

static bool is_ours(pid_t tid, const struct arch_regs *regs, uint64_t blocked)
{
	uint64_t args[6];

	return may_repeat(arch_restart_call(regs, args)) &&
	       !freeze_signal_deliverable(tid, blocked);
}

void restart_rewind(pid_t tid, struct arch_regs *regs, uint64_t blocked)
{
	enum arch_restart kind = arch_restart_kind(regs);

	if (kind == ARCH_RESTART_REWIND || kind == ARCH_RESTART_BLOCK ||
	    (kind == ARCH_RESTART_EINTR && is_ours(tid, regs, blocked)))
		arch_restart_rewind(regs);
}

void restart_undo(pid_t tid)
{
	struct arch_regs regs;
	uint64_t blocked;

	if (arch_regs_get_call(tid, &regs) || arch_restart_kind(&regs) != ARCH_RESTART_EINTR ||
	    ptrace(PTRACE_GETSIGMASK, tid, sizeof(blocked), &blocked) < 0 ||
	    !is_ours(tid, &regs, blocked))
		return;
	arch_restart_rewind(&regs);
	arch_regs_set(tid, &regs);
}

/* ---- calls that were continued before ---- */

int restart_call_of(const char *wchan)
{
	if (!strcmp(wchan, "0") || strstr(wchan, "stop"))
		return 0;
	if (strstr(wchan, "futex"))
		return SYS_futex;
	if (strstr(wchan, "poll"))
#ifdef SYS_poll
		return SYS_poll;
#else
		return 0;
#endif
	/* Of a clock of a process' time, whose number looks like an address. */
	if (strstr(wchan, "cpu"))
		return SYS_clock_nanosleep;
	return SYS_nanosleep;
}

void restart_name(struct arch_regs *regs, const struct freeze_thread *slept)
{
	int sleeps_in = slept->sleeps_in;
	uint64_t args[6];

	if (arch_restart_call(regs, args) != SYS_restart_syscall || !sleeps_in)
		return;
	if (sleeps_in == SYS_nanosleep && args[0] < CLOCK_NUMBERS)
		sleeps_in = SYS_clock_nanosleep;
	arch_restart_set_call(regs, sleeps_in);
}

/* ---- timeouts that the kernel keeps ---- */

/*
 * What is left of a sleep, which the stop made the kernel write where the program wants to have it:
 * often over the timeout itself (sleep(3)). The call was told that, or as much as it was to sleep.
 */
static int sleep_timeout(const struct remote *thread, uint64_t told, uint64_t left, uint64_t *ns,
			 bool *is_rest)
{
	*is_rest = left != 0;
	return read_timespec(thread, left ? left : told, ns);
}

/* The clock that a timeout goes by. */
static int clock_of(long nr, const uint64_t *args)
{
	return nr == SYS_clock_nanosleep ? (int)args[0] : CLOCK_MONOTONIC;
}

/*
 * The relative timeout of a call with a restart block, or (*is_rest) what is left of it. 1 with *ns; 0 when the call has no relative
 * timeout and is simply run again; -errno.
 */
static int relative_timeout(const struct remote *thread, long nr, const uint64_t *args,
			    uint64_t *ns, bool *is_rest)
{
	int err;

	*is_rest = false;
	switch (nr) {
	case SYS_nanosleep:
		err = sleep_timeout(thread, args[0], args[1], ns, is_rest);
		break;
	case SYS_clock_nanosleep:
		if (args[1] & TIMER_ABSTIME)
			return 0;
		err = sleep_timeout(thread, args[2], args[3], ns, is_rest);
		break;
#ifdef SYS_poll
	case SYS_poll:
		if ((int32_t)args[2] <= 0)
			return 0;
		*ns = (uint64_t)(int32_t)args[2] * NS_PER_MS;
		return 1;
#endif
	case SYS_futex:
		/* Only plain FUTEX_WAIT counts from now; the others name a point in time. */
		if ((args[1] & FUTEX_CMD_MASK) != FUTEX_WAIT || !args[3])
			return 0;
		err = read_timespec(thread, args[3], ns);
		break;
	default:
		return 0;
	}
	return err ? err : 1;
}

int restart_plan(const struct remote *thread, struct arch_regs *regs, uint64_t blocked,
		 const struct freeze_thread *slept, const struct clocks *then,
		 struct restart_timed *timed)
{
	uint64_t args[6], ns = 0;
	long nr = arch_restart_call(regs, args);
	int64_t waited_ns = slept->waited_ns;
	bool is_rest;
	int got, clock = clock_of(nr, args);

	timed->nr = 0;
	timed->left_ns = 0;
	switch (arch_restart_kind(regs)) {
	case ARCH_RESTART_NONE:
		return 0;
	case ARCH_RESTART_EINTR:
		if (is_ours(thread->tid, regs, blocked)) {
			shorten(thread, regs, nr, args, waited_ns);
			arch_restart_rewind(regs);
		}
		return 0;
	case ARCH_RESTART_REWIND:
		/* The kernel does it, and knows whether a handler comes first. */
		return 0;
	case ARCH_RESTART_BLOCK:
		break;
	}
	if (freeze_signal_deliverable(thread->tid, blocked))
		return 0;
	got = relative_timeout(thread, nr, args, &ns, &is_rest);
	if (got < 0)
		return log_fail(-got, "thread %d: the timeout of its system call %ld is unreadable",
				thread->tid, nr);
	if (got == 0) {
		arch_restart_rewind(regs);
		return 0;
	}
	timed->nr = (uint32_t)nr;
	/*
	 * What is left was told at our stop, or when it was stopped before, since when it has waited. A clock of a
	 * process' time has not moved meanwhile: that timeout starts over.
	 */
	if ((is_rest && !slept->stopped) || clock < 0 || clock == CLOCK_PROCESS_CPUTIME_ID)
		waited_ns = 0;
	timed->left_ns = clocks_left_then(then, clock, left_of(ns, waited_ns));
	return 0;
}

bool restart_touches(const struct arch_regs *regs, const struct restart_timed *timed,
		     struct restart_range *range)
{
	uint64_t args[6];

	arch_restart_call(regs, args);
	switch (timed->nr) {
	case SYS_futex:
		*range = (struct restart_range){args[0], sizeof(uint32_t)};
		break;
	case SYS_nanosleep:
		*range = (struct restart_range){args[1], sizeof(struct timespec)};
		break;
	case SYS_clock_nanosleep:
		*range = (struct restart_range){args[3], sizeof(struct timespec)};
		break;
#ifdef SYS_poll
	case SYS_poll:
		*range = (struct restart_range){args[0], args[1] * sizeof(struct pollfd)};
		break;
#endif
	default:
		return false;
	}
	return range->addr != 0 && range->len != 0;
}

int restart_arm(struct remote *thread, struct arch_regs *regs, const struct restart_timed *timed,
		const struct clocks *then)
{
	uint64_t args[6], where;
	long nr = arch_restart_call(regs, args);
	const uint64_t left_ns =
		left_of(clocks_left_now(then, clock_of(nr, args), timed->left_ns), 0);
	const struct timespec left = to_timespec(left_ns);
	int64_t result;

	if (nr != (long)timed->nr)
		return log_fail(EPROTO, "a thread's interrupted system call does not match");
	remote_reset(thread);
	where = remote_push(thread, &left, sizeof(left));
	if (!where)
		return -EFAULT;
	switch (nr) {
	case SYS_nanosleep:
		args[0] = where;
		break;
	case SYS_clock_nanosleep:
		args[2] = where;
		break;
	case SYS_futex:
		args[3] = where;
		break;
#ifdef SYS_poll
	case SYS_poll: {
		uint64_t ms = (left_ns + NS_PER_MS - 1) / NS_PER_MS;

		args[2] = ms > INT_MAX ? INT_MAX : ms;
		break;
	}
#endif
	default:
		return log_fail(EPROTO, "system call %ld has no timeout to continue", nr);
	}
	result = remote_run_interrupted(thread, nr, args);
	if (thread->dead)
		return -ESRCH;
	/* A call that ended before it could be interrupted has its result. */
	if (result <= -512 && result >= -516)
		arch_restart_through_block(regs);
	else
		arch_restart_finish(regs, result);
	return 0;
}
