/* SPDX-License-Identifier: MIT */
/*
 * A source process with memory, a server, a target process that is being filled and checks itself:
 * for tests of the pager and the page server together.
 */
#ifndef BATON_PAGER_WORLD_H
#define BATON_PAGER_WORLD_H

#include "engine/paging/pager.h"
#include "engine/paging/serve.h"

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

/* Pages of the window in which everything happens; the first of them are the source's memory. */
#define WORLD_PAGES 12288
#define WORLD_AREA_PAGES 6144
#define WORLD_PAGE_MAX 65536

struct world {
	uint64_t page;
	uint8_t *reserved, *window;
	pid_t source, server, target;
	int target_go; /* write end: the target begins */
	int uffd;
	struct pager *pager;
	struct lane faults, bulk; /* the target's ends */
	unsigned int rate_mib_s;
	int64_t deadline_ms;
};

/* What page `index` of the source holds. */
enum world_kind { WORLD_PATTERN, WORLD_ZEROS, WORLD_ABSENT };
enum world_kind world_kind(unsigned int index);
void world_page_fill(uint64_t *page, unsigned int index, uint64_t page_bytes);

/* Arena, source process. Then the target: `play` runs in it once the pager begins; 0 is good. */
void world_begin(struct world *w);
void world_target(struct world *w, int (*play)(struct world *w));
/* A server and a pair of lanes to it (a new one after a break). */
void world_connect(struct world *w, bool tcp);
/* Ends the server. */
void world_disconnect(struct world *w);
/* Runs the pager, with a time limit; then waits for the target and checks what it says. */
int world_run(struct world *w, enum pager_mode mode);
void world_check_target(struct world *w);
void world_end(struct world *w);

#endif
