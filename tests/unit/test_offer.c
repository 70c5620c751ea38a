/* SPDX-License-Identifier: MIT */
/*
 * The offer against this device: a process of another architecture, with other pages, or with clocks that
 * would jump, is refused by name.
 *
 * needs: engine/move/offer.c engine/move/fileid.c engine/move/policy.c engine/move/move.pb.c
 * needs: engine/move/movestate.c engine/move/movestate_read.c
 * needs: engine/process/proc.c engine/process/clocks.c engine/state/process.pb.c arch/features.c arch/vdso_redirect.c engine/process/vdso.c lib/arena.c tests/unit/pages.c
 * needs: lib/io.c lib/readers.c lib/text.c lib/log.c nanopb mbedtls
 */
#include "engine/move/offer.h"

#include "arch/arch.h"
#include "lib/log.h"
#include "tests/unit/pages.h"
#include "tests/unit/unit.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

#define STEP_MACHINE 1
#define STEP_CLOCKS 3
#define NS_PER_SEC 1000000000LL

/* Whether this device can make a time namespace: 0 or -errno. */
static int timens;

int trial_run(int (*fn)(void))
{
	UNUSED(fn);
	return timens;
}

static baton_MoveOffer offer;

static int setup(void **state)
{
	UNUSED(state);
	pages_shift = 0;
	offer = (baton_MoveOffer){0};
	log_reason_clear();
	return offer_collect(getpid(), &offer);
}

static void test_same_device(void **state)
{
	UNUSED(state);
	assert_int_equal(offer.page_size, sysconf(_SC_PAGESIZE));
	assert_int_equal(offer_check_step(STEP_MACHINE, &offer, NULL), 0);
}

static void refuse(const char *reason)
{
	log_reason_clear();
	assert_int_equal(offer_check_step(STEP_MACHINE, &offer, NULL), -ENOEXEC);
	if (strcmp(log_reason(), reason) != 0)
		fail_msg("said \"%s\" instead of \"%s\"", log_reason(), reason);
}

/* Each of the three sizes on each of the others. */
static void test_other_pages(void **state)
{
	static const struct {
		unsigned int theirs, ours;
		const char *reason;
	} cases[] = {
		{4096, 14,
		 "the process has pages of 4096 bytes, this device of 16384 bytes; boot a kernel "
		 "with the same page size"},
		{4096, 16,
		 "the process has pages of 4096 bytes, this device of 65536 bytes; boot a kernel "
		 "with the same page size"},
		{16384, 12,
		 "the process has pages of 16384 bytes, this device of 4096 bytes; boot a kernel "
		 "with the same page size"},
		{65536, 14,
		 "the process has pages of 65536 bytes, this device of 16384 bytes; boot a kernel "
		 "with the same page size"},
		{0, 12,
		 "the process has pages of 0 bytes, this device of 4096 bytes; boot a kernel "
		 "with the same page size"},
	};

	UNUSED(state);
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		offer.page_size = cases[i].theirs;
		pages_shift = cases[i].ours;
		refuse(cases[i].reason);
	}
}

static void test_other_architecture(void **state)
{
	UNUSED(state);
	strcpy(offer.arch, "vax");
	log_reason_clear();
	assert_int_equal(offer_check_step(STEP_MACHINE, &offer, NULL), -ENOEXEC);
	assert_non_null(strstr(log_reason(), "the process is for vax, this device is "));
	assert_non_null(strstr(log_reason(), arch_name()));
}

/* What is collected tells the pages of the device it was collected on. */
static void test_collected(void **state)
{
	UNUSED(state);
	pages_shift = 16;
	assert_int_equal(offer_collect(getpid(), &offer), 0);
	assert_int_equal(offer.page_size, 65536);
}

/* A process whose clock is so far ahead of ours: how far it would jump; INT64_MAX when it is refused. */
static int64_t jump_of(int64_t ahead_s, bool boottime, bool by_source, bool by_target)
{
	struct offer_clocks clocks = {.jump_ns = 1};
	const struct offer_limits limits = {.allow_clock_jump = by_target, .clocks = &clocks};
	int err;

	assert_int_equal(offer_collect(getpid(), &offer), 0);
	*(boottime ? &offer.clocks.boottime_ns : &offer.clocks.monotonic_ns) +=
		ahead_s * NS_PER_SEC;
	offer.allow_clock_jump = by_source;
	log_reason_clear();
	err = offer_check_step(STEP_CLOCKS, &offer, &limits);
	assert_int_equal(clocks.fit, !ahead_s);
	if (!err)
		return clocks.jump_ns / NS_PER_SEC;
	assert_int_equal(err, timens);
	assert_non_null(strstr(log_reason(), "CLOCK_MONOTONIC"));
	assert_non_null(strstr(log_reason(), "--allow-clock-jump"));
	return INT64_MAX;
}

static void test_clocks(void **state)
{
	UNUSED(state);
	timens = 0;
	assert_int_equal(jump_of(0, false, false, false), 0);
	assert_int_equal(jump_of(3600, false, false, false), 0);
	assert_int_equal(jump_of(-2, true, false, false), 0);
	/* Without namespaces what fits is not refused, and the rest unless it is allowed. */
	timens = -ENOSPC;
	assert_int_equal(jump_of(0, false, false, false), 0);
	assert_int_equal(jump_of(3600, false, false, false), INT64_MAX);
	assert_int_equal(jump_of(3600, true, false, false), INT64_MAX);
	/* This device may have run for a few seconds only: a clock before 0 is none. */
	assert_int_equal(jump_of(-2, true, false, false), INT64_MAX);
	/* Some time has passed since they were read. */
	assert_in_range(-jump_of(3600, false, true, false), 3000, 3600);
	assert_in_range(-jump_of(3600, true, false, true), 3000, 3600);
}

/* A source that does not tell them, and one that tells nonsense. */
static void test_no_clocks(void **state)
{
	struct offer_clocks clocks;
	const struct offer_limits limits = {.clocks = &clocks};

	UNUSED(state);
	timens = -EINVAL;
	offer.clocks.monotonic_ns = -1;
	assert_int_equal(offer_check_step(STEP_CLOCKS, &offer, &limits), -EPROTO);
	offer.has_clocks = false;
	assert_int_equal(offer_check_step(STEP_CLOCKS, &offer, &limits), 0);
	assert_false(clocks.fit || clocks.jump_ns);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup(test_same_device, setup),
		cmocka_unit_test_setup(test_other_pages, setup),
		cmocka_unit_test_setup(test_other_architecture, setup),
		cmocka_unit_test_setup(test_collected, setup),
		cmocka_unit_test_setup(test_clocks, setup),
		cmocka_unit_test_setup(test_no_clocks, setup),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
