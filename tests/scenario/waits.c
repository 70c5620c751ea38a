/* SPDX-License-Identifier: MIT */
/*
 * One thread in each kind of interrupted system call. None may see an error, and those with a
 * timeout keep what was left of it: all end at the same moment as if nothing had happened.
 * build: musl-static
 * libs: -lpthread
 * settle: 2.0
 * private: yes
 */
#include "scenario.h"
#include <linux/futex.h>
#include <netinet/in.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/file.h>
#include <sys/select.h>
#include <sys/socket.h>

#define TIMEOUT_S 6
#define EARLY_MS 30
#define LATE_MS 1500 /* below the settle time: starting over must be seen */
#define FOREVER_MS -1

struct waiter {
	const char *name;
	int (*run)(struct waiter *w); /* the system call: 0, or what went wrong */
	bool timed;                   /* ends by its timeout; else by what release() does */
	pthread_t thread;
	volatile pid_t tid;
	volatile bool done;
	int result, error;
	int64_t begun_ms, ended_ms;
};

static int rel_pipe[2], rel_fifo[2], sock_pair[2], listener = -1, epoll_fd, epoll_pipe[2],
						   ppoll_pipe[2];
static int lock_fd[2];
static uint32_t futex_word, futex_timed, futex_abs, futex_bitset;
static volatile sig_atomic_t handled;

static struct timespec in_s(long s)
{
	return (struct timespec){s, 0};
}

static struct timespec until(clockid_t clock, long s)
{
	struct timespec ts;

	clock_gettime(clock, &ts);
	ts.tv_sec += s;
	return ts;
}

static int run_nanosleep(struct waiter *w)
{
	struct timespec ts = in_s(TIMEOUT_S);

	(void)w;
	return nanosleep(&ts, NULL);
}

static int run_clock_rel(struct waiter *w)
{
	struct timespec ts = in_s(TIMEOUT_S);

	(void)w;
	return (int)syscall(SYS_clock_nanosleep, CLOCK_REALTIME, 0, &ts, NULL);
}

static int run_clock_boot(struct waiter *w)
{
	struct timespec ts = in_s(TIMEOUT_S);

	(void)w;
	return (int)syscall(SYS_clock_nanosleep, CLOCK_BOOTTIME, 0, &ts, NULL);
}

static int run_clock_abs(struct waiter *w)
{
	struct timespec ts = until(CLOCK_MONOTONIC, TIMEOUT_S);

	(void)w;
	return (int)syscall(SYS_clock_nanosleep, CLOCK_MONOTONIC, TIMER_ABSTIME, &ts, NULL);
}

static int run_poll_timed(struct waiter *w)
{
	struct pollfd p = {rel_pipe[0], POLLPRI, 0};

	(void)w;
	return poll(&p, 1, TIMEOUT_S * 1000);
}

static int run_poll_event(struct waiter *w)
{
	struct pollfd p = {rel_pipe[0], POLLIN, 0};

	(void)w;
	return poll(&p, 1, FOREVER_MS) == 1 && p.revents == POLLIN ? 0 : -1;
}

static int run_ppoll(struct waiter *w)
{
	struct pollfd p = {rel_pipe[0], POLLPRI, 0};
	struct timespec ts = in_s(TIMEOUT_S);

	(void)w;
	return (int)syscall(SYS_ppoll, &p, 1, &ts, NULL, 0);
}

static int run_ppoll_event(struct waiter *w)
{
	struct pollfd p = {ppoll_pipe[0], POLLIN, 0};

	(void)w;
	return ppoll(&p, 1, NULL, NULL) == 1 ? 0 : -1;
}

static int run_select(struct waiter *w)
{
	struct timeval tv = {TIMEOUT_S, 0};

	(void)w;
	return (int)syscall(SYS_select, 0, NULL, NULL, NULL, &tv);
}

static int run_pselect(struct waiter *w)
{
	struct timespec ts = in_s(TIMEOUT_S);
	fd_set set;

	(void)w;
	FD_ZERO(&set);
	FD_SET(sock_pair[1], &set);
	return pselect(sock_pair[1] + 1, NULL, NULL, &set, &ts, NULL);
}

static int run_read(struct waiter *w)
{
	char c = 0;

	(void)w;
	return read(rel_fifo[0], &c, 1) == 1 && c == 'r' ? 0 : -1;
}

static int run_recv(struct waiter *w)
{
	char c = 0;

	(void)w;
	return recv(sock_pair[0], &c, 1, 0) == 1 && c == 's' ? 0 : -1;
}

static int run_accept(struct waiter *w)
{
	int fd = accept(listener, NULL, NULL);

	(void)w;
	if (fd >= 0)
		close(fd);
	return fd < 0 ? -1 : 0;
}

