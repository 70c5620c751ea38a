/* SPDX-License-Identifier: MIT */
/*
 * The arena: regions, alignment, sealing, scratch.
 *
 * needs: lib/arena.c
 * libs: -Wl,--wrap=getauxval
 */
#include "lib/arena.h"

#include "tests/unit/unit.h"
#include <string.h>
#include <sys/auxv.h>

static unsigned long page_bytes;

/* A kernel with other pages, as far as the arena can tell. */
unsigned long __wrap_getauxval(unsigned long type);
unsigned long __real_getauxval(unsigned long type);
unsigned long __wrap_getauxval(unsigned long type)
{
	return type == AT_PAGESZ && page_bytes ? page_bytes : __real_getauxval(type);
}

static int setup(void **state)
{
	UNUSED(state);
	return arena_init();
}

static void test_regions_fill_the_budget(void **state)
{
	struct arena_usage usage;
	size_t sum = 0;

	UNUSED(state);
	for (int i = 0; i < ARENA_NR; i++) {
		arena_usage((enum arena_region)i, &usage);
		assert_non_null(usage.name);
		assert_true(usage.size_bytes > 0);
		assert_int_equal(usage.used_bytes, 0);
		sum += usage.size_bytes;
	}
	assert_int_equal(sum, (size_t)CONFIG_MEMORY_BUDGET_KIB * 1024);
}

static void test_alignment(void **state)
{
	uint8_t *a, *b;

	UNUSED(state);
	a = arena_alloc(ARENA_TABLES, 1, 1);
	b = arena_alloc(ARENA_TABLES, 1, 1);
	assert_int_equal(b - a, 16);
	assert_int_equal((uintptr_t)arena_alloc(ARENA_TABLES, 1, 64) % 64, 0);
	assert_null(arena_alloc(ARENA_TABLES, 1, 128));
	assert_null(arena_alloc(ARENA_TABLES, 1, 48));
}

static void test_full(void **state)
{
	struct arena_usage usage;

	UNUSED(state);
	arena_usage(ARENA_FRAMES, &usage);
	assert_null(arena_alloc(ARENA_FRAMES, usage.size_bytes + 1, 16));
	assert_null(arena_alloc(ARENA_FRAMES, SIZE_MAX, 16));
	assert_null(arena_alloc(ARENA_FRAMES, SIZE_MAX - 15, 64));
	assert_non_null(arena_alloc(ARENA_FRAMES, usage.size_bytes, 16));
	assert_null(arena_alloc(ARENA_FRAMES, 1, 16));
	arena_usage(ARENA_FRAMES, &usage);
	assert_int_equal(usage.used_bytes, usage.size_bytes);
}

static void test_seal(void **state)
{
	UNUSED(state);
	arena_seal();
	assert_null(arena_alloc(ARENA_TABLES, 16, 16));
	assert_null(arena_alloc(ARENA_TLS, 16, 16));
	assert_non_null(arena_alloc(ARENA_SCRATCH, 16, 16));
}

static void test_scratch_is_wiped(void **state)
{
	struct arena_usage usage;
	size_t mark;
	uint8_t *at;

	UNUSED(state);
	arena_alloc(ARENA_SCRATCH, 100, 16);
	mark = arena_mark();
	at = arena_alloc(ARENA_SCRATCH, 1000, 16);
	memset(at, 0xaa, 1000);
	arena_reset(mark);
	assert_ptr_equal(arena_alloc(ARENA_SCRATCH, 1000, 16), at);
	for (int i = 0; i < 1000; i++)
		assert_int_equal(at[i], 0);
	arena_reset(mark);
	arena_reset(mark + 5000); /* above the fill: nothing to give back */
	assert_int_equal(arena_mark(), mark);
	arena_usage(ARENA_SCRATCH, &usage);
	assert_true(usage.peak_bytes >= 1100);
}

static void asked(size_t *used, size_t *peak)
{
	*used = 7;
	*peak = 9;
}

static void check_share(unsigned long bytes)
{
	struct arena_usage usage[ARENA_NR];
	uint8_t *at[ARENA_NR];

	/* With smaller ones than its own the kernel cannot do it. */
	if (bytes < __real_getauxval(AT_PAGESZ))
		return;
	page_bytes = bytes;
	assert_int_equal(arena_init(), 0);
	for (int i = 0; i < ARENA_NR; i++) {
		arena_usage((enum arena_region)i, &usage[i]);
		at[i] = arena_alloc((enum arena_region)i, usage[i].size_bytes, 16);
		assert_non_null(at[i]);
		memset(at[i], i + 1, usage[i].size_bytes);
	}
	/* The kernel puts whole pages there, and nothing else may be in them. */
	assert_int_equal((uintptr_t)at[ARENA_TABLES] % (uintptr_t)bytes, 0);
	assert_int_equal(usage[ARENA_TABLES].size_bytes % (size_t)bytes, 0);
	assert_int_equal(arena_share(), 0);
	for (int i = 0; i < ARENA_NR; i++)
		for (size_t n = 0; n < usage[i].size_bytes; n++)
			assert_int_equal(at[i][n], i + 1);
}

static void test_share_with_any_page(void **state)
{
	UNUSED(state);
	check_share(4 << 10);
	check_share(16 << 10);
	check_share(64 << 10);
	page_bytes = 0;
}

static void test_asked_usage(void **state)
{
	struct arena_usage usage;

	UNUSED(state);
	arena_usage_ask(ARENA_TLS, asked);
	arena_usage(ARENA_TLS, &usage);
	assert_int_equal(usage.used_bytes, 7);
	assert_int_equal(usage.peak_bytes, 9);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup(test_regions_fill_the_budget, setup),
		cmocka_unit_test_setup(test_alignment, setup),
		cmocka_unit_test_setup(test_full, setup),
		cmocka_unit_test_setup(test_seal, setup),
		cmocka_unit_test_setup(test_scratch_is_wiped, setup),
		cmocka_unit_test_setup(test_asked_usage, setup),
		cmocka_unit_test(test_share_with_any_page),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
