/* SPDX-License-Identifier: MIT */
/*
 * Halting the program for a moment (engine/process/halt.h), so that its memory is settled: nothing of it
 * changes, nothing more is announced, and nothing that was announced and read is still to be done.
 * The last is what cannot be seen from userfaultfds: madvise(2) discards after its event was read.
 */
#include "engine/paging/pager_internal.h"

#include "lib/clock.h"
#include "lib/log.h"

#include <errno.h>
#include <sched.h>
#include <time.h>

/*
 * A program whose threads do not stop within this runs on, and is halted later. On a device that has too
 * much to do it is given so many looks at the threads.
 */
#define SETTLE_MS 500
#define SETTLE_LOOKS 20
#define RETRY_MS 20
/* While it is halted, changes of threads that were asleep are looked at so often. */
#define AGAIN_MS 5
/* One thread that does not stop keeps the others so long. */
#define STUBBORN_US 5000000
/* Threads that were told to stop and did not are waited for when nobody is there to let them go later. */
#define LEAVE_MS 200
/* It is said that it cannot be halted when that has not worked for so long. */
#define PATIENCE_MS 2000
/*
 * Changes read of one memory before the threads are looked at again: one that was asleep goes on with the
 * next one until it is seen and stopped. And messages at all, most of which are faults then.
 */
#define CHANGES_AT_ONCE 8
#define READS_AT_ONCE 256

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

void pager_resume(struct pager *p)
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

void pager_resume_all(struct pager *p)
{
	static const struct timespec pause = {.tv_nsec = 1000000};

	p->relief.halt.no_forks = false;
	pager_resume(p);
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

	pager_resume(p);
	r->again_ms = now_ms + RETRY_MS;
	if (!r->failing_ms)
		r->failing_ms = now_ms;
	if (r->warned || now_ms < r->failing_ms + PATIENCE_MS)
		return;
	r->warned = true;
	log_warn(
		"the process changes its memory faster than it can be filled, and cannot be halted "
		"for that%s; it waits until that is possible",
		why == -EPERM ? ", since a debugger is attached to it" : "");
}

int pager_halt(struct pager *p, int stay_ms)
{
	struct pager_relief *r = &p->relief;
	int settled, why;

	if (!r->halted) {
		r->halted = true;
		r->since_us = clock_now_us();
		r->until_ms = 0;
		r->tidied = false;
		r->nr_gaps = 0;
		r->most = p->page_bytes;
		r->cursor = 0;
	}
	settled = settle(p, &why);
	r->again_ms = clock_now_ms() + AGAIN_MS;
	if (stay_ms)
		r->until_ms = clock_now_ms() + stay_ms;
	/* Who was stopped stays so for a while: else each of them announces one more change each time. */
	if (!settled && (why != -EAGAIN || clock_now_us() > r->since_us + STUBBORN_US))
		give_up(p, why);
	if (settled <= 0)
		return settled;
	r->failing_ms = 0;
	r->warned = false;
	return 1;
}

bool pager_is_changing(const struct pager *p)
{
	for (unsigned int i = 0; i < PAGER_SPACES; i++) {
		if (p->spaces[i].uffd >= 0 && pager_space_is_changing(p, i))
			return true;
	}
	return false;
}
