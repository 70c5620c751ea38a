/* SPDX-License-Identifier: MIT */
/*
 * The processes that matter: a folder `protect` in the keys folder, one small file for each, named as it is, of
 * lines
 *
 *     pidfile FILE | unit NAME | command TEXT     how its pid is found
 *     exe PATH                                    its program; another one with that pid is not meant
 *     priority N                                  higher goes first; 0 without
 *     after NAME                                  begins when that one runs over there
 */
#ifndef BATON_PROTECT_H
#define BATON_PROTECT_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

#define PROTECT_NAME_BYTES 32
#define PROTECT_HOW_BYTES 256
#define PROTECT_PRIORITY_MOST 1000
/* How long a command, or systemctl, may take to answer. */
#define PROTECT_ASK_MS 5000

struct protect {
	char name[PROTECT_NAME_BYTES], after[PROTECT_NAME_BYTES];
	char pidfile[PROTECT_HOW_BYTES], unit[PROTECT_HOW_BYTES], command[PROTECT_HOW_BYTES];
	char exe[PROTECT_HOW_BYTES]; /* "": any */
	int priority;
};

/* Letters, digits and ._- without a dot in front: a file, a name in a line. */
bool protect_name_is_good(const char *name);

/* Writes the file of one; what is there under that name is replaced. -errno with its reason. */
int protect_add(const char *keys_dir, const struct protect *protect);

/* -ENOENT and others, with their reason. */
int protect_remove(const char *keys_dir, const char *name);

/* The one of that name. -ENOENT and others, without a reason. */
int protect_read(const char *keys_dir, const char *name, struct protect *protect);

/*
 * Calls `fn` for each, until it returns non-zero, which is passed on. One that cannot be understood is told as a
 * warning and left out. 0 also when there is no folder; -errno with its reason.
 */
int protect_each(const char *keys_dir, int (*fn)(void *data, const struct protect *protect),
		 void *data);

/*
 * The process, as seen from here. `command` is run with sh -c and `unit` asked of systemctl, each for `ask_ms` at
 * most. 0: *pid is it. -ESRCH: it does not run here. Else nobody can tell whether it does: -ENOENT (there is no such
 * pid file: protect_has_others may know), -ETIMEDOUT, -EIO, -ENODATA, -EACCES, ... Each but 0 with its reason.
 */
int protect_find(const struct protect *protect, int ask_ms, pid_t *pid);

/* Whether a process of that program runs here that `is_known` does not know. */
bool protect_has_others(const char *exe, bool (*is_known)(pid_t pid));

/* The program of a process. False: it cannot be read. */
bool protect_exe(pid_t pid, char out[static PROTECT_HOW_BYTES]);

#endif
