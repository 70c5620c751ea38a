/* SPDX-License-Identifier: MIT */
/* A region of memory with a model beside it: what each of its pages must contain. */
#ifndef SCENARIO_REGION_H
#define SCENARIO_REGION_H

#include "scenario.h"
#include <sys/mman.h>

struct region {
	char *base;
	size_t nr_pages;
	uint32_t *seed; /* of each page; 0: the page reads as zeros */
	uint32_t next_seed;
	uint64_t random;
};

static inline uint64_t region_random(struct region *r, uint64_t below)
{
	r->random = scenario_mix(r->random + 1);
	return r->random % below;
}

static inline char *region_page(const struct region *r, size_t page)
{
	return r->base + page * PAGE;
}

/* Gives pages new contents. */
static inline void region_write(struct region *r, size_t page, size_t n)
{
	for (size_t i = page; i < page + n; i++) {
		r->seed[i] = ++r->next_seed;
		scenario_fill(region_page(r, i), PAGE, r->seed[i]);
	}
}

static inline void region_check_page(const struct region *r, size_t i, const char *when)
{
	const char *p = region_page(r, i);
	long at =
		r->seed[i] ? scenario_differs(p, PAGE, r->seed[i], 0) : scenario_not_zero(p, PAGE);

	CHECK(at < 0, "%s: page %zu of %zu (%p) differs at byte %ld, %s", when, i, r->nr_pages,
	      (const void *)p, at, r->seed[i] ? "had a pattern" : "was zeros");
}

static inline void region_check(const struct region *r, const char *when)
{
	for (size_t i = 0; i < r->nr_pages; i++)
		region_check_page(r, i, when);
}

/* percent of the pages are filled, in runs; the others never exist. */
static inline void region_make(struct region *r, size_t nr_pages, unsigned int percent,
			       uint32_t first_seed)
{
	*r = (struct region){.nr_pages = nr_pages, .next_seed = first_seed, .random = first_seed};
	r->base = mmap(NULL, nr_pages * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS,
		       -1, 0);
	/* Far from the region, so that neither merges with the other's VMA. */
	r->seed = mmap(NULL, nr_pages * 4 + PAGE, PROT_READ | PROT_WRITE,
		       MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	CHECK(r->base != MAP_FAILED && r->seed != MAP_FAILED);
	for (size_t i = 0; i < nr_pages; i++)
		if (percent >= 100 || region_random(r, 100) < percent)
			region_write(r, i, 1);
}

/* All pages are filled, and shared with nobody. */
static inline void region_make_shared(struct region *r, size_t nr_pages)
{
	region_make(r, nr_pages, 0, 1);
	CHECK(mmap(r->base, nr_pages * PAGE, PROT_READ | PROT_WRITE,
		   MAP_SHARED | MAP_ANONYMOUS | MAP_FIXED, -1, 0) == r->base);
	region_write(r, 0, nr_pages);
}

static inline void region_zeroed(struct region *r, size_t page, size_t n)
{
	memset(&r->seed[page], 0, n * 4);
}

static inline void region_discard(struct region *r, size_t page, size_t n)
{
	CHECK(!madvise(region_page(r, page), n * PAGE, MADV_DONTNEED));
	region_zeroed(r, page, n);
}

/* Maps fresh pages over what was there. */
static inline void region_replace(struct region *r, size_t page, size_t n)
{
	char *p = region_page(r, page);

	CHECK(mmap(p, n * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1,
		   0) == p);
	region_zeroed(r, page, n);
}

/* Unmaps, and maps again what then must be zeros. */
static inline void region_unmap(struct region *r, size_t page, size_t n)
{
	CHECK(!munmap(region_page(r, page), n * PAGE));
	region_replace(r, page, n);
}

/*
 * Moves pages within the region; the old place is unmapped, or left (DONTUNMAP), and reads
 * zeros. All in one VMA: mremap(2) of several is new in Linux 6.17, and never for those that have
 * a userfaultfd.
 */
static inline void region_move(struct region *r, size_t from, size_t to, size_t n, bool dontunmap)
{
	int flags = MREMAP_MAYMOVE | MREMAP_FIXED | (dontunmap ? 4 /* MREMAP_DONTUNMAP */ : 0);

	CHECK(mremap(region_page(r, from), n * PAGE, n * PAGE, flags, region_page(r, to)) ==
	      region_page(r, to));
	memcpy(&r->seed[to], &r->seed[from], n * 4);
	region_zeroed(r, from, n);
	if (!dontunmap)
		region_replace(r, from, n);
}

static inline void region_protect(struct region *r, size_t page, size_t n)
{
	char *p = region_page(r, page);

	CHECK(!mprotect(p, n * PAGE, PROT_NONE) && !mprotect(p, n * PAGE, PROT_READ));
	for (size_t i = page; i < page + n; i++)
		region_check_page(r, i, "read-only");
	CHECK(!mprotect(p, n * PAGE, PROT_READ | PROT_WRITE));
}

/* One random step. */
static inline void region_step(struct region *r)
{
	size_t n = 1 + region_random(r, 40), a = region_random(r, r->nr_pages - n);
	size_t b = region_random(r, r->nr_pages - n);

	switch (region_random(r, 8)) {
	case 0:
		region_discard(r, a, n);
		break;
	case 1:
		region_replace(r, a, n);
		break;
	case 2:
		region_unmap(r, a, n);
		break;
	case 3:
	case 4:
		if (a + n <= b || b + n <= a)
			for (bool dontunmap = region_random(r, 2);
			     n--;) /* whose VMAs nobody knows */
				region_move(r, a + n, b + n, 1, dontunmap);
		break;
	case 5:
		region_protect(r, a, n);
		break;
	case 6:
		region_write(r, a, n);
		break;
	default:
		for (size_t i = a; i < a + n; i++)
			region_check_page(r, i, "step");
	}
}

#endif
