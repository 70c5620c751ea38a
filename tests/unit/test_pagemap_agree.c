/* SPDX-License-Identifier: MIT */
/*
 * PAGEMAP_SCAN and the entries of /proc/PID/pagemap say the same of every page of a process, and smaps
 * counts as many.
 * needs: engine/paging/pagemap.c lib/arena.c lib/log.c arch/pagetable.c
 */
#include "engine/paging/pagemap.h"

#include "lib/arena.h"
#include "lib/kernel.h"
#include "tests/unit/unit.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#define AREA_PAGES 64
#define HUGE_BYTES                                                                                 \
	((size_t)2 << 20) /* of a 4 KiB kernel; on others it is no huge page, and as good */
#define MAPPING_PAGES_MAX (1u << 18)
#define MAPPINGS_MAX 1024

static size_t page;
static pid_t child;
static struct pagemap map;

/* ---- what the child has ---- */

static volatile uint8_t *area(size_t pages, int prot, int flags, int fd)
{
	void *at = mmap(NULL, pages * page, prot, flags, fd, 0);

	if (at == MAP_FAILED)
		_exit(2);
	return at;
}

static int file_of(size_t pages, const char *name)
{
	int fd = name ? memfd_create(name, 0) : fileno(tmpfile());
	char byte = 1;

	if (fd < 0 || ftruncate(fd, (off_t)(pages * page)))
		_exit(3);
	for (size_t i = 0; i < pages; i += 2)
		if (pwrite(fd, &byte, 1, (off_t)(i * page)) != 1)
			_exit(4);
	return fd;
}

/* Some pages written, some read, some left alone. */
static void touch(volatile uint8_t *at, size_t pages)
{
	for (size_t i = 0; i < pages; i++) {
		if (i % 5 == 1 || i % 7 == 3)
			at[i * page] = 1;
		else if (i % 3 == 0)
			(void)at[i * page];
	}
}

static void make_small(void)
{
	const int rw = PROT_READ | PROT_WRITE, anon = MAP_PRIVATE | MAP_ANONYMOUS;
	volatile uint8_t *at;

	touch(area(AREA_PAGES, rw, anon, -1), AREA_PAGES);
	at = area(AREA_PAGES, rw, anon, -1);
	touch(at, AREA_PAGES);
	mprotect((void *)at, AREA_PAGES * page, PROT_NONE);
	area(AREA_PAGES, PROT_NONE, anon, -1);
	at = area(AREA_PAGES, rw, anon, -1);
	touch(at, AREA_PAGES);
	madvise((void *)at, AREA_PAGES * page, MADV_FREE);
	at = area(AREA_PAGES, rw, anon, -1);
	touch(at, AREA_PAGES);
	mlock((void *)at, 16 * page);
	madvise((void *)(at + 32 * page), 8 * page, MADV_GUARD_INSTALL);
	/* Swapped out where there is swap. */
	at = area(AREA_PAGES, rw, anon, -1);
	touch(at, AREA_PAGES);
	madvise((void *)at, AREA_PAGES * page, MADV_PAGEOUT);
	touch(area(AREA_PAGES, rw, MAP_PRIVATE, open("/dev/zero", O_RDWR)), AREA_PAGES);
	touch(area(AREA_PAGES, rw, MAP_SHARED | MAP_ANONYMOUS, -1), AREA_PAGES);
	for (int shared = 0; shared < 2; shared++) {
		int how = shared ? MAP_SHARED : MAP_PRIVATE;

		touch(area(AREA_PAGES, rw, how, file_of(AREA_PAGES, NULL)), AREA_PAGES);
		touch(area(AREA_PAGES, rw, how, file_of(AREA_PAGES, "m")), AREA_PAGES);
	}
	at = area(AREA_PAGES, rw, MAP_PRIVATE, file_of(AREA_PAGES, NULL));
	touch(at, AREA_PAGES);
	madvise((void *)(at + 8 * page), 8 * page, MADV_GUARD_INSTALL);
	mprotect((void *)at, AREA_PAGES * page, PROT_READ);
}

/* Huge pages: whole, in parts, only read, with pieces taken out. */
static void make_huge(void)
{
	size_t pages = 8 * HUGE_BYTES / page;
	volatile uint8_t *at = area(pages, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1);

	at += HUGE_BYTES - (uintptr_t)at % HUGE_BYTES;
	madvise((void *)at, 7 * HUGE_BYTES, MADV_HUGEPAGE);
	at[0] = at[HUGE_BYTES] = at[2 * HUGE_BYTES] = 1;
	(void)at[3 * HUGE_BYTES];
	(void)at[4 * HUGE_BYTES];
	at[4 * HUGE_BYTES + 7 * page] = 1;
	at[5 * HUGE_BYTES] = 1;
	madvise((void *)(at + HUGE_BYTES + 9 * page), 3 * page, MADV_DONTNEED);
	mprotect((void *)(at + 2 * HUGE_BYTES + 5 * page), page, PROT_NONE);
	madvise((void *)(at + 5 * HUGE_BYTES), HUGE_BYTES, MADV_PAGEOUT);
}

