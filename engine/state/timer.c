/* SPDX-License-Identifier: MIT */
/*
 * Interval timers and POSIX timers with what was left when the clocks of the process were read
 * (engine/process/clocks.h). Source: proc(5) timers, timer_create(2).
 */
#include "engine/state/timer.pb.h"
#include "engine/state/state.h"
#include "lib/arena.h"
#include "lib/config.h"
#include "lib/io.h"
#include "lib/kernel.h"
#include "lib/log.h"
#include "lib/text.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/time.h>
#include <time.h>

#define NS_PER_SEC 1000000000LL
/* Without PR_TIMER_CREATE_RESTORE_IDS (6.15) ids are reached by making and deleting timers. */
#define MAX_ID_STEPS 4096 /* not a page */
/* Found in one look through the kernel's list, which has an order of its own. */
#define TIMERS_AT_ONCE 32
#define LEFT_OUT "not built in here (CONFIG_STATE_TIMER)"
#ifndef SIGEV_THREAD_ID
#define SIGEV_THREAD_ID 4
#endif

/* struct sigevent as the kernel has it: 64 bytes. */
struct kernel_sigevent {
	uint64_t value;
	int32_t signo, notify, tid, pad[11];
};

/* ---- dump ---- */

static struct question itimer_of(int which)
{
	return (struct question){
		.nr = SYS_getitimer,
		.args = {(uint64_t)which},
		.rooms = 1 << 1,
		.len = sizeof(struct itimerval),
	};
}

/*
 * A real timer that fired while its signal was pending reads as not armed although it repeats: the
 * kernel rearms it when the signal is taken (kernel/time/itimer.c).
 */
static int dump_itimers(struct dump *d, const struct state_kind *kind)
{
	int which, err = 0;

	for (which = ITIMER_REAL; which <= ITIMER_PROF; which++) {
		const struct question q = itimer_of(which);

		ask_ahead(&d->leader, &q);
	}
	err = ask_run(&d->leader);
	for (which = ITIMER_REAL; which <= ITIMER_PROF && !err; which++) {
		baton_Timer msg = {.itimer = true, .id = which};
		const struct question q = itimer_of(which);
		struct itimerval it;
		int64_t ret = ask_for(&d->leader, &q, &it);

		if (ret < 0)
			return (int)ret;
		msg.left_ns = it.it_value.tv_sec * NS_PER_SEC + it.it_value.tv_usec * 1000;
		msg.interval_ns =
			it.it_interval.tv_sec * NS_PER_SEC + it.it_interval.tv_usec * 1000;
		msg.expired = !msg.left_ns && msg.interval_ns;
		if (which == ITIMER_REAL)
			msg.left_ns = (int64_t)clocks_left_then(&d->clocks, CLOCK_MONOTONIC,
								(uint64_t)msg.left_ns);
		if (msg.left_ns || msg.interval_ns)
			err = dump_emit(d, kind, &msg);
	}
	return err;
}

static int dump_posix_timer(struct dump *d, const struct state_kind *kind, baton_Timer *msg,
			    uint64_t room)
{
	struct itimerspec it;
	int64_t ret = remote_call(&d->leader, SYS_timer_gettime, (uint64_t)msg->id, room);
	int err = ret < 0 ? (int)ret : remote_read(&d->leader, room, &it, sizeof(it));

	if (err)
		return log_fail(-err, "pid %d: timer %d cannot be read: %m", d->pid, msg->id);
	msg->left_ns = (int64_t)clocks_left_then(
		&d->clocks, msg->clock,
		(uint64_t)(it.it_value.tv_sec * NS_PER_SEC + it.it_value.tv_nsec));
	msg->interval_ns = it.it_interval.tv_sec * NS_PER_SEC + it.it_interval.tv_nsec;
	return dump_emit(d, kind, msg);
}

/* "notify: signal/tid.812": how, then who. */
static void parse_notify(const char *v, baton_Timer *msg)
{
	const char *tid = strchr(v, '/');
	uint64_t number;

	if (strncmp(v, "none", 4) == 0)
		msg->notify = SIGEV_NONE;
	else if (strncmp(v, "thread", 6) == 0)
		msg->notify = SIGEV_THREAD;
	else
		msg->notify = SIGEV_SIGNAL;
	if (!tid || strncmp(tid, "/tid.", 5) != 0)
		return;
	tid += 5;
	if (text_take_u64(&tid, 10, &number)) {
		msg->notify |= SIGEV_THREAD_ID;
		msg->tid = (int32_t)number;
	}
}

