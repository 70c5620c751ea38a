/* SPDX-License-Identifier: MIT */
/* What stands against moving a process, seen from outside. */
#ifndef BATON_PROCESS_PROBE_H
#define BATON_PROCESS_PROBE_H

#include "engine/state/state.h"

int process_probe(struct probe *p);

#endif
