/* SPDX-License-Identifier: MIT */
/* The background push: what is asked next, what arrives. */
#include "engine/paging/pager_internal.h"

#include "lib/fault.h"
#include "lib/log.h"

#include <errno.h>

/* Asked ahead, so that the source never waits for us: so many pushes, or so many bytes. */
#define AHEAD_MAX 16
#define AHEAD_BYTES ((uint64_t)4 << 20)
/* A fault so close in front of the push does not move it: it will be there soon. */
#define NEAR_BYTES ((uint64_t)256 << 10)
/* The push moves at most once in so many bytes, so that random faults do not cut memory to shreds. */
#define MOVE_BYTES ((uint64_t)256 << 10)

static struct pager_push *push_at(struct pager *p, unsigned int i)
{
	return &p->pushes[(p->first_push + i) % PUSH_MAX];
}

static int push_send(struct pager *p, uint64_t start, uint64_t end, bool behind)
{
	uint16_t number = p->push_number;
	struct frame frame = {.type = FRAME_PUSH,
			      .space = (uint16_t)(number | (behind ? PUSH_BEHIND : 0)),
			      .len = 8,
			      .addr = start};
	uint8_t body[8];
	int err;

	if (!behind) {
		for (unsigned int i = 0; i < p->nr_pushes; i++)
			push_at(p, i)->ended = true;
	}
	p->push_number = (number + 1) & PUSH_NUMBER_MASK;
	*push_at(p, p->nr_pushes++) =
		(struct pager_push){.pos = start, .end = end, .number = number};
	frame_put_u64(end, body);
	err = lane_queue(p->bulk, &frame, body);
	return err ? err : fault_point(FAULT_PAGER_PUSH);
}

void pager_push_redirect(struct pager *p, uint16_t list, uint64_t target, uint64_t source)
{
	const struct pager_push *push = push_at(p, 0);

	if (p->mode != PAGER_LAZY || p->bulk->bytes_rx < p->redirect_after ||
	    p->pool.nr_free <= 2 * pager_reserve(p))
		return;
	if (p->nr_pushes && !push->ended && push->pos <= source && source < push->end &&
	    source - push->pos < NEAR_BYTES)
		return;
	p->redirect = true;
	p->push_list = list;
	p->push_cursor = target;
}

/* Where to go on: behind the cursor, or, once nothing is under way there, from the first listed on. */
static bool push_next(struct pager *p, struct todo_piece *piece)
{
	if (p->lists[p->push_list].refs &&
	    todo_next(&p->lists[p->push_list].todo, p->push_cursor, piece))
		return true;
	if (p->nr_pushes)
		return false;
	for (uint16_t i = 0; i < PAGER_SPACES; i++) {
		if (p->lists[i].refs && todo_next(&p->lists[i].todo, 0, piece)) {
			p->push_list = i;
			return true;
		}
	}
	return false;
}

static int push_append(struct pager *p, bool behind, bool predicting)
{
	struct todo_piece piece;

	if (!push_next(p, &piece))
		return 0;
	/* What was predicted is sent once more if it is asked for again before it is here. */
	if (predicting && piece.end - piece.start > AHEAD_BYTES)
		piece.end = piece.start + AHEAD_BYTES;
	p->push_cursor = piece.end;
	return push_send(p, piece.source, piece.source + (piece.end - piece.start), behind);
}

/* 1: asked for pages where the program stood; 0: there are none left; -errno. */
static int push_predicted(struct pager *p)
{
	struct todo_piece piece;
	int err;

	if (p->mode != PAGER_LAZY || !pager_predict_next(p, &piece))
		return 0;
	err = push_send(p, piece.source, piece.source + (piece.end - piece.start), true);
	push_at(p, p->nr_pushes - 1)->predicted = true;
	return err ? err : 1;
}

static bool nothing_listed(const struct pager *p)
{
	for (unsigned int i = 0; i < PAGER_SPACES; i++) {
		if (p->lists[i].refs && p->lists[i].todo.bytes)
			return false;
	}
	return true;
}

/* Of what is listed there may be only such left as is there: nobody ever asks for that. */
static bool nothing_wanted(const struct pager *p)
{
	for (unsigned int i = 0; i < PAGER_SPACES; i++) {
		if (p->lists[i].refs && p->lists[i].todo.bytes > p->lists[i].present_bytes)
			return false;
	}
	return true;
}

