/* SPDX-License-Identifier: MIT */
/* What a description puts onto its lane: before the first of it. */
#ifndef BATON_DUMP_EMIT_H
#define BATON_DUMP_EMIT_H

struct dump;
struct lane;

/* From here on dump_emit and its like (engine/state/state.h) put it onto `out`. */
void dump_emit_begin(struct dump *d, struct lane *out);

#endif
