/* SPDX-License-Identifier: MIT */
/*
 * When nodes or spaces run short. Programs discard memory in many small pieces, faster than pages
 * can come from the source, and each piece splits an interval. Two remedies:
 *
 * - The smallest interval is fetched whole. That needs a moment in which no event is announced; a
 *   program that discards without a pause leaves none.
 * - A gap is released: the kernel alone fills it with zeros from then on, and a fill passes it over.
 *   So it may be listed, and the two intervals beside it are one. The price is mappings of the
 *   program, which are split until all has arrived.
 *
 * A gap is released while the program waits for its event to be read, so that it cannot change the
 * gap meanwhile. What the event itself says has happened before: a child that was forked still
 * has the gap watched, so it is released there as well; a gap that was moved is cut from the list
 * at its new place. What remains: memory moved onto the very gap, at that moment, by the same or
 * by another thread.
 *
 * Making the pages of a gap present instead would not be exact: a discard is announced before it is
 * done, and may still take away what was put there.
 */
#include "engine/paging/pager_internal.h"

#include "engine/paging/uffd.h"
#include "lib/clock.h"

#include <errno.h>
#include <poll.h>
#include <string.h>

/* Gaps tried in one go. */
#define GAPS_AT_ONCE 8
/* A change that was under way at the release has been announced after so long. */
#define RECENT_MS 1000
/* A list that could not be filled is left alone for so long. */
#define POSTPONE_MS 20

/* Whether a fault or an event can be read. */
static bool has_message(int fd)
{
	struct pollfd pfd = {.fd = fd, .events = POLLIN};

	return poll(&pfd, 1, 0) == 1;
}

static void release_note(struct pager *p, unsigned int space, uint64_t start, uint64_t end)
{
	p->released[p->nr_released++ % PAGER_RELEASES] = (struct pager_release){
		.start = start, .end = end, .at_ms = clock_now_ms(), .space = (uint16_t)space};
}

/* 0: the gap may be listed as far as this memory goes. -EBUSY: not now; -errno: not this one. */
static int gap_release_in(struct pager *p, unsigned int space, const struct todo_piece *gap)
{
	int fd = p->spaces[space].uffd, err;

	/* A change is announced, and there is something to read: that is what is waited for. */
	if (!uffd_is_changing(fd, gap->start, p->unreadable, p->page_bytes) || !has_message(fd))
		return -EBUSY;
	err = uffd_release(fd, gap->start, gap->end - gap->start);
	if (err)
		return err;
	release_note(p, space, gap->start, gap->end);
	pager_fault_clear(p, space, gap->start, gap->end, false);
	return 0;
}

/* The part of a recent release in one memory that meets [start, end). */
static bool release_meets(const struct pager_release *release, unsigned int space, uint64_t start,
			  uint64_t end, struct pager_release *met)
{
	*met = *release;
	if (met->space != space || met->at_ms + RECENT_MS < clock_now_ms() ||
	    met->start == met->end || met->start >= end || met->end <= start)
		return false;
	if (met->start < start)
		met->start = start;
	if (met->end > end)
		met->end = end;
	return true;
}

void pager_release_forked(struct pager *p, unsigned int space, unsigned int child)
{
	struct pager_release before[PAGER_RELEASES], met;

	if (!p->nr_released)
		return;
	memcpy(before, p->released, sizeof(before));
	for (unsigned int i = 0; i < PAGER_RELEASES; i++) {
		if (!release_meets(&before[i], space, 0, UINT64_MAX, &met))
			continue;
		(void)uffd_release(p->spaces[child].uffd, met.start, met.end - met.start);
		release_note(p, child, met.start, met.end);
	}
}

int pager_release_moved(struct pager *p, unsigned int space, struct todo_list *list, uint64_t from,
			uint64_t to, uint64_t len)
{
	struct pager_release met;
	int err = 0;

	for (unsigned int i = 0; i < PAGER_RELEASES && !err; i++) {
		if (release_meets(&p->released[i], space, from, from + len, &met))
			err = todo_cut(list, met.start - from + to, met.end - from + to);
	}
	return err;
}

void pager_release_forget(struct pager *p, unsigned int space, uint64_t start, uint64_t end)
{
	struct pager_release met;

	for (unsigned int i = 0; i < PAGER_RELEASES; i++) {
		if (release_meets(&p->released[i], space, start, end, &met))
			p->released[i].end = p->released[i].start = 0;
	}
}

static int gap_release(struct pager *p, uint16_t index, const struct todo_piece *gap)
{
	for (unsigned int i = 0; i < PAGER_SPACES; i++) {
		int err;

		if (p->spaces[i].uffd < 0 || p->spaces[i].list != index)
			continue;
		err = gap_release_in(p, i, gap);
		if (err)
			return err;
	}
	return 0;
}

/* Tries the next gap, going round all lists. False: there is none. */
static bool gap_next(struct pager *p)
{
	struct todo_piece gap;

	for (unsigned int n = 0; n <= PAGER_SPACES; n++) {
		struct pager_list *list = &p->lists[p->gap_list];

		if (list->refs && todo_next_gap(&list->todo, p->gap_cursor, UINT64_MAX, &gap)) {
			int err = gap_release(p, p->gap_list, &gap);

			if (!err && p->pool.nr_free)
				pager_change_list(p, PAGER_LIST, p->gap_list, gap.start, gap.end,
						  gap.source);
			if (err != -EBUSY) {
				p->gap_cursor = gap.end;
				return true;
			}
		}
		p->gap_list = (p->gap_list + 1) % PAGER_SPACES;
		p->gap_cursor = 0;
	}
	return false;
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

static void relieve_nodes(struct pager *p)
{
	for (int i = 0; i < GAPS_AT_ONCE && p->pool.nr_free < pager_reserve(p); i++) {
		if (!gap_next(p))
			break;
	}
}

int pager_relieve(struct pager *p)
{
	bool few_spaces = PAGER_SPACES > 1 && p->nr_spaces >= PAGER_SPACES - 1;
	struct todo_piece piece;
	uint64_t len;
	int err;

	relieve_nodes(p);
	if (!few_spaces && p->pool.nr_free >= pager_reserve(p) + PAGER_SPARE_NODES)
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