static int setup(void **state)
{
	int status;

	UNUSED(state);
	page = (size_t)sysconf(_SC_PAGESIZE);
	child = fork();
	if (child == 0) {
		make_small();
		make_huge();
		raise(SIGSTOP);
		_exit(0);
	}
	waitpid(child, &status, WUNTRACED);
	return !WIFSTOPPED(status) || arena_init() || pagemap_init(&map);
}

static int teardown(void **state)
{
	UNUSED(state);
	pagemap_close(&map);
	kill(child, SIGKILL);
	waitpid(child, NULL, 0);
	return 0;
}

/* ---- what is said of it ---- */

struct mapping {
	unsigned long start, end, own_kib; /* as smaps counts them: anonymous, swapped out */
	char name[256];
	bool shared;
};

static int read_mappings(struct mapping *mappings)
{
	char path[32], line[512], flags[8];
	unsigned long start, end, kib;
	int nr = 0, at;
	FILE *file;

	snprintf(path, sizeof(path), "/proc/%d/smaps", child);
	file = fopen(path, "r");
	assert_non_null(file);
	while (fgets(line, sizeof(line), file)) {
		struct mapping *last = &mappings[nr - 1];

		if (sscanf(line, "%lx-%lx %7s %*x %*s %*u %n", &start, &end, flags, &at) == 3) {
			assert_in_range(nr, 0, MAPPINGS_MAX - 1);
			mappings[nr++] = (struct mapping){start, end, 0, "", flags[3] == 's'};
			snprintf(mappings[nr - 1].name, sizeof(mappings[0].name), "%.200s",
				 line + at);
		} else if (sscanf(line, "Anonymous: %lu", &kib) == 1 ||
			   sscanf(line, "Swap: %lu", &kib) == 1) {
			last->own_kib += kib;
		}
	}
	fclose(file);
	return nr;
}

static size_t walk(const struct mapping *m, uint8_t *there)
{
	uint64_t pos = m->start, run_start, run_end, upto;
	size_t nr = 0;

	memset(there, 0, (m->end - m->start) / page);
	while (pos < m->end) {
		assert_int_equal(pagemap_next(&map, pos, m->end, &run_start, &run_end, &upto), 0);
		assert_true(pos <= run_start && run_start <= run_end && run_end <= upto);
		assert_true(upto <= m->end && upto > pos);
		memset(there + (run_start - m->start) / page, 1, (run_end - run_start) / page);
		nr += (run_end - run_start) / page;
		pos = upto;
	}
	return nr;
}

static bool is_the_kernels(const struct mapping *m)
{
	return !strncmp(m->name, "[v", 2); /* vdso, vvar, vsyscall */
}

static void test_both_agree(void **state)
{
	static struct mapping mappings[MAPPINGS_MAX];
	static uint8_t scanned[MAPPING_PAGES_MAX], read[MAPPING_PAGES_MAX];
	int nr = read_mappings(mappings), nr_compared = 0;
	size_t nr_own = 0;

	UNUSED(state);
	assert_int_equal(pagemap_open(&map, child), 0);
	if (!map.scan)
		print_message("no PAGEMAP_SCAN: compared with smaps only\n");
	if (geteuid() == 0)
		assert_true(map.zero_frame != 0);
	for (int i = 0; i < nr; i++) {
		const struct mapping *m = &mappings[i];
		size_t pages = (m->end - m->start) / page, nr_scanned, nr_read;

		/* What the sanitizer reserves is terabytes. */
		if (pages > MAPPING_PAGES_MAX || is_the_kernels(m))
			continue;
		assert_int_equal(pagemap_open(&map, child), 0);
		nr_scanned = walk(m, scanned);
		assert_int_equal(pagemap_open(&map, child), 0);
		map.scan = false;
		nr_read = walk(m, read);
		for (size_t n = 0; n < pages; n++)
			if (scanned[n] != read[n])
				fail_msg("page %zu of %lx-%lx %s: scanned %d, read %d", n, m->start,
					 m->end, m->name, scanned[n], read[n]);
		if (!m->shared && nr_read != m->own_kib * 1024 / page)
			fail_msg("%lx-%lx %s: %zu pages found, smaps counts %lu KiB", m->start,
				 m->end, m->name, nr_read, m->own_kib);
		assert_int_equal(nr_scanned, nr_read);
		if (m->shared)
			assert_int_equal(nr_read, 0);
		nr_own += nr_read;
		nr_compared++;
	}
	assert_true(nr_compared > 15);
	assert_true(nr_own > 2 * AREA_PAGES);
	print_message("%d mappings, %zu pages of their own\n", nr_compared, nr_own);
}

int main(void)
{
	const struct CMUnitTest tests[] = {cmocka_unit_test(test_both_agree)};

	return cmocka_run_group_tests(tests, setup, teardown);
}
