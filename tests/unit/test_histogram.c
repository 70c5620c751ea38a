/* SPDX-License-Identifier: MIT */
/*
 * The histogram: percentiles are within the width of a bucket of the true ones.
 * needs: engine/paging/histogram.c
 */
#include "engine/paging/histogram.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

static void test_empty_and_extremes(void **state)
{
	struct histogram h = {0};

	(void)state;
	assert_int_equal(histogram_percentile(&h, 50), 0);
	histogram_add(&h, 0);
	assert_int_equal(histogram_percentile(&h, 50), 0);
	assert_int_equal(histogram_percentile(&h, 100), 0);
	histogram_add(&h, UINT32_MAX);
	assert_true(histogram_percentile(&h, 100) == UINT32_MAX);
	assert_int_equal(histogram_percentile(&h, 50), 0);
}

static void test_every_value_is_near(void **state)
{
	(void)state;
	for (uint64_t v = 0; v <= UINT32_MAX; v = v < 5000 ? v + 1 : v * 9 / 8 + 1) {
		struct histogram h = {0};
		uint32_t top;

		histogram_add(&h, (uint32_t)v);
		top = histogram_percentile(&h, 99);
		assert_true(top >= v);
		assert_true(top - v <= v / 8);
	}
}

static void test_percentiles(void **state)
{
	struct histogram h = {0};
	uint32_t p50, p99;

	(void)state;
	for (uint32_t v = 1; v <= 10000; v++)
		histogram_add(&h, v);
	p50 = histogram_percentile(&h, 50);
	p99 = histogram_percentile(&h, 99);
	assert_true(p50 >= 5000 && p50 <= 5000 * 9 / 8);
	assert_true(p99 >= 9900 && p99 <= 9900 * 9 / 8);
	assert_int_equal(h.nr, 10000);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_empty_and_extremes),
		cmocka_unit_test(test_every_value_is_near),
		cmocka_unit_test(test_percentiles),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
