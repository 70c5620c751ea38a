/* SPDX-License-Identifier: MIT */
/*
 * A control group of its own that holds a process still, whoever sends it signals and whether we live or
 * not. Version 1 (the freezer hierarchy) or 2 (cgroup.freeze). Without one, group-stop has to do.
 * Source: cgroups(7), Documentation/admin-guide/cgroup-v1/freezer-subsystem.rst and cgroup-v2.rst.
 */
#ifndef BATON_FREEZER_H
#define BATON_FREEZER_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

/*
 * Finds where a group for this process would be: below the one that it is in, named after the move. `dir`
 * becomes its path. -EOPNOTSUPP, with `dir` empty: there is no freezer that can be used.
 */
int freezer_find(pid_t pid, const char *id, char *dir, size_t cap);

/* Makes the group and puts the process into it, running. Takes milliseconds. -errno; then it is where it was. */
int freezer_enter(const char *dir, pid_t pid);

/* Freezes, and waits until every thread is; -ETIMEDOUT. Lets go again. */
int freezer_freeze(const char *dir);
int freezer_thaw(const char *dir);

/* True from freezer_freeze to freezer_thaw, whoever did it: what lies in between is being frozen or is. */
bool freezer_is_on(const char *dir);

/* Puts the process back (0: it is gone) and removes the group. Best effort, idempotent. */
void freezer_leave(const char *dir, pid_t pid);

#endif
