/* SPDX-License-Identifier: MIT */
/* What is tried in a child of ours, so that nothing of it stays: see engine/process/system.c. */
#ifndef BATON_SYSTEM_TRIAL_H
#define BATON_SYSTEM_TRIAL_H

#include <sys/types.h>

/* Runs `fn` in a child and returns what it returned: 0 or -errno. -EIO: the child died. */
int trial_run(int (*fn)(void));

/* Each 0 or -errno. */
int trial_tid_address(void);
int trial_mm_map(void);
int trial_pidns(void);
int trial_timer_ids(void);
int trial_unix_diag(void);

/*
 * A child with a pid that was free and was asked for by number. Returns its pid, or -errno of
 * clone3(2); in the child 0: it calls trial_sleep.
 */
pid_t trial_make_subject(void);
/* Sleeps until it is killed, or its parent ends. */
_Noreturn void trial_sleep(void);

/* Waits for the stop that PTRACE_INTERRUPT makes. -ETIMEDOUT, -ESRCH. */
int trial_wait_stop(pid_t pid);

#endif
