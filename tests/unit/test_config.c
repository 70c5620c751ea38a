/* SPDX-License-Identifier: MIT */
/*
 * IS_ENABLED: on, off, unknown, and in the preprocessor.
 */
#include "lib/config.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#define CONFIG_TEST_ON 1
#define CONFIG_TEST_ZERO 0

#if !IS_ENABLED(CONFIG_TEST_ON) || IS_ENABLED(CONFIG_TEST_OFF)
#error IS_ENABLED is wrong in the preprocessor
#endif

static void test_is_enabled(void **state)
{
	(void)state;
	assert_int_equal(IS_ENABLED(CONFIG_TEST_ON), 1);
	assert_int_equal(IS_ENABLED(CONFIG_TEST_OFF), 0);
	assert_int_equal(IS_ENABLED(CONFIG_TEST_ZERO), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_is_enabled),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
