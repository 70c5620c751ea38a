/* SPDX-License-Identifier: MIT */
/*
 * When nodes or spaces run short. Programs discard memory in many small pieces, faster than pages
 * can come from the source; each piece splits an interval. Two remedies, the first without a link:
 *
 * - a gap is closed: its pages are made to be there (with zeros, if they are not); then it may be
 *   listed as well, since a fill passes over what is there;
 * - an interval is fetched whole.
 */
#include "engine/pager_internal.h"

#include "engine/uffd.h"
#include "lib/clock.h"

#include <errno.h>
#include <poll.h>

/* A gap of up to so many pages is closed. */
#define GAP_PAGES 16
/* Gaps closed, or found not to be closable, in one go: some 0.1 ms. */
#define GAPS_AT_ONCE 64
/* How long after an event a moment is waited for in which nothing else is announced. */
#define MOMENT_NS 60000
/* A list that could not be filled is left alone for so long. */
#define POSTPONE_MS 20

/* Every memory that uses the list gets the pages. -EAGAIN, -ENOENT: not this gap. */
static int gap_populate(struct pager *p, uint16_t index, const struct todo_piece *gap)
{
	for (unsigned int i = 0; i < PAGER_SPACES; i++) {
		int err;

		if (p->spaces[i].uffd < 0 || p->spaces[i].list != index)
			continue;
		err = uffd_populate(p->spaces[i].uffd, gap->start, gap->end - gap->start,
				    p->page_bytes);
		if (err == -ESRCH) {
			pager_space_drop(p, i);
			return -ENOENT;
		}
		if (err)
			return err;
		pager_fault_clear(p, i, gap->start, gap->end, false);
	}
	return 0;
}

/* Closes one gap, going round all lists. 1: closed; 0: not this one, or none. */
static int gap_close(struct pager *p, bool *none)
{
	struct todo_piece gap;

	for (unsigned int n = 0; n <= PAGER_SPACES; n++) {
		struct pager_list *list = &p->lists[p->gap_list];

		if (list->refs &&
		    todo_next_gap(&list->todo, p->gap_cursor, GAP_PAGES * p->page_bytes, &gap)) {
			p->gap_cursor = gap.end;
			if (gap_populate(p, p->gap_list, &gap) || !p->pool.nr_free)
				return 0;
			return todo_add(&list->todo, gap.start, gap.end, gap.source) == 0;
		}
		p->gap_list = (p->gap_list + 1) % PAGER_SPACES;
		p->gap_cursor = 0;
	}
	*none = true;
	return 0;
}

static bool nodes_are_scarce(const struct pager *p)
{
	return p->pool.nr_free <= pager_reserve(p);
}

void pager_relieve_after_event(struct pager *p, unsigned int space)
{
	int64_t until_ns;

	if (!nodes_are_scarce(p))
		return;
	/*
	 * A program that does nothing else is between two events only for a moment. Closing a few
	 * gaps more than it made lets this end.
	 */
	until_ns = clock_now_ns() + MOMENT_NS;
	for (int closed = 0; closed < 4 && clock_now_ns() < until_ns && nodes_are_scarce(p);) {
		struct pollfd next = {.fd = p->spaces[space].uffd, .events = POLLIN};
		bool none = false;

		closed += gap_close(p, &none);
		if (none || p->spaces[space].uffd < 0 || poll(&next, 1, 0) != 0)
			return;
	}
}

/*
 * What to fetch. For nodes the smallest interval; for spaces the front of the list that can be
 * completed with the least data. Lists that just could not be filled are left alone: their
 * programs wait in a call whose event can only be read once there is relief.
 */
static bool choose(struct pager *p, bool for_spaces, struct todo_piece *chosen)
{
	int64_t recent_ms = clock_now_ms() - POSTPONE_MS;
	uint64_t least = UINT64_MAX;

	for (unsigned int i = 0; i < PAGER_SPACES; i++) {
		const struct pager_list *list = &p->lists[i];
		struct todo_piece piece;
		uint64_t bytes;

		if (!list->refs || list->postponed_ms > recent_ms)
			continue;
		if (!(for_spaces ? todo_next(&list->todo, 0, &piece)
				 : todo_smallest(&list->todo, &piece)))
			continue;
		bytes = for_spaces ? list->todo.bytes : piece.end - piece.start;
		if (bytes >= least)
			continue;
		least = bytes;
		*chosen = piece;
	}
	return least != UINT64_MAX;
}

int pager_relieve(struct pager *p)
{
	bool none = false, few_spaces = PAGER_SPACES > 1 && p->nr_spaces >= PAGER_SPACES - 1;
	struct todo_piece piece;
	uint64_t len;
	int err;

	for (int i = 0; i < GAPS_AT_ONCE && !none && nodes_are_scarce(p); i++)
		gap_close(p, &none);
	if (!few_spaces && !nodes_are_scarce(p))
		return 0;
	for (unsigned int i = 0; i < p->nr_asks; i++) {
		if (p->asks[(p->first_ask + i) % PAGER_ASKS].relief)
			return 0;
	}
	if (!choose(p, few_spaces, &piece))
		return 0;
	len = piece.end - piece.start;
	if (len > FRAME_BODY_MAX)
		len = FRAME_BODY_MAX / p->page_bytes * p->page_bytes;
	err = pager_ask(p, piece.source, len, true);
	return err == -EBUSY ? 0 : err;
}
