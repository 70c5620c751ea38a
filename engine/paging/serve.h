/* SPDX-License-Identifier: MIT */
/*
 * The source's answering of page requests from the frozen process. Stateless between links: what is
 * still to be sent is known to the target alone.
 *
 * FETCH addr, len   on `faults`: answered by PAGES and ZERO frames that cover the range, in order.
 * PUSH addr, end    on `bulk`; space = number of this push, with PUSH_BEHIND in its top bit. Answered
 *                   by PAGES and ZERO frames for what exists there, in order, each with that number
 *                   in `space`; nothing exists in between. Then REACHED, with the number and the
 *                   address up to which all was told. Without PUSH_BEHIND it ends those before it:
 *                   each is answered with REACHED where it stands.
 */
#ifndef BATON_SERVE_H
#define BATON_SERVE_H

#include "transport/lane.h"
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

/* In the space of a PUSH: it waits behind those that are under way. */
#define PUSH_BEHIND 0x8000
#define PUSH_NUMBER_MASK 0x7fff
/* Most pushes under way, those that were ended and not yet answered included. */
#define PUSH_MAX 32
/* Longest body of a PING. */
#define PING_MAX 64

struct serve_counters {
	uint64_t pages_sent, pages_zero, faults, bytes_wire;
};

struct serve;

/* Takes its window from the arena; before arena_seal. */
int serve_init(struct serve **serve);

/*
 * The frozen process (ptrace-stopped by the caller, or in group-stop). Opens /proc/PID/pagemap and
 * /proc/PID/mem; chooses PAGEMAP_SCAN when the kernel has it. -errno with log_fail.
 */
int serve_attach(struct serve *serve, pid_t pid);
void serve_detach(struct serve *serve);

/* Called at least every 200 ms; non-zero ends serve_run, which returns it. */
typedef int serve_tick_fn(void *data, const struct serve_counters *counters);

/*
 * Answers FETCH on lane `faults` before anything else and PUSH on `bulk`, until a frame that is
 * neither arrives on `faults`: returns 1 and leaves it in faults->rx (STARTED, COMPLETE, ...; the
 * caller handles it, calls lane_receive_done and may call again: pushes go on). PING is answered here.
 * A failure of a lane is returned as is; the caller may call again with new lanes, where the
 * target asks anew. max_rate_mib_s 0: no limit for the push.
 * The push is paced (transport/pace.h). -ESRCH: the process is gone. -EPROTO: a request that makes
 * no sense. -ETIME: the patience of `faults` is over (transport/lane.h).
 */
int serve_run(struct serve *serve, struct lane *faults, struct lane *bulk,
	      unsigned int max_rate_mib_s, serve_tick_fn *tick, void *data);

void serve_counters(const struct serve *serve, struct serve_counters *counters);

#endif
