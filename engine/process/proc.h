/* SPDX-License-Identifier: MIT */
/* What /proc tells of a process: status fields, mappings, threads. Source: proc(5). */
#ifndef BATON_PROC_H
#define BATON_PROC_H

#include "lib/io.h"
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

/* O_PATH descriptor of /proc/PID. -ESRCH when there is none. */
int proc_open(pid_t pid);

#define PROC_GROUPS_MAX 64

struct proc_status {
	char name[16];
	char state; /* R S D T t Z X I */
	pid_t tgid, tracer, ppid;
	pid_t pid_inside, pgid_inside, sid_inside; /* innermost pid namespace; 0: outside of it */
	unsigned int ns_depth;                     /* how many pid namespaces below ours, 1: ours */
	unsigned int threads;
	uint32_t uid[4], gid[4]; /* real, effective, saved, file system */
	uint32_t groups[PROC_GROUPS_MAX];
	unsigned int nr_groups; /* PROC_GROUPS_MAX + 1: more than that */
	uint64_t cap_inh, cap_prm, cap_eff, cap_bnd, cap_amb;
	uint64_t sig_pending, shared_pending, sig_blocked, sig_ignored, sig_caught;
	uint64_t locked_kib, own_kib; /* own: in memory or swap, and of no file; an estimate */
	unsigned int seccomp, umask;
	bool no_new_privs;
	bool tagged_addresses; /* more bits of addresses are ignored than usual */
	bool has_mm;           /* false: a kernel thread or a zombie */
};

/* Reads "status" below `dir_fd` (of a process or a thread). 0, -ESRCH, -errno. */
int proc_status(int dir_fd, struct proc_status *status);
/* The same of a process or thread by its number. */
int proc_status_of(pid_t tid, struct proc_status *status);

struct proc_map {
	uint64_t start, end, offset, inode;
	unsigned int dev_major, dev_minor;
	bool read, write, exec, shared;
	const char *name; /* "" for anonymous memory; points into the line */
};

/* Takes a line of maps or the head line of an entry of smaps apart. False when it is neither. */
bool proc_map_parse(char *line, struct proc_map *map);

/* Length of one line of maps at most: addresses and a path. */
#define PROC_LINE_MAX 4352

/* Calls `fn` for each thread of the process until it returns non-zero, which is passed on. */
int proc_each_thread(int proc_fd, int (*fn)(void *data, pid_t tid), void *data);

/* Calls `fn` for each child process of any thread until it returns non-zero, which is passed on.
 * Needs CONFIG_PROC_CHILDREN. */
int proc_each_child(int proc_fd, int (*fn)(void *data, pid_t child), void *data);

/*
 * Kills a process and all that descends from it. It is stopped first, so that hardly any is made meanwhile: a fork that is
 * under way is not awaited. What has lost its parent before is not found. For proc_each_child, too.
 */
int proc_kill_tree(void *unused, pid_t pid);

/* Field `index` (from 1, as proc(5) counts; 3 and up) of "stat" below dir_fd. */
int proc_stat_field(int dir_fd, unsigned int index, int64_t *value);
/* Fields first..first+nr-1 at once. */
int proc_stat_fields(int dir_fd, unsigned int first, unsigned int nr, uint64_t *values);

#endif
