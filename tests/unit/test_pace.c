/* SPDX-License-Identifier: MIT */
/*
 * The pace on links that are made up: the queue stays short, and the link is used.
 * needs: transport/pace.c
 */
#include "transport/pace.h"

#include "tests/unit/unit.h"
#include <string.h>

#define STEP_US 1000
#define PACKET 1460

/* A link with a queue that never drops anything, as a modem has, and a sender that never stops. */
struct path {
	uint64_t bytes_s;
	int64_t trip_us; /* there and back, without the queue */
	struct pace pace;
	struct traffic traffic;
	int64_t now_us;
	uint64_t sent, out_of_queue; /* bytes so far */
	double credit;
	uint64_t
		done_at[1 << 16]; /* `out_of_queue` at each step: acknowledged a round trip later */
	unsigned int step;
};

static struct path path;

static void path_begin(uint64_t bytes_s, int64_t trip_us)
{
	memset(&path, 0, sizeof(path));
	path.bytes_s = bytes_s;
	path.trip_us = trip_us;
	path.now_us = 1000000;
	path.traffic.rtt_us = (uint32_t)trip_us;
	pace_begin(&path.pace);
}

static void path_step(void)
{
	struct traffic *t = &path.traffic;
	unsigned int back = (unsigned int)(path.trip_us / STEP_US);
	uint64_t allowed = pace_allow(&path.pace, t, path.now_us), queued;
	double rtt;

	/* Free: what TCP's own window would be, twice what fits. */
	if (allowed == UINT64_MAX) {
		uint64_t fits = 2 * path.bytes_s * (uint64_t)path.trip_us / 1000000 + 10 * PACKET;

		allowed = t->under_way < fits ? fits - t->under_way : 0;
	}
	path.sent += allowed;
	path.credit += (double)path.bytes_s * STEP_US / 1e6;
	queued = path.sent - path.out_of_queue;
	if (path.credit > (double)queued)
		path.credit = (double)queued;
	/* Whole packets leave. */
	while (path.credit >= PACKET || (path.credit >= (double)queued && queued)) {
		uint64_t n = queued < PACKET ? queued : PACKET;

		path.out_of_queue += n;
		queued -= n;
		path.credit -= (double)n;
	}
	path.done_at[path.step % (1 << 16)] = path.out_of_queue;
	if (path.step >= back)
		t->acked = path.done_at[(path.step - back) % (1 << 16)];
	t->under_way = path.sent - t->acked;
	rtt = (double)path.trip_us + (double)queued * 1e6 / (double)path.bytes_s;
	/* Smoothed a little faster than TCP does with its 1/8 a packet. */
	t->rtt_us = (uint32_t)(t->rtt_us * 0.9 + rtt * 0.1);
	path.step++;
	path.now_us += STEP_US;
}

/* Runs; the share of the link that was used, in percent, and the longest queue in ms. */
static unsigned int path_run(unsigned int ms, unsigned int *queue_ms)
{
	uint64_t before = path.out_of_queue;

	*queue_ms = 0;
	for (unsigned int i = 0; i < ms; i++) {
		unsigned int now;

		path_step();
		now = (unsigned int)((path.sent - path.out_of_queue) * 1000 / path.bytes_s);
		if (now > *queue_ms)
			*queue_ms = now;
	}
	return (unsigned int)((path.out_of_queue - before) * 100000 / path.bytes_s / ms);
}

static void check_path(uint64_t bytes_s, int64_t trip_us, unsigned int settle_ms,
		       unsigned int most_ms)
{
	unsigned int used, queue_ms;

	path_begin(bytes_s, trip_us);
	path_run(settle_ms, &queue_ms);
	used = path_run(20000, &queue_ms);
	print_message("%llu bytes/s, %d us: %u%% used, queue %u ms\n", (unsigned long long)bytes_s,
		      (int)trip_us, used, queue_ms);
	assert_true(used >= 90);
	assert_true(queue_ms <= most_ms);
}

