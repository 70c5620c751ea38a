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
#include <sys/eventfd.h>
#include <sys/file.h>
#include <sys/inotify.h>
#include <sys/msg.h>
#include <sys/select.h>
#include <sys/sem.h>
#include <sys/socket.h>
#include <sys/timerfd.h>

/*
 * With "apart" the devices share nothing but the network: no System V IPC, clocks a second apart, and all
 * of it is slow.
 */
static bool apart;
#define TIMEOUT_S (apart ? 40 : 6)
#define EARLY_MS (apart ? 3000 : 30)
#define LATE_MS (apart ? 12000 : 1500) /* below the settle time: starting over must be seen */
#define FOREVER_MS -1

struct waiter {
	const char *name;
	int (*run)(struct waiter *w); /* the system call: 0, or what went wrong */
	bool timed;                   /* ends by its timeout; else by what release() does */
	bool sysv;                    /* waits for System V IPC */
	bool wall;                    /* until a time of CLOCK_REALTIME, which is the device's */
	pthread_t thread;
	volatile pid_t tid;
	volatile bool done;
	int result, error;
	int64_t begun_ms, ended_ms;
};

static int rel_pipe[2], rel_fifo[2], sock_pair[2], listener = -1, epoll_fd, epoll_pipe[2],
						   ppoll_pipe[2];
static int lock_fd[2], semaphores, queue, full_queue, event_fd, inotify_fd, epoll_event_fd;
static int limited[2], limited_msg[2], limited_full[2], limited_listener;
static int splice_pipe[2], full_pipe[2], epoll_event_pipe[2];
static pthread_mutex_t pi_mutex;
static struct message {
	long type;
	char text[8];
} message = {1, "text"};
static uint32_t futex_waitv, futex_word, futex_timed, futex_abs, futex_bitset;
static volatile sig_atomic_t handled;

static int64_t now_ms(const struct waiter *w)
{
	struct timespec ts;

	clock_gettime(w->wall ? CLOCK_REALTIME : CLOCK_MONOTONIC, &ts);
	return ts.tv_sec * 1000LL + ts.tv_nsec / 1000000;
}

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
#ifdef SYS_select
	return (int)syscall(SYS_select, 0, NULL, NULL, NULL, &tv);
#else
	return select(0, NULL, NULL, NULL, &tv);
#endif
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

/* A lock that the other description of the program holds: of flock(2), and of an open file. */
static int run_flock(struct waiter *w)
{
	(void)w;
	return flock(lock_fd[1], LOCK_EX);
}

static int run_ofd_lock(struct waiter *w)
{
	struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET, .l_len = 1};

	(void)w;
	return fcntl(lock_fd[1], F_OFD_SETLKW, &lock);
}

/* Nobody has done anything to the semaphores and queues yet: else the move would be refused. */
static int run_semop(struct waiter *w)
{
	struct sembuf op = {0, -1, 0};

	(void)w;
	return semop(semaphores, &op, 1);
}

static int run_semtimedop(struct waiter *w)
{
	struct sembuf op = {1, -1, 0};
	struct timespec ts = in_s(TIMEOUT_S);

	(void)w;
	return syscall(SYS_semtimedop, semaphores, &op, 1, &ts) == -1 && errno == EAGAIN ? 0 : -1;
}

static int run_msgrcv(struct waiter *w)
{
	struct message m;

	(void)w;
	return msgrcv(queue, &m, sizeof(m.text), 0, 0) == sizeof(m.text) ? 0 : -1;
}

/* There is no room for anything in that queue. */
static int run_msgsnd(struct waiter *w)
{
	struct message m = {1, "text"};

	(void)w;
	return msgsnd(full_queue, &m, sizeof(m.text), 0);
}

/* A socket with a timeout of its own: interrupted by a stop, its calls say EINTR for good. */
static int run_recv_limited(struct waiter *w)
{
	char c = 0;

	(void)w;
	return recv(limited[0], &c, 1, 0) == 1 && c == 'l' ? 0 : -1;
}

