/* SPDX-License-Identifier: MIT */
/* Guard regions: told right behind the mapping that they are in; of the largest ones, which take long, last. */
#ifndef BATON_GUARDPAGE_H
#define BATON_GUARDPAGE_H

#include "engine/state/state.h"

/* Emits those of the mapping [start, end), or notes that it is to be looked through. 0 or -errno with log_fail. */
int guardpage_dump(struct dump *d, uint64_t start, uint64_t end);

/* Emits those of what was noted, while the target builds all else. 0 or -errno with log_fail. */
int guardpage_dump_noted(struct dump *d);

#endif
