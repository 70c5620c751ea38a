/* SPDX-License-Identifier: MIT */
/*
 * Descriptors of files, pipes and memory: each at its number, with flags, position and contents.
 * build: musl-static
 * args: file | shared | path | device | pipe | packets | halfpipe | fifo | memfd | sealed | lock | async | numbers | limit
 * modes: lazy
 */
#include "fd_common.h"
#include <poll.h>
#include <signal.h>
#include <sys/file.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/wait.h>

static int fd[8];
static char buf[1 << 17];

/* ---- file: position and flags ---- */

static char name[320];

static void file_prepare(void)
{
	char path[320];

	fd_make_file(scenario_path("data", name, sizeof(name)), "0123456789");
	fd_make_file(scenario_path("log", path, sizeof(path)), "begin ");
	fd[0] = open(name, O_RDONLY);
	CHECK(lseek(fd[0], 4, SEEK_SET) == 4);
	fd[1] = open(path, O_RDWR | O_APPEND | O_CLOEXEC | O_NONBLOCK);
	fd[2] = open(name, O_RDWR | O_SYNC);
	fd[3] = open(scenario_dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	CHECK(fd[0] >= 0 && fd[1] >= 0 && fd[2] >= 0 && fd[3] >= 0);
	CHECK(lseek(fd[2], 1ll << 33, SEEK_SET) == 1ll << 33);
}

static void file_check(void)
{
	char path[320];

	CHECK(read(fd[0], buf, 3) == 3 && !memcmp(buf, "456", 3));
	CHECK(fcntl(fd[0], F_GETFD) == 0 && fcntl(fd[1], F_GETFD) == FD_CLOEXEC);
	CHECK((fcntl(fd[1], F_GETFL) & (O_ACCMODE | O_APPEND | O_NONBLOCK)) ==
	      (O_RDWR | O_APPEND | O_NONBLOCK));
	CHECK((fcntl(fd[2], F_GETFL) & (O_ACCMODE | O_SYNC | O_NONBLOCK)) == (O_RDWR | O_SYNC));
	CHECK(write(fd[1], "end", 3) == 3);
	CHECK(scenario_read(scenario_path("log", path, sizeof(path)), buf, 100) == 9 &&
	      !strcmp(buf, "begin end"));
	CHECK(lseek(fd[2], 0, SEEK_CUR) == 1ll << 33);
	CHECK(openat(fd[3], "data", O_RDONLY | O_CLOEXEC) >= 0);
}

static void file_sabotage(void)
{
	lseek(fd[0], 5, SEEK_SET);
}

/* ---- shared: one open file under two numbers, and two of the same file ---- */

static void shared_prepare(void)
{
	fd_make_file(scenario_path("data", name, sizeof(name)), "0123456789");
	fd[0] = open(name, O_RDONLY);
	fd[1] = fcntl(fd[0], F_DUPFD, 40);
	fd[2] = fcntl(fd[0], F_DUPFD_CLOEXEC, 64);
	fd[3] = open(name, O_RDONLY);
	CHECK(fd[0] >= 0 && fd[1] == 40 && fd[2] == 64 && fd[3] >= 0);
}

static void shared_check(void)
{
	CHECK(lseek(fd[0], 7, SEEK_SET) == 7);
	CHECK(lseek(fd[1], 0, SEEK_CUR) == 7 && lseek(fd[2], 0, SEEK_CUR) == 7);
	CHECK(lseek(fd[3], 0, SEEK_CUR) == 0);
	CHECK(fcntl(fd[1], F_GETFD) == 0 && fcntl(fd[2], F_GETFD) == FD_CLOEXEC);
}

static void shared_sabotage(void)
{
	dup2(fd[3], fd[1]);
}

/* ---- path: O_PATH ---- */

static void path_prepare(void)
{
	char link[320];

	fd_make_file(scenario_path("data", name, sizeof(name)), "0123456789");
	CHECK(!symlink("data", scenario_path("link", link, sizeof(link))));
	fd[0] = open(name, O_PATH);
	fd[1] = open(link, O_PATH | O_NOFOLLOW | O_CLOEXEC);
	fd[2] = open("/", O_PATH | O_DIRECTORY);
}

static void path_check(void)
{
	struct stat st;

	CHECK(read(fd[0], buf, 1) < 0 && errno == EBADF);
	CHECK(fcntl(fd[0], F_GETFL) & O_PATH);
	CHECK(!fstat(fd[1], &st) && S_ISLNK(st.st_mode));
	CHECK(fcntl(fd[1], F_GETFD) == FD_CLOEXEC);
	CHECK(openat(fd[2], "dev/null", O_RDONLY) >= 0);
}

static void path_sabotage(void)
{
	dup2(0, fd[1]);
}

/* ---- device ---- */

static void device_prepare(void)
{
	fd[0] = open("/dev/null", O_RDWR);
	fd[1] = open("/dev/zero", O_RDONLY);
	fd[2] = open("/dev/urandom", O_RDONLY | O_CLOEXEC);
	fd[3] = open("/dev/full", O_WRONLY);
	CHECK(fd[0] >= 0 && fd[1] >= 0 && fd[2] >= 0 && fd[3] >= 0);
}

static void device_check(void)
{
	memset(buf, 7, 100);
	CHECK(write(fd[0], buf, 100) == 100 && read(fd[0], buf, 100) == 0);
	CHECK(read(fd[1], buf, 100) == 100 && buf[50] == 0);
	CHECK(read(fd[2], buf, 100) == 100 && scenario_not_zero(buf, 96) >= 0);
	CHECK(write(fd[3], buf, 100) < 0 && errno == ENOSPC);
}

static void device_sabotage(void)
{
	dup2(fd[0], fd[1]);
}

/* ---- pipe: contents, capacity, flags ---- */

#define PIPE_BYTES 100000

static void pipe_prepare(void)
{
	CHECK(!pipe2(fd, O_CLOEXEC) && !pipe2(fd + 2, O_NONBLOCK));
	CHECK(fcntl(fd[1], F_SETPIPE_SZ, 1 << 17) == 1 << 17);
	scenario_fill(buf, PIPE_BYTES, 5);
	for (int i = 0; i < PIPE_BYTES; i += 1000)
		CHECK(write(fd[1], buf + i, 1000) == 1000);
	fd[4] = dup(fd[1]);
}

static void pipe_check(void)
{
	int held = 0;

	CHECK(fcntl(fd[0], F_GETPIPE_SZ) == 1 << 17);
	CHECK(!ioctl(fd[0], FIONREAD, &held) && held == PIPE_BYTES, "%d", held);
	memset(buf, 0, sizeof(buf));
	for (int got = 0; got < PIPE_BYTES; got += held) {
		held = (int)read(fd[0], buf + got, (size_t)(PIPE_BYTES - got));
		CHECK(held > 0);
	}
	CHECK(scenario_differs(buf, PIPE_BYTES, 5, 0) < 0);
	CHECK(!(fcntl(fd[0], F_GETFL) & O_NONBLOCK) && fcntl(fd[0], F_GETFD) == FD_CLOEXEC);
	CHECK((fcntl(fd[2], F_GETFL) & O_NONBLOCK) && fcntl(fd[2], F_GETFD) == 0);
	CHECK(read(fd[2], buf, 1) < 0 && errno == EAGAIN);
	CHECK(write(fd[3], "x", 1) == 1 && read(fd[2], buf, 1) == 1);
	/* The writer has two numbers, and only when both are closed the pipe ends. */
	CHECK(!close(fd[1]) && write(fd[4], "y", 1) == 1 && !close(fd[4]));
	CHECK(read(fd[0], buf, 10) == 1 && read(fd[0], buf, 10) == 0);
}

static void pipe_sabotage(void)
{
	CHECK(read(fd[0], buf, 1) == 1);
}

/* ---- packets: a pipe that keeps the bounds of writes ---- */

static void packets_prepare(void)
{
	CHECK(!pipe2(fd, O_DIRECT));
	CHECK(write(fd[1], "one", 3) == 3 && write(fd[1], "three", 5) == 5 &&
	      write(fd[1], "x", 1) == 1);
}

static void packets_check(void)
{
	CHECK(read(fd[0], buf, 100) == 3 && read(fd[0], buf, 100) == 5 &&
	      read(fd[0], buf, 100) == 1);
	CHECK(write(fd[1], "ab", 2) == 2 && write(fd[1], "c", 1) == 1 &&
	      read(fd[0], buf, 100) == 2);
}

static void packets_sabotage(void)
{
	CHECK(read(fd[0], buf, 100) == 3);
}

/* ---- halfpipe: the other end is closed ---- */

static void halfpipe_prepare(void)
{
	signal(SIGPIPE, SIG_IGN);
	CHECK(!pipe(fd) && !pipe(fd + 2));
	CHECK(write(fd[1], "rest", 4) == 4 && !close(fd[1]) && !close(fd[2]));
}

static void halfpipe_check(void)
{
	CHECK(read(fd[0], buf, 100) == 4 && !memcmp(buf, "rest", 4) && read(fd[0], buf, 100) == 0);
	CHECK(write(fd[3], "x", 1) < 0 && errno == EPIPE);
}

static void halfpipe_sabotage(void)
{
	CHECK(read(fd[0], buf, 1) == 1);
}

/* ---- fifo ---- */

static void fifo_prepare(void)
{
	snprintf(name, sizeof(name), "%s/fifo", fd_own_folder());
	CHECK(!mkfifo(name, 0600) && !chmod(name, 0624));
	fd[0] = open(name, O_RDONLY | O_NONBLOCK);
	fd[1] = open(name, O_WRONLY | O_CLOEXEC);
	fd[2] = open(name, O_RDWR);
	CHECK(fd[0] >= 0 && fd[1] >= 0 && fd[2] >= 0);
	CHECK(write(fd[1], "inside", 6) == 6);
}

static void fifo_check(void)
{
	struct stat st;
	int extra;

	CHECK(!stat(name, &st) && S_ISFIFO(st.st_mode) && (st.st_mode & 07777) == 0624);
	CHECK(read(fd[0], buf, 100) == 6 && !memcmp(buf, "inside", 6));
	CHECK(read(fd[0], buf, 100) < 0 && errno == EAGAIN);
	CHECK(write(fd[2], "x", 1) == 1 && read(fd[0], buf, 100) == 1);
	CHECK(!(fcntl(fd[1], F_GETFL) & O_NONBLOCK) && !(fcntl(fd[2], F_GETFL) & O_NONBLOCK));
	extra = open(name, O_WRONLY | O_NONBLOCK);
	CHECK(extra >= 0 && write(extra, "y", 1) == 1 && read(fd[2], buf, 100) == 1);
}

static void fifo_sabotage(void)
{
	CHECK(read(fd[0], buf, 1) == 1);
}

/* ---- memfd: contents with holes, position, a second open file, a mapping ---- */

#define MEMFD_BYTES (1 << 20)
static uint8_t *mapped;

static void memfd_prepare(void)
{
	char link[32];

	fd[0] = memfd_create("some name", MFD_CLOEXEC);
	CHECK(fd[0] >= 0 && !ftruncate(fd[0], MEMFD_BYTES + 100));
	scenario_fill(buf, 70000 & ~7, 9);
	CHECK(pwrite(fd[0], buf, 70000 & ~7, 200000) == (70000 & ~7));
	CHECK(pwrite(fd[0], "tail", 4, MEMFD_BYTES + 96) == 4);
	CHECK(lseek(fd[0], 12345, SEEK_SET) == 12345);
	snprintf(link, sizeof(link), "/proc/self/fd/%d", fd[0]);
	fd[1] = open(link, O_RDONLY);
	CHECK(fd[1] >= 0);
	mapped = mmap(NULL, MEMFD_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, fd[0], 0);
	CHECK(mapped != MAP_FAILED);
	mapped[5] = 55;
}

static void memfd_check(void)
{
	struct stat st;

	CHECK(!fstat(fd[0], &st) && st.st_size == MEMFD_BYTES + 100);
	CHECK(lseek(fd[0], 0, SEEK_CUR) == 12345 && lseek(fd[1], 0, SEEK_CUR) == 0);
	CHECK(pread(fd[1], buf, 70000 & ~7, 200000) == (70000 & ~7));
	CHECK(scenario_differs(buf, 70000 & ~7, 9, 0) < 0);
	CHECK(pread(fd[0], buf, 100, MEMFD_BYTES) == 100 && !memcmp(buf + 96, "tail", 4));
	CHECK(lseek(fd[0], 300000, SEEK_DATA) == MEMFD_BYTES);
	CHECK(mapped[5] == 55 && mapped[6] == 0);
	mapped[7] = 77;
	CHECK(pread(fd[1], buf, 8, 0) == 8 && buf[5] == 55 && buf[7] == 77);
	CHECK(write(fd[1], "x", 1) < 0 && errno == EBADF);
}

static void memfd_sabotage(void)
{
	CHECK(pwrite(fd[0], "xxxxxxxx", 8, 200000) == 8);
}

/* ---- sealed ---- */

#ifndef F_SEAL_FUTURE_WRITE
#define F_SEAL_FUTURE_WRITE 0x0010
#endif

static void sealed_prepare(void)
{
	fd[0] = memfd_create("sealed", MFD_ALLOW_SEALING);
	fd[1] = memfd_create("never", 0);
	fd[2] = memfd_create("open", MFD_ALLOW_SEALING);
	/* Sealed for the future: the mapping from before still writes. */
	fd[3] = memfd_create("later", MFD_ALLOW_SEALING);
	CHECK(!ftruncate(fd[3], PAGE));
	mapped = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, fd[3], 0);
	CHECK(mapped != MAP_FAILED && !fcntl(fd[3], F_ADD_SEALS, F_SEAL_FUTURE_WRITE));
	CHECK(write(fd[0], "constant", 8) == 8 && write(fd[1], "other", 5) == 5);
	CHECK(!fcntl(fd[0], F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE | F_SEAL_SEAL));
}