static void test_slow_links_have_short_queues(void **state)
{
	UNUSED(state);
	/* 64 kbit/s: no less than a few packets can be under way, and they take long. */
	check_path(8000, 1000, 20000, 2 * 1000 * PACE_LEAST_BYTES / 8000 + 200);
	check_path(8000, 300000, 20000, 2 * 1000 * PACE_LEAST_BYTES / 8000 + 200);
	check_path(125000, 5000, 5000, 300);
	check_path(125000, 80000, 5000, 300);
	check_path(1250000, 20000, 5000, 300);
	check_path(12500000, 30000, 5000, 300);
}

static void test_long_links_are_filled(void **state)
{
	unsigned int used, queue_ms;

	UNUSED(state);
	check_path(12500000, 300000, 8000, 400);
	check_path(1250000, 600000, 12000, 700);
	/* Soon: from nothing to all of it in a few round trips. */
	path_begin(125000000, 20000);
	path_run(400, &queue_ms);
	used = path_run(1000, &queue_ms);
	assert_true(used >= 90);
}

static void test_fast_links_are_free_at_once(void **state)
{
	unsigned int queue_ms;

	UNUSED(state);
	path_begin(1000000000, 100);
	path_run(20, &queue_ms);
	assert_true(pace_is_free(&path.pace));
}

static void test_path_that_gets_longer(void **state)
{
	unsigned int used, queue_ms;

	UNUSED(state);
	path_begin(1250000, 20000);
	path_run(5000, &queue_ms);
	path.trip_us = 400000;
	path_run(20000, &queue_ms);
	used = path_run(30000, &queue_ms);
	print_message("after the change: %u%% used, queue %u ms\n", used, queue_ms);
	assert_true(used >= 75);
}

static void test_link_that_gets_slow(void **state)
{
	unsigned int queue_ms;

	UNUSED(state);
	path_begin(12500000, 10000);
	path_run(3000, &queue_ms);
	path.bytes_s = 125000;
	path_run(30000, &queue_ms);
	path_run(10000, &queue_ms);
	assert_true(queue_ms <= 300);
	/* And fast again. */
	path.bytes_s = 12500000;
	path_run(3000, &queue_ms);
	assert_true(path_run(3000, &queue_ms) >= 90);
}

/* What it carries is known when it was full, and not before. */
static void test_rate_of_the_link(void **state)
{
	static const uint64_t rates[] = {8000, 125000, 1250000, 12500000};
	unsigned int queue_ms;

	UNUSED(state);
	for (unsigned int i = 0; i < sizeof(rates) / sizeof(rates[0]); i++) {
		path_begin(rates[i], 20000);
		path_run(20000, &queue_ms);
		print_message("%llu bytes/s: %llu\n", (unsigned long long)rates[i],
			      (unsigned long long)path.pace.rate);
		assert_in_range(path.pace.rate, rates[i] / 2, rates[i] * 3 / 2);
	}
	path_begin(1000000000, 100);
	path_run(1000, &queue_ms);
	assert_int_equal(path.pace.rate, 0);
	/* One that becomes fast is known to be. */
	path_begin(125000, 10000);
	path_run(10000, &queue_ms);
	path.bytes_s = 12500000;
	path_run(10000, &queue_ms);
	assert_true(path.pace.rate > 6000000);
}

static void test_nothing_known(void **state)
{
	struct traffic none = {0};
	struct pace pace;

	UNUSED(state);
	pace_begin(&pace);
	for (int i = 0; i < 100; i++)
		assert_true(pace_allow(&pace, &none, i * 100000) == UINT64_MAX);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_slow_links_have_short_queues),
		cmocka_unit_test(test_long_links_are_filled),
		cmocka_unit_test(test_fast_links_are_free_at_once),
		cmocka_unit_test(test_path_that_gets_longer),
		cmocka_unit_test(test_link_that_gets_slow),
		cmocka_unit_test(test_rate_of_the_link),
		cmocka_unit_test(test_nothing_known),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
