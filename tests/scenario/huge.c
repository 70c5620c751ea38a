/* SPDX-License-Identifier: MIT */
/*
 * Memory that the kernel may make huge pages of, in which one page has to be there before the start: the
 * rest of what would be one huge page must not come with it.
 * build: musl-static glibc-static
 * libs: -lpthread
 */
#include "scenario.h"
#include <pthread.h>
#include <signal.h>
#include <sys/mman.h>

#define HUGE ((size_t)2 << 20)
#define AREA (2 * HUGE)

static uint8_t *area;
static volatile bool stop;
static pthread_t thread;

/* Its stack, its rseq area and the remainder of its sleep lie in the area. */
static void *run(void *arg)
{
	struct timespec left = {0};

	while (!stop) {
		const struct timespec nap = {3600, 0};

		left.tv_sec = 0;
		if (nanosleep(&nap, &left) == 0 || errno != EINTR)
			scenario_fail("an hour is over");
	}
	return arg;
}

static void on_wake(int sig)
{
	(void)sig;
}

static void prepare(void)
{
	struct sigaction wake = {.sa_handler = on_wake};
	uint8_t *all =
		mmap(NULL, AREA + HUGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	pthread_attr_t attr;

	CHECK(all != MAP_FAILED, "mmap");
	area = (uint8_t *)(((uintptr_t)all + HUGE - 1) & ~(HUGE - 1));
	/* Where there are no huge pages it is memory like any other. */
	madvise(area, AREA, MADV_HUGEPAGE);
	scenario_fill(area, AREA - 65536, 7);
	sigaction(SIGUSR1, &wake, NULL);
	pthread_attr_init(&attr);
	CHECK(!pthread_attr_setstack(&attr, area + AREA - 65536, 65536), "its stack");
	CHECK(!pthread_create(&thread, &attr, run, NULL), "a thread");
	scenario_sleep_ms(50);
}

static void check(void)
{
	long at = scenario_differs(area, AREA - 65536, 7, 0);

	CHECK(at < 0, "byte %ld of %zu", at, AREA - 65536);
	stop = true;
	pthread_kill(thread, SIGUSR1);
	CHECK(!pthread_join(thread, NULL), "its end");
}

static void sabotage(void)
{
	area[HUGE + 12345] ^= 1;
}

int main(int argc, char **argv)
{
	static const struct scenario s = {prepare, NULL, check, sabotage};

	return scenario_main(argc, argv, &s);
}