static void sealed_check(void)
{
	CHECK(fcntl(fd[0], F_GET_SEALS) ==
	      (F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE | F_SEAL_SEAL));
	CHECK(fcntl(fd[1], F_GET_SEALS) == F_SEAL_SEAL && fcntl(fd[2], F_GET_SEALS) == 0);
	CHECK(pread(fd[0], buf, 100, 0) == 8 && !memcmp(buf, "constant", 8));
	CHECK(pwrite(fd[0], "x", 1, 0) < 0 && errno == EPERM);
	CHECK(pread(fd[1], buf, 100, 0) == 5);
	mapped[9] = 9;
	CHECK(pread(fd[3], buf, 10, 0) == 10 && buf[9] == 9 && pwrite(fd[3], "x", 1, 0) < 0);
}

static void sealed_sabotage(void)
{
	fcntl(fd[2], F_ADD_SEALS, F_SEAL_SHRINK);
}

/* ---- lock ---- */

static void lock_prepare(void)
{
	struct flock posix = {.l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = 10, .l_len = 5};
	struct flock ofd = {.l_type = F_RDLCK, .l_whence = SEEK_SET, .l_start = 100, .l_len = 0};
	char path[400], below[320];

	/* The same file, in name and contents, on the other device. */
	snprintf(below, sizeof(below), "%s/own", scenario_dir);
	CHECK(!mkdir(below, 0777));
	snprintf(path, sizeof(path), "%s/file", below);
	fd_make_file(path, "0123456789");
	snprintf(path, sizeof(path), "%s/above", scenario_dir);
	CHECK(!mkdir(path, 0777));
	snprintf(path, sizeof(path), "%s/above/file", scenario_dir);
	fd_make_file(path, "0123456789");
	snprintf(path, sizeof(path), "%s/above", scenario_dir);
	CHECK(!mount(path, below, NULL, MS_BIND, NULL));
	snprintf(name, sizeof(name), "%s/own/file", scenario_dir);
	for (int i = 0; i < 3; i++)
		CHECK((fd[i] = open(name, O_RDWR)) >= 0);
	fd[3] = open(name, O_RDONLY);
	CHECK(!flock(fd[0], LOCK_EX) && !fcntl(fd[1], F_SETLK, &posix) &&
	      !fcntl(fd[2], F_OFD_SETLK, &ofd));
}

