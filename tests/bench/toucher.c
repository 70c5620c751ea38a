/* SPDX-License-Identifier: MIT */
/*
 * The moved program of the benchmarks: MIB of memory, of which it touches a random page every
 * PERIOD_US, and writes down how long that took and how long it did not run at all.
 *	toucher DIR MIB PERIOD_US
 * Result in DIR/result, one JSON object: the largest gap of CLOCK_REALTIME between two touches
 * (downtime as the program sees it), and the touches after that gap that took more than SLOW_NS.
 */
#include "../scenario/region.h"

#define MAX_TOUCHES (1 << 20)
#define SLOW_NS                                                                                    \
	15000 /* a touch of memory that is there takes far less; one that faults takes more */

static uint32_t touch_ns[MAX_TOUCHES];
static size_t nr_touches;

static int64_t clock_ns(clockid_t clock)
{
	struct timespec ts;

	clock_gettime(clock, &ts);
	return (int64_t)ts.tv_sec * 1000000000 + ts.tv_nsec;
}

static int by_value(const void *a, const void *b)
{
	uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;

	return x < y ? -1 : x > y;
}

static void report(int64_t gap_ns, size_t first_after)
{
	size_t nr_slow = 0, nr_after = nr_touches - first_after;
	uint32_t *t = touch_ns + first_after;
	char text[400];

	/* The touches of memory that had to be fetched, in front. */
	for (size_t i = 0; i < nr_after; i++)
		if (t[i] > SLOW_NS)
			t[nr_slow++] = t[i];
	qsort(t, nr_slow, sizeof(*t), by_value);
	snprintf(text, sizeof(text),
		 "{\"gap_us\": %ld, \"touches\": %zu, \"slow\": %zu, \"p50_us\": %.1f, \"p99_us\": "
		 "%.1f, "
		 "\"max_us\": %.1f}",
		 (long)(gap_ns / 1000), nr_after, nr_slow, nr_slow ? t[nr_slow / 2] / 1e3 : 0.0,
		 nr_slow ? t[nr_slow * 99 / 100] / 1e3 : 0.0, nr_slow ? t[nr_slow - 1] / 1e3 : 0.0);
	scenario_write("result", text);
}

int main(int argc, char **argv)
{
	struct region r;
	int64_t last, gap_ns = 0;
	size_t first_after = 0;
	long period_us;

	if (argc != 4)
		return 2;
	scenario_init(argc, argv);
	memset(touch_ns, 1, sizeof(touch_ns)); /* no faults of its own */
	region_make(&r, (size_t)atoi(scenario_arg(0)) * 256, 100, 1);
	period_us = atol(scenario_arg(1));
	scenario_ready();
	last = clock_ns(CLOCK_REALTIME);
	while (!(nr_touches % 64 == 0 && scenario_gone())) {
		int64_t now = clock_ns(CLOCK_REALTIME), began;
		struct timespec ts = {0, period_us * 1000};

		if (now - last > gap_ns) {
			gap_ns = now - last;
			first_after = nr_touches % MAX_TOUCHES;
		}
		began = clock_ns(CLOCK_MONOTONIC);
		(void)*(volatile char *)region_page(&r, region_random(&r, r.nr_pages));
		touch_ns[nr_touches % MAX_TOUCHES] = (uint32_t)(clock_ns(CLOCK_MONOTONIC) - began);
		nr_touches++;
		last = clock_ns(CLOCK_REALTIME);
		if (period_us) {
			nanosleep(&ts, NULL);
			/* The sleep is not a gap. */
			last += period_us * 1000;
		}
	}
	if (nr_touches > MAX_TOUCHES)
		nr_touches = MAX_TOUCHES;
	region_check(&r, "after the move");
	report(gap_ns, first_after);
	while (!scenario_exists("end"))
		scenario_sleep_ms(2);
	return 0;
}