static long futex(uint32_t *word, int op, uint32_t val, const struct timespec *ts, uint32_t bits)
{
	return syscall(SYS_futex, word, op, val, ts, NULL, bits);
}

static int run_futex(struct waiter *w)
{
	(void)w;
	return (int)futex(&futex_word, FUTEX_WAIT | FUTEX_PRIVATE_FLAG, 0, NULL, 0);
}

/* A timed futex ends with ETIMEDOUT, and with nothing else. */
static int timed_out(long ret)
{
	return ret == -1 && errno == ETIMEDOUT ? 0 : -1;
}

static int run_futex_timed(struct waiter *w)
{
	struct timespec ts = in_s(TIMEOUT_S);

	(void)w;
	return timed_out(futex(&futex_timed, FUTEX_WAIT | FUTEX_PRIVATE_FLAG, 0, &ts, 0));
}

static int run_futex_abs(struct waiter *w)
{
	struct timespec ts = until(CLOCK_REALTIME, TIMEOUT_S);
	int op = FUTEX_WAIT_BITSET | FUTEX_PRIVATE_FLAG | FUTEX_CLOCK_REALTIME;

	(void)w;
	return timed_out(futex(&futex_abs, op, 0, &ts, FUTEX_BITSET_MATCH_ANY));
}

static int run_futex_bitset(struct waiter *w)
{
	struct timespec ts = until(CLOCK_MONOTONIC, TIMEOUT_S);
	int op = FUTEX_WAIT_BITSET | FUTEX_PRIVATE_FLAG;

	(void)w;
	return timed_out(futex(&futex_bitset, op, 0, &ts, 4));
}

static int run_epoll_timed(struct waiter *w)
{
	struct epoll_event ev;

	(void)w;
	return epoll_wait(epoll_fd, &ev, 1, TIMEOUT_S * 1000);
}

static int run_sigtimedwait(struct waiter *w)
{
	struct timespec ts = in_s(TIMEOUT_S);
	sigset_t set;

	(void)w;
	sigemptyset(&set);
	sigaddset(&set, SIGRTMIN + 5);
	return sigtimedwait(&set, NULL, &ts) == -1 && errno == EAGAIN ? 0 : -1;
}

static int run_sigwaitinfo(struct waiter *w)
{
	siginfo_t info;
	sigset_t set;

	(void)w;
	sigemptyset(&set);
	sigaddset(&set, SIGRTMIN + 6);
	return sigwaitinfo(&set, &info) == SIGRTMIN + 6 ? 0 : -1;
}

/* pause and sigsuspend end with EINTR, but only once the program's own signal was handled. */
static int run_pause(struct waiter *w)
{
	sigset_t set;
	int ret;

	(void)w;
	sigemptyset(&set);
	sigaddset(&set, SIGUSR1);
	pthread_sigmask(SIG_UNBLOCK, &set, NULL);
	ret = pause();
	return ret == -1 && errno == EINTR && (handled & 1) ? 0 : -1;
}

static int run_sigsuspend(struct waiter *w)
{
	sigset_t set, now;
	int ret;

	(void)w;
	sigfillset(&set);
	sigdelset(&set, SIGUSR2);
	ret = sigsuspend(&set);
	pthread_sigmask(SIG_SETMASK, NULL, &now);
	return ret == -1 && errno == EINTR && (handled & 2) && sigismember(&now, SIGUSR2) ? 0 : -1;
}

/* An open file description lock that the other description of the program holds. */
static int run_flock(struct waiter *w)
{
	(void)w;
	return flock(lock_fd[1], LOCK_EX);
}

#define TIMED(n)                                                                                   \
	{                                                                                          \
		.name = #n, .run = run_##n, .timed = true                                          \
	}
#define EVENT(n)                                                                                   \
	{                                                                                          \
		.name = #n, .run = run_##n                                                         \
	}

static struct waiter waiters[] = {
	TIMED(nanosleep),    TIMED(clock_rel),   TIMED(clock_boot),   TIMED(clock_abs),
	TIMED(poll_timed),   EVENT(poll_event),  TIMED(ppoll),        EVENT(ppoll_event),
	TIMED(select),       TIMED(pselect),     EVENT(read),         EVENT(recv),
	EVENT(accept),       EVENT(futex),       TIMED(futex_timed),  TIMED(futex_abs),
	TIMED(futex_bitset), TIMED(epoll_timed), TIMED(sigtimedwait), EVENT(sigwaitinfo),
	EVENT(pause),        EVENT(sigsuspend),  EVENT(flock),
};
#define NR_WAITERS (sizeof(waiters) / sizeof(waiters[0]))

static struct waiter *only(const char *name)
{
	for (size_t i = 0; i < NR_WAITERS; i++)
		if (!strcmp(waiters[i].name, name))
			return &waiters[i];
	return NULL;
}

