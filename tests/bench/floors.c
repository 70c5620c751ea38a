/* SPDX-License-Identifier: MIT */
/*
 * What this machine allows at best: the floors the benchmarks compare with. Prints one JSON object.
 *	uffd	a missing page answered by a thread in the same process (poll, read, UFFDIO_COPY)
 *	tcp	8 bytes to a thread over loopback, 4,112 bytes back
 *	fault	both: the page comes over loopback
 *	fill	recv from loopback and UFFDIO_COPY in runs of 64 KiB, no encryption
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#define PAGE ((size_t)sysconf(_SC_PAGESIZE))
#define ROUNDS 4000
#define RUN (64ul << 10)
#define FILL (256ul << 20)

static int uffd;
static char source[RUN] __attribute__((aligned(64)));
static int page_socket = -1; /* where the handler asks for pages; -1: it has them */

static void die(const char *what)
{
	perror(what);
	exit(1);
}

static int64_t now_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (int64_t)ts.tv_sec * 1000000000 + ts.tv_nsec;
}

static void all(int fd, char *buf, size_t len, int sending)
{
	while (len) {
		ssize_t n = sending ? send(fd, buf, len, MSG_NOSIGNAL) : recv(fd, buf, len, 0);

		if (n <= 0)
			die("socket");
		buf += n;
		len -= (size_t)n;
	}
}

static char *registered(size_t len)
{
	char *mem = mmap(NULL, len, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	struct uffdio_register reg = {.range = {(unsigned long)mem, len},
				      .mode = UFFDIO_REGISTER_MODE_MISSING};

	madvise(mem, len, MADV_NOHUGEPAGE);
	if (mem == MAP_FAILED || ioctl(uffd, UFFDIO_REGISTER, &reg))
		die("UFFDIO_REGISTER");
	return mem;
}

static void copy_in(unsigned long at, size_t len)
{
	struct uffdio_copy c = {.dst = at, .src = (unsigned long)source, .len = len};

	if (ioctl(uffd, UFFDIO_COPY, &c))
		die("UFFDIO_COPY");
}

static void *handler(void *arg)
{
	(void)arg;
	for (int i = 0; i < ROUNDS; i++) {
		struct pollfd p = {uffd, POLLIN, 0};
		struct uffd_msg msg;

		poll(&p, 1, -1);
		if (read(uffd, &msg, sizeof(msg)) != sizeof(msg))
			die("userfaultfd");
		if (page_socket >= 0) {
			all(page_socket, source, 8, 1);
			all(page_socket, source, 4112, 0);
		}
		copy_in(msg.arg.pagefault.address & ~(PAGE - 1), PAGE);
	}
	return NULL;
}

static void *answerer(void *arg)
{
	static char page[4112];

	for (int i = 0; i < ROUNDS; i++) {
		all(*(int *)arg, page, 8, 0);
		all(*(int *)arg, page, sizeof(page), 1);
	}
	return NULL;
}

static void *pusher(void *arg)
{
	static char run[RUN];

	for (size_t sent = 0; sent < FILL; sent += RUN)
		all(*(int *)arg, run, RUN, 1);
	return NULL;
}

static void loopback_pair(int fd[2])
{
	struct sockaddr_in addr = {.sin_family = AF_INET, .sin_addr = {htonl(INADDR_LOOPBACK)}};
	socklen_t len = sizeof(addr);
	int l = socket(AF_INET, SOCK_STREAM, 0), on = 1;

	fd[0] = socket(AF_INET, SOCK_STREAM, 0);
	if (bind(l, (struct sockaddr *)&addr, len) || listen(l, 1) ||
	    getsockname(l, (struct sockaddr *)&addr, &len) ||
	    connect(fd[0], (struct sockaddr *)&addr, len))
		die("loopback");
	fd[1] = accept(l, NULL, NULL);
	for (int i = 0; i < 2; i++)
		setsockopt(fd[i], IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
	close(l);
}

static int by_value(const void *a, const void *b)
{
	int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;

	return x < y ? -1 : x > y;
}

static void show(const char *name, int64_t *took)
{
	qsort(took, ROUNDS, sizeof(*took), by_value);
	printf("\"%s_p50_us\": %.1f, \"%s_p99_us\": %.1f, ", name, (double)took[ROUNDS / 2] / 1e3,
	       name, (double)took[ROUNDS * 99 / 100] / 1e3);
}

static void faults(const char *name)
{
	static int64_t took[ROUNDS];
	char *mem = registered(ROUNDS * PAGE);
	pthread_t t;

	pthread_create(&t, NULL, handler, NULL);
	for (int i = 0; i < ROUNDS; i++) {
		int64_t began = now_ns();

		(void)*(volatile char *)(mem + (unsigned long)i * PAGE);
		took[i] = now_ns() - began;
	}
	pthread_join(t, NULL);
	show(name, took);
}

static void round_trips(int fd[2])
{
	static int64_t took[ROUNDS];
	static char page[4112];
	pthread_t t;

	pthread_create(&t, NULL, answerer, &fd[1]);
	for (int i = 0; i < ROUNDS; i++) {
		int64_t began = now_ns();

		all(fd[0], page, 8, 1);
		all(fd[0], page, sizeof(page), 0);
		took[i] = now_ns() - began;
	}
	pthread_join(t, NULL);
	show("tcp", took);
}

int main(void)
{
	struct uffdio_api api = {.api = UFFD_API};
	pthread_t t;
	int fd[2];
	char *mem;
	int64_t began;

	memset(source, 1, sizeof(source));
	uffd = (int)syscall(SYS_userfaultfd, O_CLOEXEC);
	if (uffd < 0 || ioctl(uffd, UFFDIO_API, &api))
		die("userfaultfd");
	printf("{");
	faults("uffd");
	loopback_pair(fd);
	round_trips(fd);
	page_socket = fd[0];
	pthread_create(&t, NULL, answerer, &fd[1]);
	faults("fault");
	pthread_join(t, NULL);
	mem = registered(FILL);
	began = now_ns();
	pthread_create(&t, NULL, pusher, &fd[1]);
	for (size_t got = 0; got < FILL; got += RUN) {
		all(fd[0], source, RUN, 0);
		copy_in((unsigned long)mem + got, RUN);
	}
	printf("\"fill_mib_s\": %.0f}\n", (double)(FILL >> 20) * 1e9 / (double)(now_ns() - began));
	return 0;
}
