/* SPDX-License-Identifier: MIT */
/* The floors, seen from the target: it fills the memory of a program, which measures how long it waits. */
#include "floors.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define PERIOD_NS 100000 /* between two touches, as those of the program that is moved */
#define LOCAL (-1)       /* the page is there already */

static int uffd, source_fd;

/* The program: its memory is missing, and it touches a page now and then. */
static void program(char *mem, size_t len, size_t touches, int ready, int go, int64_t *took)
{
	struct uffdio_api api = {.api = UFFD_API};
	struct uffdio_register reg = {.range = {(unsigned long)mem, len},
				      .mode = UFFDIO_REGISTER_MODE_MISSING};
	struct timespec period = {0, PERIOD_NS};
	int fd = (int)syscall(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK);

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	prctl(PR_SET_TIMERSLACK, 1);
	if (fd < 0 || ioctl(fd, UFFDIO_API, &api) || ioctl(fd, UFFDIO_REGISTER, &reg))
		die("userfaultfd");
	if (write(ready, &fd, sizeof(fd)) != sizeof(fd) || read(go, &fd, 1) != 1)
		die("pipe");
	if (!touches)
		pause(); /* until it is full */
	for (size_t i = 0; i < touches; i++) {
		int64_t began = now_ns();

		(void)*(volatile char *)(mem + i * page);
		took[i] = now_ns() - began;
		nanosleep(&period, NULL);
	}
	_exit(0);
}

static pid_t start_program(char *mem, size_t len, size_t touches, int64_t *took)
{
	int up[2], down[2], fd, pidfd;
	pid_t pid;

	if (pipe(up) || pipe(down) || (pid = fork()) < 0)
		die("fork");
	if (!pid)
		program(mem, len, touches, up[1], down[0], took);
	pidfd = (int)syscall(SYS_pidfd_open, pid, 0);
	if (read(up[0], &fd, sizeof(fd)) != sizeof(fd))
		die("the program");
	uffd = (int)syscall(SYS_pidfd_getfd, pidfd, fd, 0);
	if (uffd < 0 || write(down[1], "", 1) != 1)
		die("pidfd_getfd");
	for (int i = 0; i < 2; i++) {
		close(up[i]);
		close(down[i]);
	}
	close(pidfd);
	return pid;
}

static unsigned long next_fault(void)
{
	struct pollfd p = {uffd, POLLIN, 0};
	struct uffd_msg msg;

	for (;;) {
		if (!busy)
			poll(&p, 1, -1);
		if (read(uffd, &msg, sizeof(msg)) == sizeof(msg))
			return (unsigned long)msg.arg.pagefault.address & ~(page - 1);
		if (errno != EAGAIN)
			die("userfaultfd");
	}
}

static void copy_in(unsigned long at, size_t len)
{
	struct uffdio_copy c = {.dst = at, .src = (unsigned long)run, .len = len};

	if (ioctl(uffd, UFFDIO_COPY, &c))
		die("UFFDIO_COPY");
}

static void ask_page(int what)
{
	struct request r = {(uint32_t)what, use_aes};

	if (what == LOCAL)
		return;
	put(source_fd, &r, sizeof(r));
	if (!get(source_fd, run, page + (what == PAGE_SEALED ? TAG : 0)) ||
	    (what == PAGE_SEALED && !seal(run, page, false)))
		die("a page");
}

static void *shared(size_t len, int flags)
{
	void *mem = mmap(NULL, len, PROT_READ | PROT_WRITE, flags | MAP_ANONYMOUS, -1, 0);

	if (mem == MAP_FAILED)
		die("mmap");
	return mem;
}

static int by_value(const void *a, const void *b)
{
	int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;

	return x < y ? -1 : x > y;
}

static void show(const char *name, int64_t *took, size_t n)
{
	qsort(took, n, sizeof(*took), by_value);
	printf("\"%s_p50_us\": %.1f, \"%s_p99_us\": %.1f, ", name, (double)took[n / 2] / 1e3, name,
	       (double)took[n * 99 / 100] / 1e3);
}