static int run_recvmsg_limited(struct waiter *w)
{
	char c = 0;
	struct iovec part = {&c, 1};
	struct msghdr m = {.msg_iov = &part, .msg_iovlen = 1};

	(void)w;
	return recvmsg(limited_msg[0], &m, 0) == 1 && c == 'm' ? 0 : -1;
}

static int run_accept_limited(struct waiter *w)
{
	int fd = accept(limited_listener, NULL, NULL);

	(void)w;
	if (fd >= 0)
		close(fd);
	return fd < 0 ? -1 : 0;
}

static int run_write_limited(struct waiter *w)
{
	(void)w;
	return write(limited_full[0], "x", 1) == 1 ? 0 : -1;
}

static int run_read_eventfd(struct waiter *w)
{
	uint64_t n = 0;

	(void)w;
	return read(event_fd, &n, sizeof(n)) == sizeof(n) && n == 3 ? 0 : -1;
}

static int run_read_timerfd(struct waiter *w)
{
	struct itimerspec its = {.it_value = in_s(TIMEOUT_S)};
	int fd = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC);
	uint64_t n = 0;

	(void)w;
	return !timerfd_settime(fd, 0, &its, NULL) && read(fd, &n, sizeof(n)) == sizeof(n) && n == 1
		       ? 0
		       : -1;
}

static int run_read_inotify(struct waiter *w)
{
	char event[512];

	(void)w;
	return read(inotify_fd, event, sizeof(event)) > 0 ? 0 : -1;
}

static int run_splice(struct waiter *w)
{
	int null = open("/dev/null", O_WRONLY | O_CLOEXEC);

	(void)w;
	return splice(splice_pipe[0], NULL, null, NULL, 1, 0) == 1 ? 0 : -1;
}

static int run_write_full(struct waiter *w)
{
	(void)w;
	return write(full_pipe[1], "x", 1) == 1 ? 0 : -1;
}

static int run_open_fifo(struct waiter *w)
{
	char path[320];
	int fd = open(scenario_path("fifo", path, sizeof(path)), O_RDONLY | O_CLOEXEC);

	(void)w;
	return fd < 0 ? -1 : close(fd);
}

static int run_epoll_event(struct waiter *w)
{
	struct epoll_event ev;

	(void)w;
	return epoll_wait(epoll_event_fd, &ev, 1, FOREVER_MS) == 1 ? 0 : -1;
}

/* Held by the first thread. The kernel's side of the lock has to be made anew. */
static int run_lock_pi(struct waiter *w)
{
	(void)w;
	return pthread_mutex_lock(&pi_mutex) || pthread_mutex_unlock(&pi_mutex) ? -1 : 0;
}

static int run_waitv(struct waiter *w)
{
	struct timespec ts = until(CLOCK_MONOTONIC, TIMEOUT_S);
	struct {
		uint64_t value, address;
		uint32_t flags, reserved;
	} waits[1] = {{0, (uintptr_t)&futex_waitv, 2 | FUTEX_PRIVATE_FLAG, 0}};

	(void)w;
	if (syscall(449, waits, 1, 0, &ts, CLOCK_MONOTONIC) == -1 && errno == ENOSYS)
		scenario_sleep_ms(TIMEOUT_S * 1000), errno = ETIMEDOUT;
	return timed_out(-1);
}

#define TIMED(n)                                                                                   \
	{                                                                                          \
		.name = #n, .run = run_##n, .timed = true                                          \
	}
#define WALL(n)                                                                                    \
	{                                                                                          \
		.name = #n, .run = run_##n, .timed = true, .wall = true                            \
	}
#define EVENT(n)                                                                                   \
	{                                                                                          \
		.name = #n, .run = run_##n                                                         \
	}
