/* SPDX-License-Identifier: MIT */
/*
 * The clocks that count from the start of a device go on where they were, on a device that was started
 * earlier or later: read all the time, by the vdso and by the system call, and a wait of each kind for a
 * point in time, and those for a while unless ARG is "points". Real time tells how much of it has passed.
 * Another ARG: how many seconds all of them wait; and "stopped", when somebody will do that to it.
 * build: musl-static glibc-dynamic
 * libs: -lpthread
 * ahead: 100000 -100000 0
 */
#include "scenario.h"
#include <linux/futex.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/timerfd.h>

#define SECOND 1000000000LL
/* What a machine may be late in, however busy it is; the clocks are wrong by more. */
#define GENEROUS (60 * SECOND)
/* Of a clock that moves with each tick only, and of two clocks that are read one after the other. */
#define SLACK (20 * SECOND / 1000)
#define BEAT (SECOND / 10)
#ifndef FUTEX_LOCK_PI2 /* 5.14 */
#define FUTEX_LOCK_PI2 13
#endif

static int64_t read_clock(clockid_t clock)
{
	struct timespec ts;

	/* They are one clock; the one with an alarm cannot be read on a device that has no RTC. */
	clock = clock == CLOCK_BOOTTIME_ALARM ? CLOCK_BOOTTIME : clock;
	CHECK(!syscall(SYS_clock_gettime, clock, &ts));
	return ts.tv_sec * SECOND + ts.tv_nsec;
}

static struct timespec to_timespec(int64_t ns)
{
	return (struct timespec){ns / SECOND, ns % SECOND};
}

/* ---- the clocks ---- */

static const struct {
	clockid_t id;
	const char *name;
} clocks[] = {{CLOCK_MONOTONIC, "CLOCK_MONOTONIC"},
	      {CLOCK_MONOTONIC_RAW, "CLOCK_MONOTONIC_RAW"},
	      {CLOCK_MONOTONIC_COARSE, "CLOCK_MONOTONIC_COARSE"},
	      {CLOCK_BOOTTIME, "CLOCK_BOOTTIME"}};
#define NR_CLOCKS (int)(sizeof(clocks) / sizeof(clocks[0]))

/* A reading, and real time before and after it. */
struct reading {
	int64_t before, ns, after;
};

static struct reading first[NR_CLOCKS], last[NR_CLOCKS];
static volatile bool over;
static pthread_t reader;

static struct reading take_reading(int i, bool vdso)
{
	struct reading r = {.before = read_clock(CLOCK_REALTIME)};
	struct timespec ts;

	if (vdso) {
		CHECK(!clock_gettime(clocks[i].id, &ts));
		r.ns = ts.tv_sec * SECOND + ts.tv_nsec;
	} else {
		r.ns = read_clock(clocks[i].id);
	}
	r.after = read_clock(CLOCK_REALTIME);
	return r;
}

static void compare(int i, struct reading was, struct reading is, const char *how)
{
	int64_t passed = is.ns - was.ns;

	CHECK(passed >= 0, "%s (%s) went back by %lld ns", clocks[i].name, how, (long long)-passed);
	CHECK(passed <= is.after - was.before + SLACK,
	      "%s (%s) has advanced by %lld ns, and no more than %lld ns have passed",
	      clocks[i].name, how, (long long)passed, (long long)(is.after - was.before));
	CHECK(passed >= is.before - was.after - GENEROUS,
	      "%s (%s) has advanced by %lld ns, and %lld ns have passed", clocks[i].name, how,
	      (long long)passed, (long long)(is.before - was.after));
}

static void *read_all_the_time(void *arg)
{
	for (unsigned int round = 0; !over; round++) {
		for (int i = 0; i < NR_CLOCKS; i++) {
			struct reading now = take_reading(i, round % 2);

			compare(i, last[i], now, round % 2 ? "vdso" : "system call");
			last[i] = now;
		}
		scenario_sleep_ms(1);
	}
	return arg;
}

/* ---- waits ---- */

