/* SPDX-License-Identifier: MIT */
/*
 * How much may be under way at a time, so that what is urgent does not wait behind more than about
 * PACE_QUEUE_US of what is not, wherever on the path the queue is (a modem can hold a minute of it).
 *
 * The window is what the link delivers in its shortest round trip and PACE_QUEUE_US more. While no
 * queue shows in the round trip it grows, so that a fast or a long link is filled as TCP alone
 * would fill it; from PACE_FREE on nothing is held back any more, and the kernel alone decides.
 * A round trip that stays long with the least window is the path's own, not our queue.
 */
#ifndef BATON_PACE_H
#define BATON_PACE_H

#include "transport/traffic.h"
#include <stdbool.h>
#include <stdint.h>

#define PACE_QUEUE_US 100000
#define PACE_FIRST_BYTES 16384
/* TCP itself stalls with less: a few packets. */
#define PACE_LEAST_BYTES 4096 /* not a page */
#define PACE_FREE_BYTES ((uint64_t)4 << 20)
/* Below this (about 40 Mbit/s) a few packets in front of a fault are a matter of milliseconds. */
#define PACE_SLOW_BYTES ((uint64_t)512 << 10)

struct pace {
	uint64_t window;       /* bytes */
	uint32_t rtt_own_us;   /* of the path without a queue; 0: not known */
	unsigned int nr_least; /* measurements in a row with the least window */
	uint64_t
		rate; /* bytes a second that the link carries, 0: not known, for it was never full */
	/* The measurement under way: */
	int64_t since_us;
	uint64_t acked;
	bool held; /* something had to wait for the window */
};

/* A new connection. */
void pace_begin(struct pace *pace);

static inline bool pace_is_free(const struct pace *pace)
{
	return pace->window >= PACE_FREE_BYTES;
}

static inline bool pace_is_slow(const struct pace *pace)
{
	return pace->window < PACE_SLOW_BYTES;
}

/*
 * Bytes that may be given to the kernel now; UINT64_MAX: all there are. `traffic` is the sum of the
 * connections that share the link. To be asked before each sending, or now and then while the pace
 * is free.
 */
uint64_t pace_allow(struct pace *pace, const struct traffic *traffic, int64_t now_us);

/* How long to wait before asking again, when nothing was allowed. */
int pace_wait_ms(const struct traffic *traffic);

#endif