/* With the distribution: of each hundredth the slowest. */
static void show_hundredths(const int64_t *sorted, size_t n)
{
	printf("\"fault_hundredths_us\": [");
	for (size_t i = 1; i <= 100; i++)
		printf("%s%.1f", i > 1 ? ", " : "", (double)sorted[(n * i - 1) / 100] / 1e3);
	printf("], ");
}

static void faults(const char *name, int what, size_t n)
{
	char *mem = shared(n * page, MAP_PRIVATE);
	int64_t *took = shared(n * sizeof(*took), MAP_SHARED);
	pid_t pid = start_program(mem, n * page, n, took);

	for (size_t i = 0; i < n; i++) {
		unsigned long at = next_fault();

		ask_page(what);
		copy_in(at, page);
	}
	waitpid(pid, NULL, 0);
	show(name, took, n);
	if (!strcmp(name, "fault"))
		show_hundredths(took, n);
	munmap(mem, n * page);
	munmap(took, n * sizeof(*took));
	close(uffd);
}

static void round_trips(size_t n)
{
	int64_t *took = shared(n * sizeof(*took), MAP_SHARED);
	struct timespec period = {0, PERIOD_NS};

	for (size_t i = 0; i < n; i++) {
		int64_t began = now_ns();

		ask_page(PAGE_PLAIN);
		took[i] = now_ns() - began;
		nanosleep(&period, NULL);
	}
	show("tcp", took, n);
	munmap(took, n * sizeof(*took));
}

static void stream(size_t mib)
{
	struct request r = {STREAM, (uint32_t)mib};
	size_t len = mib << 20;
	char *mem = shared(len, MAP_PRIVATE);
	int64_t *took = shared(sizeof(*took), MAP_SHARED), began;
	pid_t pid = start_program(mem, len, 0, took);

	began = now_ns();
	put(source_fd, &r, sizeof(r));
	for (size_t got = 0; got < len; got += RUN) {
		if (!get(source_fd, run, RUN))
			die("the stream");
		copy_in((unsigned long)mem + got, RUN);
	}
	printf("\"stream_mib_s\": %.1f, ", (double)mib * 1e9 / (double)(now_ns() - began));
	kill(pid, SIGKILL);
	waitpid(pid, NULL, 0);
	munmap(mem, len);
	close(uffd);
}

static void dial(const char *address, uint16_t port)
{
	struct sockaddr_in addr = {.sin_family = AF_INET, .sin_port = htons(port)};
	int on = 1;

	source_fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (inet_pton(AF_INET, address, &addr.sin_addr) != 1 ||
	    connect(source_fd, (struct sockaddr *)&addr, sizeof(addr)))
		die(address);
	setsockopt(source_fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
}

/* Faults while a stream over another connection fills the memory of another program, again and again. */
static void pushed_faults(const char *address, uint16_t port, size_t n, size_t mib)
{
	pid_t pid;

	fflush(stdout);
	pid = fork();
	if (pid < 0)
		die("fork");
	if (!pid) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		if (!freopen("/dev/null", "w", stdout))
			die("/dev/null");
		dial(address, port);
		for (;;)
			stream(mib);
	}
	faults("pushed", PAGE_SEALED, n);
	kill(pid, SIGKILL);
	waitpid(pid, NULL, 0);
}

int measure(const char *address, uint16_t port, size_t nr_faults, size_t mib, bool pushed)
{
	dial(address, port);
	printf("{");
	faults("uffd", LOCAL, nr_faults);
	round_trips(nr_faults);
	faults("fault", PAGE_SEALED, nr_faults);
	if (mib)
		stream(mib);
	if (pushed)
		pushed_faults(address, port, nr_faults, mib);
	printf("\"cipher_page_us\": %.2f, ", (double)seal_ns(page) / 1e3);
	printf("\"cipher_mib_s\": %.0f, \"cipher\": \"%s\"}\n",
	       (double)RECORD / (1 << 20) * 1e9 / (double)seal_ns(RECORD),
	       use_aes ? "AES-128-GCM" : "ChaCha20-Poly1305");
	fflush(stdout); /* lib/stream.c has none at the end */
	return 0;
}
