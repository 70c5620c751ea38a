/* SPDX-License-Identifier: MIT */
/*
 * Descriptors that tell of events: counters, timers, signals, files, and epoll over all of them.
 * build: musl-static
 * args: eventfd | timerfd | signalfd | inotify | epoll | epollnumbers | nested
 * modes: lazy
 * settle: 0.3
 */
#include "fd_common.h"
#include <poll.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/inotify.h>
#include <sys/ioctl.h>
#include <sys/signalfd.h>
#include <sys/timerfd.h>

static int fd[8];
static char buf[4096]; /* not a page */
static int64_t begun_ms;

static uint64_t take(int from)
{
	uint64_t value = 0;

	CHECK(read(from, &value, 8) == 8);
	return value;
}

static bool is_ready(int which)
{
	struct pollfd p = {.fd = which, .events = POLLIN};

	return poll(&p, 1, 0) == 1;
}

/* ---- eventfd ---- */

static void eventfd_prepare(void)
{
	uint64_t big = 0x123456789abcdefull;

	fd[0] = eventfd(7, EFD_CLOEXEC);
	fd[1] = eventfd(3, EFD_SEMAPHORE | EFD_NONBLOCK);
	fd[2] = eventfd(0, EFD_NONBLOCK);
	fd[3] = eventfd(0, 0);
	CHECK(write(fd[3], &big, 8) == 8);
}

static void eventfd_check(void)
{
	uint64_t value;

	CHECK(take(fd[0]) == 7 && fcntl(fd[0], F_GETFD) == FD_CLOEXEC);
	CHECK(take(fd[1]) == 1 && take(fd[1]) == 1 && take(fd[1]) == 1);
	CHECK(read(fd[1], &value, 8) < 0 && errno == EAGAIN);
	CHECK(read(fd[2], &value, 8) < 0 && errno == EAGAIN);
	CHECK(take(fd[3]) == 0x123456789abcdefull);
}

static void eventfd_sabotage(void)
{
	take(fd[1]);
}

/* ---- timerfd ---- */

#define LONG_MS 5000

static void arm(int which, long value_ms, long interval_ms)
{
	struct itimerspec spec = {
		.it_value = {value_ms / 1000, value_ms % 1000 * 1000000},
		.it_interval = {interval_ms / 1000, interval_ms % 1000 * 1000000},
	};

	CHECK(!timerfd_settime(which, 0, &spec, NULL));
}

static void timerfd_prepare(void)
{
	struct itimerspec date = {0};

	fd[0] = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC);
	fd[1] = timerfd_create(CLOCK_BOOTTIME, TFD_NONBLOCK);
	fd[2] = timerfd_create(CLOCK_REALTIME, TFD_NONBLOCK);
	fd[3] = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK);
	fd[4] = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK);
	begun_ms = scenario_now_ms();
	arm(fd[0], LONG_MS, 0);
	arm(fd[1], 1, 10);
	arm(fd[4], 1, 0);
	clock_gettime(CLOCK_REALTIME, &date.it_value);
	date.it_value.tv_sec += 3;
	CHECK(!timerfd_settime(fd[2], TFD_TIMER_ABSTIME | TFD_TIMER_CANCEL_ON_SET, &date, NULL));
}

static void timerfd_check(void)
{
	struct itimerspec left;
	uint64_t ticks;
	int64_t took_ms;

	/* It went on, or stood still for the time of the move: 0.3 s were before it. */
	ticks = take(fd[1]);
	CHECK(ticks >= 28, "%llu", (unsigned long long)ticks);
	CHECK(!timerfd_gettime(fd[1], &left) && left.it_interval.tv_nsec == 10000000);
	CHECK(!timerfd_gettime(fd[3], &left) && !left.it_value.tv_sec && !left.it_value.tv_nsec);
	CHECK(!is_ready(fd[3]) && take(fd[4]) == 1);
	CHECK(!timerfd_gettime(fd[2], &left) && left.it_value.tv_sec < 3);
	CHECK(take(fd[0]) == 1);
	took_ms = scenario_now_ms() - begun_ms;
	CHECK(took_ms >= LONG_MS - 20 && took_ms < LONG_MS + 2000, "%ld ms", (long)took_ms);
	CHECK(take(fd[2]) == 1);
}

static void timerfd_sabotage(void)
{
	take(fd[1]);
	arm(fd[0], 1, 0);
}

/* ---- signalfd ---- */

static void signalfd_prepare(void)
{
	sigset_t set;

	sigemptyset(&set);
	sigaddset(&set, SIGUSR1);
	sigaddset(&set, SIGRTMIN + 2);
	CHECK(!sigprocmask(SIG_BLOCK, &set, NULL));
	fd[0] = signalfd(-1, &set, SFD_NONBLOCK | SFD_CLOEXEC);
	CHECK(fd[0] >= 0);
	CHECK(!sigqueue(getpid(), SIGRTMIN + 2, (union sigval){.sival_int = 77}));
}

