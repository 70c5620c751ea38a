/* SPDX-License-Identifier: MIT */
/* Latencies in buckets whose width grows with the value: fixed size, at most 12.5% off. */
#ifndef BATON_HISTOGRAM_H
#define BATON_HISTOGRAM_H

#include <stdint.h>

/* Eight exact buckets, then eight for each power of two up to 2^32 us. */
#define HISTOGRAM_STEPS 8
#define HISTOGRAM_BUCKETS (HISTOGRAM_STEPS + (32 - 3) * HISTOGRAM_STEPS)

struct histogram {
	uint32_t buckets[HISTOGRAM_BUCKETS];
	uint64_t nr;
};

void histogram_add(struct histogram *histogram, uint32_t value_us);

/*
 * The smallest bucket's upper bound, in us, that `percent` (1..100) of all values do not exceed; 0
 * when there is none yet.
 */
uint32_t histogram_percentile(const struct histogram *histogram, unsigned int percent);

#endif
