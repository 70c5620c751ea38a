/* SPDX-License-Identifier: MIT */
/*
 * A cable with a delay, for kernels without netem: two tun devices, each in the network of a test device,
 * and between them packets that wait.
 *
 *	delay PID_A PID_B NAME DELAY_US		says `ready`; ends when its standard input does
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/if_tun.h>
#include <net/if.h>
#include <poll.h>
#include <sched.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <time.h>
#include <unistd.h>

#define MAX_PACKET 1600
#define RING 8192 /* packets under way in one direction */

struct packet {
	int64_t due_ns;
	size_t len;
	char bytes[MAX_PACKET];
};

struct direction {
	int from, to;
	unsigned int head, tail;
	struct packet ring[RING];
};

static struct direction directions[2];

static void die(const char *what)
{
	fprintf(stderr, "delay: %s: %s\n", what, strerror(errno));
	exit(1);
}

static int64_t now_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (int64_t)ts.tv_sec * 1000000000 + ts.tv_nsec;
}

/* A device belongs to the network in which it is made, and its descriptor serves from anywhere. */
static int tun_in(const char *pid, const char *name)
{
	struct ifreq ifr = {.ifr_flags = IFF_TUN | IFF_NO_PI};
	char path[64];
	int ns, fd;

	snprintf(path, sizeof(path), "/proc/%s/ns/net", pid);
	ns = open(path, O_RDONLY | O_CLOEXEC);
	if (ns < 0 || setns(ns, CLONE_NEWNET))
		die(path);
	close(ns);
	fd = open("/dev/net/tun", O_RDWR | O_CLOEXEC | O_NONBLOCK);
	snprintf(ifr.ifr_name, sizeof(ifr.ifr_name), "%s", name);
	if (fd < 0 || ioctl(fd, TUNSETIFF, &ifr))
		die("/dev/net/tun");
	return fd;
}

/* What finds no room is lost, as on any cable. */
static void take(struct direction *d, int64_t delay_ns)
{
	while (d->head - d->tail < RING) {
		struct packet *p = &d->ring[d->head % RING];
		ssize_t n = read(d->from, p->bytes, sizeof(p->bytes));

		if (n <= 0)
			return;
		p->len = (size_t)n;
		p->due_ns = now_ns() + delay_ns;
		d->head++;
	}
}

/* Delivers what is due. When the next one is, or INT64_MAX. */
static int64_t deliver(struct direction *d)
{
	while (d->head != d->tail) {
		struct packet *p = &d->ring[d->tail % RING];

		if (p->due_ns > now_ns())
			return p->due_ns;
		(void)!write(d->to, p->bytes, p->len);
		d->tail++;
	}
	return INT64_MAX;
}

static void carry(int64_t delay_ns)
{
	struct pollfd fds[] = {
		{directions[0].from, POLLIN, 0}, {directions[1].from, POLLIN, 0}, {0, POLLIN, 0}};

	for (;;) {
		int64_t a = deliver(&directions[0]), b = deliver(&directions[1]);
		int64_t left = (a < b ? a : b) - now_ns();
		struct timespec ts = {left / 1000000000, left % 1000000000};

		if (left < 0)
			ts = (struct timespec){0};
		if (ppoll(fds, 3, a == INT64_MAX && b == INT64_MAX ? NULL : &ts, NULL) < 0)
			die("ppoll");
		if (fds[2].revents)
			return;
		for (int i = 0; i < 2; i++)
			if (fds[i].revents)
				take(&directions[i], delay_ns);
	}
}

int main(int argc, char **argv)
{
	if (argc != 5)
		return 2;
	prctl(PR_SET_TIMERSLACK, 1);
	directions[0].from = directions[1].to = tun_in(argv[1], argv[3]);
	directions[1].from = directions[0].to = tun_in(argv[2], argv[3]);
	printf("ready\n");
	fflush(stdout);
	carry(atoll(argv[4]) * 1000);
	return 0;
}
