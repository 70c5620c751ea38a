/* SPDX-License-Identifier: MIT */
/* The memories that are being filled, and what their userfaultfds tell. */
#include "engine/paging/pager_internal.h"

#include "engine/paging/uffd.h"
#include "lib/fault.h"
#include "lib/log.h"

#include <errno.h>
#include <linux/userfaultfd.h>
#include <poll.h>
#include <sched.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

/* A program leaves the call whose event was read as soon as it gets a CPU: first give it ours. */
#define YIELDS 50
/* Page-aligned, whatever the size of a page. */
#define ANY_ADDR 0x10000

/* ---- changes of the tables ---- */

static int apply_take(struct pager *p, int uffd, uint16_t list)
{
	for (unsigned int i = 0; i < PAGER_SPACES; i++) {
		if (p->spaces[i].uffd >= 0)
			continue;
		p->spaces[i] = (struct pager_space){.uffd = uffd, .list = list};
		if (!p->lists[list].refs++)
			p->lists[list].postponed_ms = p->lists[list].present_bytes = 0;
		p->nr_spaces++;
		return (int)i;
	}
	return -EMFILE;
}

static int apply_drop(struct pager *p, unsigned int space)
{
	struct pager_list *list = &p->lists[p->spaces[space].list];

	if (p->spaces[space].uffd < 0)
		return 0;
	p->spaces[space].uffd = -1;
	p->nr_spaces--;
	if (--list->refs == 0)
		todo_clear(&list->todo);
	return 0;
}

int pager_space_add(struct pager *p, int uffd, uint16_t list)
{
	struct pager_entry *entry = pager_ledger_begin(p, PAGER_TAKE, list);

	entry->fd = uffd;
	pager_ledger_count(p);
	return pager_apply(p, entry);
}

void pager_space_drop(struct pager *p, unsigned int space)
{
	int uffd = p->spaces[space].uffd;

	if (uffd < 0)
		return;
	pager_fault_clear(p, space, 0, UINT64_MAX, false);
	pager_ledger_begin(p, PAGER_DROP, space);
	pager_ledger_count(p);
	apply_drop(p, space);
	close(uffd);
}

void pager_space_drop_dead(struct pager *p)
{
	for (unsigned int i = 0; i < PAGER_SPACES; i++) {
		struct todo_piece piece;

		if (p->spaces[i].uffd >= 0 && todo_next(pager_todo(p, i), 0, &piece) &&
		    !uffd_is_alive(p->spaces[i].uffd, piece.start, p->unreadable, p->page_bytes))
			pager_space_drop(p, i);
	}
}

bool pager_space_is_changing(const struct pager *p, unsigned int space)
{
	/* The kernel looks at that before it looks at the address (fs/userfaultfd.c). */
	return uffd_is_changing(p->spaces[space].uffd, ANY_ADDR, p->unreadable, p->page_bytes);
}

unsigned int pager_reserve(const struct pager *p)
{
	unsigned int largest = 0;

	/* A fork may come at any time, and then a change of what both have. */
	for (unsigned int i = 0; i < PAGER_SPACES; i++) {
		if (p->lists[i].refs && p->lists[i].todo.nr > largest)
			largest = p->lists[i].todo.nr;
	}
	return largest + PAGER_CHANGE_NODES + PAGER_LAST_NODES;
}

/*
 * Room for a change. A list for every space: there are as many of both, so one is always free for a
 * space to own. And nodes: with less than the reserve a fork could leave two memories with changes
 * announced in both, and no room for a second list. So the last of both are only used while the program is
 * being halted. Then a copy of a list leaves some nodes for what other memories announce: those that are
 * alone on their lists can be halted, and relieved, even if those that share one have to wait.
 */
static bool has_room(const struct pager *p, unsigned int space)
{
	const struct pager_list *list = &p->lists[p->spaces[space].list];
	unsigned int need = PAGER_CHANGE_NODES + 1;

	if (!p->relief.settling)
		return !pager_is_full(p) && p->pool.nr_free >= pager_reserve(p);
	if (list->refs > 1)
		need += list->todo.nr + PAGER_LAST_NODES / 2;
	return p->nr_spaces < PAGER_SPACES && p->pool.nr_free >= need;
}

bool pager_space_promises(const struct pager *p, unsigned int space)
{
	return has_room(p, space) || !pager_space_is_changing(p, space);
}

bool pager_space_readable(const struct pager *p, unsigned int space)
{
	struct pollfd pfd = {.fd = p->spaces[space].uffd, .events = POLLIN};

	/* When no change is announced, what waits to be read is a fault; faults are read first. */
	return has_room(p, space) || (poll(&pfd, 1, 0) == 1 && !pager_space_is_changing(p, space));
}

/* The list of this space alone, about to change. There is room: pager_space_readable was asked. */
static struct todo_list *list_own(struct pager *p, unsigned int space)
{
	struct pager_list *shared = &p->lists[p->spaces[space].list];

	if (shared->refs == 1)
		return &shared->todo;
	for (uint16_t i = 0; i < PAGER_SPACES; i++) {
		if (p->lists[i].refs || todo_copy(&p->lists[i].todo, &shared->todo))
			continue;
		shared->refs--;
		p->lists[i].refs = 1;
		p->lists[i].postponed_ms = 0;
		p->lists[i].present_bytes = shared->present_bytes;
		p->spaces[space].list = i;
		return &p->lists[i].todo;
	}
	return NULL;
}