int pager_push_continue(struct pager *p)
{
	unsigned int nr_ended = 0, nr_live;
	bool predicting = p->mode == PAGER_LAZY && p->predict.next < p->predict.nr;
	uint64_t ahead = 0;
	int err = 0;

	if ((p->mode == PAGER_ON_DEMAND && !nothing_wanted(p)) || !lane_has_room(p->bulk, 8))
		return 0;
	for (unsigned int i = 0; i < p->nr_pushes; i++) {
		nr_ended += push_at(p, i)->ended;
		predicting |= push_at(p, i)->predicted;
		ahead += push_at(p, i)->ended ? 0 : push_at(p, i)->end - push_at(p, i)->pos;
	}
	nr_live = p->nr_pushes - nr_ended;
	if (nothing_listed(p)) {
		/* Whatever is still being sent is for nobody: an empty push ends it. */
		if (nr_live && ahead && p->nr_pushes < PUSH_MAX)
			err = push_send(p, 0, 0, false);
		return err;
	}
	if (pager_is_starving(p))
		return 0;
	/* A fault moves the push when what was predicted is here. */
	if (p->redirect && !nr_ended && !predicting) {
		p->redirect = false;
		p->redirect_after = p->bulk->bytes_rx + MOVE_BYTES;
		return push_append(p, false, false);
	}
	while (nr_live < AHEAD_MAX && ahead < AHEAD_BYTES && p->nr_pushes < PUSH_MAX &&
	       lane_has_room(p->bulk, 8)) {
		unsigned int before = p->nr_pushes;

		err = push_predicted(p);
		if (!err)
			err = push_append(p, true, predicting);
		if (err < 0 || p->nr_pushes == before)
			return err;
		nr_live++;
		ahead += push_at(p, before)->end - push_at(p, before)->pos;
	}
	return 0;
}

/* ---- what arrives ---- */

static int bad_frame(const struct lane *lane)
{
	return log_fail(EPROTO, "%s sent %s at %#llx on the bulk lane, which was not asked for",
			lane->peer, frame_name(lane->rx.type), (unsigned long long)lane->rx.addr);
}

static int on_memory(struct pager *p, const struct lane *lane)
{
	struct pager_push *push = push_at(p, 0);
	bool zero = lane->rx.type == FRAME_ZERO;
	uint64_t start, end, told = push->pos;
	int err;

	err = pager_frame_range(p, lane, &start, &end);
	if (err)
		return err;
	if (!p->nr_pushes || lane->rx.space != push->number || start < told || end > push->end)
		return bad_frame(lane);
	push->pos = end;
	*(zero ? &p->pages_zero : &p->pages_sent) += (end - start) / p->page_bytes;
	p->pages_predicted += push->predicted ? (end - start) / p->page_bytes : 0;
	if (start > told)
		err = pager_fill(p, told, start, PAGER_NOTHING, NULL);
	if (err)
		return err;
	return pager_fill(p, start, end, zero ? PAGER_NOTHING : PAGER_DATA,
			  zero ? NULL : lane->rx_body);
}

static int on_reached(struct pager *p, const struct lane *lane)
{
	struct pager_push *push = push_at(p, 0);
	uint64_t addr = lane->rx.addr, told = push->pos;

	if (!p->nr_pushes || lane->rx.len || lane->rx.space != push->number || addr < told ||
	    addr > push->end || (addr & (p->page_bytes - 1)) || (addr < push->end && !push->ended))
		return bad_frame(lane);
	p->first_push = (p->first_push + 1) % PUSH_MAX;
	p->nr_pushes--;
	return addr > told ? pager_fill(p, told, addr, PAGER_NOTHING, NULL) : 0;
}

int pager_push_frame(struct pager *p)
{
	switch (p->bulk->rx.type) {
	case FRAME_PAGES:
	case FRAME_ZERO:
		return on_memory(p, p->bulk);
	case FRAME_REACHED:
		return on_reached(p, p->bulk);
	case FRAME_PONG:
		return 0;
	default:
		return bad_frame(p->bulk);
	}
}
