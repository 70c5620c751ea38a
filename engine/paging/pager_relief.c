/* SPDX-License-Identifier: MIT */
/*
 * When nodes or spaces run short. Programs discard memory in many small pieces, faster than pages
 * can come from the source, and each piece splits an interval of the list.
 *
 * For nodes the program is halted for a moment (engine/process/halt.h):
 *
 *   settle   who may be changing memory is told to stop, and what is still announced is read, until
 *            nothing that was read is still to be done and nothing more is announced
 *   close    the smallest gaps are made present as a whole, with zero pages. Then they may be
 *            listed, which makes one interval of the two beside them: whatever is sent for
 *            a gap finds that something is there. When the program discards it again, that is
 *            announced, and it is cut again
 *   hold     where too few gaps can be closed (nothing is mapped there, or the intervals were moved
 *            by different distances), the smallest intervals are fetched whole before it runs on
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
#include <sched.h>
#include <string.h>
#include <time.h>

/*
 * A program whose threads do not stop within this runs on, and is halted later. On a device that has too much
 * to do it is given so many looks at the threads.
 */
#define SETTLE_MS 500
#define SETTLE_LOOKS 20
#define RETRY_MS 20
/* A program that left no moment for a fill is halted for several. */
#define FILL_MS 20
/* One thread that does not stop keeps the others so long. */
#define STUBBORN_US 5000000
/* Threads that were told to stop and did not are waited for when nobody is there to let them go later. */
#define LEAVE_MS 200
/* While it is held, changes of threads that were asleep are looked at so often. */
#define AGAIN_MS 5
/* It is said that it cannot be halted when that has not worked for so long. */
#define PATIENCE_MS 2000
/*
 * Changes read of one memory before the threads are looked at again: one that was asleep goes on with the
 * next one until it is seen and stopped. And messages at all, most of which are faults then.
 */
#define CHANGES_AT_ONCE 8
#define READS_AT_ONCE 256
/* Larger gaps cost more page tables than an interval costs to fetch. */
#define GAP_MAX_BYTES ((uint64_t)32 << 20)
/* Gaps are closed until so many nodes are free, so that it is not soon necessary again; ... */
#define ENOUGH_NODES (CONFIG_TODO_NODES - CONFIG_TODO_NODES / 4)
/* ... intervals are only fetched for so many more than must be free. */
#define MORE_NODES (CONFIG_TODO_NODES / 16)
/* Under way at a time, so that a long way to the source costs little. */
#define HOLD_ASKS 16
/* A list that could not be filled is left alone for so long. */
#define POSTPONE_MS 20

/* ---- settling ---- */

static bool is_changing(const struct pager *p)
{
	for (unsigned int i = 0; i < PAGER_SPACES; i++) {
		if (p->spaces[i].uffd >= 0 && pager_space_is_changing(p, i))
			return true;
	}
	return false;
}

static int read_all(struct pager *p)
{
	for (unsigned int i = 0; i < PAGER_SPACES; i++) {
		uint64_t events = p->nr_events;

		for (int n = 0; n < READS_AT_ONCE; n++) {
			int err;

			if (p->spaces[i].uffd < 0 || !pager_space_readable(p, i) ||
			    p->nr_events - events == CHANGES_AT_ONCE)
				break;
			err = pager_space_read(p, i);
			if (err < 0)
				return err;
			if (err == 0)
				break;
		}
	}
	return 0;
}

/* 0: every memory that is watched has its processes in the family; -ECHILD: not now; -errno. */
static int find_family(struct pager *p)
{
	struct family *family = &p->relief.halt.family;
	int err;

	pager_space_drop_dead(p);
	err = family_find(family, p->nr_spaces);
	return err || family->nr_memories == p->nr_spaces ? err : -ECHILD;
}

/* One look at the threads, and what they have announced is read. 1: nothing was to be seen; 0: *why; -errno. */
static int look(struct pager *p, bool whole, int *why)
{
	uint64_t events = p->nr_events;
	int calm, err = 0;

	*why = whole ? find_family(p) : 0;
	if (*why)
		return 0;
	calm = halt_sweep(&p->relief.halt);
	*why = calm < 0 ? calm : -EAGAIN;
	if (calm >= 0) {
		p->relief.settling = true;
		err = read_all(p);
		p->relief.settling = false;
	}
	return err ? err : calm > 0 && p->nr_events == events;
}

/* 1: nothing changes any more; 0: that is not to be had now, *why says so; -errno with log_fail. */
static int settle(struct pager *p, int *why)
{
	static const struct timespec pause = {.tv_nsec = 20000};
	int64_t give_up_ms = clock_deadline_ms(SETTLE_MS);
	bool whole = true; /* all of /proc is looked through */

	for (int looks = 0; looks < SETTLE_LOOKS || clock_now_ms() < give_up_ms; looks++) {
		unsigned int spaces = p->nr_spaces;
		int calm = look(p, whole, why);

		if (calm < 0 || (calm && whole))
			return calm;
		if (!calm && *why != -EAGAIN && *why != -ECHILD)
			return 0;
		whole = calm || *why == -ECHILD || p->nr_spaces != spaces;
		if (calm)
			continue;
		sched_yield();
		nanosleep(&pause, NULL);
	}
	return 0;
}

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
	err = todo_add(&list->todo, gap->start, gap->end, gap->source);
	if (err)
		return err;
	list->present_bytes += len;
	p->relief.nr_gaps++;
	return 0;
}

