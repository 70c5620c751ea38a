/* SPDX-License-Identifier: MIT */
/* Faults, and what is asked of the source for them. */
#include "engine/paging/pager_internal.h"

#include "engine/paging/uffd.h"
#include "lib/clock.h"
#include "lib/fault.h"
#include "lib/log.h"

#include <errno.h>
#include <linux/userfaultfd.h>

/* Zero pages given at once where nothing is to come: new memory is mostly used in order. */
#define ZERO_BYTES 32768

void pager_fault_add(struct pager *p, unsigned int space, uint64_t addr)
{
	for (unsigned int i = 0; i < p->nr_faults; i++) {
		/* Another thread waits for the same page: filling it wakes both. */
		if (p->fault[i].addr == addr && p->fault[i].space == space)
			return;
	}
	if (p->nr_faults == PAGER_FAULTS) {
		p->faults_dropped = true;
		return;
	}
	p->fault_ns = clock_now_ns();
	p->fault[p->nr_faults++] = (struct pager_fault){
		.addr = addr, .seen_ns = p->fault_ns, .space = (uint16_t)space};
}

static void fault_forget(struct pager *p, unsigned int index)
{
	p->fault[index] = p->fault[--p->nr_faults];
}

void pager_fault_clear(struct pager *p, unsigned int space, uint64_t start, uint64_t end,
		       bool filled)
{
	for (unsigned int i = 0; i < p->nr_faults;) {
		struct pager_fault *fault = &p->fault[i];

		if (fault->space != space || fault->addr < start || fault->addr >= end) {
			i++;
			continue;
		}
		if (filled && fault->asked) {
			int64_t us;

			p->fault_ns = clock_now_ns();
			us = (p->fault_ns - fault->seen_ns) / 1000;
			histogram_add(&p->latency, us < UINT32_MAX ? (uint32_t)us : UINT32_MAX);
		}
		fault_forget(p, i);
	}
}

/* ---- asking ---- */

/* Whether an answer under way will bring `source`; else the address where the next one begins. */
static bool ask_covers(const struct pager *p, uint64_t source, uint64_t *next)
{
	*next = UINT64_MAX;
	for (unsigned int i = 0; i < p->nr_asks; i++) {
		const struct pager_ask *ask = &p->asks[(p->first_ask + i) % PAGER_ASKS];

		if (ask->pos <= source && source < ask->end)
			return true;
		if (ask->pos > source && ask->pos < *next)
			*next = ask->pos;
	}
	return false;
}

int pager_ask(struct pager *p, uint64_t source, uint64_t len, bool relief)
{
	struct frame frame = {.type = FRAME_FETCH, .len = 8, .addr = source};
	uint8_t body[8];
	int err;

	if (p->nr_asks == PAGER_ASKS || !lane_has_room(p->faults, sizeof(body)))
		return -EBUSY;
	p->asks[(p->first_ask + p->nr_asks++) % PAGER_ASKS] =
		(struct pager_ask){.pos = source, .end = source + len, .relief = relief};
	frame_put_u64(len, body);
	err = lane_queue(p->faults, &frame, body);
	return err ? err : fault_point(FAULT_PAGER_FETCH);
}

/* The page is listed: its content is at the source. */
static int fault_fetch(struct pager *p, struct pager_fault *fault, const struct todo_piece *piece)
{
	uint64_t len = piece->end - piece->start, next, most = p->page_bytes;
	int err;

	if (p->mode != PAGER_ON_DEMAND && most < PAGER_FETCH_BYTES)
		most = PAGER_FETCH_BYTES;
	if (len > most)
		len = most;
	if (!ask_covers(p, piece->source, &next)) {
		if (len > next - piece->source)
			len = next - piece->source;
		err = pager_ask(p, piece->source, len, false);
		if (err)
			return err;
		p->nr_fetched++;
	}
	fault->asked = true;
	pager_push_redirect(p, p->spaces[fault->space].list, piece->start + len,
			    piece->source + len);
	return 0;
}

