/* SPDX-License-Identifier: MIT */
/* Reading the memory of a stopped process into frames. */
#ifndef BATON_SOURCE_H
#define BATON_SOURCE_H

#include "engine/paging/pagemap.h"
#include "transport/lane.h"

struct source {
	pid_t pid;
	int mem_fd; /* /proc/PID/mem; -1 when closed */
	uint64_t page_bytes;
	uint64_t
		zero_run_bytes; /* so many of zeros are told, fewer are sent; from source_open on */
	uint64_t pages_sent, pages_zero;
	struct packer packer;
	bool pack; /* the next frame, if it can be */
};

/* Opens the memory of a stopped process. -errno with log_fail. */
int source_open(struct source *source, pid_t pid);
void source_close(struct source *source);

/*
 * Puts the next frame of [*pos, end) into the lane's queue and moves *pos behind what it tells: PAGES
 * (PACKED, with `pack`), or ZERO for pages with nothing but zeros. `space` goes into the frame. What does not exist is
 * passed over without a frame, or told as ZERO when `tell_holes`.
 * `map` finds what exists; one of its own for each lane, since each looks elsewhere.
 * 0: *pos has moved, or the lane has no room (ask lane_has_room before); -ESRCH: the process is
 * gone; -errno with log_fail.
 */
int source_emit(struct source *source, struct lane *lane, struct pagemap *map, uint64_t *pos,
		uint64_t end, uint16_t space, bool tell_holes);

#endif
