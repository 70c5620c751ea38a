/* SPDX-License-Identifier: MIT */
/* The source's answering of page requests from the frozen process. Stateless between calls. */
#ifndef BATON_SERVE_H
#define BATON_SERVE_H

#include "transport/lane.h"
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

struct serve_counters {
	uint64_t pages_sent, pages_zero, faults, bytes_wire;
};

struct serve;

/* Takes its window from the arena; before arena_seal. */
int serve_init(struct serve **serve);

/* The frozen process (ptrace-stopped by the caller, or in group-stop). Opens /proc/PID/pagemap; chooses
 * PAGEMAP_SCAN when the kernel has it. */
int serve_attach(struct serve *serve, pid_t pid);
void serve_detach(struct serve *serve);

typedef int serve_tick_fn(void *data, const struct serve_counters *counters);

/*
 * Answers FETCH on lane `faults` before anything else and PUSH on `bulk`, until a frame that is
 * neither arrives on `faults`: returns 1 and leaves it in faults->rx (STARTED, COMPLETE, ...; the
 * caller handles it, calls lane_receive_done and may call again). PING is answered here. A failure of
 * a lane is returned as is; the caller may call again with new lanes. max_rate_mib_s 0: no limit for the push.
 */
int serve_run(struct serve *serve, struct lane *faults, struct lane *bulk, unsigned int max_rate_mib_s,
	      serve_tick_fn *tick, void *data);

void serve_counters(const struct serve *serve, struct serve_counters *counters);

#endif
