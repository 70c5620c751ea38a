/* SPDX-License-Identifier: MIT */
/*
 * Against the death of both processes of a move at once, on the target: then the kernel would give zeros
 * where pages are missing. It is told to end the process in the moment in which the last of the two ends.
 * See docs/crash-safety.md.
 */
#ifndef BATON_GUARD_H
#define BATON_GUARD_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

struct guard_pipe {
	int read_fd, write_fd; /* 0: none */
};

/* In the arena's tables. Zeroed at first. */
struct guard {
	struct guard_pipe low, high; /* their writing ends are below and above all userfaultfds */
	int pidfd;                   /* of its process; 0: it does not watch */
	bool warned;                 /* that it cannot be made anew */
	int64_t again_ms;            /* not before */
};

/*
 * Before there are userfaultfds: takes a low number for it. And before there are twins: a table of descriptors
 * that two processes share grows only after a wait of milliseconds (expand_fdtable in fs/file.c), so it is
 * made long enough here. Best effort.
 */
void guard_reserve(struct guard *guard);

/* Watches over `pid` from here on. -errno of pipe2(2), fcntl(2), fork(2). */
int guard_start(struct guard *guard, pid_t pid);

/* From time to time: makes it anew when its process was killed. */
void guard_check(struct guard *guard, pid_t pid);

/* The moved process needs us no more. Idempotent. */
void guard_end(struct guard *guard);

#endif
