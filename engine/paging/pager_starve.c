/* SPDX-License-Identifier: MIT */
/*
 * When there is no memory for the program: this device is full, or the control group that the program is
 * in. The program waits where it touches what is missing; what arrives is dropped and stays listed. One
 * page is asked for at a time, with growing pauses, until one can be filled. The link stays.
 */
#include "engine/paging/pager_internal.h"

#include "lib/clock.h"
#include "lib/log.h"

#include <errno.h>

#define PAUSE_FIRST_MS 20
#define PAUSE_LONGEST_MS 1000

void pager_starve_note(struct pager *p, int err)
{
	struct pager_starve *s = &p->starve;

	if (!err)
		s->since_ms = 0;
	if (err != -ENOMEM || p->mode == PAGER_EAGER)
		return;
	log_reason_clear();
	if (!s->since_ms) {
		s->since_ms = clock_now_ms();
		s->pause_ms = PAUSE_FIRST_MS / 2;
	}
	s->pause_ms *= 2;
	if (s->pause_ms > PAUSE_LONGEST_MS)
		s->pause_ms = PAUSE_LONGEST_MS;
	s->again_ms = clock_now_ms() + s->pause_ms;
}

bool pager_starve_waits(const struct pager *p)
{
	return p->starve.since_ms && clock_now_ms() < p->starve.again_ms;
}

/* What the program waits for, or the first that is listed. */
static bool choose(struct pager *p, struct todo_piece *piece)
{
	for (unsigned int i = 0; i < p->nr_faults; i++) {
		if (todo_find(pager_todo(p, p->fault[i].space), p->fault[i].addr, piece))
			return true;
	}
	for (unsigned int i = 0; i < PAGER_SPACES && p->mode != PAGER_ON_DEMAND; i++) {
		if (p->lists[i].refs && todo_next(&p->lists[i].todo, 0, piece))
			return true;
	}
	return false;
}

int pager_starve_try(struct pager *p)
{
	struct todo_piece piece;
	int err;

	if (!pager_is_starving(p) || pager_starve_waits(p) || p->nr_asks || !choose(p, &piece))
		return 0;
	err = pager_ask(p, piece.source, p->page_bytes, false);
	return err == -EBUSY ? 0 : err;
}
