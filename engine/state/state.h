/* SPDX-License-Identifier: MIT */
/*
 * One kind of state: its probe, dump, restore and message. A kind is a file in this folder and a
 * row in kinds.c; the order of the rows is the order in the stream.
 */
#ifndef BATON_STATE_H
#define BATON_STATE_H

#include "engine/remote.h"
#include <pb.h>
#include <sys/stat.h>

struct lane;

/* ---- before the freeze: the process runs, nothing is touched, /proc is read ---- */

struct probe {
	pid_t pid;
	int proc_fd; /* O_PATH of /proc/PID */
	int pidfd;
	/*
	 * Called for each thing the process holds. `item` names it ("fd 7", "7f12..-7f13.. /lib/x.so");
	 * carried false: it cannot be moved, `text` says what it is and what to do.
	 */
	void (*report)(struct probe *p, bool carried, const char *item, const char *text);
	unsigned int nr_refused;
	void *data; /* the caller's */
};
void probe_carried(struct probe *p, const char *item, const char *fmt, ...) __attribute__((format(printf, 3, 4)));
void probe_refused(struct probe *p, const char *item, const char *fmt, ...) __attribute__((format(printf, 3, 4)));

/* ---- source: every thread is stopped ---- */

struct dump {
	pid_t pid;
	int proc_fd, pidfd;
	struct remote leader; /* runs remote calls in the process, with a scratch area */
	struct freeze *freeze; /* engine/freeze.h: the threads */
	struct lane *out;     /* where STATE and PAGES frames go */
	uint64_t nr_state;    /* STATE frames so far */
	uint64_t nr_eager;    /* pages sent before the start */
	const char *kind;     /* being dumped, for messages */
};

struct state_kind;
/* Sends one message of a kind. */
int dump_emit(struct dump *d, const struct state_kind *kind, const void *msg);

/* ---- target: the new process exists, its leader is stopped ---- */

struct restore {
	pid_t pid;            /* as seen from here */
	pid_t pid_inside;     /* as the program knows it */
	int proc_fd, pidfd;
	struct remote leader; /* runs remote calls, with a scratch area */
	const char *stdio;    /* --stdio FILE, or NULL: the receiver's own standard streams */
	int stdio_fd[3];      /* fds 0..2 in the new process are these until replaced: see fd.c */
	bool pidns;
	struct threads *threads;
};

/* ---- the table ---- */

struct state_kind {
	uint16_t id;                /* on the wire; never reused */
	const char *name;
	const pb_msgdesc_t *fields; /* its message */
	size_t size;                /* sizeof the message's struct */
	/* Reports what of this kind the running process holds. NULL: always carried, nothing to say. 0 or -errno. */
	int (*probe)(struct probe *p);
	/* Emits the messages of this kind. 0 or -errno with log_fail. */
	int (*dump)(struct dump *d, const struct state_kind *kind);
	/* Rebuilds from one message (already decoded and bounds-checked by nanopb; values are hostile). */
	int (*restore)(struct restore *r, const void *msg);
	/* All messages of the stream were seen; last step in table order. NULL: nothing. */
	int (*finish)(struct restore *r);
};

extern const struct state_kind *const state_kinds[];
extern const unsigned int state_nr_kinds;
const struct state_kind *state_kind_find(uint16_t id); /* NULL when unknown */

#endif