static void lock_check(void)
{
	struct flock whole = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
	int other = open(name, O_RDWR), status;
	pid_t pid;

	CHECK(flock(other, LOCK_SH | LOCK_NB) < 0 && errno == EWOULDBLOCK);
	CHECK(!flock(fd[0], LOCK_UN) && !flock(other, LOCK_EX | LOCK_NB));
	CHECK(!fcntl(other, F_OFD_GETLK, &whole) && whole.l_type != F_UNLCK);
	/* A POSIX lock is seen by another process. */
	pid = fork();
	if (!pid) {
		struct flock at = {
			.l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = 12, .l_len = 1};
		struct flock free_part = {
			.l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = 20, .l_len = 10};
		struct flock end = {
			.l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = 1 << 20, .l_len = 1};
		bool ok = !fcntl(other, F_GETLK, &at) && at.l_type == F_WRLCK && at.l_start == 10 &&
			  at.l_len == 5 && at.l_pid == getppid() &&
			  !fcntl(other, F_GETLK, &free_part) && free_part.l_type == F_UNLCK &&
			  !fcntl(other, F_GETLK, &end) && end.l_type == F_RDLCK &&
			  end.l_pid == -1 && end.l_start == 100 && end.l_len == 0;

		_exit(ok ? 0 : 1);
	}
	CHECK(waitpid(pid, &status, 0) == pid && status == 0, "status %x", status);
}

