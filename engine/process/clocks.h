/* SPDX-License-Identifier: MIT */
/*
 * The clocks that count from the start of a device. Of a process that has come from elsewhere they go on
 * where they were: in a time namespace, where this device's own differ from them.
 */
#ifndef BATON_CLOCKS_H
#define BATON_CLOCKS_H

#include <stdbool.h>
#include <stdint.h>

/*
 * A process whose clocks would jump forward by no more than this needs no namespace: it is a move that
 * took a second longer. So one that comes home, whose clocks are behind by what its descriptions were
 * under way, is as it was before.
 */
#define CLOCKS_BOUND_NS 1000000000LL

/* A moment, on both: in this order. */
enum { CLOCKS_MONOTONIC, CLOCKS_BOOTTIME, CLOCKS_NR };
struct clocks {
	int64_t ns[CLOCKS_NR];
};

/* This moment, as we see it. */
void clocks_now(struct clocks *now);

/* From how we see it to how the process whose /proc/PID is `proc_fd` does. 0 or -errno. */
int clocks_of_process(int proc_fd, struct clocks *moment);

/* False: values that no device has, and the arithmetic of which could overflow. */
bool clocks_are_sane(const struct clocks *c);

/*
 * How far the clocks of a process that reads `theirs` would jump, if it went on where `ours` is read at
 * the same moment: 0 when none goes back, and none forward by more than `bound_ns`; else that of the
 * first one that does.
 */
int64_t clocks_jump(const struct clocks *theirs, const struct clocks *ours, int64_t bound_ns);

/*
 * Makes all children from now on see clocks that are ahead of ours by `ahead`. -EINVAL: a kernel without
 * CONFIG_TIME_NS; -ENOSPC: user.max_time_namespaces; -EPERM: no CAP_SYS_TIME; -ERANGE: a clock that
 * would be before 0. Source: time_namespaces(7).
 */
int clocks_shift_children(const struct clocks *ahead);

/* The same for nobody, to know whether it can be done. For trial_run. */
int clocks_trial(void);

/*
 * A clock that only goes on with each tick, CLOCK_MONOTONIC_COARSE: how far it is behind `now`, which was read just
 * now, at least.
 */
int64_t clocks_coarse_behind(const struct clocks *now);
/* Sleeps until ours has come to where one was at `moment` that was behind it by so much: less than a tick. */
void clocks_settle(const struct clocks *moment, int64_t behind_ns);

/* Which of them `clock` (CLOCK_*) goes by; -1: none. */
int clocks_index(int clock);

/*
 * Of a timeout of `clock` with `left_ns` until it is over: what was left at `then`; and what is left now, if
 * that was left at `then`. 0 is none and stays so; what is over has 1 left. Those of CPU clocks stand
 * still between two moments.
 */
uint64_t clocks_left_then(const struct clocks *then, int clock, uint64_t left_ns);
uint64_t clocks_left_now(const struct clocks *then, int clock, uint64_t left_ns);

#endif