static void *waiter_run(void *arg)
{
	struct waiter *w = arg;

	w->tid = (pid_t)syscall(SYS_gettid);
	w->begun_ms = scenario_now_ms();
	errno = 0;
	w->result = w->run(w);
	w->error = errno;
	w->ended_ms = scenario_now_ms();
	w->done = true;
	return NULL;
}

static void handler(int sig)
{
	handled |= sig == SIGUSR1 ? 1 : 2;
}

static void prepare(void)
{
	struct sockaddr_in any = {.sin_family = AF_INET};
	struct sigaction sa = {.sa_handler = handler};
	struct epoll_event ev = {.events = EPOLLIN};
	char path[320];
	sigset_t all;

	sigfillset(&all);
	sigprocmask(SIG_SETMASK, &all, NULL);
	sigaction(SIGUSR1, &sa, NULL);
	sigaction(SIGUSR2, &sa, NULL);
	CHECK(!pipe(rel_pipe) && !pipe(rel_fifo) && !pipe(epoll_pipe) && !pipe(ppoll_pipe));
	CHECK(!socketpair(AF_UNIX, SOCK_STREAM, 0, sock_pair));
	listener = socket(AF_INET, SOCK_STREAM, 0);
	CHECK(!bind(listener, (struct sockaddr *)&any, sizeof(any)) && !listen(listener, 4));
	epoll_fd = epoll_create1(0);
	CHECK(!epoll_ctl(epoll_fd, EPOLL_CTL_ADD, epoll_pipe[0], &ev));
	scenario_path("lock", path, sizeof(path));
	for (int i = 0; i < 2; i++)
		lock_fd[i] = open(path, O_RDWR | O_CREAT, 0644);
	CHECK(!flock(lock_fd[0], LOCK_EX));
	for (size_t i = 0; i < NR_WAITERS; i++) {
		CHECK(!pthread_create(&waiters[i].thread, NULL, waiter_run, &waiters[i]));
		while (!waiters[i].tid)
			scenario_sleep_ms(1);
	}
	scenario_sleep_ms(50);
}

static void tell(const char *name, int sig)
{
	syscall(SYS_tgkill, getpid(), only(name)->tid, sig);
}

/* Lets those go that wait for an event. */
static void release(void)
{
	struct sockaddr_in addr;
	socklen_t len = sizeof(addr);
	int fd = socket(AF_INET, SOCK_STREAM, 0);

	CHECK(write(rel_fifo[1], "r", 1) == 1 && write(sock_pair[1], "s", 1) == 1);
	CHECK(write(rel_pipe[1], "p", 1) == 1 && write(ppoll_pipe[1], "p", 1) == 1);
	CHECK(!getsockname(listener, (struct sockaddr *)&addr, &len));
	addr.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	CHECK(!connect(fd, (struct sockaddr *)&addr, len));
	__atomic_store_n(&futex_word, 1, __ATOMIC_SEQ_CST);
	futex(&futex_word, FUTEX_WAKE | FUTEX_PRIVATE_FLAG, 1, NULL, 0);
	tell("sigwaitinfo", SIGRTMIN + 6);
	tell("pause", SIGUSR1);
	tell("sigsuspend", SIGUSR2);
	flock(lock_fd[0], LOCK_UN);
}

static void sabotage(void)
{
	futex(&futex_timed, FUTEX_WAKE | FUTEX_PRIVATE_FLAG, 1, NULL, 0);
}

static void check(void)
{
	int64_t deadline_ms;

	/* Nobody may have come back yet, save those whose time was up. */
	for (size_t i = 0; i < NR_WAITERS; i++)
		CHECK(waiters[i].timed || !waiters[i].done, "%s came back by itself: %d, errno %d",
		      waiters[i].name, waiters[i].result, waiters[i].error);
	release();
	deadline_ms = scenario_now_ms() + (TIMEOUT_S + 3) * 1000;
	for (size_t i = 0; i < NR_WAITERS; i++) {
		struct waiter *w = &waiters[i];
		int64_t took_ms;

		while (!w->done && scenario_now_ms() < deadline_ms)
			scenario_sleep_ms(2);
		CHECK(w->done, "%s never came back", w->name);
		CHECK(w->result == 0, "%s: %d, errno %d (%s)", w->name, w->result, w->error,
		      strerror(w->error));
		took_ms = w->ended_ms - w->begun_ms;
		CHECK(!w->timed || took_ms >= TIMEOUT_S * 1000 - EARLY_MS, "%s: early, %ld ms",
		      w->name, (long)took_ms);
		CHECK(!w->timed || took_ms <= TIMEOUT_S * 1000 + LATE_MS, "%s: late, %ld ms",
		      w->name, (long)took_ms);
	}
}

int main(int argc, char **argv)
{
	static const struct scenario s = {prepare, NULL, check, sabotage};

	return scenario_main(argc, argv, &s);
}
