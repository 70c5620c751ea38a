/* SPDX-License-Identifier: MIT */
/*
 * Whether a thread has restricted itself with Landlock, which no file and no call tells. But the kernel
 * does not let it look into a process outside of its restrictions: a helper of ours, which is what
 * the thread is and holds no right, is such a process, and get_robust_list(2) looks into it.
 * Source: landlock(7), "Ptrace restrictions".
 */
#ifndef BATON_LANDLOCK_H
#define BATON_LANDLOCK_H

#include "engine/process/remote.h"

/* Starts a helper for the threads of `pid`, before it is stopped: it takes a while. */
void landlock_begin(pid_t pid);
/* Ends it, without waiting until it has. Idempotent. */
void landlock_end(void);
/* Waits for one that was ended. Idempotent. */
void landlock_reap(void);

/* Asks ahead (engine/process/ask.h) what landlock_restricts will. */
void landlock_ask(struct remote *thread);
/* 1: it has; 0: it has not, or the kernel has no Landlock; -errno: it cannot be told. */
int landlock_restricts(struct remote *thread);

#endif
