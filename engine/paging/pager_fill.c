/* SPDX-License-Identifier: MIT */
/* Content that has arrived goes into every memory that still lists it. */
#include "engine/paging/pager_internal.h"

#include "arch/arch.h"
#include "engine/paging/uffd.h"
#include "lib/clock.h"
#include "lib/fault.h"
#include "lib/log.h"

#include <errno.h>
#include <linux/userfaultfd.h>

/* A program that changes its memory so long without a pause is halted. */
#define HURRY_MS 50
/* For so long: for more than this fill. */
#define HALT_MS 20
/* One that cannot leave a call for so long is not going to. */
#define STUCK_MS 10000

/* Takes what was dealt with off the list; left there when that would cost a scarce node. */
static void list_cut(struct pager *p, uint16_t index, uint64_t start, uint64_t end)
{
	const struct todo_list *list = &p->lists[index].todo;
	unsigned int keep = pager_reserve(p) + PAGER_SPARE_NODES + 2;

	/*
	 * What stays listed is merely sent again: the kernel then says that it is there. A cut takes a
	 * node and raises the reserve, and must not be what makes relief necessary.
	 */
	if (p->pool.nr_free <= keep && todo_would_split(list, start, end)) {
		p->lists[index].present_bytes += end - start;
		return;
	}
	(void)fault_point(FAULT_PAGER_COPY);
	(void)pager_change_list(p, PAGER_CUT, index, start, end, 0);
}

static int space_fill(struct pager *p, unsigned int space, const struct todo_piece *piece,
		      enum pager_content content, const uint8_t *data)
{
	int fd = p->spaces[space].uffd;
	uint64_t len = piece->end - piece->start, done;

	switch (content) {
	case PAGER_DATA:
		return uffd_copy(fd, piece->start, data, len, p->page_bytes, &done);
	case PAGER_ZERO:
		return uffd_zero(fd, piece->start, len, p->page_bytes, &done);
	case PAGER_NOTHING:
		break;
	}
	return 0;
}

/*
 * One part of one list, into all memories that use it. 0: it is dealt with; -EAGAIN: the lists
 * have changed, look again; -EBUSY: it stays listed; else -errno.
 */
static int piece_fill(struct pager *p, uint16_t index, const struct todo_piece *piece,
		      enum pager_content content, const uint8_t *data)
{
	for (unsigned int i = 0; i < PAGER_SPACES; i++) {
		int err;

		if (p->spaces[i].uffd < 0 || p->spaces[i].list != index)
			continue;
		err = space_fill(p, i, piece, content, data);
		if (err == -ESRCH) {
			pager_space_drop(p, i);
		} else if (err == -EAGAIN) {
			err = pager_space_drain(p, i);
			return err ? err : -EAGAIN;
		} else if (err) {
			return err;
		}
	}
	if (!p->lists[index].refs)
		return 0;
	list_cut(p, index, piece->start, piece->end);
	for (unsigned int i = 0; i < PAGER_SPACES; i++) {
		if (p->spaces[i].uffd < 0 || p->spaces[i].list != index)
			continue;
		if (content == PAGER_NOTHING)
			uffd_wake(p->spaces[i].uffd, piece->start, piece->end - piece->start);
		pager_fault_clear(p, i, piece->start, piece->end, content != PAGER_NOTHING);
	}
	return 0;
}

/* It could not be filled now and stays listed; who waits there asks again when that is possible. */
static void piece_postpone(struct pager *p, uint16_t index, const struct todo_piece *piece)
{
	p->lists[index].postponed_ms = clock_now_ms();
	for (unsigned int i = 0; i < PAGER_SPACES; i++) {
		if (p->spaces[i].uffd < 0 || p->spaces[i].list != index)
			continue;
		pager_fault_clear(p, i, piece->start, piece->end, false);
		uffd_wake(p->spaces[i].uffd, piece->start, piece->end - piece->start);
	}
}

/* One list. -EAGAIN: begin again, the lists have changed. */
static int list_fill(struct pager *p, uint16_t index, uint64_t start, uint64_t end,
		     enum pager_content content, const uint8_t *data)
{
	struct todo_list *list = &p->lists[index].todo;
	struct todo_piece piece;
	uint64_t pos = start;

	while (todo_find_source(list, pos, end, &piece)) {
		int err = -ENOMEM;

		if (content == PAGER_NOTHING || !pager_starve_waits(p))
			err = piece_fill(p, index, &piece, content,
					 data ? data + (piece.source - start) : NULL);
		if (content != PAGER_NOTHING && !pager_starve_waits(p))
			pager_starve_note(p, err);
		/* Before the start it is undone. */
		if (err == -EBUSY || (err == -ENOMEM && p->mode != PAGER_EAGER))
			piece_postpone(p, index, &piece);
		else if (err)
			return err;
		pos = piece.source + (piece.end - piece.start);
	}
	return 0;
}

/* The lists have changed: that may go on for a while, not for ever. 0: look again. */
static int fill_again(struct pager *p, int64_t *since_ms, int64_t *halt_ms)
{
	int64_t now_ms = clock_now_ms();
	int err;

	if (!*since_ms) {
		*since_ms = now_ms;
		*halt_ms = now_ms + HURRY_MS;
	}
	if (now_ms > *since_ms + STUCK_MS)
		return log_fail(EBUSY, "the process changes its memory without end, "
				       "so that it cannot be filled");
	if (now_ms < *halt_ms)
		return 0;
	*halt_ms = now_ms + STUCK_MS / 10;
	err = pager_halt(p, HALT_MS);
	return err < 0 ? err : 0;
}

int pager_fill(struct pager *p, uint64_t start, uint64_t end, enum pager_content content,
	       const uint8_t *data)
{
	int64_t since_ms = 0, halt_ms = 0;

	for (uint16_t i = 0; i < PAGER_SPACES; i++) {
		int err = p->lists[i].refs ? list_fill(p, i, start, end, content, data) : 0;

		if (err == -EAGAIN) {
			err = fill_again(p, &since_ms, &halt_ms);
			i = UINT16_MAX; /* from the first list on */
		}
		if (err)
			return err;
	}
	return 0;
}

int pager_frame_range(const struct pager *p, const struct lane *lane, uint64_t *start,
		      uint64_t *end)
{
	uint64_t mask = p->page_bytes - 1, top = arch_user_top(), len = lane->rx.len;

	if (lane->rx.type == FRAME_ZERO)
		len = lane->rx.len == 8 ? frame_get_u64(lane->rx_body) : 0;
	*start = lane->rx.addr;
	if (!len || ((*start | len) & mask) || *start >= top || len > top - *start)
		return log_fail(EPROTO, "%s sent memory that makes no sense (%s at %#llx)",
				lane->peer, frame_name(lane->rx.type),
				(unsigned long long)lane->rx.addr);
	*end = *start + len;
	return 0;
}
