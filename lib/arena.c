/* SPDX-License-Identifier: MIT */
/* The static arena: cut by sizes that follow from the configuration, bump allocation within. */
#include "lib/arena.h"

#include <errno.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/mman.h>

#define KIB ((size_t)1024)
#define ARENA_BYTES (CONFIG_MEMORY_BUDGET_KIB * KIB)
#define ARENA_ALIGN_MIN ((size_t)16)
#define ARENA_ALIGN_MAX ((size_t)64)
/* The largest page that any kernel has: one binary runs on all of them. */
#define PAGE_MAX_BYTES 65536

/*
 * Two sessions (each two records and 5 KiB), what a handshake needs for a moment, key and
 * certificate. Measured peak of source and target with both lanes up: 77 KiB of 92 with records of
 * 16 KiB, 28 KiB of 44 with 4 KiB; the rest is for larger certificates and a CA.
 */
#define TLS_BYTES ((2 * (2 * CONFIG_TLS_RECORD_KIB + 8) + 12) * KIB)

/* Two lanes (transport/lane.c): a body received, with room to unpack it; a body and small frames beside it sent. */
#define FRAMES_BYTES (2 * ((2 * CONFIG_RUN_KIB + 4) * KIB + 16 * CONFIG_RUN_KIB + 64))

#define FIXED_BYTES (TLS_BYTES + FRAMES_BYTES)

/* A state message decodes into at most 40 KiB, and the text beside it. */
#define SCRATCH_MIN_BYTES (44 * KIB)

static _Alignas(PAGE_MAX_BYTES) uint8_t arena_bytes[ARENA_BYTES];

static struct region {
	uint8_t *start;
	size_t size, used, peak;
	void (*ask)(size_t *used_bytes, size_t *peak_bytes);
} regions[ARENA_NR];

static bool sealed;

/* A store the compiler cannot see through: the bytes are really gone. */
static void wipe(uint8_t *at, size_t len)
{
	memset(at, 0, len);
	__asm__ volatile("" : : "r"(at) : "memory");
}

int arena_init(void)
{
	size_t sizes[ARENA_NR] = {
		[ARENA_TLS] = TLS_BYTES,
		[ARENA_FRAMES] = FRAMES_BYTES,
	};
	size_t page = getauxval(AT_PAGESZ), rest, at = 0;

	if (FIXED_BYTES + 2 * SCRATCH_MIN_BYTES > ARENA_BYTES)
		return -ENOMEM;
	/* Tables and scratch share what the fixed parts leave; tables are whole pages, see arena_share. */
	rest = ARENA_BYTES - FIXED_BYTES;
	sizes[ARENA_TABLES] = (rest / 2) & ~(page - 1);
	sizes[ARENA_SCRATCH] = rest - sizes[ARENA_TABLES];

	for (int i = 0; i < ARENA_NR; i++) {
		wipe(arena_bytes + at, regions[i].used);
		regions[i] = (struct region){.start = arena_bytes + at, .size = sizes[i]};
		at += sizes[i];
	}
	sealed = false;
	return 0;
}

void *arena_alloc(enum arena_region which, size_t size, size_t align)
{
	struct region *region = &regions[which];
	size_t start;

	if (sealed && which != ARENA_SCRATCH)
		return NULL;
	if (align < ARENA_ALIGN_MIN)
		align = ARENA_ALIGN_MIN;
	if (align > ARENA_ALIGN_MAX || (align & (align - 1)) != 0)
		return NULL;
	/* Regions start at a multiple of ARENA_ALIGN_MAX, so aligning the offset is enough. */
	start = (region->used + align - 1) & ~(align - 1);
	if (start > region->size || size > region->size - start)
		return NULL;
	region->used = start + size;
	if (region->used > region->peak)
		region->peak = region->used;
	return region->start + start;
}

void arena_seal(void)
{
	sealed = true;
}

int arena_share(void)
{
	struct region *tables = &regions[ARENA_TABLES];
	size_t size = tables->size;
	void *shared = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);

	if (shared == MAP_FAILED)
		return -errno;
	memcpy(shared, tables->start, tables->used);
	if (mremap(shared, size, size, MREMAP_MAYMOVE | MREMAP_FIXED, tables->start) ==
	    MAP_FAILED) {
		int err = -errno;

		munmap(shared, size);
		return err;
	}
	return 0;
}

size_t arena_mark(void)
{
	return regions[ARENA_SCRATCH].used;
}

void arena_reset(size_t mark)
{
	struct region *region = &regions[ARENA_SCRATCH];

	if (mark >= region->used)
		return;
	wipe(region->start + mark, region->used - mark);
	region->used = mark;
}

void arena_usage_ask(enum arena_region which, void (*ask)(size_t *used_bytes, size_t *peak_bytes))
{
	regions[which].ask = ask;
}

void arena_usage(enum arena_region which, struct arena_usage *usage)
{
	static const char *const names[ARENA_NR] = {
		[ARENA_TLS] = "tls",
		[ARENA_FRAMES] = "frames",
		[ARENA_TABLES] = "tables",
		[ARENA_SCRATCH] = "scratch",
	};
	const struct region *region = &regions[which];

	*usage = (struct arena_usage){
		.name = names[which],
		.size_bytes = region->size,
		.used_bytes = region->used,
		.peak_bytes = region->peak,
	};
	if (region->ask)
		region->ask(&usage->used_bytes, &usage->peak_bytes);
}

_Static_assert(CONFIG_RUN_KIB % 4 == 0, "CONFIG_RUN_KIB is a multiple of 4");
_Static_assert(TLS_BYTES % ARENA_ALIGN_MAX == 0 && FRAMES_BYTES % ARENA_ALIGN_MAX == 0,
	       "regions start at a multiple of every alignment");
_Static_assert(ARENA_TABLES == 0, "tables begin with a page, whatever its size");
