/* SPDX-License-Identifier: MIT */
/* The target's filling of a process: one loop over its userfaultfds, the fault lane, the bulk lane. */
#include "engine/paging/pager_internal.h"

#include "arch/arch.h"
#include "engine/paging/uffd.h"
#include "lib/arena.h"
#include "lib/clock.h"
#include "lib/io.h"
#include "lib/log.h"

#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define TICK_MS 100
/* So long bulk data is worked on before faults are looked for again. */
#define LOOK_NS 20000
/* Without memory there is nothing to be hurried. */
#define STARVE_MS 10
/* Messages read of one memory before the lanes have their turn. */
#define READS_AT_ONCE 32

/* What the loop waits for: the fault lane, the bulk lane, and each memory that may be read. */
#define LANES 2
struct watch {
	struct pollfd fds[LANES + PAGER_SPACES];
	uint8_t space[PAGER_SPACES];
	unsigned int nr;
};

int pager_init(struct pager **pager)
{
	struct todo_node *nodes = arena_alloc(ARENA_TABLES, CONFIG_TODO_NODES * sizeof(*nodes), 16);
	struct pager *p = arena_alloc(ARENA_TABLES, sizeof(*p), 16);

	if (!nodes || !p)
		return log_no_room("the pager's tables (CONFIG_TODO_NODES)");
	p->page_bytes = (uint64_t)1 << arch_page_shift();
	p->unreadable = mmap(NULL, p->page_bytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (p->unreadable == MAP_FAILED)
		return log_fail(errno, "cannot map a page: %m");
	if (pager_ledger_init(p))
		return log_no_room("the pager's ledger (CONFIG_TODO_NODES)");
	if (halt_init(&p->relief.halt))
		return log_no_room("the pager's threads (CONFIG_MAX_THREADS)");
	todo_pool_init(&p->pool, nodes, CONFIG_TODO_NODES);
	for (unsigned int i = 0; i < PAGER_SPACES; i++) {
		todo_init(&p->lists[i].todo, &p->pool);
		p->spaces[i].uffd = -1;
	}
	*pager = p;
	return 0;
}

void pager_reset(struct pager *p)
{
	for (unsigned int i = 0; i < PAGER_SPACES; i++)
		pager_space_drop(p, i);
	todo_clear(&p->lists[0].todo);
	p->nr_faults = 0;
	p->faults_dropped = false;
	p->pages_sent = p->pages_zero = p->pages_predicted = p->nr_fetched = p->bytes_before = 0;
	p->predict.nr = 0;
	p->starve = (struct pager_starve){0};
	memset(&p->latency, 0, sizeof(p->latency));
}

int pager_add(struct pager *p, uint64_t start, uint64_t end)
{
	uint64_t mask = p->page_bytes - 1;
	int err = -EINVAL;

	if (!((start | end) & mask) && end <= arch_user_top())
		err = todo_add(&p->lists[0].todo, start, end, start);
	if (err == -ENOSPC)
		return log_fail(E2BIG,
				"the process has more than %d separate areas of memory; raise "
				"CONFIG_TODO_NODES",
				CONFIG_TODO_NODES);
	if (err)
		return log_fail(-err, "the area of memory %#llx-%#llx makes no sense",
				(unsigned long long)start, (unsigned long long)end);
	return 0;
}

int pager_attach(struct pager *p, pid_t pid, int uffd)
{
	int err = p->nr_spaces ? -EBUSY : uffd_adopt(uffd);

	/* The ranges were added without a word in the ledger: they begin it. */
	if (!err)
		pager_ledger_checkpoint(p);
	if (!err)
		err = family_init(&p->relief.halt.family, pid);
	if (!err)
		err = pager_space_add(p, uffd, 0);
	if (err >= 0)
		return 0;
	close(uffd);
	return log_fail(-err, "cannot take over the userfaultfd of the process: %m");
}

static uint64_t lanes_bytes(const struct pager *p)
{
	return p->faults->bytes_rx + p->faults->bytes_tx + p->bulk->bytes_rx + p->bulk->bytes_tx;
}

uint64_t pager_left(const struct pager *p)
{
	uint64_t left = 0;

	for (unsigned int i = 0; i < PAGER_SPACES; i++)
		left += p->lists[i].todo.bytes;
	return left;
}

void pager_counters(const struct pager *p, struct pager_counters *counters)
{
	*counters = (struct pager_counters){
		.pages_sent = p->pages_sent,
		.pages_zero = p->pages_zero,
		.pages_predicted = p->pages_predicted,
		.faults = p->nr_fetched,
		.fault_p50_us = histogram_percentile(&p->latency, 50),
		.fault_p99_us = histogram_percentile(&p->latency, 99),
		.bytes_wire = p->bytes_before + (p->faults ? lanes_bytes(p) - p->bytes_base : 0),
	};
	counters->todo_bytes = pager_left(p);
	if (pager_is_starving(p))
		counters->starving_ms = clock_now_ms() - p->starve.since_ms + 1;
}

/* ---- the parts of a turn: each says 1 when it did something, 0, or -errno ---- */

/* Faults that had no room in the table: everybody tries again. */
static void wake_dropped(struct pager *p)
{
	if (!p->faults_dropped || p->nr_faults == PAGER_FAULTS)
		return;
	p->faults_dropped = false;
	p->nr_faults = 0;
	for (unsigned int i = 0; i < PAGER_SPACES; i++) {
		if (p->spaces[i].uffd >= 0)
			uffd_wake_all(p->spaces[i].uffd, arch_user_top());
	}
}

static int read_spaces(struct pager *p, const struct watch *w)
{
	int busy = 0;

	for (unsigned int k = 0; k < w->nr; k++) {
		unsigned int i = w->space[k];

		if (!w->fds[LANES + k].revents)
			continue;
		for (int n = 0; n < READS_AT_ONCE; n++) {
			int err;

			if (p->spaces[i].uffd < 0 || p->nr_faults == PAGER_FAULTS ||
			    !pager_space_readable(p, i))
				break;
			err = pager_space_read(p, i);
			if (err < 0)
				return err;
			if (err == 0)
				break;
			busy = 1;
		}
	}
	return busy;
}

/* ready: something may have come on the lane. */
static int run_faults(struct pager *p, bool ready, bool *waiting)
{
	int busy = 0, err;

	for (;;) {
		err = pager_fault_start(p);
		if (err < 0)
			return err;
		*waiting = err > 0;
		err = lane_flush(p->faults);
		if (err < 0)
			return err;
		err = ready ? lane_receive(p->faults) : 0;
		if (err <= 0)
			return err < 0 ? err : busy;
		err = pager_fault_frame(p);
		if (err < 0)
			return err;
		lane_receive_done(p->faults);
		busy = 1;
	}
}

static int run_bulk(struct pager *p)
{
	int err, busy;

	err = pager_push_continue(p);
	if (!err) {
		err = lane_flush(p->bulk);
		err = err < 0 ? err : 0;
	}
	if (err)
		return err;
	busy = lane_receive_bulk(p->bulk, clock_now_ns() + LOOK_NS);
	if (busy <= 0 || busy == LANE_AGAIN)
		return busy;
	err = pager_push_frame(p);
	if (err)
		return err;
	lane_receive_done(p->bulk);
	return 1;
}

/* Lets go of memories that have all they need. True when none is left and the lanes are quiet. */
static bool is_complete(struct pager *p)
{
	for (unsigned int i = 0; i < PAGER_SPACES; i++) {
		if (p->spaces[i].uffd >= 0 && !pager_todo(p, i)->bytes)
			pager_space_drop(p, i);
	}
	return !p->nr_spaces && !p->nr_asks && !p->nr_pushes &&
	       p->faults->tx_len == p->faults->tx_sent && p->bulk->tx_len == p->bulk->tx_sent;
}

bool pager_is_needed(struct pager *p)
{
	pager_space_drop_dead(p);
	return p->nr_spaces != 0;
}

static int run_tick(struct pager *p, pager_tick_fn *tick, void *data)
{
	int64_t now_ms = clock_now_ms();
	struct pager_counters counters;
	int err;

	if (now_ms < p->tick_ms)
		return 0;
	p->tick_ms = now_ms + TICK_MS;
	pager_space_drop_dead(p);
	err = lane_look(&p->watch, p->faults, p->bulk);
	if (err || !tick)
		return err;
	pager_counters(p, &counters);
	return tick(data, &counters);
}

static void watch_lane(struct pollfd *fd, const struct lane *lane)
{
	*fd = (struct pollfd){.fd = lane->fd, .events = POLLIN};
	if (lane->tx_len > lane->tx_sent)
		fd->events |= POLLOUT;
}

static int wait_for_work(struct pager *p, struct watch *w, int timeout_ms)
{
	int err;

	w->nr = 0;
	for (unsigned int i = 0; i < PAGER_SPACES && p->nr_faults < PAGER_FAULTS; i++) {
		if (p->spaces[i].uffd < 0 || !pager_space_promises(p, i))
			continue;
		w->space[w->nr] = (uint8_t)i;
		w->fds[LANES + w->nr++] =
			(struct pollfd){.fd = p->spaces[i].uffd, .events = POLLIN};
	}
	watch_lane(&w->fds[0], p->faults);
	watch_lane(&w->fds[1], p->bulk);
	if (lane_has_pending(p->faults) || lane_has_pending(p->bulk))
		timeout_ms = 0;
	err = io_poll_busy(w->fds, LANES + w->nr, timeout_ms, p->fault_ns);
	return err < 0 && err != -EINTR ? log_fail(-err, "cannot poll: %m") : 0;
}

static int pager_loop(struct pager *p, pager_tick_fn *tick, void *data)
{
	struct watch watch;
	int timeout_ms = 0;

	while (!is_complete(p)) {
		bool waiting;
		int err, busy;

		err = wait_for_work(p, &watch, timeout_ms);
		if (err)
			return err;
		busy = read_spaces(p, &watch);
		if (busy < 0)
			return busy;
		err = run_faults(p, watch.fds[0].revents || lane_has_pending(p->faults), &waiting);
		if (err < 0)
			return err;
		busy |= err;
		wake_dropped(p);
		err = pager_relieve(p);
		if (err < 0)
			return err;
		waiting |= err;
		err = pager_starve_try(p);
		if (err)
			return err;
		err = run_bulk(p);
		if (err < 0)
			return err;
		busy |= err;
		err = run_tick(p, tick, data);
		if (err)
			return err;
		/* A fault that could not be looked at now is for the next millisecond. */
		timeout_ms = busy ? 0 : pager_is_starving(p) ? STARVE_MS : waiting ? 1 : TICK_MS;
	}
	return 0;
}

/* Nothing is under way on a new link; who waited for an answer of the old one faults again. */
static void link_begin(struct pager *p, struct lane *faults, struct lane *bulk,
		       enum pager_mode mode)
{
	p->faults = faults;
	p->bulk = bulk;
	p->mode = mode;
	p->bytes_base = lanes_bytes(p);
	p->nr_asks = p->nr_pushes = 0;
	p->push_cursor = 0;
	p->predict.next = 0;
	p->redirect = false;
	p->redirect_after = 0;
	p->watch = (struct lane_watch){0};
	p->tick_ms = 0;
	p->nr_faults = 0;
	p->faults_dropped = true;
	wake_dropped(p);
}

int pager_run(struct pager *p, struct lane *faults, struct lane *bulk, enum pager_mode mode,
	      pager_tick_fn *tick, void *data)
{
	int err;

	link_begin(p, faults, bulk, mode);
	err = pager_loop(p, tick, data);
	pager_resume_all(p);
	p->bytes_before += lanes_bytes(p) - p->bytes_base;
	p->faults = p->bulk = NULL;
	return err;
}
