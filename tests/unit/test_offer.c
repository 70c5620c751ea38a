/* SPDX-License-Identifier: MIT */
/*
 * The offer against this device: a process of another architecture, or with other pages, is refused by name.
 *
 * needs: engine/move/offer.c engine/move/fileid.c engine/move/policy.c engine/move/move.pb.c
 * needs: engine/process/proc.c arch/features.c arch/vdso_redirect.c engine/process/vdso.c lib/arena.c tests/unit/pages.c
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

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup(test_same_device, setup),
		cmocka_unit_test_setup(test_other_pages, setup),
		cmocka_unit_test_setup(test_other_architecture, setup),
		cmocka_unit_test_setup(test_collected, setup),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
