/* SPDX-License-Identifier: MIT */
/*
 * The one place memory comes from: a static array of CONFIG_MEMORY_BUDGET_KIB, cut into named
 * regions at start, then sealed. Not for use by several threads.
 */
#ifndef BATON_ARENA_H
#define BATON_ARENA_H

#include <stddef.h>

enum arena_region {
	ARENA_TABLES,  /* todo list, threads, descriptors; shared by the processes of a move */
	ARENA_TLS,     /* mbedtls: all that it allocates */
	ARENA_FRAMES,  /* buffers of the lanes; pages are read into and filled from them in place */
	ARENA_SCRATCH, /* messages being encoded or decoded, text being parsed: mark and reset */
	ARENA_NR,
};

struct arena_usage {
	const char *name;
	size_t size_bytes, used_bytes, peak_bytes;
};

/*
 * Cuts the budget into regions; forgets what was allocated before. Returns -ENOMEM when the budget
 * cannot hold the fixed parts.
 */
int arena_init(void);

/*
 * `size` bytes of a region, aligned to `align` (a power of two; less than 16 counts as 16, more
 * than 64 is refused), zeroed. NULL when the region is full, or after arena_seal for any region
 * but ARENA_SCRATCH.
 */
void *arena_alloc(enum arena_region region, size_t size, size_t align);

/* Ends allocation from all regions but ARENA_SCRATCH. */
void arena_seal(void);

/*
 * Makes ARENA_TABLES memory that is shared with all processes forked from now on, at the same addresses,
 * with what it holds. In a child of one that did, its own again. -ENOMEM or another -errno of mmap(2).
 */
int arena_share(void);

/* Scratch: remember the fill, go back to it. The bytes given back are wiped. */
size_t arena_mark(void);
void arena_reset(size_t mark);

/* Size, fill and highest fill of a region. */
void arena_usage(enum arena_region region, struct arena_usage *usage);

/*
 * For a region that was taken whole by an allocator of its own: `ask` reports what is in use there
 * in place of the arena, which only sees it full.
 */
void arena_usage_ask(enum arena_region region, void (*ask)(size_t *used_bytes, size_t *peak_bytes));

#endif