#define SYSV(n, is_timed)                                                                          \
	{                                                                                          \
		.name = #n, .run = run_##n, .timed = (is_timed), .sysv = true                      \
	}

static struct waiter waiters[] = {
	TIMED(nanosleep),    TIMED(clock_rel),       TIMED(clock_boot),     TIMED(clock_abs),
	TIMED(poll_timed),   EVENT(poll_event),      TIMED(ppoll),          EVENT(ppoll_event),
	TIMED(select),       TIMED(pselect),         EVENT(read),           EVENT(recv),
	EVENT(accept),       EVENT(futex),           TIMED(futex_timed),    WALL(futex_abs),
	TIMED(futex_bitset), TIMED(epoll_timed),     TIMED(sigtimedwait),   EVENT(sigwaitinfo),
	EVENT(pause),        EVENT(sigsuspend),      EVENT(flock),          EVENT(ofd_lock),
	SYSV(semop, false),  SYSV(semtimedop, true), SYSV(msgrcv, false),   SYSV(msgsnd, false),
	EVENT(recv_limited), EVENT(recvmsg_limited), EVENT(accept_limited), EVENT(write_limited),
	EVENT(read_eventfd), TIMED(read_timerfd),    EVENT(read_inotify),   EVENT(splice),
	EVENT(write_full),   EVENT(open_fifo),       EVENT(epoll_event),    EVENT(lock_pi),
	TIMED(waitv),
};
#define NR_WAITERS (sizeof(waiters) / sizeof(waiters[0]))

static bool is_left_out(const struct waiter *w)
{
	return apart && w->sysv;
}

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
	w->begun_ms = now_ms(w);
	errno = 0;
	w->result = w->run(w);
	w->error = errno;
	w->ended_ms = now_ms(w);
	w->done = true;
	return NULL;
}

static void handler(int sig)
{
	handled |= sig == SIGUSR1 ? 1 : 2;
}

static int listen_anywhere(void)
{
	struct sockaddr_in any = {.sin_family = AF_INET};
	int fd = socket(AF_INET, SOCK_STREAM, 0);

	CHECK(!bind(fd, (struct sockaddr *)&any, sizeof(any)) && !listen(fd, 4));
	return fd;
}

/* Longer than the test takes: what is to be seen is that they do not end early. */
static void limit(int fd)
{
	struct timeval long_s = {60, 0};

	CHECK(!setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &long_s, sizeof(long_s)) &&
	      !setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &long_s, sizeof(long_s)));
}

static void fill_up(int fd)
{
	int flags = fcntl(fd, F_GETFL);

	fcntl(fd, F_SETFL, flags | O_NONBLOCK);
	while (write(fd, message.text, 1) == 1)
		;
	CHECK(errno == EAGAIN);
	fcntl(fd, F_SETFL, flags);
}

static void prepare_ipc(void)
{
	struct msqid_ds ds;

	semaphores = semget(IPC_PRIVATE, 2, 0600);
	queue = msgget(IPC_PRIVATE, 0600);
	full_queue = msgget(IPC_PRIVATE, 0600);
	CHECK(semaphores >= 0 && queue >= 0 && full_queue >= 0);
	CHECK(!msgctl(full_queue, IPC_STAT, &ds));
	ds.msg_qbytes = 0;
	CHECK(!msgctl(full_queue, IPC_SET, &ds));
}

static void prepare_limited(void)
{
	CHECK(!socketpair(AF_UNIX, SOCK_STREAM, 0, limited) &&
	      !socketpair(AF_UNIX, SOCK_STREAM, 0, limited_msg) &&
	      !socketpair(AF_UNIX, SOCK_DGRAM, 0, limited_full));
	limited_listener = listen_anywhere();
	limit(limited[0]);
	limit(limited_msg[0]);
	limit(limited_full[0]);
	limit(limited_listener);
	/* Each is sent as it was; of a stream only the bytes are, which then leave more room. */
	fill_up(limited_full[0]);
}