/* The gaps of one list that are larger than `min` and at most `max`. */
static int list_close_gaps(struct pager *p, uint16_t index, uint64_t min, uint64_t max,
			   bool may_exist)
{
	struct pager_list *list = &p->lists[index];
	struct todo_piece gap = {0};

	while (p->pool.nr_free && p->pool.nr_free < ENOUGH_NODES && list->refs &&
	       todo_next_gap(&list->todo, gap.end, min, max, &gap)) {
		int err = gap_close(p, index, &gap, may_exist);

		if (err == -ENOMEM)
			return err;
		if (err == -EAGAIN || err == -ESRCH)
			break;
	}
	return 0;
}

static int close_gaps(struct pager *p, bool may_exist)
{
	uint64_t min = 0;

	for (uint64_t max = p->page_bytes; max <= GAP_MAX_BYTES; min = max, max *= 2) {
		for (uint16_t i = 0; i < PAGER_SPACES; i++) {
			int err = list_close_gaps(p, i, min, max, may_exist);

			if (err)
				return err;
		}
	}
	return 0;
}

static bool has_relief(const struct pager *p)
{
	return p->pool.nr_free >= pager_reserve(p) + MORE_NODES;
}

/* ---- halting ---- */

static void pager_relief_end(struct pager *p)
{
	struct pager_relief *r = &p->relief;

	if (r->halted)
		log_debug("the program was halted for %lld us: %u threads of %u processes; %u gaps "
			  "closed, %u of %u nodes free",
			  (long long)(clock_now_us() - r->since_us), r->halt.nr, r->halt.family.nr,
			  r->nr_gaps, p->pool.nr_free, p->pool.nr);
	r->halted = false;
	halt_release(&r->halt);
}

void pager_relief_stop(struct pager *p)
{
	static const struct timespec pause = {.tv_nsec = 1000000};

	pager_relief_end(p);
	for (int i = 0; i < LEAVE_MS && p->relief.halt.nr; i++) {
		nanosleep(&pause, NULL);
		halt_release(&p->relief.halt);
	}
}

/* Nothing was changed: it is tried again, and said once when that goes on. */
static void give_up(struct pager *p, int why)
{
	struct pager_relief *r = &p->relief;
	int64_t now_ms = clock_now_ms();

	pager_relief_end(p);
	r->again_ms = now_ms + RETRY_MS;
	if (!r->failing_ms)
		r->failing_ms = now_ms;
	if (r->warned || now_ms < r->failing_ms + PATIENCE_MS)
		return;
	r->warned = true;
	log_warn("the process has its memory in very many pieces, and cannot be halted to join "
		 "them%s; "
		 "it waits until that is possible",
		 why == -EPERM ? ", since a debugger is attached to it" : "");
}

static int halt(struct pager *p)
{
	struct pager_relief *r = &p->relief;
	int settled, why;

	if (!r->halted) {
		r->halted = true;
		r->since_us = clock_now_us();
		r->nr_gaps = 0;
		r->most = p->page_bytes;
		r->cursor = 0;
	}
	settled = settle(p, &why);
	r->again_ms = clock_now_ms() + AGAIN_MS;
	/* Who was stopped stays so for a while: else each of them announces one more change each time. */
	if (!settled && (why != -EAGAIN || clock_now_us() > r->since_us + STUBBORN_US))
		give_up(p, why);
	if (settled <= 0)
		return settled;
	r->failing_ms = 0;
	r->warned = false;
	return 1;
}

int pager_halt(struct pager *p)
{
	int settled = halt(p);

	p->relief.until_ms = clock_now_ms() + FILL_MS;
	return settled;
}

static int halt_and_close(struct pager *p)
{
	int err = halt(p);

	if (err <= 0)
		return err;
	err = close_gaps(p, false);
	if (!err && !has_relief(p) && !family_has_lazyfree(&p->relief.halt.family))
		err = close_gaps(p, true);
	return err;
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

	while (!err && relief_asks(p) < HOLD_ASKS && hold_next(p, &piece))
		err = relief_ask(p, &piece);
	return err == -EBUSY ? 0 : err;
}

/* 1: again, soon; 0; -errno with log_fail. */
static int relieve_nodes(struct pager *p)
{
	struct pager_relief *r = &p->relief;
	int err = 0;

	if (!r->halted && r->halt.nr)
		halt_release(&r->halt);
	if (!r->halted && (p->pool.nr_free >= pager_reserve(p) || p->nr_spaces == PAGER_SPACES))
		return r->halt.nr != 0;
	/* As long as nothing is announced, nothing takes a node. */
	if (is_changing(p)) {
		if (clock_now_ms() >= r->again_ms)
			err = halt_and_close(p);
		if (err || !r->halted)
			return err ? err : 1;
	}
	if (r->halted && !has_relief(p))
		return hold(p);
	if (r->halted && clock_now_ms() < r->until_ms)
		return 1;
	if (r->halted)
		pager_relief_end(p);
	return r->halt.nr != 0;
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

	if (PAGER_SPACES == 1 || p->nr_spaces < PAGER_SPACES - 1 || relief_asks(p) ||
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