static long due_s(void)
{
	long s = strtol(scenario_arg(0), NULL, 10);

	return s > 0 ? s : 3;
}

struct wait {
	const char *name;
	clockid_t clock;
	/* Waits until `due` on its clock. 0, or an errno. */
	int (*run)(struct wait *w);
	int64_t due, woke;
	int err;
	pthread_t thread;
};

static uint32_t word_bitset, word_pi, word_waitv, word_rel;

static int errno_of(long ret)
{
	return ret < 0 ? errno : 0;
}

static int timed_out(long ret)
{
	return ret < 0 && errno == ETIMEDOUT ? 0 : errno_of(ret) + (ret >= 0);
}

static int run_nanosleep(struct wait *w)
{
	struct timespec ts = to_timespec(w->due);

	return errno_of(syscall(SYS_clock_nanosleep, w->clock, TIMER_ABSTIME, &ts, NULL));
}

static int run_bitset(struct wait *w)
{
	struct timespec ts = to_timespec(w->due);

	return timed_out(syscall(SYS_futex, &word_bitset, FUTEX_WAIT_BITSET | FUTEX_PRIVATE_FLAG, 0,
				 &ts, NULL, FUTEX_BITSET_MATCH_ANY));
}

/* Of a lock that the main thread has. */
static int run_lock_pi2(struct wait *w)
{
	struct timespec ts = to_timespec(w->due);

	return timed_out(
		syscall(SYS_futex, &word_pi, FUTEX_LOCK_PI2 | FUTEX_PRIVATE_FLAG, 0, &ts, NULL, 0));
}

static int run_waitv(struct wait *w)
{
	struct timespec ts = to_timespec(w->due);
	struct {
		uint64_t val, uaddr;
		uint32_t flags, reserved;
	} waitv = {0, (uintptr_t)&word_waitv, 2 | FUTEX_PRIVATE_FLAG, 0};

	return timed_out(syscall(449, &waitv, 1, 0, &ts, w->clock));
}

static int run_cond(struct wait *w)
{
	struct timespec ts = to_timespec(w->due);
	pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
	pthread_condattr_t attr;
	pthread_cond_t cond;
	int err;

	pthread_condattr_init(&attr);
	pthread_condattr_setclock(&attr, w->clock);
	pthread_cond_init(&cond, &attr);
	pthread_mutex_lock(&mutex);
	err = pthread_cond_timedwait(&cond, &mutex, &ts);
	return err == ETIMEDOUT ? 0 : err + !err;
}

static int run_timerfd(struct wait *w)
{
	struct itimerspec its = {.it_value = to_timespec(w->due)};
	int fd = timerfd_create(w->clock, TFD_CLOEXEC);
	uint64_t ticks;

	if (fd < 0 || timerfd_settime(fd, TFD_TIMER_ABSTIME, &its, NULL))
		return errno;
	return read(fd, &ticks, sizeof(ticks)) == sizeof(ticks) && ticks == 1 ? 0 : EIO;
}

static int run_timer(struct wait *w)
{
	struct itimerspec its = {.it_value = to_timespec(w->due)};
	struct sigevent ev = {.sigev_notify = SIGEV_SIGNAL,
			      .sigev_signo = SIGRTMIN + (int)w->clock};
	siginfo_t info;
	sigset_t set;
	int id;

	if (syscall(SYS_timer_create, w->clock, &ev, &id))
		return errno;
	sigemptyset(&set);
	sigaddset(&set, ev.sigev_signo);
	if (syscall(SYS_timer_settime, id, TIMER_ABSTIME, &its, NULL))
		return errno;
	return sigwaitinfo(&set, &info) == ev.sigev_signo && info.si_code == SI_TIMER ? 0 : EIO;
}

/* Those that say how long, and not until when: due is then no earlier than it is meant. */
static struct timespec from_now(struct wait *w)
{
	w->due = read_clock(w->clock) + due_s() * SECOND;
	return (struct timespec){due_s(), 0};
}

static int run_relative(struct wait *w)
{
	struct timespec ts = from_now(w);

	return errno_of(nanosleep(&ts, NULL));
}

