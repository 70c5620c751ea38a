/* SPDX-License-Identifier: MIT */
/* The files a process has mapped or opened: named and identified at the source, compared at the target. */
#ifndef BATON_FILES_H
#define BATON_FILES_H

#include "engine/move/move.pb.h"
#include "engine/process/rights.h"
#include "transport/lane.h"
#include <stdbool.h>
#include <sys/types.h>

/* Takes the table of files already told from the arena; before arena_seal. -ENOMEM. */
int files_init(void);

/* Forgets what was told. Before each move. */
void files_begin(void);

/*
 * Sends a FILE frame for each distinct mapped or opened regular file of the process that was not
 * told yet, or has changed since. While the process runs, of files that are being written only
 * their presence is told; once it is frozen, they are told in full. Returns the number of frames,
 * or -errno: of the lane, or -ESTALE, -EACCES, ... of a file, with the reason.
 */
int files_send(struct lane *lane, pid_t pid, bool frozen, int timeout_ms);

/* Target: 0 when the same file is here, and may be opened with these rights; -ENOENT, -EACCES, -ESTALE (it
 * differs), ... with the reason. */
int files_check(const baton_MoveFile *file, const struct rights *rights);

#endif