static void prepare_more(void)
{
	struct epoll_event ev = {.events = EPOLLIN};
	pthread_mutexattr_t attr;
	char path[320];

	prepare_ipc();
	prepare_limited();
	event_fd = eventfd(0, 0);
	inotify_fd = inotify_init1(0);
	CHECK(!mkdir(scenario_path("watched", path, sizeof(path)), 0700) &&
	      inotify_add_watch(inotify_fd, path, IN_CREATE) > 0);
	CHECK(!pipe(splice_pipe) && !pipe(full_pipe) && !pipe(epoll_event_pipe));
	fill_up(full_pipe[1]);
	CHECK(!mkfifo(scenario_path("fifo", path, sizeof(path)), 0600));
	epoll_event_fd = epoll_create1(0);
	CHECK(!epoll_ctl(epoll_event_fd, EPOLL_CTL_ADD, epoll_event_pipe[0], &ev));
	pthread_mutexattr_init(&attr);
	pthread_mutexattr_setprotocol(&attr, PTHREAD_PRIO_INHERIT);
	CHECK(!pthread_mutex_init(&pi_mutex, &attr) && !pthread_mutex_lock(&pi_mutex));
}

static void prepare(void)
{
	struct sigaction sa = {.sa_handler = handler};
	struct epoll_event ev = {.events = EPOLLIN};
	struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET, .l_len = 1};
	char path[320];
	sigset_t all;

	apart = !strcmp(scenario_arg(0), "apart");
	sigfillset(&all);
	sigprocmask(SIG_SETMASK, &all, NULL);
	sigaction(SIGUSR1, &sa, NULL);
	sigaction(SIGUSR2, &sa, NULL);
	CHECK(!pipe(rel_pipe) && !pipe(rel_fifo) && !pipe(epoll_pipe) && !pipe(ppoll_pipe));
	CHECK(!socketpair(AF_UNIX, SOCK_STREAM, 0, sock_pair));
	listener = listen_anywhere();
	epoll_fd = epoll_create1(0);
	CHECK(!epoll_ctl(epoll_fd, EPOLL_CTL_ADD, epoll_pipe[0], &ev));
	scenario_path("lock", path, sizeof(path));
	for (int i = 0; i < 2; i++)
		lock_fd[i] = open(path, O_RDWR | O_CREAT, 0644);
	CHECK(!flock(lock_fd[0], LOCK_EX));
	CHECK(!fcntl(lock_fd[0], F_OFD_SETLK, &lock));
	prepare_more();
	for (size_t i = 0; i < NR_WAITERS; i++) {
		if (is_left_out(&waiters[i])) {
			waiters[i].done = true;
			continue;
		}
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

static void connect_to(int fd)
{
	struct sockaddr_in addr;
	socklen_t len = sizeof(addr);
	int client = socket(AF_INET, SOCK_STREAM, 0);

	CHECK(!getsockname(fd, (struct sockaddr *)&addr, &len));
	addr.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	CHECK(!connect(client, (struct sockaddr *)&addr, len));
}

static void drain(int fd)
{
	int flags = fcntl(fd, F_GETFL);
	char bytes[2048];

	fcntl(fd, F_SETFL, flags | O_NONBLOCK);
	while (read(fd, bytes, sizeof(bytes)) > 0)
		;
	fcntl(fd, F_SETFL, flags);
}

static void release_ipc(void)
{
	struct sembuf op = {0, 1, 0};
	struct msqid_ds ds;

	if (apart)
		return;
	CHECK(!semop(semaphores, &op, 1) && !msgsnd(queue, &message, sizeof(message.text), 0));
	CHECK(!msgctl(full_queue, IPC_STAT, &ds));
	ds.msg_qbytes = 1000;
	CHECK(!msgctl(full_queue, IPC_SET, &ds));
}

static void release_more(void)
{
	struct flock lock = {.l_type = F_UNLCK, .l_whence = SEEK_SET, .l_len = 1};
	uint64_t three = 3;
	char path[320];

	release_ipc();
	CHECK(!fcntl(lock_fd[0], F_OFD_SETLK, &lock));
	CHECK(write(limited[1], "l", 1) == 1 && write(limited_msg[1], "m", 1) == 1);
	connect_to(limited_listener);
	drain(limited_full[1]);
	CHECK(write(event_fd, &three, sizeof(three)) == sizeof(three));
	CHECK(write(splice_pipe[1], "s", 1) == 1 && write(epoll_event_pipe[1], "e", 1) == 1);
	drain(full_pipe[0]);
	close(open(scenario_path("fifo", path, sizeof(path)), O_RDWR | O_CLOEXEC));
	CHECK(!mkdir(scenario_path("watched/new", path, sizeof(path)), 0700));
	CHECK(!pthread_mutex_unlock(&pi_mutex));
}

/* Lets those go that wait for an event. */
static void release(void)
{
	CHECK(write(rel_fifo[1], "r", 1) == 1 && write(sock_pair[1], "s", 1) == 1);
	CHECK(write(rel_pipe[1], "p", 1) == 1 && write(ppoll_pipe[1], "p", 1) == 1);
	connect_to(listener);
	__atomic_store_n(&futex_word, 1, __ATOMIC_SEQ_CST);
	futex(&futex_word, FUTEX_WAKE | FUTEX_PRIVATE_FLAG, 1, NULL, 0);
	tell("sigwaitinfo", SIGRTMIN + 6);
	tell("pause", SIGUSR1);
	tell("sigsuspend", SIGUSR2);
	flock(lock_fd[0], LOCK_UN);
	release_more();
}

static void remove_ipc(void)
{
	semctl(semaphores, 0, IPC_RMID);
	msgctl(queue, IPC_RMID, NULL);
	msgctl(full_queue, IPC_RMID, NULL);
}

static void sabotage(void)
{
	futex(&futex_timed, FUTEX_WAKE | FUTEX_PRIVATE_FLAG, 1, NULL, 0);
}

/* Nobody may come back yet, save those whose time is up. */
static const struct waiter *find_early(void)
{
	for (size_t i = 0; i < NR_WAITERS; i++)
		if (!waiters[i].timed && waiters[i].done && !is_left_out(&waiters[i]))
			return &waiters[i];
	return NULL;
}

static void check_one(const struct waiter *w)
{
	int64_t took_ms = w->ended_ms - w->begun_ms;

	if (is_left_out(w))
		return;
	CHECK(w->done, "%s never came back", w->name);
	CHECK(w->result == 0, "%s: %d, errno %d (%s)", w->name, w->result, w->error,
	      strerror(w->error));
	CHECK(!w->timed || took_ms >= TIMEOUT_S * 1000 - EARLY_MS, "%s: early, %ld ms", w->name,
	      (long)took_ms);
	CHECK(!w->timed || took_ms <= TIMEOUT_S * 1000 + LATE_MS, "%s: late, %ld ms", w->name,
	      (long)took_ms);
}

static void check(void)
{
	const struct waiter *early = find_early();
	int64_t deadline_ms;

	if (!early)
		release();
	deadline_ms = scenario_now_ms() + (TIMEOUT_S + 3) * 1000;
	for (size_t i = 0; i < NR_WAITERS && !early; i++)
		while (!waiters[i].done && scenario_now_ms() < deadline_ms)
			scenario_sleep_ms(2);
	/* Before anything ends the program: they would stay. */
	remove_ipc();
	CHECK(!early, "%s came back by itself: %d, errno %d", early->name, early->result,
	      early->error);
	for (size_t i = 0; i < NR_WAITERS; i++)
		check_one(&waiters[i]);
}

int main(int argc, char **argv)
{
	static const struct scenario s = {prepare, NULL, check, sabotage};

	return scenario_main(argc, argv, &s);
}