/*
 * An entry is "ID: n", "signal: n/value", "notify: how/tid.n", "ClockID: n", in this order. The tid
 * is one of the reader's namespace; the program's own is looked up.
 */
static int parse_timer_line(const char *line, baton_Timer *msg)
{
	const char *v;
	uint64_t number, value;
	int64_t clock;

	if ((v = text_after(line, "ID:")) && text_take_u64(&v, 10, &number)) {
		*msg = (baton_Timer){.id = (int32_t)number};
	} else if ((v = text_after(line, "signal:")) && text_take_u64(&v, 10, &number)) {
		msg->signal = (int32_t)number;
		if (text_take_char(&v, '/') && text_take_u64(&v, 16, &value))
			msg->value = value;
	} else if ((v = text_after(line, "notify:"))) {
		parse_notify(v, msg);
	} else if ((v = text_after(line, "ClockID:")) && text_take_i64(&v, 10, &clock)) {
		msg->clock = (int32_t)clock;
		return 1;
	}
	return 0;
}

static int32_t tid_inside(const struct dump *d, int32_t tid)
{
	unsigned int i;

	for (i = 0; i < d->freeze->nr; i++)
		if (d->freeze->threads[i].tid == tid)
			return d->freeze->threads[i].tid_inside;
	return tid;
}

/* Keeps the lowest ids, in order; the highest goes when there is no room. */
static void keep_lowest(baton_Timer *kept, unsigned int *nr, const baton_Timer *msg)
{
	unsigned int at = *nr;

	while (at > 0 && kept[at - 1].id > msg->id)
		at--;
	if (at == TIMERS_AT_ONCE)
		return;
	if (*nr < TIMERS_AT_ONCE)
		(*nr)++;
	memmove(&kept[at + 1], &kept[at], (*nr - 1 - at) * sizeof(*kept));
	kept[at] = *msg;
}

/* One look through all of them: the next ones whose ids are above `after`. -errno. */
static int next_timers(const struct dump *d, int32_t after, baton_Timer *kept, unsigned int *nr)
{
	struct line_reader reader;
	baton_Timer msg = {0};
	char buf[256], *line;
	int got, err = line_reader_open(&reader, d->proc_fd, "timers", buf, sizeof(buf));

	*nr = 0;
	if (err == -ENOENT) /* a kernel without POSIX timers or without checkpoint/restore */
		return 0;
	while (!err && (got = line_reader_next(&reader, &line)) != 0) {
		if (got < 0)
			err = got;
		else if (parse_timer_line(line, &msg) && msg.id > after)
			keep_lowest(kept, nr, &msg);
	}
	line_reader_close(&reader);
	return err;
}

/*
 * By rising ids, for before 6.15 the kernel gives them out like that and never goes back; its own list
 * begins with the newest.
 */
static int dump_posix_timers(struct dump *d, const struct state_kind *kind)
{
	uint64_t room = remote_room(&d->leader, sizeof(struct itimerspec));
	baton_Timer next[TIMERS_AT_ONCE];
	unsigned int nr, i;
	int32_t after = -1;
	int err;

	do {
		err = next_timers(d, after, next, &nr);
		for (i = 0; i < nr && !err; i++) {
			after = next[i].id;
			if (next[i].notify & SIGEV_THREAD_ID)
				next[i].tid = tid_inside(d, next[i].tid);
			err = dump_posix_timer(d, kind, &next[i], room);
		}
	} while (!err && nr == TIMERS_AT_ONCE);
	return err;
}

/* Where they are not built in. What cannot be read may be some. */
static bool has_posix_timers(int proc_fd)
{
	char text[2];
	ssize_t len = io_read_file(proc_fd, "timers", text, sizeof(text));

	return len && len != -ENOENT;
}

static int timer_probe(struct probe *p)
{
	if (!IS_ENABLED(CONFIG_STATE_TIMER) && has_posix_timers(p->proc_fd))
		probe_refused(p, "POSIX timers", "%s", LEFT_OUT);
	return 0;
}

static int timer_dump_thread(struct dump *d, const struct state_kind *kind,
			     const struct freeze_thread *thread)
{
	int err;

	/* With the last thread: timers may name any of them, and time runs until they are read. */
	if (thread->tid != d->pid)
		return 0;
	err = dump_itimers(d, kind);
	if (!err && IS_ENABLED(CONFIG_STATE_TIMER))
		err = dump_posix_timers(d, kind);
	else if (!err && has_posix_timers(d->proc_fd))
		err = log_fail(EOPNOTSUPP, "pid %d has POSIX timers: %s", d->pid, LEFT_OUT);
	return err;
}