static void lock_sabotage(void)
{
	flock(fd[0], LOCK_UN);
}

/* ---- async: signal-driven I/O ---- */

static volatile sig_atomic_t told_fd = -1;

static void on_io(int nr, siginfo_t *info, void *context)
{
	(void)nr;
	(void)context;
	told_fd = info->si_fd;
}

static void async_prepare(void)
{
	struct sigaction sa = {.sa_sigaction = on_io, .sa_flags = SA_SIGINFO | SA_RESTART};

	CHECK(!pipe(fd) && !sigaction(SIGRTMIN + 3, &sa, NULL));
	CHECK(!fcntl(fd[0], F_SETOWN, getpid()) && !fcntl(fd[0], F_SETSIG, SIGRTMIN + 3));
	CHECK(!fcntl(fd[0], F_SETFL, O_ASYNC));
}

static void async_check(void)
{
	CHECK(fcntl(fd[0], F_GETOWN) == getpid() && fcntl(fd[0], F_GETSIG) == SIGRTMIN + 3);
	CHECK(fcntl(fd[0], F_GETFL) & O_ASYNC);
	CHECK(write(fd[1], "x", 1) == 1);
	for (int i = 0; i < 1000 && told_fd < 0; i++)
		scenario_sleep_ms(1);
	CHECK(told_fd == fd[0], "%d", (int)told_fd);
}

