/* SPDX-License-Identifier: MIT */
/*
 * What descriptors of a process are, which of them share an open file, and what is sent about them.
 *
 * emulator: no
 * needs: engine/state/fd*.c engine/state/file.c engine/state/pipe.c engine/state/eventfd.c
 * needs: engine/state/epoll.c engine/state/timerfd.c engine/state/signalfd.c engine/state/inotify.c
 * needs: engine/state/memfd.c engine/state/inet*.c engine/state/unix*.c engine/state/sockopt.c
 * needs: engine/state/stdio.c engine/state/lock.c engine/state/fd.pb.c engine/state/file.pb.c
 * needs: engine/state/pipe.pb.c engine/state/eventfd.pb.c engine/state/epoll.pb.c
 * needs: engine/state/timerfd.pb.c engine/state/signalfd.pb.c engine/state/inotify.pb.c
 * needs: engine/state/memfd.pb.c engine/state/inet.pb.c engine/state/unix.pb.c engine/state/lock.pb.c
 * needs: engine/state/sockopt.pb.c engine/state/stdio.pb.c nanopb
 * needs: engine/process/clocks.c engine/process/rights.c lib/arena.c lib/io.c lib/readers.c lib/text.c lib/log.c
 */
#include "engine/process/batch.h"
#include "engine/state/fd.h"

#include "engine/state/epoll.pb.h"
#include "engine/state/fd.pb.h"
#include "engine/state/file.pb.h"
#include "engine/state/memfd.pb.h"
#include "engine/state/pipe.pb.h"
#include "engine/state/unix.pb.h"
#include "lib/arena.h"
#include "lib/log.h"

#include "tests/unit/unit.h"
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/if_ether.h>
#include <netinet/in.h>
#include <pb_encode.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/file.h>
#include <sys/inotify.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/timerfd.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

/* ---- the rest of the engine, as far as it is needed ---- */

static struct {
	unsigned int nr[64];      /* messages of each kind */
	uint8_t bytes[64][65536]; /* the last one, as its struct */
} sent;

int dump_emit(struct dump *d, const struct state_kind *kind, const void *msg)
{
	size_t size;

	UNUSED(d);
	assert_true(pb_get_encoded_size(&size, kind->fields, msg));
	assert_in_range(size, 0, 65536);
	assert_in_range(kind->size, 1, 40 * 1024);
	assert_in_range(kind->id, 1, 63);
	sent.nr[kind->id]++;
	memcpy(sent.bytes[kind->id], msg, kind->size);
	return 0;
}

static const void *last(const struct state_kind *kind)
{
	return sent.bytes[kind->id];
}

int64_t remote_run(struct remote *r, long nr, const uint64_t args[static 6])
{
	UNUSED(r);
	UNUSED(nr);
	UNUSED(args);
	return -ENOSYS;
}

uint64_t remote_push(struct remote *r, const void *data, size_t len)
{
	UNUSED(r);
	UNUSED(data);
	UNUSED(len);
	return 0;
}

uint64_t remote_push_str(struct remote *r, const char *text)
{
	return remote_push(r, text, 0);
}

uint64_t remote_room(struct remote *r, size_t len)
{
	return remote_push(r, NULL, len);
}

void remote_reset(struct remote *r)
{
	UNUSED(r);
}

int batch_room(struct remote *r, unsigned int calls, size_t bytes)
{
	UNUSED(r);
	UNUSED(calls);
	UNUSED(bytes);
	return -ENOSYS;
}

void batch_add(struct remote *r, uint32_t flags, batch_fail_fn *fail, long nr,
	       const uint64_t args[static 6])
{
	UNUSED(r);
	UNUSED(flags);
	UNUSED(fail);
	UNUSED(nr);
	UNUSED(args);
}

int batch_flush(struct remote *r)
{
	UNUSED(r);
	return -ENOSYS;
}

int remote_read(const struct remote *r, uint64_t addr, void *buf, size_t len)
{
	UNUSED(r);
	UNUSED(addr);
	UNUSED(buf);
	UNUSED(len);
	return -EFAULT;
}

static struct {
	int fd; /* the one asked for */
	int seen;
	bool carried;
	char text[512];
} answer;

static void take_report(bool carried, const char *item, const char *fmt, va_list args)
{
	char wanted[16];

	snprintf(wanted, sizeof(wanted), "fd %d", answer.fd);
	if (strcmp(item, wanted))
		return;
	answer.seen++;
	answer.carried = carried;
	vsnprintf(answer.text, sizeof(answer.text), fmt, args);
}

