/* SPDX-License-Identifier: MIT */
/*
 * Clocks of another device: what counts as a jump, what is left of a timeout, and a child that sees
 * clocks of its own.
 * needs: engine/process/clocks.c lib/io.c lib/readers.c lib/text.c lib/log.c
 */
#include "engine/process/clocks.h"

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
#include <cmocka.h>

#define SECOND 1000000000LL
#define HOUR (3600 * SECOND)

static int64_t jump(int64_t monotonic, int64_t boottime)
{
	const struct clocks theirs = {{HOUR, 2 * HOUR}};
	const struct clocks ours = {{HOUR + monotonic, 2 * HOUR + boottime}};

	return clocks_jump(&theirs, &ours, CLOCKS_BOUND_NS);
}

/* Back never, not by a nanosecond; forward by a second, as a move may take it. */
static void test_jump(void **state)
{
	(void)state;
	assert_int_equal(jump(0, 0), 0);
	assert_int_equal(jump(CLOCKS_BOUND_NS, CLOCKS_BOUND_NS), 0);
	assert_int_equal(jump(-1, 0), -1);
	assert_int_equal(jump(0, -1), -1);
	assert_int_equal(jump(CLOCKS_BOUND_NS + 1, 0), CLOCKS_BOUND_NS + 1);
	assert_int_equal(jump(0, CLOCKS_BOUND_NS + 1), CLOCKS_BOUND_NS + 1);
	/* A device that has slept: the one clock fits, the other does not. */
	assert_int_equal(jump(1000, HOUR), HOUR);
	assert_int_equal(jump(-HOUR, HOUR), -HOUR);
	/* Whatever the bound. */
	assert_int_equal(
		clocks_jump(&(struct clocks){{0, 1}}, &(struct clocks){{HOUR, 0}}, INT64_MAX), -1);
	assert_int_equal(
		clocks_jump(&(struct clocks){{0, 0}}, &(struct clocks){{HOUR, 1}}, INT64_MAX), 0);
}

/* A clock that goes by ticks has passed a moment, or is as far as another one was then. */
static void test_settle(void **state)
{
	struct clocks now;
	struct timespec ts;
	int64_t behind, coarse;

	(void)state;
	for (int i = 0; i < 20; i++) {
		clocks_now(&now);
		behind = clocks_coarse_behind(&now);
		assert_true(behind >= 0 && behind < SECOND);
		clocks_settle(&now, i % 2 ? 0 : behind);
		clock_gettime(CLOCK_MONOTONIC_COARSE, &ts);
		coarse = ts.tv_sec * SECOND + ts.tv_nsec;
		assert_true(coarse >= now.ns[CLOCKS_MONOTONIC] - (i % 2 ? 0 : behind));
	}
	/* Another device's moment is not waited for. */
	now.ns[CLOCKS_MONOTONIC] += HOUR;
	clocks_settle(&now, 0);
}

static void test_sane(void **state)
{
	(void)state;
	assert_true(clocks_are_sane(&(struct clocks){{0, 0}}));
	assert_true(clocks_are_sane(&(struct clocks){{INT64_MAX / 2, INT64_MAX / 2}}));
	assert_false(clocks_are_sane(&(struct clocks){{-1, 0}}));
	assert_false(clocks_are_sane(&(struct clocks){{0, INT64_MIN}}));
	assert_false(clocks_are_sane(&(struct clocks){{INT64_MAX / 2 + 1, 0}}));
	assert_false(clocks_are_sane(&(struct clocks){{0, INT64_MAX}}));
}

/* The moment, less what has passed of each clock. */
static struct clocks ago(int64_t monotonic, int64_t boottime)
{
	struct clocks then;

	clocks_now(&then);
	then.ns[CLOCKS_MONOTONIC] -= monotonic;
	then.ns[CLOCKS_BOOTTIME] -= boottime;
	return then;
}

static void near(uint64_t value, uint64_t wanted)
{
	/* No test of how fast this machine is. */
	assert_in_range(value, wanted > HOUR / 2 ? wanted - HOUR / 2 : 0, wanted + HOUR / 2);
}

