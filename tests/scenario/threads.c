/* SPDX-License-Identifier: MIT */
/*
 * Threads that compute, wait on each other and keep thread-local state.
 * build: musl-static glibc-static glibc-dynamic
 * libs: -lpthread
 */
#include "scenario.h"
#include <pthread.h>
#include <sys/prctl.h>

#define NR_THREADS 12
#define HEAP_BYTES (256 * 1024)

struct worker {
	pthread_t thread;
	int nr;
	pid_t tid;
	uint64_t *heap;
	volatile uint64_t rounds;
};

static struct worker workers[NR_THREADS];
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t wake = PTHREAD_COND_INITIALIZER;
static pthread_barrier_t start;
static volatile bool stop;
static unsigned int nr_stopped;
static __thread uint64_t local[64];
static pid_t main_pid;
static void *main_local;

/* One round: the thread's own pattern must be whole, in its heap block and in its locals. */
static void round_check(struct worker *w)
{
	uint64_t seed = 1000 + (uint64_t)w->nr;

	CHECK(scenario_differs(w->heap, HEAP_BYTES, seed, 0) < 0, "thread %d", w->nr);
	CHECK(scenario_differs(local, sizeof(local), seed, 0) < 0, "thread %d", w->nr);
	CHECK(syscall(SYS_gettid) == w->tid, "thread %d: tid %ld was %d", w->nr,
	      (long)syscall(SYS_gettid), w->tid);
}

static void *worker_run(void *arg)
{
	struct worker *w = arg;
	char name[16], got[16];
	double sum = 0;

	w->tid = (pid_t)syscall(SYS_gettid);
	w->heap = malloc(HEAP_BYTES);
	scenario_fill(w->heap, HEAP_BYTES, 1000 + (uint64_t)w->nr);
	scenario_fill(local, sizeof(local), 1000 + (uint64_t)w->nr);
	snprintf(name, sizeof(name), "worker-%d", w->nr);
	prctl(PR_SET_NAME, name);
	pthread_barrier_wait(&start);
	if (w->nr % 3 == 0) {
		/* Sleeps in a condition until the end. */
		pthread_mutex_lock(&lock);
		while (!stop)
			pthread_cond_wait(&wake, &lock);
		pthread_mutex_unlock(&lock);
	} else {
		while (!stop) {
			for (int i = 1; i < 2000; i++)
				sum += 1.0 / i;
			if (w->nr % 3 == 1)
				scenario_sleep_ms(1);
			if (w->rounds++ % 16 == 0)
				round_check(w);
		}
	}
	round_check(w);
	prctl(PR_GET_NAME, got);
	CHECK(!strcmp(got, name), "%s is now %s", name, got);
	pthread_mutex_lock(&lock);
	nr_stopped++;
	pthread_mutex_unlock(&lock);
	free(w->heap);
	return sum > 0 ? w : NULL;
}

static void prepare(void)
{
	main_pid = getpid();
	main_local = local;
	scenario_fill(local, sizeof(local), 7);
	pthread_barrier_init(&start, NULL, NR_THREADS + 1);
	for (int i = 0; i < NR_THREADS; i++) {
		workers[i].nr = i;
		CHECK(!pthread_create(&workers[i].thread, NULL, worker_run, &workers[i]), "%d", i);
	}
	pthread_barrier_wait(&start);
	scenario_sleep_ms(20);
}

static void sabotage(void)
{
	workers[4].heap[777] ^= 1;
}

static void check(void)
{
	struct timespec before, after;
	uint64_t rounds[NR_THREADS];
	void *ret;
	pthread_t extra;

	CHECK(getpid() == main_pid && syscall(SYS_gettid) == main_pid, "pid %d was %d", getpid(),
	      main_pid);
	CHECK(main_local == (void *)local && scenario_differs(local, sizeof(local), 7, 0) < 0);
	/* Everyone goes on working. */
	for (int i = 0; i < NR_THREADS; i++)
		rounds[i] = workers[i].rounds;
	clock_gettime(CLOCK_MONOTONIC, &before);
	/* Soon; but each may first have to wait for memory that is still to come. */
	for (int i = 0; i < NR_THREADS; i++)
		for (int ms = 0; i % 3 && workers[i].rounds <= rounds[i]; ms++) {
			CHECK(ms < 5000, "thread %d stands still", i);
			scenario_sleep_ms(1);
		}
	clock_gettime(CLOCK_MONOTONIC, &after);
	CHECK(after.tv_sec >= before.tv_sec && after.tv_sec - before.tv_sec < 60, "clock");
	pthread_mutex_lock(&lock);
	stop = true;
	pthread_cond_broadcast(&wake);
	pthread_mutex_unlock(&lock);
	/* join needs clear_child_tid */
	for (int i = 0; i < NR_THREADS; i++)
		pthread_join(workers[i].thread, NULL);
	CHECK(nr_stopped == NR_THREADS, "%u", nr_stopped);
	/* New threads can still be made. */
	stop = true;
	pthread_barrier_destroy(&start);
	pthread_barrier_init(&start, NULL, 1);
	workers[0].rounds = 0;
	CHECK(!pthread_create(&extra, NULL, worker_run, &workers[0]));
	pthread_join(extra, &ret);
}

int main(int argc, char **argv)
{
	static const struct scenario s = {prepare, NULL, check, sabotage};

	return scenario_main(argc, argv, &s);
}