/* As sleep(3) does: what is left replaces what it was told. */
static int run_sleep(struct wait *w)
{
	struct timespec ts = from_now(w);

	return errno_of(nanosleep(&ts, &ts));
}

static int run_relative_nanosleep(struct wait *w)
{
	struct timespec ts = from_now(w), left;

	return errno_of(syscall(SYS_clock_nanosleep, w->clock, 0, &ts, &left));
}

static int run_poll(struct wait *w)
{
	from_now(w);
	return errno_of(poll(NULL, 0, (int)(due_s() * 1000)));
}

static int run_ppoll(struct wait *w)
{
	struct timespec ts = from_now(w);

	return errno_of(ppoll(NULL, 0, &ts, NULL));
}

static int run_epoll(struct wait *w)
{
	int fd = epoll_create1(EPOLL_CLOEXEC);
	struct epoll_event event;

	from_now(w);
	/* SIGSTOP ends it, too (signal(7)). */
	if (!strcmp(scenario_arg(1), "stopped"))
		return run_sleep(w);
	return errno_of(epoll_wait(fd, &event, 1, (int)(due_s() * 1000)));
}

static int run_futex(struct wait *w)
{
	struct timespec ts = from_now(w);

	return timed_out(
		syscall(SYS_futex, &word_rel, FUTEX_WAIT | FUTEX_PRIVATE_FLAG, 0, &ts, NULL, 0));
}

#define WAIT(what, of, how)                                                                        \
	{                                                                                          \
		.name = what, .clock = of, .run = how                                              \
	}
static struct wait waits[] = {
	WAIT("clock_nanosleep", CLOCK_MONOTONIC, run_nanosleep),
	WAIT("clock_nanosleep of CLOCK_BOOTTIME", CLOCK_BOOTTIME, run_nanosleep),
	WAIT("clock_nanosleep of CLOCK_BOOTTIME_ALARM", CLOCK_BOOTTIME_ALARM, run_nanosleep),
	WAIT("FUTEX_WAIT_BITSET", CLOCK_MONOTONIC, run_bitset),
	WAIT("FUTEX_LOCK_PI2", CLOCK_MONOTONIC, run_lock_pi2),
	WAIT("futex_waitv", CLOCK_MONOTONIC, run_waitv),
	WAIT("pthread_cond_timedwait", CLOCK_MONOTONIC, run_cond),
	WAIT("timerfd", CLOCK_MONOTONIC, run_timerfd),
	WAIT("timerfd of CLOCK_BOOTTIME", CLOCK_BOOTTIME, run_timerfd),
	WAIT("timerfd of CLOCK_BOOTTIME_ALARM", CLOCK_BOOTTIME_ALARM, run_timerfd),
	WAIT("timer", CLOCK_MONOTONIC, run_timer),
	WAIT("timer of CLOCK_BOOTTIME", CLOCK_BOOTTIME, run_timer),
	WAIT("timer of CLOCK_BOOTTIME_ALARM", CLOCK_BOOTTIME_ALARM, run_timer),
	WAIT("nanosleep", CLOCK_MONOTONIC, run_relative),
	WAIT("sleep", CLOCK_MONOTONIC, run_sleep),
	WAIT("relative clock_nanosleep", CLOCK_MONOTONIC, run_relative_nanosleep),
	WAIT("relative clock_nanosleep of CLOCK_BOOTTIME", CLOCK_BOOTTIME, run_relative_nanosleep),
	WAIT("poll", CLOCK_MONOTONIC, run_poll),
	WAIT("ppoll", CLOCK_MONOTONIC, run_ppoll),
	WAIT("epoll_wait", CLOCK_MONOTONIC, run_epoll),
	WAIT("FUTEX_WAIT", CLOCK_MONOTONIC, run_futex),
};
#define NR_WAITS (sizeof(waits) / sizeof(waits[0]))
/* Those for a point in time come first. */
#define NR_POINTS (NR_WAITS - 8)

static size_t nr_waits;

static void *run_wait(void *arg)
{
	struct wait *w = arg;

	w->err = w->run(w);
	w->woke = read_clock(w->clock);
	return NULL;
}