static void async_sabotage(void)
{
	fcntl(fd[0], F_SETSIG, SIGRTMIN + 4);
}

/* ---- numbers: many descriptors, at numbers where the receiver's own might be ---- */

static void numbers_prepare(void)
{
	close(0);
	CHECK(open("/dev/null", O_RDONLY) == 0);
	fd[0] = open("/dev/zero", O_RDONLY);
	for (int i = 60; i < 300; i++)
		CHECK(dup2(i % 3 ? fd[0] : 0, i) == i);
	CHECK(dup2(fd[0], 1000) == 1000);
}

static void numbers_check(void)
{
	for (int i = 60; i < 300; i++)
		CHECK(read(i, buf, 1) == (i % 3 ? 1 : 0), "%d", i);
	CHECK(read(1000, buf, 1) == 1);
}

static void numbers_sabotage(void)
{
	dup2(100, 99);
}

/* ---- limit: the program has more descriptors than it is allowed to open ---- */

static struct rlimit limit_before;

static void limit_prepare(void)
{
	CHECK((fd[0] = open("/dev/zero", O_RDONLY)) >= 0 && dup2(fd[0], 20) == 20);
	CHECK(!pipe(fd + 1) && write(fd[2], "x", 1) == 1);
}

static void limit_switch(void)
{
	struct rlimit low = {3, 0}, now;

	getrlimit(RLIMIT_NOFILE, &now);
	if (limit_before.rlim_cur) {
		CHECK(!setrlimit(RLIMIT_NOFILE, &limit_before));
		CHECK(now.rlim_cur == 3, "%d", (int)now.rlim_cur);
		return;
	}
	limit_before = now;
	low.rlim_max = now.rlim_max;
	setrlimit(RLIMIT_NOFILE, &low);
}

static void limit_check(void)
{
	CHECK(read(20, buf, 1) == 1 && read(fd[1], buf, 10) == 1);
}

static void limit_sabotage(void)
{
	CHECK(read(fd[1], buf, 1) == 1);
	CHECK(!setrlimit(RLIMIT_NOFILE, &limit_before) && write(fd[2], "ab", 2) == 2);
}

static const struct fd_case cases[] = {
#define CASE(name)                                                                                 \
	{                                                                                          \
#name, name##_prepare, name##_check, name##_sabotage, NULL                         \
	}
	CASE(file),     CASE(shared),
	CASE(path),     CASE(device),
	CASE(pipe),     CASE(packets),
	CASE(halfpipe), CASE(fifo),
	CASE(memfd),    CASE(sealed),
	CASE(lock),     CASE(async),
	CASE(numbers),  {"limit", limit_prepare, limit_check, limit_sabotage, limit_switch},
};

int main(int argc, char **argv)
{
	return fd_main(argc, argv, cases, sizeof(cases) / sizeof(cases[0]));
}
