/* SPDX-License-Identifier: MIT */
/*
 * A fault fires once, where and when it was asked for, whichever process gets there.
 *
 * needs: lib/fault.c lib/log.c
 */
#include "lib/fault.h"

#include "lib/log.h"
#include "tests/unit/unit.h"
#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

static int *shared;

static void ask(const char *text)
{
	setenv("BATON_FAULT", text, 1);
	*shared = 0;
	log_reason_clear();
	assert_int_equal(fault_set_up(shared), 0);
}

static int setup(void **state)
{
	UNUSED(state);
	shared = mmap(NULL, sizeof(*shared), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1,
		      0);
	return shared == MAP_FAILED ? -1 : 0;
}

static void test_fails_once(void **state)
{
	UNUSED(state);
	ask("fail:SOURCE_GO");
	assert_int_equal(fault_reached(FAULT_SOURCE_COMMITTED), 0);
	assert_int_equal(fault_reached(FAULT_SOURCE_GO), -EIO);
	assert_non_null(strstr(log_reason(), "SOURCE_GO"));
	assert_int_equal(fault_reached(FAULT_SOURCE_GO), 0);
}

static void test_nth_time(void **state)
{
	UNUSED(state);
	ask("fail:LANE_SEND:3");
	assert_int_equal(fault_reached(FAULT_LANE_SEND), 0);
	assert_int_equal(fault_reached(FAULT_LANE_SEND), 0);
	assert_int_equal(fault_reached(FAULT_LANE_SEND), -EIO);
	assert_int_equal(fault_reached(FAULT_LANE_SEND), 0);
}

/* Who takes the place of one that was killed gets past. */
static void test_kills_one_process(void **state)
{
	int status;

	UNUSED(state);
	ask("kill:PAGER_EVENT:2");
	for (int i = 1; i <= 3; i++) {
		pid_t pid = fork();

		if (!pid)
			_exit(fault_reached(FAULT_PAGER_EVENT) ? 1 : 0);
		assert_int_equal(waitpid(pid, &status, 0), pid);
		if (i == 2)
			assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
		else
			assert_int_equal(status, 0);
	}
}

static void test_nonsense(void **state)
{
	static const char *const texts[] = {"fail",
					    "fail:",
					    "kill:SOURCE",
					    "stop:SOURCE_GO",
					    "fail:SOURCE_GOO",
					    "fail:SOURCE_GO:0",
					    "fail:SOURCE_GO:",
					    "SOURCE_GO"};

	UNUSED(state);
	for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
		log_reason_clear();
		setenv("BATON_FAULT", texts[i], 1);
		assert_int_equal(fault_set_up(shared), -EINVAL);
		assert_non_null(strstr(log_reason(), texts[i]));
	}
}

static void test_names(void **state)
{
	const char *side;

	UNUSED(state);
	assert_string_equal(fault_name(FAULT_SOURCE_OFFERED, &side), "SOURCE_OFFERED");
	assert_string_equal(side, "source");
	assert_string_equal(fault_name(FAULT_NR - 1, &side), "LANE_RECEIVE");
	assert_string_equal(side, "both");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_fails_once),
		cmocka_unit_test(test_nth_time),
		cmocka_unit_test(test_kills_one_process),
		cmocka_unit_test(test_nonsense),
		cmocka_unit_test(test_names),
	};

	return cmocka_run_group_tests(tests, setup, NULL);
}
