/* SPDX-License-Identifier: MIT */
/* The clocks that count from the start of a device. Source: time_namespaces(7), kernel/time/namespace.c. */
#include "engine/process/clocks.h"

#include "lib/io.h"
#include "lib/text.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#ifndef CLONE_NEWTIME /* 5.6 */
#define CLONE_NEWTIME 0x00000080
#endif

#define NS_PER_SEC 1000000000LL
/* So often a clock that goes by ticks is looked at. */
#define SETTLE_NS 50000
/* What the kernel lets a clock of a namespace be. */
#define SANE_NS (INT64_MAX / 2)

static const clockid_t ids[CLOCKS_NR] = {CLOCK_MONOTONIC, CLOCK_BOOTTIME};

static int64_t read_ns(clockid_t id)
{
	struct timespec ts;

	clock_gettime(id, &ts);
	return ts.tv_sec * NS_PER_SEC + ts.tv_nsec;
}

void clocks_now(struct clocks *now)
{
	for (int i = 0; i < CLOCKS_NR; i++)
		now->ns[i] = read_ns(ids[i]);
}

/*
 * How far a process' clocks are ahead of the kernel's: a line "NAME SECONDS NANOSECONDS" for each of the
 * two. Below /proc/self it is what children will have, which all that we run in are already.
 */
static int read_offsets(int dir_fd, const char *path, struct clocks *ahead)
{
	char text[128], name[16];
	const char *c = text;
	ssize_t n = io_read_file(dir_fd, path, text, sizeof(text));

	memset(ahead, 0, sizeof(*ahead));
	if (n == -ENOENT) /* a kernel without time namespaces */
		return 0;
	if (n < 0)
		return (int)n;
	for (int i = 0; i < CLOCKS_NR; i++) {
		int64_t seconds, ns;

		if (!text_take_word(&c, name, sizeof(name)) || !text_take_i64(&c, 10, &seconds) ||
		    !text_take_i64(&c, 10, &ns))
			return -EPROTO;
		text_take_char(&c, '\n');
		ahead->ns[i] = seconds * NS_PER_SEC + ns;
	}
	return 0;
}

int clocks_of_process(int proc_fd, struct clocks *moment)
{
	struct clocks theirs, ours;
	int err = read_offsets(proc_fd, "timens_offsets", &theirs);

	if (!err)
		err = read_offsets(AT_FDCWD, "/proc/self/timens_offsets", &ours);
	for (int i = 0; i < CLOCKS_NR && !err; i++)
		moment->ns[i] += theirs.ns[i] - ours.ns[i];
	return err;
}

bool clocks_are_sane(const struct clocks *c)
{
	for (int i = 0; i < CLOCKS_NR; i++)
		if (c->ns[i] < 0 || c->ns[i] > SANE_NS)
			return false;
	return true;
}

int64_t clocks_jump(const struct clocks *theirs, const struct clocks *ours, int64_t bound_ns)
{
	for (int i = 0; i < CLOCKS_NR; i++) {
		int64_t jump = ours->ns[i] - theirs->ns[i];

		if (jump < 0 || jump > bound_ns)
			return jump;
	}
	return 0;
}

int clocks_shift_children(const struct clocks *ahead)
{
	struct clocks offsets;
	char text[128];
	int len = 0, err;

	if (unshare(CLONE_NEWTIME) < 0)
		return -errno;
	/* A new namespace begins with what we have ourselves; the numbers are the kernel's own clocks'. */
	err = read_offsets(AT_FDCWD, "/proc/self/timens_offsets", &offsets);
	for (int i = 0; i < CLOCKS_NR; i++) {
		int64_t ns = offsets.ns[i] + ahead->ns[i], seconds = ns / NS_PER_SEC;

		/* Its nanoseconds are never negative. */
		seconds -= ns % NS_PER_SEC < 0;
		len += snprintf(text + len, sizeof(text) - (size_t)len, "%d %lld %lld\n", ids[i],
				(long long)seconds, (long long)(ns - seconds * NS_PER_SEC));
	}
	return err ? err
		   : io_write_existing(AT_FDCWD, "/proc/self/timens_offsets", text, (size_t)len);
}

int clocks_trial(void)
{
	const struct clocks none = {{0, 0}};

	return clocks_shift_children(&none);
}

int64_t clocks_coarse_behind(const struct clocks *now)
{
	int64_t behind = now->ns[CLOCKS_MONOTONIC] - read_ns(CLOCK_MONOTONIC_COARSE);

	return behind > 0 ? behind : 0;
}

void clocks_settle(const struct clocks *moment, int64_t behind_ns)
{
	const struct timespec pause = {0, SETTLE_NS};
	const int64_t then = moment->ns[CLOCKS_MONOTONIC];

	/* A moment that is yet to come is none of ours. */
	if (then <= read_ns(CLOCK_MONOTONIC))
		while (read_ns(CLOCK_MONOTONIC_COARSE) < then - behind_ns)
			nanosleep(&pause, NULL);
}

int clocks_index(int clock)
{
	switch (clock) {
	case CLOCK_MONOTONIC:
		return CLOCKS_MONOTONIC;
	case CLOCK_BOOTTIME:
	case CLOCK_BOOTTIME_ALARM:
		return CLOCKS_BOOTTIME;
	default:
		return -1;
	}
}

/* A clock of the day runs as the monotonic one does; that somebody sets it is not ours. */
static uint64_t passed(const struct clocks *then, int clock)
{
	int i = clocks_index(clock);
	int64_t ns;

	if (clock < 0 || clock == CLOCK_PROCESS_CPUTIME_ID || clock == CLOCK_THREAD_CPUTIME_ID)
		return 0;
	i = i < 0 ? CLOCKS_MONOTONIC : i;
	ns = read_ns(ids[i]) - then->ns[i];
	return ns > 0 ? (uint64_t)ns : 0;
}

uint64_t clocks_left_then(const struct clocks *then, int clock, uint64_t left_ns)
{
	uint64_t ns = passed(then, clock);

	if (!left_ns || left_ns > SANE_NS - ns)
		return left_ns;
	return left_ns + ns;
}

uint64_t clocks_left_now(const struct clocks *then, int clock, uint64_t left_ns)
{
	uint64_t ns = passed(then, clock);

	if (!left_ns || left_ns > SANE_NS)
		return left_ns;
	return left_ns > ns ? left_ns - ns : 1;
}
