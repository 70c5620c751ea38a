/* SPDX-License-Identifier: MIT */
/* The address space before there are mappings in it: emptied, with the vdso and the scratch area. */
#ifndef BATON_SPACE_H
#define BATON_SPACE_H

#include "engine/state/process.pb.h"
#include "engine/state/state.h"

/* Source: where the vdso's parts lie, and a gap that no mapping uses. */
int space_describe(struct dump *d, baton_Process *msg);

/*
 * Target: unmaps everything that the new process got from us, puts the vdso where the program
 * expects it, or aside, and maps the scratch area into the gap. Sets leader.insn, leader.scratch,
 * vdso_insn.
 */
int space_empty(struct restore *r, const baton_Process *msg);

/*
 * Target, all mappings are there: where the program knows another kernel's vdso, this kernel's goes to a
 * place of its own, and what the program knows is redirected to it. 0 or -errno with log_fail.
 */
int space_settle(struct restore *r);

/* `path` as a process with this root sees it; "/" when it lies outside. */
const char *space_inside_root(const char *path, const char *root);

#endif
