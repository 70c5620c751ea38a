/* SPDX-License-Identifier: MIT */
/* Guard regions: told right behind the mapping that they are in. */
#ifndef BATON_GUARDPAGE_H
#define BATON_GUARDPAGE_H

#include "engine/state/state.h"

/* Emits those of the mapping [start, end). 0 or -errno with log_fail. */
int guardpage_dump(struct dump *d, uint64_t start, uint64_t end);

#endif
