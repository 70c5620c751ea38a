/* SPDX-License-Identifier: MIT */
/*
 * When nodes or spaces run short. Programs discard memory in many small pieces, faster than pages
 * can come from the source, and each piece splits an interval of the list.
 *
 * For nodes the program is halted (pager_halt.c); then
 *
 * - the smallest gaps are closed: made present as a whole, with zero pages. So they may be listed, which
 *   makes one interval of the two beside them: whatever is sent for a gap finds that something is
 *   there. When the program discards it again, that is announced, and it is cut again;
 * - where too few gaps can be closed (nothing is mapped there, or the intervals were moved by different
 *   distances), it is held until the smallest intervals were fetched whole.
 *
 * A gap that is not watched as a whole stays open: a mapping beside it may grow into it without a
 * word. A page that is there is only relied on when the kernel will not take it away (MADV_FREE).
 * And without the halt a discard that was announced, read and cut could still take away what was put
 * there.
 *
 * For spaces the list that can be completed with the least data is fetched, one run after the other.
 */
#include "engine/paging/pager_internal.h"

#include "engine/paging/uffd.h"
#include "lib/clock.h"
#include "lib/log.h"

#include <errno.h>

/* Larger gaps cost more page tables than an interval costs to fetch. */
#define GAP_MAX_BYTES ((uint64_t)32 << 20)
/* Gaps are closed until so many nodes are free, so that it is not soon necessary again; ... */
#define ENOUGH_NODES (CONFIG_TODO_NODES - CONFIG_TODO_NODES / 4)
/* ... intervals are only fetched for so many more than must be free. */
#define MORE_NODES (CONFIG_TODO_NODES / 16)
/* When there are too many memories, the program is halted for so long at a time. */
#define FULL_MS 20
/* Under way at a time, so that a long way to the source costs little. */
#define HOLD_ASKS 16
/* A list that could not be filled is left alone for so long. */
#define POSTPONE_MS 20

/* ---- gaps ---- */

/*
 * 0; not this gap: -EBUSY; -ENOENT, not watched; -EEXIST, something is there, or what had been there was moved
 * and is listed elsewhere. Not this list: -EAGAIN, -ESRCH. -ENOMEM with log_fail.
 */
static int gap_close(struct pager *p, uint16_t index, const struct todo_piece *gap, bool may_exist)
{
	struct pager_list *list = &p->lists[index];
	uint64_t len = gap->end - gap->start;
	int err;

	if (halt_discards(&p->relief.halt, gap->start, gap->end))
		return -EBUSY;
	for (unsigned int i = 0; i < PAGER_SPACES; i++) {
		if (p->spaces[i].uffd < 0 || p->spaces[i].list != index)
			continue;
		err = uffd_zero_whole(p->spaces[i].uffd, gap->start, len, p->page_bytes, may_exist);
		if (err == -ESRCH)
			pager_space_drop(p, i);
		else if (err)
			return err;
		pager_fault_clear(p, i, gap->start, gap->end, false);
	}
	if (!list->refs)
		return -ESRCH;
	/* Counted first: should we die between the two, it is rather too much, see replay_present. */
	list->present_bytes += len;
	err = pager_change_list(p, PAGER_LIST, index, gap->start, gap->end, gap->source);
	if (err) {
		list->present_bytes -= len;
		return err;
	}
	p->relief.nr_gaps++;
	return 0;
}

/* The gaps of one list that are larger than `min` and at most `max`. */
static void list_close_gaps(struct pager *p, uint16_t index, uint64_t min, uint64_t max,
			    bool may_exist)
{
	struct pager_list *list = &p->lists[index];
	struct todo_piece gap = {0};

	while (p->pool.nr_free && p->pool.nr_free < ENOUGH_NODES && list->refs &&
	       todo_next_gap(&list->todo, gap.end, min, max, &gap)) {
		int err = gap_close(p, index, &gap, may_exist);

		if (err == -ENOMEM)
			pager_starve_note(p, err);
		if (err == -EAGAIN || err == -ESRCH || err == -ENOMEM)
			break;
	}
}

static void close_gaps(struct pager *p, bool may_exist)
{
	uint64_t min = 0;

	for (uint64_t max = p->page_bytes; max <= GAP_MAX_BYTES; min = max, max *= 2) {
		for (uint16_t i = 0; i < PAGER_SPACES; i++)
			list_close_gaps(p, i, min, max, may_exist);
	}
}

