/* SPDX-License-Identifier: MIT */
/* Latencies in buckets whose width grows with the value. */
#include "engine/paging/histogram.h"

static unsigned int bucket_of(uint32_t value_us)
{
	unsigned int shift;

	if (value_us < HISTOGRAM_STEPS)
		return value_us;
	shift = 31 - (unsigned int)__builtin_clz(value_us) - 3;
	return HISTOGRAM_STEPS + shift * HISTOGRAM_STEPS + ((value_us >> shift) - HISTOGRAM_STEPS);
}

/* The highest value that falls into a bucket. */
static uint32_t bucket_top(unsigned int bucket)
{
	unsigned int shift;
	uint64_t first;

	if (bucket < HISTOGRAM_STEPS)
		return bucket;
	shift = bucket / HISTOGRAM_STEPS - 1;
	first = (uint64_t)(HISTOGRAM_STEPS + bucket % HISTOGRAM_STEPS) << shift;
	return (uint32_t)(first + ((uint64_t)1 << shift) - 1);
}

void histogram_add(struct histogram *histogram, uint32_t value_us)
{
	uint32_t *bucket = &histogram->buckets[bucket_of(value_us)];

	if (*bucket == UINT32_MAX)
		return;
	(*bucket)++;
	histogram->nr++;
}

uint32_t histogram_percentile(const struct histogram *histogram, unsigned int percent)
{
	uint64_t wanted = (histogram->nr * percent + 99) / 100, seen = 0;

	for (unsigned int i = 0; i < HISTOGRAM_BUCKETS; i++) {
		seen += histogram->buckets[i];
		if (seen && seen >= wanted)
			return bucket_top(i);
	}
	return 0;
}