/* The page is not listed: it never was, or was discarded. */
static int fault_zero(struct pager *p, const struct pager_fault *fault)
{
	uint64_t addr = fault->addr, done;
	uint64_t len = p->page_bytes < ZERO_BYTES ? ZERO_BYTES : p->page_bytes;
	unsigned int space = fault->space;
	struct todo_piece above;
	int err;

	if (todo_next(pager_todo(p, space), addr, &above) && above.start - addr < len)
		len = above.start - addr;
	err = uffd_zero(p->spaces[space].uffd, addr, len, p->page_bytes, &done);
	pager_starve_note(p, err);
	pager_fault_clear(p, space, addr, addr + done, false);
	if (err == -ENOMEM)
		return -EBUSY;
	if (err == -ESRCH) {
		pager_space_drop(p, space);
		return 0;
	}
	return err == -EAGAIN ? pager_space_drain(p, space) : err;
}

int pager_fault_start(struct pager *p)
{
	unsigned int i = 0, remain = 0;

	/*
	 * One that is dealt with is either marked, or gone (the last one then takes its place). The
	 * bound is for a program that changes its memory faster than it can be given a zero page.
	 */
	for (unsigned int tries = 0; i < p->nr_faults && tries < 3 * PAGER_FAULTS; tries++) {
		struct pager_fault *fault = &p->fault[i];
		struct todo_piece piece;
		int err;

		if (fault->asked) {
			i++;
			continue;
		}
		if (pager_starve_waits(p))
			err = -EBUSY;
		else if (todo_find(pager_todo(p, fault->space), fault->addr, &piece))
			err = pager_is_starving(p) ? -EBUSY : fault_fetch(p, fault, &piece);
		else
			err = fault_zero(p, fault);
		if (err == -EBUSY) {
			remain++;
			i++;
		} else if (err) {
			return err;
		}
	}
	return remain || i < p->nr_faults;
}

/* ---- answers ---- */

static int bad_frame(const struct lane *lane)
{
	return log_fail(EPROTO, "%s sent %s on the fault lane, which was not asked for", lane->peer,
			frame_name(lane->rx.type));
}

static int on_answer(struct pager *p, const struct lane *lane)
{
	struct pager_ask *ask = &p->asks[p->first_ask];
	bool zero = lane->rx.type == FRAME_ZERO;
	uint64_t start, end;
	int err;

	err = pager_frame_range(p, lane, &start, &end);
	if (err)
		return err;
	if (!p->nr_asks || start != ask->pos || end > ask->end)
		return bad_frame(lane);
	ask->pos = end;
	if (ask->pos == ask->end) {
		p->first_ask = (p->first_ask + 1) % PAGER_ASKS;
		p->nr_asks--;
	}
	*(zero ? &p->pages_zero : &p->pages_sent) += (end - start) / p->page_bytes;
	return pager_fill(p, start, end, zero ? PAGER_ZERO : PAGER_DATA,
			  zero ? NULL : lane->rx_body);
}

static int on_ping(struct lane *lane)
{
	struct frame frame = {.type = FRAME_PONG, .addr = lane->rx.addr, .len = lane->rx.len};

	if (lane->rx.len > PING_MAX || !lane_has_room(lane, lane->rx.len))
		return bad_frame(lane);
	return lane_queue(lane, &frame, lane->rx_body);
}

int pager_fault_frame(struct pager *p)
{
	struct lane *lane = p->faults;

	switch (lane->rx.type) {
	case FRAME_PAGES:
	case FRAME_ZERO:
		return on_answer(p, lane);
	case FRAME_PING:
		return on_ping(lane);
	case FRAME_PONG:
		return 0;
	case FRAME_ABORT:
		return log_fail(ECONNABORTED, "%s has given up", lane->peer);
	default:
		return bad_frame(lane);
	}
}
