/* SPDX-License-Identifier: MIT */
/* timerfd_create(2): what was left, interval, expirations that were not read yet. */
#include "engine/state/fd_check.h"

#include "engine/state/timerfd.pb.h"
#include "lib/clock.h"
#include "lib/kernel.h"
#include "lib/log.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

#define NS_PER_S 1000000000ull
/* Seconds beyond this are refused: the kernel's own bound, KTIME_SEC_MAX. */
#define NS_MAX (INT64_MAX / 2)
/* It is asked again so often when it ticked, or when we did not get the processor, in between. */
#define LOOKS 16
#define LOOK_NS 20000

bool timerfd_check(struct fd_look *look)
{
	fd_say(look, "a timerfd");
	return true;
}

static uint64_t to_ns(const struct timespec *ts)
{
	return (uint64_t)ts->tv_sec * NS_PER_S + (uint64_t)ts->tv_nsec;
}

static struct timespec from_ns(uint64_t ns)
{
	return (struct timespec){(time_t)(ns / NS_PER_S), (long)(ns % NS_PER_S)};
}

static bool is_real_time(int clock)
{
	return clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_ALARM;
}

/*
 * What is left, also as what was left when the clocks were read, and the ticks that were there at that moment. The timer
 * goes on: a tick between the questions would be in two answers, and time between them in none; then it is asked again. To
 * ask for the time counts what has expired (fs/timerfd.c). One that ticks faster than we ask is believed at last.
 */
static int look(struct dump *d, const struct fd_table *table, int copy, struct itimerspec *left,
		baton_Timerfd *msg)
{
	for (int tries = LOOKS;; tries--) {
		int err = timerfd_gettime(copy, left) < 0 ? -errno : 0;
		uint64_t before = 0;
		int64_t since_ns;

		if (!err)
			err = fd_info_u64(table, msg->fd, "ticks:", 10, &before);
		since_ns = clock_now_ns();
		if (!err && timerfd_gettime(copy, left) < 0)
			err = -errno;
		if (!err)
			msg->value_ns =
				clocks_left_then(&d->clocks, msg->clock, to_ns(&left->it_value));
		since_ns = clock_now_ns() - since_ns;
		if (!err)
			err = fd_info_u64(table, msg->fd, "ticks:", 10, &msg->ticks);
		if (err || !tries || (msg->ticks == before && since_ns < LOOK_NS))
			return err;
	}
}

static int dump_one(struct dump *d, const struct fd_table *table, const struct fd_entry *entry,
		    int copy)
{
	baton_Timerfd msg = {.fd = entry->fd};
	struct itimerspec left;
	struct timespec now;
	uint64_t clock, flags = 0;
	int err = fd_info_u64(table, entry->fd, "clockid:", 10, &clock);

	if (!err)
		err = fd_info_u64(table, entry->fd, "settime flags:", 8, &flags);
	if (!err) {
		msg.clock = (int32_t)clock;
		err = look(d, table, copy, &left, &msg);
	}
	if (err)
		return log_fail(err, "cannot read fd %d (a timerfd): %m", entry->fd);
	msg.interval_ns = to_ns(&left.it_interval);
	/*
	 * A date is the same on every device; a point of the monotonic clock is not, so there it
	 * is what was left that counts.
	 */
	if ((flags & TFD_TIMER_ABSTIME) && is_real_time(msg.clock) && msg.value_ns) {
		clock_gettime(CLOCK_REALTIME, &now);
		msg.value_ns = to_ns(&left.it_value) + to_ns(&now);
		msg.flags = (uint32_t)flags & (TFD_TIMER_ABSTIME | TFD_TIMER_CANCEL_ON_SET);
	}
	return dump_emit(d, &kind_timerfd, &msg);
}

static int timerfd_dump(struct dump *d, const struct state_kind *kind)
{
	(void)kind;
	return fd_dump_type(d, FD_TIMERFD, dump_one);
}

/* Kernels without CONFIG_CHECKPOINT_RESTORE cannot set ticks: there a short time makes one. */
static int set(int fd, int flags, struct itimerspec *spec, uint64_t ticks)
{
	if (timerfd_settime(fd, flags, spec, NULL) < 0)
		return -errno;
	if (!ticks || ioctl(fd, _IOW('T', 0, uint64_t), &ticks) == 0)
		return 0;
	spec->it_value = from_ns(1);
	return timerfd_settime(fd, 0, spec, NULL) < 0 ? -errno : 0;
}

/* Beats that are over already: counted here, for to set the ticks forgets those that the kernel counts. */
static uint64_t take_missed(uint64_t *value, uint64_t interval_ns, int index)
{
	struct clocks now;
	uint64_t missed;

	clocks_now(&now);
	if (!interval_ns || *value > (uint64_t)now.ns[index])
		return 0;
	missed = ((uint64_t)now.ns[index] - *value) / interval_ns + 1;
	*value += missed * interval_ns;
	return missed;
}

/* A point in time of ours, who set it: one that repeats keeps its beat. It is set anew when it beats meanwhile. */
static int arm_at(int fd, uint64_t value, uint64_t interval_ns, uint64_t ticks, int index)
{
	uint64_t missed = take_missed(&value, interval_ns, index);

	for (int tries = LOOKS;; tries--) {
		struct itimerspec spec = {from_ns(interval_ns), from_ns(value)};
		int err = set(fd, TFD_TIMER_ABSTIME, &spec, ticks += missed);

		missed = take_missed(&value, interval_ns, index);
		if (err || !missed || !tries)
			return err;
	}
}

static int arm(const struct restore *r, const baton_Timerfd *msg, int fd)
{
	struct itimerspec spec = {.it_interval = from_ns(msg->interval_ns)};
	uint64_t value = msg->value_ns;
	int index = clocks_index(msg->clock);

	if (index >= 0 && value)
		return arm_at(fd, value + (uint64_t)r->clocks.ns[index], msg->interval_ns,
			      msg->ticks, index);
	if (!msg->flags)
		value = clocks_left_now(&r->clocks, msg->clock, value);
	spec.it_value = from_ns(value);
	return set(fd, (int)msg->flags, &spec, msg->ticks);
}

static int timerfd_restore(struct restore *r, const void *data)
{
	const baton_Timerfd *msg = data;
	int err, copy;

	if (msg->value_ns > NS_MAX || msg->interval_ns > NS_MAX ||
	    (msg->flags & ~(uint32_t)(TFD_TIMER_ABSTIME | TFD_TIMER_CANCEL_ON_SET)))
		return log_fail(EPROTO, "fd %d: a time that no timerfd can have", msg->fd);
	err = fd_place_begin(r);
	if (!err)
		err = fd_place(r,
			       remote_call(&r->leader, SYS_timerfd_create, (uint64_t)msg->clock, 0),
			       msg->fd);
	if (err)
		return log_fail(err, "cannot restore fd %d (a timerfd of clock %d): %m", msg->fd,
				msg->clock);
	copy = fd_restore_take(r, msg->fd);
	if (copy < 0)
		return copy;
	err = arm(r, msg, copy);
	close(copy);
	return err ? log_fail(err, "cannot arm fd %d (a timerfd): %m", msg->fd) : 0;
}

const struct state_kind kind_timerfd = {
	.id = KIND_TIMERFD,
	.name = "timerfd",
	.fields = &baton_Timerfd_msg,
	.size = sizeof(baton_Timerfd),
	.dump = timerfd_dump,
	.restore = timerfd_restore,
};
