/* SPDX-License-Identifier: MIT */
/* Which pages of a process exist, by PAGEMAP_SCAN or by /proc/PID/pagemap. */
#include "engine/paging/pagemap.h"

#include "arch/arch.h"
#include "lib/arena.h"
#include "lib/kernel.h"
#include "lib/io.h"
#include "lib/log.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

/* 6 KiB as regions. As many pagemap entries are read at once, into the last third of the window. */
#define WINDOW_REGIONS 256
#define WINDOW_BYTES (WINDOW_REGIONS * sizeof(struct page_region))

/* A scan ends after so many pages that exist: a fault waits for about 0.2 ms of it at most. */
#define SCAN_MAX_PAGES 4096 /* not a page */

/* Bits of a pagemap entry, Documentation/admin-guide/mm/pagemap.rst. */
#define ENTRY_FRAME ((1ull << 55) - 1) /* of a page that is present; 0 without CAP_SYS_ADMIN */
#define ENTRY_GUARD (1ull << 58)       /* 6.15 */
#define ENTRY_FILE (1ull << 61)
#define ENTRY_SWAPPED (1ull << 62)
#define ENTRY_PRESENT (1ull << 63)

/* Linux 6.13 has guard regions but does not tell; there they look swapped out, to a swap device of the
 * highest number, and the offset says what it is (include/linux/swapops.h: PTE_MARKER_GUARD). */
#define ENTRY_SWAP_TYPE 0x1full
#define ENTRY_MARKER_GUARD (4ull << 5)

static bool is_guard(const struct pagemap *map, uint64_t entry)
{
	(void)map;
	return (entry & ENTRY_GUARD) ||
	       (!(entry & ENTRY_PRESENT) && (entry & ENTRY_SWAPPED) &&
		(entry & ENTRY_SWAP_TYPE) == ENTRY_SWAP_TYPE && (entry & ENTRY_MARKER_GUARD));
}