void probe_carried(struct probe *p, const char *item, const char *fmt, ...)
{
	va_list args;

	UNUSED(p);
	va_start(args, fmt);
	take_report(true, item, fmt, args);
	va_end(args);
}

void probe_refused(struct probe *p, const char *item, const char *fmt, ...)
{
	va_list args;

	UNUSED(p);
	va_start(args, fmt);
	take_report(false, item, fmt, args);
	va_end(args);
}

/* ---- a process that holds something ---- */

static pid_t pid;
static int proc_fd, pidfd, to_outside;
static char folder[] = "/tmp/baton-test-fd-XXXXXX";

#define HELD 20 /* the number the thing is held under */

/* Starts a process that runs `hold` and then waits. False when that cannot be had here. */
static bool start(void (*hold)(void))
{
	char path[32], byte;
	int ready[2], outside[2];

	assert_int_equal(pipe(ready), 0);
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, outside), 0);
	pid = fork();
	if (!pid) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		dup2(ready[1], 100);
		dup2(outside[1], 101);
		close_range(3, 99, 0);
		close_range(102, ~0u, 0);
		byte = (char)open("/dev/null", O_RDWR);
		for (int i = 0; i < 3; i++)
			dup2(byte, i);
		close(byte);
		hold();
		close(101);
		if (write(100, "", 1) != 1)
			_exit(1);
		close(100);
		for (;;)
			pause();
	}
	close(ready[1]);
	close(outside[1]);
	to_outside = outside[0];
	/* The byte says that it holds the thing, the end that it has let go of this pipe, too. */
	if (read(ready[0], &byte, 1) != 1 || read(ready[0], &byte, 1) != 0)
		pid = 0;
	close(ready[0]);
	if (!pid) {
		close(to_outside);
		waitpid(-1, NULL, 0);
		return false;
	}
	snprintf(path, sizeof(path), "/proc/%d", pid);
	proc_fd = open(path, O_PATH | O_DIRECTORY | O_CLOEXEC);
	pidfd = (int)syscall(SYS_pidfd_open, pid, 0);
	assert_true(proc_fd >= 0 && pidfd >= 0);
	return true;
}

static void stop(void)
{
	kill(pid, SIGKILL);
	waitpid(pid, NULL, 0);
	close(proc_fd);
	close(pidfd);
	close(to_outside);
}

static void ask(int fd)
{
	struct probe p = {.pid = pid, .proc_fd = proc_fd, .pidfd = pidfd};

	memset(&answer, 0, sizeof(answer));
	answer.fd = fd;
	assert_int_equal(kind_fd.probe(&p), 0);
	assert_int_equal(kind_lock.probe(&p), 0);
}

static int hold_at(int fd)
{
	if (fd < 0)
		_exit(2);
	if (fd != HELD) {
		dup2(fd, HELD);
		close(fd);
	}
	return HELD;
}

/* ---- what is carried, what is refused ---- */

static void hold_dir(void)
{
	hold_at(open("/tmp", O_RDONLY));
}
static void hold_null(void)
{
	hold_at(open("/dev/null", O_RDONLY));
}
static void hold_eventfd(void)
{
	hold_at(eventfd(3, 0));
}
static void hold_timerfd(void)
{
	hold_at(timerfd_create(CLOCK_MONOTONIC, 0));
}
static void hold_packet(void)
{
	hold_at(socket(AF_PACKET, SOCK_RAW, htons(ETH_P_ALL)));
}
static void hold_netlink(void)
{
	hold_at(socket(AF_NETLINK, SOCK_RAW, 0));
}
static void hold_raw(void)
{
	hold_at(socket(AF_INET, SOCK_RAW, IPPROTO_ICMP));
}
static void hold_udp(void)
{
	hold_at(socket(AF_INET, SOCK_DGRAM, 0));
}
static void hold_pidfd(void)
{
	hold_at((int)syscall(SYS_pidfd_open, getpid(), 0));
}
static void hold_uffd(void)
{
	hold_at((int)syscall(SYS_userfaultfd, O_CLOEXEC));
}
static void hold_ns(void)
{
	hold_at(open("/proc/self/ns/net", O_RDONLY));
}
static void hold_mem(void)
{
	hold_at(open("/dev/mem", O_RDONLY));
}
static void hold_memfd(void)
{
	hold_at(memfd_create("x", 0));
}
static void hold_outside(void)
{
	hold_at(dup(101));
}
static void hold_tty(void)
{
	hold_at(posix_openpt(O_RDWR | O_NOCTTY));
}
static void hold_inotify(void)
{
	inotify_add_watch(hold_at(inotify_init1(0)), folder, IN_CREATE);
}

