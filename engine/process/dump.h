/* SPDX-License-Identifier: MIT */
/* The source's half: look at a process, stop it, describe it. */
#ifndef BATON_DUMP_H
#define BATON_DUMP_H

#include "engine/process/freeze.h"
#include "engine/state/state.h"

/* Runs every kind's probe on a running process. Nothing is stopped. 0 (look at p->nr_refused) or -errno. */
int probe_process(struct probe *p, pid_t pid);

/* Once, before arena_seal. */
int dump_init(struct dump *d, struct freeze *f);

/*
 * Before the freeze: looks for what a thread needs to find back by itself, should we die; for the vdso; and at
 * large mappings. Best effort.
 */
void dump_prepare(struct dump *d, pid_t pid);

/*
 * Freezes `pid`, opens the remote thread and the scratch area. On failure the process runs on.
 * dump_release undoes all of it, in every state, and lets the process run on. No thread is left inside of
 * the vdso. `other_vdso`: the target has another one.
 */
int dump_open(struct dump *d, pid_t pid, bool other_vdso);

/* Emits every kind in table order as STATE, PAGES and ZERO frames on `out`, then removes the scratch area
 * and puts all registers back. The process stays frozen. How long that may take is said by the
 * lane's patience. */
int dump_describe(struct dump *d, struct lane *out);

void dump_release(struct dump *d);

/* In place of an engine that died before it held the process: takes out what finds no way back by itself. */
void dump_mend(struct dump *d);

/* Ends a process that stands still, and waits until its parent has heard of it. What is frozen has to be thawed in between. */
void dump_kill(struct dump *d);
void dump_reap(struct dump *d);

/* A process that stands still, for reading its memory and for its end. -ESRCH, -errno with log_fail. */
int dump_find(struct dump *d, pid_t pid);

/*
 * In place of an engine that died after it had held the process: takes it over as it stands, described,
 * for dump_release. -ESRCH, -EPERM with log_fail.
 */
int dump_take_over(struct dump *d);

/* After the process was killed or handed over: closes the descriptors, touches nothing. */
void dump_close(struct dump *d);

#endif
