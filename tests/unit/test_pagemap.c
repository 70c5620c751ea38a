/* SPDX-License-Identifier: MIT */
/*
 * The page map: both ways of asking agree with what a child was made to have.
 * emulator: no
 * needs: engine/paging/pagemap.c lib/arena.c lib/log.c arch/pagetable.c
 */
#include "engine/paging/pagemap.h"

#include "lib/arena.h"
#include "lib/kernel.h"

#include <errno.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>
#include <cmocka.h>

#define PAGES 6000
static uint8_t *area;
static uint64_t page;
static bool there[PAGES];
static pid_t child;
static struct pagemap map;
/* Guard regions: two in memory that exists, one where nothing ever was. */
static const struct {
	int first, nr;
} guards[] = {{4100, 3}, {4200, 1}, {5200, 300}};
#define NR_GUARDS (sizeof(guards) / sizeof(guards[0]))
static bool has_guards;

/* Runs, single pages, holes; a stretch that is only read, which maps the zero page; file pages. */
static int setup(void **state)
{
	FILE *file = tmpfile();
	int i;

	(void)state;
	srand(2);
	page = (uint64_t)sysconf(_SC_PAGESIZE);
	area = mmap(NULL, PAGES * page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (area == MAP_FAILED || !file || ftruncate(fileno(file), (off_t)(64 * page)))
		return -1;
	madvise(area, PAGES * page, MADV_NOHUGEPAGE);
	mmap(area + 5000 * page, 64 * page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_FIXED,
	     fileno(file), 0);
	mmap(area + 5100 * page, 64 * page, PROT_READ | PROT_WRITE,
	     MAP_SHARED | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
	for (i = 0; i < 3000; i++)
		there[i] = rand() % 2;
	for (; i < 4000; i++)
		there[i] = i % 100 < 60;
	for (; i < 4500; i++)
		there[i] = true;
	there[5003] = there[5999] = true; /* a written page of a private file mapping; the last */
	has_guards =
		!madvise(area, page, MADV_GUARD_INSTALL) && !madvise(area, page, MADV_GUARD_REMOVE);
	for (size_t g = 0; has_guards && g < NR_GUARDS; g++)
		for (i = 0; i < guards[g].nr; i++)
			there[guards[g].first + i] = false;
	child = fork();
	if (child == 0) {
		volatile uint8_t *at = area;

		for (i = 0; i < PAGES; i++) {
			if (there[i])
				at[(uint64_t)i * page] = 1;
			else if ((i >= 4600 && i < 4700) || (i >= 5000 && i < 5064))
				(void)at[(uint64_t)i * page];
			else if (i >= 5100 && i < 5164)
				at[(uint64_t)i * page] = 1;
		}
		for (size_t g = 0; g < NR_GUARDS; g++)
			madvise(area + (uint64_t)guards[g].first * page,
				(uint64_t)guards[g].nr * page, MADV_GUARD_INSTALL);
		raise(SIGSTOP);
		_exit(0);
	}
	waitpid(child, &i, WUNTRACED);
	if (!WIFSTOPPED(i) || arena_init() || pagemap_init(&map))
		return -1;
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	pagemap_close(&map);
	kill(child, SIGKILL);
	waitpid(child, NULL, 0);
	return 0;
}

/* Without rights the entries do not tell the zero page, which the kernel shows where memory was only read. */
static bool may_be_either(int i)
{
	return i >= 4600 && i < 4700 && !map.scan && !map.zero_frame;
}

/* Walks [first, last) as the server does. */
static void walk(int first, int last)
{
	uint64_t pos = (uintptr_t)area + (uint64_t)first * page;
	uint64_t end = (uintptr_t)area + (uint64_t)last * page;

	while (pos < end) {
		uint64_t run_start, run_end, upto;

		assert_int_equal(pagemap_next(&map, pos, end, &run_start, &run_end, &upto), 0);
		assert_true(pos <= run_start && run_start <= run_end && run_end <= upto);
		assert_true(upto <= end && upto > pos);
		for (; pos < upto; pos += page) {
			int i = (int)((pos - (uintptr_t)area) / page);
			bool said = pos >= run_start && pos < run_end;

			if (said != there[i] && !may_be_either(i))
				fail_msg("page %d: said %d, is %d", i, said, there[i]);
		}
	}
}

static void walk_all(void)
{
	walk(0, PAGES);
	walk(2990, 4100);
	for (int i = 0; i < 500; i++) {
		int first = rand() % (PAGES - 1);

		walk(first, first + 1 + rand() % (PAGES - first));
	}
}

static void test_scan(void **state)
{
	(void)state;
	assert_int_equal(pagemap_open(&map, child), 0);
	if (!map.scan)
		skip();
	walk_all();
}

static void test_old_kernel(void **state)
{
	(void)state;
	assert_int_equal(pagemap_open(&map, child), 0);
	map.scan = false;
	walk_all();
}

static int take_guard(void *data, uint64_t start, uint64_t end)
{
	int *found = data;
	int first = (int)((start - (uintptr_t)area) / page), nr = (int)((end - start) / page);

	for (int i = first; i < first + nr; i++) {
		assert_in_range(i, 0, PAGES - 1);
		found[i]++;
	}
	return 0;
}

static int stop_at_guard(void *data, uint64_t start, uint64_t end)
{
	(void)start;
	(void)end;
	++*(int *)data;
	return -EINTR;
}

static void check_guards(void)
{
	static int found[PAGES];
	int nr = 0;

	memset(found, 0, sizeof(found));
	assert_int_equal(pagemap_each_guard(&map, (uintptr_t)area, (uintptr_t)area + PAGES * page,
					    take_guard, found),
			 0);
	for (size_t g = 0; g < NR_GUARDS; g++)
		for (int i = 0; i < guards[g].nr; i++)
			assert_int_equal(found[guards[g].first + i]--, 1);
	for (int i = 0; i < PAGES; i++)
		assert_int_equal(found[i], 0);
	assert_int_equal(pagemap_each_guard(&map, (uintptr_t)area, (uintptr_t)area + PAGES * page,
					    stop_at_guard, &nr),
			 -EINTR);
	assert_int_equal(nr, 1);
	walk_all();
}

static void test_guards(void **state)
{
	(void)state;
	assert_int_equal(pagemap_open(&map, child), 0);
	assert_int_equal(map.guards, has_guards);
	if (!has_guards)
		skip();
	check_guards();
	map.scan = false;
	check_guards();
}

static void test_no_such_process(void **state)
{
	struct pagemap none = map;

	(void)state;
	none.fd = -1;
	assert_true(pagemap_open(&none, 0x3fffffff) < 0);
	assert_int_equal(none.fd, -1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_scan),
		cmocka_unit_test(test_old_kernel),
		cmocka_unit_test(test_guards),
		cmocka_unit_test(test_no_such_process),
	};

	return cmocka_run_group_tests(tests, setup, teardown);
}
