/* SPDX-License-Identifier: MIT */
/*
 * Descriptors: the table of what a process has open, what each one is, which of them share one
 * open file; and on the target, putting descriptors at their numbers.
 *
 * Each open file is restored by the kind it is of, at its lowest number (`of`). Then kind_fd makes
 * the other numbers of it, and sets what belongs to the number or the open file in general.
 */
#ifndef BATON_FD_H
#define BATON_FD_H

#include "engine/state/kinds.h"
#include "engine/state/state.h"
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* What a descriptor is: one row of fd_types each. */
enum fd_type {
	FD_FILE,
	FD_PIPE, /* and named FIFOs */
	FD_EVENTFD,
	FD_EPOLL,
	FD_TIMERFD,
	FD_SIGNALFD,
	FD_INOTIFY,
	FD_MEMFD,
	FD_INET,
	FD_UNIX,
	FD_STDIO, /* a standard stream that leads outside */
	FD_TTY,   /* a terminal that is no standard stream */
	FD_OTHER, /* nothing that could be carried */
};

struct fd_entry {
	int32_t fd;
	int32_t of;     /* the lowest number of the same open file: its own when it is that */
	uint32_t flags; /* open(2) flags of the open file; O_CLOEXEC is the descriptor's own */
	uint32_t type;  /* enum fd_type */
	uint64_t dev, ino;
};

struct fd_table {
	pid_t pid;
	int proc_fd, pidfd;
	unsigned int nr;
	struct fd_entry *fds; /* sorted by number */
	uint16_t *order;      /* indexes of open files in the order of kcmp(2) */
	unsigned int nr_order;
};

/* One descriptor while it is being looked at. */
struct fd_look {
	const struct fd_table *table;
	const struct fd_entry *entry;
	int copy;         /* the very open file, in our own table */
	const char *link; /* what /proc/PID/fd/N points to */
	struct stat st;
	bool running;   /* the process runs: there is time to look around */
	char text[320]; /* what it is, and when it cannot be carried, what to do */
};

/* Says what it is, in look->text. */
void fd_say(struct fd_look *look, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

struct fd_type_ops {
	/*
	 * True when it can be carried. Says in look->text what it is ("an epoll instance"), and if
	 * not, why not and what to do. Changes nothing: the process may be running.
	 */
	bool (*check)(struct fd_look *look);
	/* For a standard stream: true when what is at the other end is outside the process. */
	bool (*is_outside)(const struct fd_table *table, const struct fd_entry *entry, int copy);
};
extern const struct fd_type_ops fd_types[];

/* Takes the table from the arena; before arena_seal. -ENOMEM. */
int fd_init(void);

/* The frozen process' descriptors; looked up once a dump. NULL after log_fail with *err. */
const struct fd_table *fd_table_of(struct dump *d, int *err);

/* The table that the last probe filled. */
const struct fd_table *fd_table_probed(void);

/* Finds the entry of a number, NULL when it is not open. */
const struct fd_entry *fd_find(const struct fd_table *table, int fd);

/* The very open file behind descriptor `fd` of the process, in our own table, or -errno. */
int fd_take(int pidfd, int fd);

/*
 * Calls `fn` for each open file of a type (its lowest number), with a copy that is closed
 * afterwards, until it returns non-zero, which is passed on.
 */
typedef int fd_dump_fn(struct dump *d, const struct fd_table *table, const struct fd_entry *entry,
		       int copy);
int fd_dump_type(struct dump *d, enum fd_type type, fd_dump_fn *fn);

/* Reads /proc/PID/fd/N. Bytes, or -errno. */
ssize_t fd_link(const struct fd_table *table, int fd, char *buf, size_t cap);

/* Value of the line "key:\tvalue" in fdinfo, as a number of that base. -ENOENT when it has no such line. */
int fd_info_u64(const struct fd_table *table, int fd, const char *key, unsigned int base,
		uint64_t *value);

/* Calls `fn` with what follows `key` in each such line of fdinfo, until it returns non-zero. */
typedef int fd_line_fn(void *data, const char *text);
int fd_info_each(const struct fd_table *table, int fd, const char *key, fd_line_fn *fn, void *data);

/* Two descriptors of the process: is it the same open file? 1, 0, or -errno of kcmp(2). */
int fd_is_same(const struct fd_table *table, int a, int b);

/* True when a process other than this one has the same thing open (the same link in /proc). */
bool fd_has_holder(const struct fd_look *look);

/* The type of a descriptor; look->entry->flags, link, st and copy are set. */
enum fd_type fd_type_find(const struct fd_look *look);
/* Says what cannot be carried at all, and what is not built in. */
bool fd_other_check(struct fd_look *look);
bool fd_left_out_check(struct fd_look *look);

/* ---- for other kinds of state ---- */

/* Calls `fn` for each open regular file that has a path, until it returns non-zero. */
typedef int fd_file_fn(void *data, const char *path, unsigned int open_flags);
int fd_each_file(int proc_fd, pid_t pid, fd_file_fn *fn, void *data);

/* Descriptor (of the frozen process, and so of the restored one) of the memfd with this inode, or
 * -ENOENT. One that can be written when there is one. */
int fd_find_memfd(struct dump *d, uint64_t dev, uint64_t ino);

/* ---- target ---- */

/*
 * Moves descriptor `from` of the new process to number `to`. Every open file of the program is put
 * in place by this, without close-on-exec, which kind_fd sets (so create without it). -EPROTO when something was placed there before.
 */
int fd_place(struct restore *r, int64_t from, int32_t to);
/* The same, but `from` stays where it is, too. */
int fd_place_copy(struct restore *r, int64_t from, int32_t to);

/* Upper bound of descriptor numbers: fs.nr_open of a default kernel. */
#define FD_NUMBER_MAX (1 << 20)

/* Gives the open file at number `from` another number. */
int fd_place_dup(struct restore *r, int32_t from, int32_t to, bool cloexec);

/* Nothing of the receiver's may lie at a number that the program wants: moves it away. */
int fd_clear_number(struct restore *r, int32_t to);

/* True when a descriptor was placed at this number. */
bool fd_is_placed(struct restore *r, int32_t fd);

/* The open file at number `fd` of the new process, in our own table; -EPROTO when none was placed. */
int fd_restore_take(struct restore *r, int32_t fd);

/* Makes the new process open a path, which may be long. Its descriptor, or -errno. */
int64_t fd_remote_open(struct restore *r, const char *path, uint32_t flags);

/*
 * Moves the streams of the receiver out of the way and raises the descriptor limit, once. Every
 * restore of a kind of descriptor calls this before it creates anything.
 */
int fd_place_begin(struct restore *r);

/* Last step: closes what is the receiver's, puts the limit back. */
int fd_place_finish(struct restore *r);

/* Room for CONFIG_MAX_FDS numbers: the memory of the table, which a target does not use. */
int32_t *fd_placed_room(void);

#endif