static void signalfd_check(void)
{
	struct signalfd_siginfo info;

	CHECK(read(fd[0], &info, sizeof(info)) == sizeof(info));
	CHECK((int)info.ssi_signo == SIGRTMIN + 2 && info.ssi_int == 77 &&
	      (pid_t)info.ssi_pid == getpid());
	CHECK(read(fd[0], &info, sizeof(info)) < 0 && errno == EAGAIN);
	CHECK(!raise(SIGUSR1) && read(fd[0], &info, sizeof(info)) == sizeof(info));
	CHECK(info.ssi_signo == SIGUSR1);
}

static void signalfd_sabotage(void)
{
	signalfd_check();
}

/* ---- inotify: numbers with gaps ---- */

static char name[320], other[320];
static int watch[3];
#define MANY 70
static int many[MANY];

static void inotify_prepare(void)
{
	char sub[320];

	CHECK(!mkdir(scenario_path("watched", name, sizeof(name)), 0777));
	fd_make_file(scenario_path("other", other, sizeof(other)), "text");
	snprintf(sub, sizeof(sub), "%.300s/sub", name);
	CHECK(!mkdir(sub, 0777));
	fd[0] = inotify_init1(IN_NONBLOCK | IN_CLOEXEC);
	watch[0] = inotify_add_watch(fd[0], name, IN_CREATE | IN_DELETE | IN_ONLYDIR);
	watch[1] = inotify_add_watch(fd[0], "/tmp", IN_MOVED_FROM);
	CHECK(!inotify_rm_watch(fd[0], watch[1]));
	watch[1] = inotify_add_watch(fd[0], sub, IN_ALL_EVENTS);
	watch[2] = inotify_add_watch(fd[0], other, IN_MODIFY | IN_ONESHOT);
	CHECK(watch[0] > 0 && watch[1] > watch[0] + 1 && watch[2] == watch[1] + 1);
	for (int i = 0; i < MANY; i++) {
		snprintf(sub, sizeof(sub), "%.300s/d%d", name, i);
		CHECK(!mkdir(sub, 0777));
		many[i] = inotify_add_watch(fd[0], sub, IN_CREATE);
		CHECK(many[i] > 0);
	}
	while (read(fd[0], buf, sizeof(buf)) > 0)
		;
}

static void inotify_check(void)
{
	char path[320];
	const struct inotify_event *event = (const void *)buf;
	int queued;

	CHECK(!ioctl(fd[0], FIONREAD, &queued) && queued == 0, "%d", queued);
	snprintf(path, sizeof(path), "%.300s/new", name);
	fd_make_file(path, "x");
	CHECK(read(fd[0], buf, sizeof(buf)) > 0);
	CHECK(event->wd == watch[0] && event->mask == IN_CREATE && !strcmp(event->name, "new"));
	fd_make_file(other, "y");
	CHECK(read(fd[0], buf, sizeof(buf)) > 0 && event->wd == watch[2] &&
	      event->mask == IN_MODIFY);
	while (read(fd[0], buf, sizeof(buf)) > 0)
		;
	CHECK(inotify_rm_watch(fd[0], watch[2]) < 0, "a one-shot watch is gone after its event");
	snprintf(path, sizeof(path), "%.300s/sub", name);
	CHECK(!chmod(path, 0700) && read(fd[0], buf, sizeof(buf)) > 0 && event->wd == watch[1]);
	CHECK(!inotify_rm_watch(fd[0], watch[0]) && !inotify_rm_watch(fd[0], watch[1]));
	while (read(fd[0], buf, sizeof(buf)) > 0)
		;
	for (int i = 0; i < MANY; i++) {
		snprintf(path, sizeof(path), "%.300s/d%d/new", name, i);
		fd_make_file(path, "x");
		CHECK(read(fd[0], buf, sizeof(buf)) > 0 && event->wd == many[i], "%d", i);
	}
}

static void inotify_sabotage(void)
{
	inotify_rm_watch(fd[0], watch[0]);
}

/* ---- epoll ---- */

static void add(int epfd, int which, uint32_t events, uint64_t data)
{
	struct epoll_event event = {.events = events, .data.u64 = data};

	CHECK(!epoll_ctl(epfd, EPOLL_CTL_ADD, which, &event));
}

/* Which of the data are ready now, as bits. */
static unsigned int ready_data(int epfd)
{
	struct epoll_event events[16];
	int nr = epoll_wait(epfd, events, 16, 0);
	unsigned int bits = 0;

	for (int i = 0; i < nr; i++)
		bits |= 1u << (events[i].data.u64 & 31);
	return bits;
}

