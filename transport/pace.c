/* SPDX-License-Identifier: MIT */
/* How much may be under way at a time: from what was delivered, and how long it took. */
#include "transport/pace.h"

/* Shortest time to measure over. */
#define MEASURE_US 1000
/* Smaller pieces cost more than they carry. */
#define PIECE_BYTES 1024
#define WAIT_MOST_MS 10
/* After so many measurements the smoothed round trip has forgotten a larger window. */
#define LEAST_TIMES 8

void pace_begin(struct pace *pace)
{
	*pace = (struct pace){.window = PACE_FIRST_BYTES};
}

/*
 * While there is a queue the link gives what it can; else it could have given more. The queue may be on the
 * path, or here, where TCP lets nothing more out: then what is under way takes longer than a round trip.
 */
static void note_rate(struct pace *pace, const struct traffic *traffic, uint64_t rate)
{
	uint64_t full_us = pace->rtt_own_us + PACE_QUEUE_US / 2;

	if (traffic->rtt_us >= full_us || traffic->under_way * 1000000 >= rate * full_us ||
	    (pace->rate && rate > pace->rate))
		pace->rate = rate;
}

static void measure(struct pace *pace, const struct traffic *traffic, int64_t passed_us)
{
	uint64_t bytes = traffic->acked - pace->acked, window;

	pace->nr_least = pace->window == PACE_LEAST_BYTES ? pace->nr_least + 1 : 0;
	if (pace->nr_least >= LEAST_TIMES)
		pace->rtt_own_us = traffic->rtt_us;
	note_rate(pace, traffic, bytes * 1000000 / (uint64_t)passed_us);
	window = bytes * (pace->rtt_own_us + PACE_QUEUE_US) / (uint64_t)passed_us;
	if (traffic->rtt_us - pace->rtt_own_us < PACE_QUEUE_US / 2) {
		if (pace->held && 2 * bytes >= pace->window && window < 2 * pace->window)
			window = 2 * pace->window;
		else if (window < pace->window)
			window = pace->window;
	} else if (window < pace->window / 2) {
		/* A pause of the link is no slow link: down step by step. */
		window = pace->window / 2;
	}
	if (window < PACE_LEAST_BYTES)
		window = PACE_LEAST_BYTES;
	pace->window = window < PACE_FREE_BYTES ? window : PACE_FREE_BYTES;
}

uint64_t pace_allow(struct pace *pace, const struct traffic *traffic, int64_t now_us)
{
	int64_t passed_us = now_us - pace->since_us;
	uint64_t room;

	if (!traffic->rtt_us) /* nothing is known */
		return UINT64_MAX;
	if (!pace->rtt_own_us || traffic->rtt_us < pace->rtt_own_us)
		pace->rtt_own_us = traffic->rtt_us;
	if (passed_us >= MEASURE_US && passed_us >= traffic->rtt_us) {
		/* Not the first look, and not one after which nothing was to be sent. */
		if (pace->since_us && (traffic->under_way || traffic->acked != pace->acked))
			measure(pace, traffic, passed_us);
		pace->since_us = now_us;
		pace->acked = traffic->acked;
		pace->held = false;
	}
	if (pace_is_free(pace))
		return UINT64_MAX;
	room = traffic->under_way < pace->window ? pace->window - traffic->under_way : 0;
	if (room >= PIECE_BYTES)
		return room;
	pace->held = true;
	return 0;
}

int pace_wait_ms(const struct traffic *traffic)
{
	uint32_t wait_ms = traffic->rtt_us / 8000;

	if (wait_ms < 1)
		return 1;
	return wait_ms < WAIT_MOST_MS ? (int)wait_ms : WAIT_MOST_MS;
}