static void hold_uring(void)
{
	uint32_t params[30] = {0};

	hold_at((int)syscall(425, 4, params));
}

static void hold_deleted(void)
{
	char path[80];

	snprintf(path, sizeof(path), "%s/gone", folder);
	hold_at(open(path, O_RDWR | O_CREAT, 0600));
	unlink(path);
}

static void hold_lease(void)
{
	char path[80];

	snprintf(path, sizeof(path), "%s/lease", folder);
	hold_at(open(path, O_RDONLY | O_CREAT, 0600));
	if (fcntl(HELD, F_SETLEASE, F_RDLCK) < 0)
		_exit(3);
}

static int listener(struct sockaddr_in *address)
{
	socklen_t len = sizeof(*address);
	int fd = socket(AF_INET, SOCK_STREAM, 0);

	*address = (struct sockaddr_in){.sin_family = AF_INET,
					.sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	if (bind(fd, (struct sockaddr *)address, len) || listen(fd, 1) ||
	    getsockname(fd, (struct sockaddr *)address, &len))
		_exit(4);
	return fd;
}

static void hold_listener(void)
{
	struct sockaddr_in address;

	hold_at(listener(&address));
}

static void hold_tcp(void)
{
	struct sockaddr_in address;
	int fd = listener(&address), client = socket(AF_INET, SOCK_STREAM, 0);

	if (connect(client, (struct sockaddr *)&address, sizeof(address)))
		_exit(5);
	hold_at(accept(fd, NULL, NULL));
}

static void hold_pipe(void)
{
	int ends[2];

	if (pipe(ends))
		_exit(6);
	hold_at(ends[0]);
}

static void hold_stdout(void)
{
	dup2(101, 1);
	hold_at(dup(1));
}

static const struct {
	void (*hold)(void);
	bool carried;
	const char *text;
} things[] = {
	{hold_dir, true, "/tmp"},
	{hold_null, true, "/dev/null"},
	{hold_eventfd, true, "an eventfd"},
	{hold_timerfd, true, "a timerfd"},
	{hold_udp, true, "a UDP socket"},
	{hold_memfd, true, "a memfd of 0 bytes"},
	{hold_inotify, true, "1 watches"},
	{hold_listener, true, "listening on 127.0.0.1:"},
	{hold_pipe, true, "both ends inside"},
	{hold_stdout, true, "becomes the receiver's"},
	{hold_packet, false, "AF_PACKET"},
	{hold_netlink, false, "a netlink socket"},
	{hold_raw, false, "a raw IP socket"},
	{hold_pidfd, false, "a pidfd"},
	{hold_uffd, false, "a userfaultfd"},
	{hold_uring, false, "an io_uring ring"},
	{hold_ns, false, "a network namespace"},
	{hold_mem, false, "a device (/dev/mem)"},
	{hold_deleted, false, "a deleted file"},
	{hold_lease, false, "a lease"},
	{hold_tcp, false, "a TCP connection from 127.0.0.1:"},
	{hold_outside, false, "a connection to another process"},
	{hold_tty, false, "a terminal"},
};

static void test_each_thing_is_named(void **state)
{
	UNUSED(state);
	for (size_t i = 0; i < sizeof(things) / sizeof(things[0]); i++) {
		if (!start(things[i].hold)) {
			print_message("%s: not to be had here\n", things[i].text);
			continue;
		}
		ask(HELD);
		if (!answer.seen || answer.carried != things[i].carried ||
		    !strstr(answer.text, things[i].text))
			fail_msg("%s: seen %d carried %d \"%s\"", things[i].text, answer.seen,
				 answer.carried, answer.text);
		stop();
	}
}

/* ---- what is sent ---- */

static void dump_all(void)
{
	static const struct state_kind *const kinds[] = {
		&kind_file,    &kind_pipe,  &kind_eventfd,    &kind_timerfd,     &kind_signalfd,
		&kind_inotify, &kind_memfd, &kind_memfd_seal, &kind_inet,        &kind_unix,
		&kind_stdio,   &kind_epoll, &kind_fd,         &kind_epoll_watch, &kind_lock,
	};
	struct dump d = {.pid = pid, .proc_fd = proc_fd, .pidfd = pidfd};

	memset(&sent, 0, sizeof(sent));
	for (size_t i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++) {
		size_t mark = arena_mark();
		int err = kinds[i]->dump(&d, kinds[i]);

		if (err)
			fail_msg("%s: %s (%s)", kinds[i]->name, strerror(-err), log_reason());
		assert_int_equal(arena_mark(), mark);
	}
}

static void hold_shared(void)
{
	int fd = hold_at(open("/dev/zero", O_RDONLY | O_NONBLOCK));

	fcntl(fd, F_DUPFD_CLOEXEC, 40);
	fcntl(fd, F_DUPFD, 10);
	fcntl(open("/dev/zero", O_RDONLY), F_DUPFD, 50);
}

static void test_sharing(void **state)
{
	const baton_Fd *msg = last(&kind_fd);
	struct dump d;
	const struct fd_table *table;
	int err;

	UNUSED(state);
	assert_true(start(hold_shared));
	dump_all();
	d = (struct dump){.pid = pid, .proc_fd = proc_fd, .pidfd = pidfd};
	table = fd_table_of(&d, &err);
	assert_non_null(table);
	assert_int_equal(fd_find(table, 10)->of, 10);
	assert_int_equal(fd_find(table, HELD)->of, 10);
	assert_int_equal(fd_find(table, 40)->of, 10);
	assert_true(fd_find(table, 40)->flags & O_CLOEXEC);
	assert_false(fd_find(table, 10)->flags & O_CLOEXEC);
	assert_int_equal(fd_find(table, 50)->of, 3);
	assert_null(fd_find(table, 11));
	assert_int_equal(fd_is_same(table, 10, 40), 1);
	assert_int_equal(fd_is_same(table, 10, 50), 0);
	assert_int_equal(sent.nr[KIND_FD], table->nr);
	assert_int_equal(msg->fd, 50);
	stop();
}

#define PIPE_BYTES 40000

static void hold_full_pipe(void)
{
	static char data[PIPE_BYTES];
	int ends[2];

	if (pipe(ends) || write(ends[1], data, sizeof(data)) != sizeof(data))
		_exit(7);
}

static void test_pipe_stays_full(void **state)
{
	const baton_Pipe *msg = last(&kind_pipe);
	static char data[PIPE_BYTES + 1];
	int fd;

	UNUSED(state);
	assert_true(start(hold_full_pipe));
	dump_all();
	assert_true(msg->last);
	assert_int_equal(sent.nr[KIND_PIPE], 4); /* three pieces and the end */
	fd = fd_take(pidfd, 3);
	assert_int_equal(read(fd, data, sizeof(data)), PIPE_BYTES);
	close(fd);
	stop();
}

static void hold_pair(void)
{
	int ends[2];

	if (socketpair(AF_UNIX, SOCK_STREAM, 0, ends) || write(ends[0], "some data", 9) != 9)
		_exit(8);
}

static void test_pair_keeps_its_data(void **state)
{
	char data[32];
	int fd, peek = 0;
	socklen_t len = sizeof(peek);

	UNUSED(state);
	assert_true(start(hold_pair));
	dump_all();
	assert_int_equal(sent.nr[KIND_UNIX], 6); /* pair, options 2, data 1, end 2 */
	fd = fd_take(pidfd, 4);
	assert_int_equal(getsockopt(fd, SOL_SOCKET, SO_PEEK_OFF, &peek, &len), 0);
	assert_int_equal(peek, -1);
	assert_int_equal(recv(fd, data, sizeof(data), MSG_DONTWAIT), 9);
	close(fd);
	stop();
}

static void hold_rights(void)
{
	char control[CMSG_SPACE(sizeof(int))] = "";
	struct iovec iov = {(void *)"x", 1};
	struct msghdr header = {.msg_iov = &iov,
				.msg_iovlen = 1,
				.msg_control = control,
				.msg_controllen = sizeof(control)};
	struct cmsghdr *c = CMSG_FIRSTHDR(&header);
	int ends[2], fd = 0;

	c->cmsg_level = SOL_SOCKET;
	c->cmsg_type = SCM_RIGHTS;
	c->cmsg_len = CMSG_LEN(sizeof(int));
	memcpy(CMSG_DATA(c), &fd, sizeof(fd));
	if (socketpair(AF_UNIX, SOCK_STREAM, 0, ends) || sendmsg(ends[0], &header, 0) != 1)
		_exit(9);
}

static int count_own(void)
{
	int nr = 0;

	for (int fd = 0; fd < 1000; fd++)
		nr += fcntl(fd, F_GETFD) >= 0;
	return nr;
}

static void test_descriptors_in_flight_are_refused(void **state)
{
	struct dump d;
	int before, err;

	UNUSED(state);
	assert_true(start(hold_rights));
	before = count_own();
	d = (struct dump){.pid = pid, .proc_fd = proc_fd, .pidfd = pidfd};
	log_reason_clear();
	err = kind_unix.dump(&d, &kind_unix);
	assert_int_equal(err, -EOPNOTSUPP);
	assert_non_null(strstr(log_reason(), "SCM_RIGHTS"));
	assert_int_equal(count_own(), before);
	stop();
}

static void hold_epoll(void)
{
	struct epoll_event event = {.events = EPOLLIN, .data.u64 = 0xfeedface12345678ull};
	int epfd = epoll_create1(0), fd = eventfd(0, 0), alias;

	alias = dup(fd);
	epoll_ctl(epfd, EPOLL_CTL_ADD, alias, &event);
	close(alias);
}

static void test_epoll_by_a_closed_number(void **state)
{
	const baton_EpollWatch *msg = last(&kind_epoll_watch);

	UNUSED(state);
	assert_true(start(hold_epoll));
	dump_all();
	assert_int_equal(msg->fd, 3);
	assert_int_equal(msg->items[0].number, 5);
	assert_int_equal(msg->items[0].target, 4);
	assert_true(msg->items[0].data == 0xfeedface12345678ull);
	stop();
}

static void hold_big_memfd(void)
{
	int fd = memfd_create("name of it", MFD_ALLOW_SEALING);

	if (ftruncate(fd, 1 << 30) || pwrite(fd, "x", 1, 1 << 29) != 1)
		_exit(10);
}

static void test_memfd_holes_are_not_sent(void **state)
{
	const baton_Memfd *msg = last(&kind_memfd);
	struct dump d;
	struct stat st;
	int fd;

	UNUSED(state);
	assert_true(start(hold_big_memfd));
	dump_all();
	assert_int_equal(sent.nr[KIND_MEMFD], 2);
	assert_int_equal(msg->at, 1 << 29);
	assert_int_equal(msg->data.size, 4096);
	d = (struct dump){.pid = pid, .proc_fd = proc_fd, .pidfd = pidfd};
	fd = fd_take(pidfd, 3);
	assert_int_equal(fstat(fd, &st), 0);
	close(fd);
	assert_int_equal(fd_find_memfd(&d, st.st_dev, st.st_ino), 3);
	assert_int_equal(fd_find_memfd(&d, st.st_dev, st.st_ino + 1), -ENOENT);
	stop();
}

static void hold_file(void)
{
	char path[80];

	snprintf(path, sizeof(path), "%s/file", folder);
	hold_at(open(path, O_RDWR | O_CREAT, 0600));
}

static int take_path(void *data, const char *path, unsigned int open_flags)
{
	assert_int_equal(open_flags & O_ACCMODE, O_RDWR);
	*(unsigned int *)data += strstr(path, folder) != NULL;
	return 0;
}

static void test_files_are_listed(void **state)
{
	unsigned int nr = 0;

	UNUSED(state);
	assert_true(start(hold_file));
	assert_int_equal(fd_each_file(proc_fd, pid, take_path, &nr), 0);
	assert_int_equal(nr, 1);
	stop();
}

static int setup(void **state)
{
	UNUSED(state);
	log_level_set(LOG_ERROR);
	return mkdtemp(folder) && !arena_init() && !fd_init() ? 0 : -1;
}

static int teardown(void **state)
{
	static const char *const names[] = {"lease", "file"};
	char path[80];

	UNUSED(state);
	for (size_t i = 0; i < 2; i++) {
		snprintf(path, sizeof(path), "%s/%s", folder, names[i]);
		unlink(path);
	}
	return rmdir(folder);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_each_thing_is_named),
		cmocka_unit_test(test_sharing),
		cmocka_unit_test(test_pipe_stays_full),
		cmocka_unit_test(test_pair_keeps_its_data),
		cmocka_unit_test(test_descriptors_in_flight_are_refused),
		cmocka_unit_test(test_epoll_by_a_closed_number),
		cmocka_unit_test(test_memfd_holes_are_not_sent),
		cmocka_unit_test(test_files_are_listed),
	};

	return cmocka_run_group_tests(tests, setup, teardown);
}