static void epoll_prepare(void)
{
	fd[0] = epoll_create1(EPOLL_CLOEXEC);
	CHECK(!pipe(fd + 1));
	fd[3] = eventfd(1, 0);
	fd[4] = eventfd(0, 0);
	fd[5] = timerfd_create(CLOCK_MONOTONIC, 0);
	add(fd[0], fd[1], EPOLLIN | EPOLLET, 0x1122334455667700ull | 1);
	add(fd[0], fd[2], EPOLLOUT, 2);
	add(fd[0], fd[3], EPOLLIN, 3);
	add(fd[0], fd[4], EPOLLIN | EPOLLONESHOT, 4);
	add(fd[0], fd[5], EPOLLIN, 5);
}

static void epoll_check(void)
{
	struct epoll_event event = {.events = EPOLLIN, .data.u64 = 6};
	uint64_t one = 1;

	CHECK(ready_data(fd[0]) == (1 << 2 | 1 << 3));
	CHECK(write(fd[2], "x", 1) == 1 && ready_data(fd[0]) == (1 << 1 | 1 << 2 | 1 << 3));
	CHECK(ready_data(fd[0]) == (1 << 2 | 1 << 3), "edge-triggered");
	CHECK(write(fd[4], &one, 8) == 8 && ready_data(fd[0]) == (1 << 2 | 1 << 3 | 1 << 4));
	CHECK(ready_data(fd[0]) == (1 << 2 | 1 << 3), "one shot");
	/* The numbers are those it was added under. */
	CHECK(!epoll_ctl(fd[0], EPOLL_CTL_MOD, fd[3], &event));
	CHECK(ready_data(fd[0]) == (1 << 2 | 1 << 6));
	CHECK(!epoll_ctl(fd[0], EPOLL_CTL_DEL, fd[2], NULL) && ready_data(fd[0]) == 1 << 6);
	CHECK(epoll_ctl(fd[0], EPOLL_CTL_ADD, fd[5], &event) < 0 && errno == EEXIST);
}

static void epoll_sabotage(void)
{
	epoll_ctl(fd[0], EPOLL_CTL_DEL, fd[3], NULL);
}

/* ---- epollnumbers: added under numbers that are closed or something else by now ---- */

static void epollnumbers_prepare(void)
{
	fd[0] = epoll_create1(0);
	fd[1] = eventfd(1, 0);
	fd[2] = eventfd(1, 0);
	fd[3] = dup(fd[1]);
	add(fd[0], fd[3], EPOLLIN, 1);
	CHECK(!close(fd[3])); /* fd[1] lives on, watched under a closed number */
	fd[4] = dup(fd[2]);
	CHECK(fd[4] == fd[3]);
	add(fd[0], fd[4], EPOLLIN, 2); /* the same number again, another file */
	CHECK(dup3(fd[1], 50, O_CLOEXEC) == 50);
	add(fd[0], 50, EPOLLIN, 3);
	CHECK(dup3(fd[0], 50, O_CLOEXEC) == 50); /* and this number is the instance itself */
}

static void epollnumbers_check(void)
{
	CHECK(ready_data(fd[0]) == (1 << 1 | 1 << 2 | 1 << 3));
	CHECK(fcntl(50, F_GETFD) == FD_CLOEXEC && ready_data(50) == (1 << 1 | 1 << 2 | 1 << 3));
	take(fd[1]);
	CHECK(ready_data(fd[0]) == 1 << 2);
	CHECK(!epoll_ctl(fd[0], EPOLL_CTL_DEL, fd[4], NULL) && ready_data(fd[0]) == 0);
}

static void epollnumbers_sabotage(void)
{
	take(fd[1]);
}

/* ---- nested ---- */

static void nested_prepare(void)
{
	fd[0] = epoll_create1(0);
	fd[1] = epoll_create1(0);
	fd[2] = eventfd(0, 0);
	add(fd[0], fd[1], EPOLLIN, 1);
	add(fd[1], fd[2], EPOLLIN, 2);
	for (int i = 0; i < 150; i++) {
		int one = eventfd(0, 0);

		CHECK(one >= 0);
		add(fd[1], one, EPOLLIN, 3);
	}
}

static void nested_check(void)
{
	uint64_t one = 1;

	CHECK(ready_data(fd[0]) == 0 && write(fd[2], &one, 8) == 8);
	CHECK(ready_data(fd[0]) == 1 << 1 && ready_data(fd[1]) == 1 << 2);
	take(fd[2]);
	CHECK(write(fd[2] + 150, &one, 8) == 8 && ready_data(fd[1]) == 1 << 3);
}

static void nested_sabotage(void)
{
	epoll_ctl(fd[1], EPOLL_CTL_DEL, fd[2], NULL);
}

static const struct fd_case cases[] = {
#define CASE(name)                                                                                 \
	{                                                                                          \
#name, name##_prepare, name##_check, name##_sabotage, NULL                         \
	}
	CASE(eventfd), CASE(timerfd),      CASE(signalfd), CASE(inotify),
	CASE(epoll),   CASE(epollnumbers), CASE(nested),
};

int main(int argc, char **argv)
{
	return fd_main(argc, argv, cases, sizeof(cases) / sizeof(cases[0]));
}