static void test_left(void **state)
{
	static const clockid_t monotonic[] = {CLOCK_MONOTONIC, CLOCK_REALTIME, CLOCK_TAI};
	static const clockid_t boottime[] = {CLOCK_BOOTTIME, CLOCK_BOOTTIME_ALARM};
	const clockid_t still[] = {CLOCK_PROCESS_CPUTIME_ID, CLOCK_THREAD_CPUTIME_ID, -6};
	struct clocks then = ago(2 * HOUR, 4 * HOUR);

	(void)state;
	for (int i = 0; i < 3; i++) {
		near(clocks_left_then(&then, monotonic[i], HOUR), 3 * HOUR);
		near(clocks_left_now(&then, monotonic[i], 3 * HOUR), HOUR);
		assert_int_equal(clocks_left_now(&then, monotonic[i], HOUR), 1);
		assert_int_equal(clocks_left_then(&then, still[i], HOUR), HOUR);
		assert_int_equal(clocks_left_now(&then, still[i], HOUR), HOUR);
	}
	for (int i = 0; i < 2; i++) {
		near(clocks_left_then(&then, boottime[i], HOUR), 5 * HOUR);
		near(clocks_left_now(&then, boottime[i], 5 * HOUR), HOUR);
	}
	/* No timeout stays none; one for ever stays so, whatever is added to it. */
	assert_int_equal(clocks_left_then(&then, CLOCK_MONOTONIC, 0), 0);
	assert_int_equal(clocks_left_now(&then, CLOCK_MONOTONIC, 0), 0);
	assert_int_equal(clocks_left_then(&then, CLOCK_MONOTONIC, INT64_MAX), INT64_MAX);
	assert_int_equal(clocks_left_now(&then, CLOCK_MONOTONIC, INT64_MAX), INT64_MAX);
	/* A moment that has not come: nothing has passed yet. */
	then = ago(-HOUR, -HOUR);
	assert_int_equal(clocks_left_now(&then, CLOCK_MONOTONIC, 5), 5);
}

/* ---- a process with clocks of its own ---- */

struct seen {
	volatile int err;
	volatile pid_t pid;
	struct clocks inside; /* as that process reads them */
};

/* So many makers, one the child of the other; each shifts the clocks of its own children. */
static void make(const struct clocks *ahead, int levels, struct seen *seen)
{
	for (; levels; levels--) {
		int err = clocks_shift_children(ahead);

		seen->err = err ? err : seen->err;
		if (err || fork() != 0)
			_exit(0);
	}
	clocks_now(&seen->inside);
	seen->pid = getpid();
	for (;;)
		pause();
}

static int64_t between(int64_t value, int64_t low, int64_t high)
{
	return value < low ? value - low : value > high ? value - high : 0;
}

/* -errno, or 0 when such a process reads what it should, and we know of it. */
static int try(int64_t monotonic, int64_t boottime, int levels)
{
	const struct clocks ahead = {{monotonic, boottime}};
	struct seen *seen = mmap(NULL, sizeof(*seen), PROT_READ | PROT_WRITE,
				 MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	struct clocks before, after, known;
	char path[32];
	int err, fd;

	assert_ptr_not_equal(seen, MAP_FAILED);
	clocks_now(&before);
	if (fork() == 0)
		make(&ahead, levels, seen);
	while (!seen->pid && !seen->err)
		usleep(100);
	while (wait(NULL) > 0)
		;
	err = seen->err;
	if (err)
		return err;
	clocks_now(&known);
	snprintf(path, sizeof(path), "/proc/%d", seen->pid);
	fd = open(path, O_PATH | O_DIRECTORY);
	assert_int_equal(clocks_of_process(fd, &known), 0);
	close(fd);
	kill(seen->pid, SIGKILL);
	clocks_now(&after);
	for (int i = 0; i < CLOCKS_NR; i++) {
		int64_t by = levels * ahead.ns[i];

		assert_int_equal(between(seen->inside.ns[i], before.ns[i] + by, after.ns[i] + by),
				 0);
		assert_int_equal(between(known.ns[i], before.ns[i] + by, after.ns[i] + by), 0);
	}
	munmap(seen, sizeof(*seen));
	return 0;
}

static void test_shift(void **state)
{
	int err = try(0, 0, 1);

	(void)state;
	if (err)
		skip();
	assert_int_equal(try(100000 * SECOND + 1, 50000 * SECOND + 999999999, 1), 0);
	assert_int_equal(try(1, -1, 1), 0);
	assert_int_equal(try(-SECOND / 2, -3 * SECOND / 2, 1), 0);
	/* Inside of another one the numbers add up. */
	assert_int_equal(try(1000 * SECOND + 7, -SECOND / 4, 3), 0);
	/* A clock that would be before 0, and one beyond what the kernel counts to. */
	assert_int_equal(try(-100LL * 365 * 24 * HOUR, 0, 1), -ERANGE);
	assert_int_equal(try(0, INT64_MAX / 2, 1), -ERANGE);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_jump),  cmocka_unit_test(test_settle),
		cmocka_unit_test(test_sane),  cmocka_unit_test(test_left),
		cmocka_unit_test(test_shift),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
