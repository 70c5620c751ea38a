/* SPDX-License-Identifier: MIT */
/* A new, empty process with a given pid, in a session of a given id, to be rebuilt by remote calls. */
#ifndef BATON_SPAWN_H
#define BATON_SPAWN_H

#include "engine/process/clocks.h"
#include <stdbool.h>
#include <sys/types.h>

struct spawn {
	/* in */
	pid_t want;                 /* its pid, as it shall see it */
	pid_t sid;                  /* its session; equal to want: it leads one; 0: ours */
	bool pidns;                 /* in a pid namespace of its own, under a small init */
	const struct clocks *ahead; /* its clocks are so far ahead of ours; NULL: they are ours */
	/* out */
	pid_t pid;       /* as seen from here */
	pid_t init;      /* the init; 0 without pidns */
	bool in_session; /* the session could be had */
};

/*
 * Forks. The process sleeps in a system call, with our standard streams and a socket open, and ends
 * after some seconds in which nobody has attached to it. Its parent is init, or the init of its
 * namespace. -EEXIST: the pid is taken; other -errno of clone3(2) and of
 * clocks_shift_children, each with log_fail. Source: clone3(2) set_tid, unix(7) SCM_CREDENTIALS.
 */
int spawn_process(struct spawn *s);

#endif