static bool has_relief(const struct pager *p)
{
	return p->pool.nr_free >= pager_reserve(p) + MORE_NODES;
}

static int halt_and_close(struct pager *p)
{
	/* With too many memories what helps is to complete some. */
	int err = pager_halt(p, pager_is_full(p) ? FULL_MS : 0);

	if (err <= 0)
		return err;
	p->relief.tidied = true;
	close_gaps(p, false);
	if (!has_relief(p) && !family_has_lazyfree(&p->relief.halt.family))
		close_gaps(p, true);
	return 0;
}

/* ---- holding ---- */

static unsigned int relief_asks(const struct pager *p)
{
	unsigned int nr = 0;

	for (unsigned int i = 0; i < p->nr_asks; i++)
		nr += p->asks[(p->first_ask + i) % PAGER_ASKS].relief;
	return nr;
}

static int relief_ask(struct pager *p, const struct todo_piece *piece)
{
	uint64_t len = piece->end - piece->start;

	if (len > FRAME_BODY_MAX)
		len = FRAME_BODY_MAX / p->page_bytes * p->page_bytes;
	return pager_ask(p, piece->source, len, true);
}

/* The next interval of at most r->most; when all of them were asked for and are here, larger ones. */
static bool hold_next(struct pager *p, struct todo_piece *piece)
{
	struct pager_relief *r = &p->relief;

	for (unsigned int n = 0; n <= PAGER_SPACES; n++) {
		const struct pager_list *list = &p->lists[r->list];

		if (list->refs && list->postponed_ms + POSTPONE_MS < clock_now_ms() &&
		    todo_next_small(&list->todo, r->cursor, r->most, piece)) {
			r->cursor = piece->end;
			return true;
		}
		r->list = (r->list + 1) % PAGER_SPACES;
		r->cursor = 0;
	}
	if (!relief_asks(p) && r->most < UINT64_MAX / 2)
		r->most *= 2;
	return false;
}

static int hold(struct pager *p)
{
	struct todo_piece piece;
	int err = 0;

	while (!err && !pager_is_starving(p) && relief_asks(p) < HOLD_ASKS && hold_next(p, &piece))
		err = relief_ask(p, &piece);
	return err == -EBUSY ? 0 : err;
}

/* 1: again, soon; 0; -errno with log_fail. */
static int relieve_nodes(struct pager *p)
{
	struct pager_relief *r = &p->relief;
	int err = 0;

	r->halt.no_forks = pager_is_full(p);
	if (!r->halted && r->halt.nr)
		halt_release(&r->halt);
	if (!r->halted && p->pool.nr_free >= pager_reserve(p) && !pager_is_full(p))
		return r->halt.nr != 0;
	/* As long as nothing is announced, nothing takes a node, or a space. */
	if (pager_is_changing(p) || (r->halted && !r->tidied && !has_relief(p))) {
		if (clock_now_ms() >= r->again_ms)
			err = halt_and_close(p);
		if (err || !r->halted)
			return err ? err : 1;
	}
	if (!r->halted)
		return r->halt.nr != 0;
	if (has_relief(p) && clock_now_ms() >= r->until_ms)
		pager_resume(p);
	else if (!has_relief(p))
		err = hold(p);
	return err ? err : 1;
}

/* ---- spaces ---- */

/*
 * Lists that just could not be filled are left alone: their programs wait in a call whose event can
 * only be read once there is relief.
 */
static bool choose_list(struct pager *p, struct todo_piece *chosen)
{
	int64_t recent_ms = clock_now_ms() - POSTPONE_MS;
	uint64_t least = UINT64_MAX;

	for (unsigned int i = 0; i < PAGER_SPACES; i++) {
		const struct pager_list *list = &p->lists[i];

		if (!list->refs || list->postponed_ms > recent_ms || list->todo.bytes >= least ||
		    !todo_next(&list->todo, 0, chosen))
			continue;
		least = list->todo.bytes;
	}
	return least != UINT64_MAX;
}

static int relieve_spaces(struct pager *p)
{
	struct todo_piece piece;
	int err;

	if (p->nr_spaces < CONFIG_MAX_SPACES - 1 || relief_asks(p) || pager_is_starving(p) ||
	    !choose_list(p, &piece))
		return 0;
	err = relief_ask(p, &piece);
	return err == -EBUSY ? 0 : err;
}

int pager_relieve(struct pager *p)
{
	int again = relieve_nodes(p);
	int err = again < 0 ? again : relieve_spaces(p);

	return err ? err : again;
}
