/* SPDX-License-Identifier: MIT */
/*
 * Which pages of a process exist: those of anonymous memory that have content of their own, in
 * memory or in swap. Asked of the kernel's PAGEMAP_SCAN (6.7), else read from /proc/PID/pagemap.
 * A guard region (madvise MADV_GUARD_INSTALL) has no content: its pages do not exist.
 */
#ifndef BATON_PAGEMAP_H
#define BATON_PAGEMAP_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

struct page_region; /* lib/kernel.h */

struct pagemap {
	int fd;            /* -1 when closed */
	bool scan, guards; /* PAGEMAP_SCAN; the kernel has guard regions */
	uint64_t page_bytes;
	uint64_t zero_frame; /* of the shared zero page, in entries; 0: not known */
	void *window;        /* regions of the last scan, or entries of the last read */
	uint64_t from, upto; /* what the window describes */
	uint32_t nr, at;     /* regions in it; where the last search ended */
};

/* Takes its window from the arena; before arena_seal. -ENOMEM. */
int pagemap_init(struct pagemap *map);

/* Opens /proc/PID/pagemap and finds out which interface the kernel has. */
int pagemap_open(struct pagemap *map, pid_t pid);
void pagemap_close(struct pagemap *map);

/* Whether pages of process `pid` are found, and by a scan or by reading. 0 or -errno. */
int pagemap_probe(pid_t pid, bool *scans);

/*
 * Looks for pages in [start, end) from `start` on, for a bounded time. The answer is exact up to
 * `*upto`: from `start` to `*run_start` nothing exists; up to `*run_end` all does; up to `*upto`
 * nothing. With *run_start == *run_end there is nothing up to `*upto`, and the search goes on there.
 * The process must be stopped: what was learnt is remembered. 0 or -errno with log_fail.
 */
int pagemap_next(struct pagemap *map, uint64_t start, uint64_t end, uint64_t *run_start,
		 uint64_t *run_end, uint64_t *upto);

/*
 * Calls `fn` for each guard region in [start, end), until it returns non-zero, which is passed on.
 * What pagemap_next learnt is forgotten. 0 or -errno with log_fail.
 */
int pagemap_each_guard(struct pagemap *map, uint64_t start, uint64_t end,
		       int (*fn)(void *data, uint64_t start, uint64_t end), void *data);

#endif