static void check_wait(const struct wait *w)
{
	if (w->err == ENOSYS || (w->err && w->clock == CLOCK_BOOTTIME_ALARM))
		return; /* a kernel without such a call, a device without an RTC */
	CHECK(!w->err, "%s: errno %d", w->name, w->err);
	CHECK(w->woke >= w->due, "%s woke %lld ns early", w->name, (long long)(w->due - w->woke));
	CHECK(w->woke <= w->due + GENEROUS, "%s woke %lld ns late", w->name,
	      (long long)(w->woke - w->due));
}

/* ---- timers that repeat, and that nobody reads meanwhile ---- */

#define NR_BEATS 3

static int beats[NR_BEATS];
static int64_t first_beat[NR_BEATS];
/* The last one beats while it is looked at. */
static const struct {
	clockid_t clock;
	int64_t every;
} beat[NR_BEATS] = {{CLOCK_MONOTONIC, BEAT}, {CLOCK_BOOTTIME, BEAT}, {CLOCK_MONOTONIC, BEAT / 100}};

static void begin_beats(void)
{
	for (int i = 0; i < NR_BEATS; i++) {
		struct itimerspec its = {.it_interval = to_timespec(beat[i].every)};

		first_beat[i] = read_clock(beat[i].clock) + beat[i].every;
		its.it_value = to_timespec(first_beat[i]);
		beats[i] = timerfd_create(beat[i].clock, TFD_CLOEXEC | TFD_NONBLOCK);
		CHECK(beats[i] >= 0 && !timerfd_settime(beats[i], TFD_TIMER_ABSTIME, &its, NULL));
	}
}

/* As many as there was time for, none lost and none twice. */
static void check_beats(void)
{
	for (int i = 0; i < NR_BEATS; i++) {
		int64_t least = (read_clock(beat[i].clock) - first_beat[i]) / beat[i].every, most;
		uint64_t ticks = 0;

		CHECK(read(beats[i], &ticks, sizeof(ticks)) == sizeof(ticks));
		most = (read_clock(beat[i].clock) - first_beat[i]) / beat[i].every + 1;
		CHECK((int64_t)ticks >= least && (int64_t)ticks <= most,
		      "%lld beats of a timerfd, not %lld to %lld", (long long)ticks,
		      (long long)least, (long long)most);
	}
}

/* ---- all of it ---- */

static void prepare(void)
{
	sigset_t set;

	sigemptyset(&set);
	for (int clock = CLOCK_MONOTONIC; clock <= CLOCK_BOOTTIME_ALARM; clock++)
		sigaddset(&set, SIGRTMIN + clock);
	sigprocmask(SIG_BLOCK, &set, NULL);
	for (int i = 0; i < NR_CLOCKS; i++)
		first[i] = last[i] = take_reading(i, true);
	word_pi = (uint32_t)syscall(SYS_gettid);
	begin_beats();
	nr_waits = strcmp(scenario_arg(0), "points") == 0 ? NR_POINTS : NR_WAITS;
	for (size_t i = 0; i < nr_waits; i++) {
		waits[i].due = read_clock(waits[i].clock) + due_s() * SECOND;
		CHECK(!pthread_create(&waits[i].thread, NULL, run_wait, &waits[i]));
	}
	CHECK(!pthread_create(&reader, NULL, read_all_the_time, NULL));
}

static void sabotage(void)
{
	waits[0].due += SECOND;
}

static void check(void)
{
	for (size_t i = 0; i < nr_waits; i++)
		pthread_join(waits[i].thread, NULL);
	over = true;
	pthread_join(reader, NULL);
	for (size_t i = 0; i < nr_waits; i++)
		check_wait(&waits[i]);
	for (int i = 0; i < NR_CLOCKS; i++)
		compare(i, first[i], take_reading(i, true), "in all");
	check_beats();
}

int main(int argc, char **argv)
{
	static const struct scenario s = {prepare, NULL, check, sabotage};

	return scenario_main(argc, argv, &s);
}