/* What an event does to the tables. */
static int apply_event(struct pager *p, unsigned int space, const struct uffd_msg *msg)
{
	uint64_t from = msg->arg.remap.from, to = msg->arg.remap.to, len = msg->arg.remap.len;
	struct todo_list *list;

	switch (msg->event) {
	case UFFD_EVENT_FORK:
		return apply_take(p, (int)msg->arg.fork.ufd, p->spaces[space].list);
	case UFFD_EVENT_REMAP:
		list = list_own(p, space);
		return list ? todo_remap(list, from, to, len) : -ENOSPC;
	case UFFD_EVENT_REMOVE:
	case UFFD_EVENT_UNMAP:
		list = list_own(p, space);
		return list ? todo_cut(list, msg->arg.remove.start, msg->arg.remove.end) : -ENOSPC;
	default:
		return 0;
	}
}

int pager_apply(struct pager *p, const struct pager_entry *entry)
{
	struct todo_list *list = &p->lists[entry->index].todo;

	switch ((enum pager_change)entry->change) {
	case PAGER_EVENT:
		return apply_event(p, entry->index, &entry->msg);
	case PAGER_CUT:
		return todo_cut(list, entry->start, entry->end);
	case PAGER_LIST:
		return todo_add(list, entry->start, entry->end, entry->source);
	case PAGER_TAKE:
		return apply_take(p, entry->fd, entry->index);
	case PAGER_DROP:
		return apply_drop(p, entry->index);
	}
	return -EINVAL;
}

int pager_change_list(struct pager *p, enum pager_change change, unsigned int list, uint64_t start,
		      uint64_t end, uint64_t source)
{
	struct pager_entry *entry = pager_ledger_begin(p, change, list);

	entry->start = start;
	entry->end = end;
	entry->source = source;
	pager_ledger_count(p);
	(void)fault_point(FAULT_PAGER_LOGGED);
	return pager_apply(p, entry);
}

/* ---- events ---- */

static int on_fork(int uffd, int taken)
{
	int err = taken < 0 ? taken : uffd_adopt(uffd);

	if (!err) {
		(void)fault_point(FAULT_PAGER_FORK);
		return 0;
	}
	if (taken < 0)
		close(uffd);
	return log_fail(-err, "cannot watch a child that the process forked: %m");
}

/* Content of the range is no longer there: discarded, unmapped, or moved away. */
static void leave_range(struct pager *p, unsigned int space, uint64_t start, uint64_t end)
{
	/* Who waits there gets zeros, or the signal that belongs there, or looks elsewhere. */
	pager_fault_clear(p, space, start, end, false);
	uffd_wake(p->spaces[space].uffd, start, end - start);
}

static int on_event(struct pager *p, unsigned int space, const struct uffd_msg *msg, int done)
{
	switch (msg->event) {
	case UFFD_EVENT_FORK:
		return on_fork((int)msg->arg.fork.ufd, done);
	case UFFD_EVENT_REMAP:
		leave_range(p, space, msg->arg.remap.from,
			    msg->arg.remap.from + msg->arg.remap.len);
		return done;
	case UFFD_EVENT_REMOVE:
	case UFFD_EVENT_UNMAP:
		leave_range(p, space, msg->arg.remove.start, msg->arg.remove.end);
		return done;
	default:
		return log_fail(EIO,
				"the kernel told of an unknown event (%u) of the process' memory",
				msg->event);
	}
}

int pager_space_read(struct pager *p, unsigned int space)
{
	struct pager_entry *entry = pager_ledger_begin(p, PAGER_EVENT, space);
	int err;

	/* Counted before the kernel forgets it. */
	pager_ledger_count(p);
	err = uffd_read(p->spaces[space].uffd, &entry->msg);
	(void)fault_point(FAULT_PAGER_EVENT);
	if (err <= 0 || entry->msg.event == UFFD_EVENT_PAGEFAULT)
		pager_ledger_forget(p);
	if (err < 0)
		return log_fail(-err, "cannot read the userfaultfd of the process: %m");
	if (err == 0)
		return 0;
	if (entry->msg.event == UFFD_EVENT_PAGEFAULT) {
		pager_fault_add(p, space, entry->msg.arg.pagefault.address & ~(p->page_bytes - 1));
		return 1;
	}
	p->nr_events++;
	err = on_event(p, space, &entry->msg, pager_apply(p, entry));
	return err < 0 ? err : 1;
}

int pager_space_drain(struct pager *p, unsigned int space)
{
	static const struct timespec pause = {.tv_nsec = 20000};
	bool any = false;
	int err;

	do {
		if (!pager_space_readable(p, space))
			return any ? 0 : -EBUSY;
		err = pager_space_read(p, space);
		any |= err > 0;
	} while (err > 0);
	if (err < 0)
		return err;
	if (any) {
		p->nr_idle_drains = 0;
	} else if (p->nr_idle_drains < YIELDS) {
		p->nr_idle_drains++;
		sched_yield();
	} else {
		nanosleep(&pause, NULL);
	}
	return 0;
}