/* ---- restore ---- */

static int64_t restore_itimer(struct restore *r, const baton_Timer *msg)
{
	int64_t left = msg->left_ns;
	struct itimerval it;

	if (msg->id < ITIMER_REAL || msg->id > ITIMER_PROF)
		return -EPROTO;
	if (msg->id == ITIMER_REAL)
		left = (int64_t)clocks_left_now(&r->clocks, CLOCK_MONOTONIC, (uint64_t)left);
	/* One that waits for its signal to be taken fires at once and repeats from there. */
	if (msg->expired || (left > 0 && left < 1000))
		left = 1000;
	it.it_value.tv_sec = left / NS_PER_SEC;
	it.it_value.tv_usec = left % NS_PER_SEC / 1000;
	it.it_interval.tv_sec = msg->interval_ns / NS_PER_SEC;
	it.it_interval.tv_usec = msg->interval_ns % NS_PER_SEC / 1000;
	return remote_call(&r->leader, SYS_setitimer, (uint64_t)msg->id,
			   remote_push(&r->leader, &it, sizeof(it)));
}

/* timer_create(2) until the id is the one that the program knows. */
static int64_t create_with_id(struct restore *r, const baton_Timer *msg, uint64_t event)
{
	int32_t id = msg->id;
	uint64_t where = remote_push(&r->leader, &id, sizeof(id));
	bool exact = remote_call(&r->leader, SYS_prctl, PR_TIMER_CREATE_RESTORE_IDS,
				 PR_TIMER_CREATE_RESTORE_IDS_ON) == 0;
	unsigned int steps;
	int64_t ret;

	for (steps = 0; steps < MAX_ID_STEPS; steps++) {
		ret = remote_call(&r->leader, SYS_timer_create, (uint64_t)msg->clock, event, where);
		if (ret == 0)
			ret = remote_read(&r->leader, where, &id, sizeof(id));
		if (ret < 0 || id == msg->id)
			break;
		remote_call(&r->leader, SYS_timer_delete, (uint64_t)id);
		ret = -EBUSY;
		if (exact || id > msg->id)
			break;
	}
	if (exact)
		remote_call(&r->leader, SYS_prctl, PR_TIMER_CREATE_RESTORE_IDS,
			    PR_TIMER_CREATE_RESTORE_IDS_OFF);
	return ret;
}

static int64_t restore_posix_timer(struct restore *r, const baton_Timer *msg)
{
	struct kernel_sigevent event = {
		.value = msg->value, .signo = msg->signal, .notify = msg->notify, .tid = msg->tid};
	struct itimerspec it = {
		.it_interval = {msg->interval_ns / NS_PER_SEC, msg->interval_ns % NS_PER_SEC},
	};
	int64_t ret = create_with_id(r, msg, remote_push(&r->leader, &event, sizeof(event)));
	uint64_t value = (uint64_t)msg->left_ns;
	int index = clocks_index(msg->clock);

	if (ret < 0)
		return ret;
	/* A point in time where that can be said: one that repeats keeps its beat, and counts what it missed. */
	if (index < 0)
		value = clocks_left_now(&r->clocks, msg->clock, value);
	else if (value)
		value += (uint64_t)r->clocks_inside.ns[index];
	it.it_value = (struct timespec){(time_t)(value / NS_PER_SEC), (long)(value % NS_PER_SEC)};
	return remote_call(&r->leader, SYS_timer_settime, (uint64_t)msg->id,
			   index < 0 ? 0 : TIMER_ABSTIME, remote_push(&r->leader, &it, sizeof(it)),
			   0);
}

static int timer_restore(struct restore *r, const void *data)
{
	const baton_Timer *msg = data;
	int64_t ret;

	if (msg->left_ns < 0 || msg->interval_ns < 0)
		return -EPROTO;
	if (!msg->itimer && !IS_ENABLED(CONFIG_STATE_TIMER))
		return log_fail(EOPNOTSUPP, "a POSIX timer: %s", LEFT_OUT);
	ret = msg->itimer ? restore_itimer(r, msg) : restore_posix_timer(r, msg);
	return ret < 0 ? log_fail((int)-ret, "timer %d: %m", msg->id) : 0;
}

const struct state_kind kind_timer = {
	.id = KIND_TIMER,
	.name = "timer",
	.fields = baton_Timer_fields,
	.size = sizeof(baton_Timer),
	.probe = timer_probe,
	.dump_thread = timer_dump_thread,
	.restore = timer_restore,
};
