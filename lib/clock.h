/* SPDX-License-Identifier: MIT */
/* Time for deadlines and measurements: the monotonic clock, still while the device sleeps. */
#ifndef BATON_CLOCK_H
#define BATON_CLOCK_H

#include <stdint.h>
#include <time.h>

static inline int64_t clock_now_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

static inline int64_t clock_now_us(void)
{
	return clock_now_ns() / 1000;
}

static inline int64_t clock_now_ms(void)
{
	return clock_now_ns() / 1000000;
}

/* A deadline `timeout_ms` from now; < 0 is for ever (INT64_MAX). */
static inline int64_t clock_deadline_ms(int timeout_ms)
{
	return timeout_ms < 0 ? INT64_MAX : clock_now_ms() + timeout_ms;
}

/* What is left until a deadline, as poll(2) wants it: -1 for ever, 0 when it has passed. */
static inline int clock_left_ms(int64_t deadline_ms)
{
	int64_t left;

	if (deadline_ms == INT64_MAX)
		return -1;
	left = deadline_ms - clock_now_ms();
	if (left < 0)
		return 0;
	return left > INT32_MAX ? INT32_MAX : (int)left;
}

#endif