static bool kernel_has_guards(uint64_t page_bytes)
{
	void *page = mmap(NULL, page_bytes, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	bool has = page != MAP_FAILED && !madvise(page, page_bytes, MADV_GUARD_INSTALL);

	if (page != MAP_FAILED)
		munmap(page, page_bytes);
	return has;
}

/*
 * The frame that the kernel shows where memory was only read; a scan knows it by itself. Two pages of ours
 * must have it: a page of our own would be somebody else's later. 0 when it cannot be told. (That of a
 * huge page says ENTRY_FILE.)
 */
static uint64_t find_zero_frame(uint64_t page_bytes)
{
	int fd = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
	volatile uint8_t *pages =
		mmap(NULL, 2 * page_bytes, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	uint64_t entry[2] = {0};

	if (fd >= 0 && pages != MAP_FAILED) {
		madvise((void *)pages, 2 * page_bytes, MADV_NOHUGEPAGE);
		(void)pages[0];
		(void)pages[page_bytes];
		if (pread(fd, entry, sizeof(entry),
			  (off_t)((uintptr_t)pages / page_bytes * sizeof(entry[0]))) !=
		    sizeof(entry))
			entry[0] = 0;
	}
	if (pages != MAP_FAILED)
		munmap((void *)pages, 2 * page_bytes);
	if (fd >= 0)
		close(fd);
	if (!(entry[0] & entry[1] & ENTRY_PRESENT) || ((entry[0] ^ entry[1]) & ENTRY_FRAME))
		return 0;
	return entry[0] & ENTRY_FRAME;
}

/* True for a page with content of its own. */
static bool is_own(const struct pagemap *map, uint64_t entry)
{
	if (!(entry & (ENTRY_PRESENT | ENTRY_SWAPPED)) || (entry & ENTRY_FILE) ||
	    is_guard(map, entry))
		return false;
	return !(entry & ENTRY_PRESENT) || !map->zero_frame ||
	       (entry & ENTRY_FRAME) != map->zero_frame;
}

static void map_begin(struct pagemap *map, void *window)
{
	*map = (struct pagemap){
		.fd = -1, .page_bytes = (uint64_t)1 << arch_page_shift(), .window = window};
	map->guards = kernel_has_guards(map->page_bytes);
	map->zero_frame = find_zero_frame(map->page_bytes);
}

int pagemap_init(struct pagemap *map)
{
	map_begin(map, arena_alloc(ARENA_TABLES, WINDOW_BYTES, 16));
	if (!map->window)
		return log_no_room("the page map's window");
	return 0;
}

/* Pages of files and pages that are the shared zero page are left out. */
static int scan(struct pagemap *map, uint64_t start, uint64_t end)
{
	uint64_t unwanted = PAGE_IS_FILE | PAGE_IS_PFNZERO | (map->guards ? PAGE_IS_GUARD : 0);
	struct pm_scan_arg arg = {
		.size = sizeof(arg),
		.start = start,
		.end = end,
		.vec = (uintptr_t)map->window,
		.vec_len = WINDOW_REGIONS,
		.max_pages = SCAN_MAX_PAGES,
		.category_inverted = unwanted,
		.category_mask = unwanted,
		.category_anyof_mask = PAGE_IS_PRESENT | PAGE_IS_SWAPPED,
		/* Nothing is asked back: neighbours of different categories come as one region. */
		.return_mask = 0,
	};
	int nr;

	nr = ioctl(map->fd, PAGEMAP_SCAN, &arg);
	if (nr < 0)
		return -errno;
	if (nr > WINDOW_REGIONS)
		return -EPROTO;
	map->nr = (uint32_t)nr;
	map->upto = arg.walk_end;
	return 0;
}

/*
 * Reads entries and turns them into regions, in place. At worst every other page exists: then
 * region i / 2, of 24 bytes, is written when entry i, of 8 bytes at two thirds of the window, was
 * read; so the entries not yet read are never overtaken.
 */
static int read_entries(struct pagemap *map, uint64_t start, uint64_t end,
			bool (*wanted)(const struct pagemap *map, uint64_t entry))
{
	struct page_region *regions = map->window;
	uint64_t nr = (end - start) / map->page_bytes;
	uint64_t *entries;
	ssize_t got;

	if (nr > WINDOW_REGIONS)
		nr = WINDOW_REGIONS;
	entries = (uint64_t *)(regions + WINDOW_REGIONS) - nr;
	got = pread(map->fd, entries, nr * 8, (off_t)(start / map->page_bytes * 8));
	if (got < 0)
		return -errno;
	nr = (uint64_t)got / 8;
	map->nr = 0;
	for (uint64_t i = 0; i < nr; i++) {
		uint64_t addr = start + i * map->page_bytes, entry = entries[i];
		struct page_region *last = map->nr ? &regions[map->nr - 1] : NULL;

		if (!wanted(map, entry))
			continue;
		if (last && last->end == addr)
			last->end += map->page_bytes;
		else
			regions[map->nr++] =
				(struct page_region){.start = addr, .end = addr + map->page_bytes};
	}
	/* A short read is the end of the address space. */
	map->upto = got == 0 ? end : start + nr * map->page_bytes;
	return 0;
}

/* Makes the window describe memory from `start` on. */
static int window_load(struct pagemap *map, uint64_t start, uint64_t end)
{
	int err = map->scan ? scan(map, start, end) : read_entries(map, start, end, is_own);

	map->from = start;
	map->at = 0;
	if (!err && map->upto <= start)
		err = -EIO;
	if (err) {
		map->from = map->upto = 0;
		return log_fail(-err, "cannot tell which pages of the process exist at %#llx: %m",
				(unsigned long long)start);
	}
	return 0;
}

int pagemap_next(struct pagemap *map, uint64_t start, uint64_t end, uint64_t *run_start,
		 uint64_t *run_end, uint64_t *upto)
{
	const struct page_region *regions = map->window;
	const struct page_region *region;
	int err;

	if (start < map->from || start >= map->upto) {
		err = window_load(map, start, end);
		if (err)
			return err;
	}
	if (map->at && map->at <= map->nr && regions[map->at - 1].end > start)
		map->at = 0;
	while (map->at < map->nr && regions[map->at].end <= start)
		map->at++;
	*upto = map->upto < end ? map->upto : end;
	region = map->at < map->nr ? &regions[map->at] : NULL;
	if (!region || region->start >= *upto) {
		*run_start = *run_end = *upto;
		return 0;
	}
	*run_start = region->start > start ? region->start : start;
	*run_end = region->end < *upto ? region->end : *upto;
	/* What follows is the next call's to find. */
	*upto = *run_end;
	return 0;
}

static int open_map(struct pagemap *map, pid_t pid)
{
	char path[32];

	snprintf(path, sizeof(path), "/proc/%d/pagemap", (int)pid);
	map->fd = open(path, O_RDONLY | O_CLOEXEC);
	if (map->fd < 0)
		return -errno;
	/* Asked of one page: a kernel without it says ENOTTY, one that does not tell guards EINVAL. */
	map->scan = scan(map, map->page_bytes, 2 * map->page_bytes) == 0;
	map->from = map->upto = 0;
	return 0;
}

int pagemap_open(struct pagemap *map, pid_t pid)
{
	int err;

	pagemap_close(map);
	err = open_map(map, pid);
	return err ? log_fail(-err, "pid %d: cannot open its page map: %m", (int)pid) : 0;
}

int pagemap_probe(pid_t pid, bool *scans)
{
	struct page_region window[WINDOW_REGIONS];
	struct pagemap map;
	int err;

	map_begin(&map, window);
	err = open_map(&map, pid);
	if (!err && !map.scan)
		err = read_entries(&map, map.page_bytes, 2 * map.page_bytes, is_own);
	*scans = map.scan;
	pagemap_close(&map);
	return err;
}

static int scan_guards(struct pagemap *map, uint64_t start, uint64_t end)
{
	struct pm_scan_arg arg = {
		.size = sizeof(arg),
		.start = start,
		.end = end,
		.vec = (uintptr_t)map->window,
		.vec_len = WINDOW_REGIONS,
		.category_mask = PAGE_IS_GUARD,
	};
	int nr = ioctl(map->fd, PAGEMAP_SCAN, &arg);

	map->nr = nr < 0 ? 0 : (uint32_t)nr;
	map->upto = arg.walk_end;
	return nr < 0 ? -errno : 0;
}

int pagemap_each_guard(struct pagemap *map, uint64_t start, uint64_t end,
		       int (*fn)(void *data, uint64_t start, uint64_t end), void *data)
{
	const struct page_region *regions = map->window;
	int err = 0;

	while (map->guards && start < end && !err) {
		err = map->scan ? scan_guards(map, start, end)
				: read_entries(map, start, end, is_guard);
		if (!err && map->upto <= start)
			err = -EIO;
		if (err)
			log_fail(-err, "cannot tell the guard regions at %#llx: %m",
				 (unsigned long long)start);
		for (uint32_t i = 0; i < map->nr && !err; i++)
			err = fn(data, regions[i].start, regions[i].end);
		start = map->upto;
	}
	map->from = map->upto = 0;
	map->nr = map->at = 0;
	return err;
}

void pagemap_close(struct pagemap *map)
{
	io_close(&map->fd);
	map->from = map->upto = 0;
	map->nr = map->at = 0;
}
