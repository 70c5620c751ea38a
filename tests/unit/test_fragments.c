/* SPDX-License-Identifier: MIT */
/*
 * More fragments than the pager has nodes: whatever the process does to them while it is being filled,
 * it reads every byte right, and sees nothing of being halted.
 * emulator: no
 * needs: engine/paging/pager*.c engine/paging/todo.c engine/paging/uffd.c engine/paging/histogram.c engine/paging/serve.c
 * needs: engine/paging/source.c engine/paging/pagemap.c lib/arena.c lib/log.c transport/lane.c transport/pack.c transport/traffic.c transport/pace.c transport/frame.c
 * needs: engine/process/family.c engine/process/halt.c engine/process/proc.c engine/process/clocks.c engine/process/restart.c
 * needs: engine/process/remote.c engine/process/batch.c arch/batch.c engine/process/freeze.c arch/regs.c arch/xstate.c arch/inject.c
 * needs: arch/sigreturn.c arch/pagetable.c lib/io.c lib/readers.c lib/text.c
 * needs: tests/unit/fake_tls.c tests/unit/pager_world.c tests/unit/pager_model.c
 * libs: -lpthread
 */
#include "tests/unit/pager_model.h"

#include "lib/log.h"

#include <errno.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
#include <cmocka.h>

/* One in two is discarded here: 2,560 gaps, of single pages. */
#define HOLES_END 5120
#define NR_THREADS 4

static void run_in(enum pager_mode mode, unsigned int rate_mib_s, int (*play)(struct world *w))
{
	struct world w;

	world_begin(&w);
	w.rate_mib_s = rate_mib_s;
	world_target(&w, play);
	world_connect(&w, false);
	assert_int_equal(world_run(&w, mode), 0);
	world_check_target(&w);
	world_end(&w);
}

static void run_both(int (*play)(struct world *w))
{
	run_in(PAGER_LAZY, 4, play);
	run_in(PAGER_ON_DEMAND, 0, play);
}

/* Every other page of [first, end). */
static int make_holes(struct world *w, unsigned int first, unsigned int end)
{
	for (unsigned int i = first; i < end; i += 2) {
		if (model_discard(w, i, 1))
			return 2;
	}
	return 0;
}

/* ---- holes of all kinds ---- */

static int play_holes(struct world *w)
{
	model_init(1);
	return make_holes(w, 0, HOLES_END) || model_check_all(w);
}

static void test_holes(void **state)
{
	(void)state;
	run_both(play_holes);
}

static int play_holes_and_stay(struct world *w)
{
	int err = play_holes(w);

	while (!err)
		pause();
	return err;
}

/* On demand is complete when all was touched, though gaps that were closed are never asked for. */
static void test_on_demand_completes(void **state)
{
	struct pager_counters counters;
	struct world w;

	(void)state;
	world_begin(&w);
	world_target(&w, play_holes_and_stay);
	world_connect(&w, false);
	assert_int_equal(world_run(&w, PAGER_ON_DEMAND), 0);
	assert_int_equal(waitpid(w.target, NULL, WNOHANG), 0);
	pager_counters(w.pager, &counters);
	assert_int_equal(counters.todo_bytes, 0);
	world_end(&w);
}

/* Filled gaps and gaps of several sizes, some written to, and the same ones discarded again. */
static int play_again(struct world *w)
{
	model_init(2);
	for (int round = 0; round < 3; round++) {
		for (unsigned int i = 0; i + 8 < HOLES_END; i += 2 + model_pick(4)) {
			if (model_discard(w, i, 1 + model_pick(3)))
				return 2;
			if (model_pick(2))
				model_write(w, i);
			if (model_check(w, model_pick(WORLD_AREA_PAGES)))
				return 3;
		}
	}
	return model_check_all(w);
}

static void test_discarded_again(void **state)
{
	(void)state;
	run_both(play_again);
}

/* Across fragments, onto fragments, and away from there. */
static int play_moves(struct world *w)
{
	int err;

	model_init(3);
	err = make_holes(w, 0, HOLES_END);
	if (!err)
		err = model_move(w, 0, 900, WORLD_AREA_PAGES + 100, 900, false);
	if (!err)
		err = model_move(w, 1000, 900, WORLD_AREA_PAGES + 2000, 900, true);
	for (unsigned int i = 0; i < 100 && !err; i++)
		err = model_move(w, 2000 + 2 * i, 3, 3001 + 2 * i, 3, false) ||
		      model_move(w, 4000 + 2 * i, 2, i, 2, false) || model_check(w, 3001 + 2 * i) ||
		      model_check(w, i);
	if (!err)
		err = model_move(w, WORLD_AREA_PAGES + 2000, 900, 1000, 900, false);
	return err ? err : model_check_all(w);
}

static void test_moves(void **state)
{
	(void)state;
	run_both(play_moves);
}

/* What was moved away is listed elsewhere, and the place it left is a gap that looks like the others. */
static int play_moved_away(struct world *w)
{
	int err = 0;

	model_init(14);
	for (unsigned int i = 0; i < 200 && !err; i++)
		err = model_move(w, 16 * i + 2, 1, WORLD_AREA_PAGES + 2 * i, 1, true);
	if (!err)
		err = make_holes(w, 0, HOLES_END);
	return err ? err : model_check_all(w);
}

static void test_moved_away(void **state)
{
	(void)state;
	run_both(play_moved_away);
}

/* Where nothing is mapped a mapping may grow into the hole, and the kernel does not tell. */
static int play_unmapped(struct world *w)
{
	int err = 0;

	model_init(4);
	for (unsigned int i = 1; i < HOLES_END && !err; i += 2)
		err = model_unmap(w, i, 1);
	for (unsigned int i = 2; i < HOLES_END && !err; i += 6)
		err = model_grow(w, i, 1) || (i % 4 ? model_check(w, i + 1) : 0);
	for (unsigned int i = 0; i < 200 && !err; i++)
		err = model_move(w, 4 * i, 1, 4 * i + 3, 1, false);
	return err ? err : model_check_all(w);
}

static void test_unmapped(void **state)
{
	(void)state;
	run_both(play_unmapped);
}

/* ---- pages that the kernel takes away when it likes ---- */

static int play_freed(struct world *w)
{
	model_init(5);
	for (unsigned int i = 0; i < HOLES_END; i += 2) {
		model_write(w, i);
		if (madvise(w->window + i * w->page, w->page, MADV_FREE))
			return 2;
	}
	if (madvise(w->window, HOLES_END * w->page, MADV_PAGEOUT))
		return 3;
	for (unsigned int i = 0; i < HOLES_END; i += 2) {
		if (*(const uint64_t *)(w->window + i * w->page) == 0)
			model[i].kind = MODEL_ZEROS;
	}
	return model_check_all(w);
}

static void test_freed(void **state)
{
	(void)state;
	run_both(play_freed);
}

/* ---- several threads, several processes ---- */

struct slice {
	struct world *w;
	unsigned int first, end;
};

/* Without random numbers, and each at pages of its own. */
static void *run_slice(void *data)
{
	const struct slice *s = data;

	for (int round = 0; round < 2; round++) {
		for (unsigned int i = s->first + round; i < s->end; i += 2) {
			if (model_discard(s->w, i, 1) || model_check(s->w, s->end - 1 - i % 32))
				_exit(50);
			if (i % 3 == 0)
				model[i] = (struct model_page){
					.kind = MODEL_WRITTEN, .vma = model[i].vma, .from = i};
			for (uint64_t k = 0; i % 3 == 0 && k < s->w->page / 8; k++)
				((uint64_t *)(s->w->window + i * s->w->page))[k] = i + k;
		}
		for (unsigned int i = s->first; i < s->end; i++) {
			if (model_check(s->w, i))
				_exit(51);
		}
	}
	return NULL;
}

static void run_slices(struct world *w)
{
	struct slice slices[NR_THREADS];
	pthread_t threads[NR_THREADS];
	unsigned int each = WORLD_AREA_PAGES / NR_THREADS;

	for (unsigned int i = 0; i < NR_THREADS; i++) {
		slices[i] = (struct slice){w, i * each, (i + 1) * each};
		if (pthread_create(&threads[i], NULL, run_slice, &slices[i]))
			_exit(52);
	}
	for (unsigned int i = 0; i < NR_THREADS; i++)
		pthread_join(threads[i], NULL);
}

static int play_threads(struct world *w)
{
	model_init(6);
	run_slices(w);
	return model_check_all(w);
}

static void test_threads(void **state)
{
	(void)state;
	run_both(play_threads);
}

/* A child that does not outlive a test that fails. */
static pid_t fork_child(void)
{
	pid_t pid = fork();

	if (pid == 0)
		prctl(PR_SET_PDEATHSIG, SIGKILL);
	return pid;
}

static int end_of(pid_t pid)
{
	int status;

	if (waitpid(pid, &status, 0) != pid)
		return 60;
	return WIFEXITED(status) ? WEXITSTATUS(status) : 61;
}

/* Of each generation the parent and the child make fragments of their own. */
static int play_family(struct world *w, int depth)
{
	pid_t pids[3];
	int err;

	err = make_holes(w, (unsigned int)depth, 1800 + 1200 * (unsigned int)depth);
	for (int i = 0; i < 3 && depth < 2 && !err; i++) {
		pids[i] = fork_child();
		if (pids[i] == 0)
			_exit(play_family(w, depth + 1));
		err = make_holes(w, 2000 + 200 * (unsigned int)i, 4400);
	}
	if (!err)
		err = model_check_all(w);
	for (int i = 0; i < 3 && depth < 2; i++) {
		int end = end_of(pids[i]);

		err = err ? err : end;
	}
	return err;
}

static int play_forks(struct world *w)
{
	model_init(7);
	return play_family(w, 0);
}

static void test_forks(void **state)
{
	(void)state;
	run_both(play_forks);
}

/* More children than there are spaces, all of which discard without a pause. */
#define CROWD (CONFIG_MAX_SPACES + 8)

static int play_crowd(struct world *w)
{
	static pid_t pids[CROWD];
	int err = 0;

	model_init(11);
	for (unsigned int i = 0; i < CROWD; i++) {
		pids[i] = fork_child();
		if (pids[i] == 0)
			_exit(make_holes(w, i, 500 + i) || model_check_all(w));
		if (model_discard(w, 3000 + i, 1))
			return 2;
	}
	for (unsigned int i = 0; i < CROWD; i++) {
		int end = end_of(pids[i]);

		err = err ? err : end;
	}
	return err ? err : model_check_all(w);
}

static void test_crowd(void **state)
{
	(void)state;
	run_both(play_crowd);
}

/* As long as some of these run there is hardly a moment in which nothing is announced; and there are too
 * many of them. */
#define NR_RESTLESS (CONFIG_MAX_SPACES + 4)

static int play_restless(struct world *w)
{
	static pid_t pids[NR_RESTLESS];
	atomic_bool *enough =
		mmap(NULL, w->page, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	int err;

	model_init(12);
	for (unsigned int i = 0; i < NR_RESTLESS; i++) {
		pids[i] = fork_child();
		if (pids[i] == 0) {
			while (!*enough && !make_holes(w, i, 500 + i))
				;
			_exit(model_check_all(w));
		}
	}
	/* Every byte of the parent has to come while they do that. */
	err = model_check_all(w);
	*enough = true;
	for (unsigned int i = 0; i < NR_RESTLESS; i++) {
		int end = end_of(pids[i]);

		err = err ? err : end;
	}
	return err;
}

static void test_restless(void **state)
{
	(void)state;
	run_in(PAGER_LAZY, 0, play_restless);
}

/* A child whose parent has ended is found as well: it tells how it went through a pipe. */
static int play_orphan(struct world *w)
{
	int ends[2];
	char how = 99;

	model_init(8);
	if (pipe(ends))
		return 60;
	if (make_holes(w, 0, 400))
		return 2;
	if (fork() == 0) {
		close(ends[0]);
		if (fork())
			_exit(0);
		how = (char)(make_holes(w, 1, HOLES_END) || model_check_all(w));
		_exit(write(ends[1], &how, 1) != 1);
	}
	close(ends[1]);
	wait(NULL);
	if (make_holes(w, 400, HOLES_END) || model_check_all(w))
		return 3;
	return read(ends[0], &how, 1) == 1 ? how : 62;
}

static void test_orphan(void **state)
{
	(void)state;
	run_both(play_orphan);
}

/* Children that share the memory, and a parent that waits for them in the kernel. */
static int play_vfork(struct world *w)
{
	model_init(9);
	for (unsigned int i = 0; i + 80 < HOLES_END; i += 80) {
		volatile int err = 0;
		pid_t pid = vfork(); /* NOLINT */

		if (pid == 0) {
			err = make_holes(w, i, i + 80);
			if (i % 160)
				execl("/bin/true", "true", NULL);
			_exit(0);
		}
		if (pid < 0 || err || end_of(pid))
			return 63;
	}
	return model_check_all(w);
}

static void test_vfork(void **state)
{
	(void)state;
	run_both(play_vfork);
}

/* Threads that run another program take over the number of their process, also while it is halted. */
static void *run_true(void *data)
{
	(void)data;
	execl("/bin/true", "true", NULL);
	_exit(64);
}

static int play_execs(struct world *w)
{
	pthread_t thread;

	model_init(13);
	for (unsigned int i = 0; i + 160 < HOLES_END; i += 160) {
		pid_t pid = fork_child();

		if (pid == 0) {
			for (int k = 0; k < 3; k++)
				pthread_create(&thread, NULL, run_true, NULL);
			make_holes(w, 0, HOLES_END);
			pause();
		}
		if (make_holes(w, i, i + 160) || end_of(pid))
			return 65;
	}
	return model_check_all(w);
}

static void test_execs(void **state)
{
	(void)state;
	run_both(play_execs);
}

/* ---- nothing is seen of it ---- */

static atomic_bool is_over;

static void *wait_epoll(void *data)
{
	int fd = epoll_create1(0);
	struct epoll_event event;

	(void)data;
	for (int i = 0; !is_over; i++) {
		if (epoll_wait(fd, &event, 1, i % 3) != 0)
			_exit(70);
	}
	return NULL;
}

static void *wait_signal(void *data)
{
	sigset_t set;

	(void)data;
	sigemptyset(&set);
	sigaddset(&set, SIGUSR2);
	pthread_sigmask(SIG_BLOCK, &set, NULL);
	for (int i = 0; !is_over; i++) {
		struct timespec ts = {.tv_nsec = i % 5 * 100000};

		if (sigtimedwait(&set, NULL, &ts) != -1 || errno != EAGAIN)
			_exit(71);
	}
	return NULL;
}

static void *wait_long(void *data)
{
	struct timespec ts = {.tv_nsec = 300000000};
	int fd = epoll_create1(0);
	struct epoll_event event;

	(void)data;
	while (!is_over) {
		if (epoll_wait(fd, &event, 1, 300) != 0 || nanosleep(&ts, NULL))
			_exit(72);
	}
	return NULL;
}

static int play_waits(struct world *w)
{
	void *(*const waits[])(void *) = {wait_epoll, wait_signal, wait_long, wait_epoll};
	pthread_t threads[4];
	int err;

	model_init(10);
	for (int i = 0; i < 4; i++)
		pthread_create(&threads[i], NULL, waits[i], NULL);
	err = make_holes(w, 0, HOLES_END) || make_holes(w, 1, HOLES_END) || model_check_all(w);
	is_over = true;
	for (int i = 0; i < 4; i++)
		pthread_join(threads[i], NULL);
	return err;
}

static void test_waits(void **state)
{
	(void)state;
	run_both(play_waits);
}

/* While somebody else traces it, it cannot be halted: it waits, and then goes on. */
static void trace_a_while(pid_t pid)
{
	int status;

	usleep(30000);
	for (int i = 0; ptrace(PTRACE_SEIZE, pid, 0, 0); i++) {
		if (i > 1000)
			_exit(1); /* it may be halted just now; not for long */
		usleep(1000);
	}
	for (int i = 0; i < 300; i++) {
		usleep(1000);
		if (waitpid(pid, &status, WNOHANG | __WALL) == pid)
			ptrace(PTRACE_CONT, pid, 0, 0);
	}
	_exit(0);
}

static void test_traced(void **state)
{
	struct world w;
	pid_t tracer;

	(void)state;
	world_begin(&w);
	w.rate_mib_s = 8;
	world_target(&w, play_holes);
	world_connect(&w, false);
	tracer = fork();
	if (tracer == 0) {
		close(w.uffd);
		trace_a_while(w.target);
	}
	assert_int_equal(world_run(&w, PAGER_LAZY), 0);
	world_check_target(&w);
	assert_int_equal(end_of(tracer), 0);
	world_end(&w);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_holes),           cmocka_unit_test(test_on_demand_completes),
		cmocka_unit_test(test_discarded_again), cmocka_unit_test(test_moves),
		cmocka_unit_test(test_moved_away),      cmocka_unit_test(test_unmapped),
		cmocka_unit_test(test_freed),           cmocka_unit_test(test_threads),
		cmocka_unit_test(test_forks),           cmocka_unit_test(test_orphan),
		cmocka_unit_test(test_crowd),           cmocka_unit_test(test_restless),
		cmocka_unit_test(test_vfork),           cmocka_unit_test(test_execs),
		cmocka_unit_test(test_waits),           cmocka_unit_test(test_traced),
	};

	/* One test alone: its name; a second argument: every detail. */
	if (argc > 1)
		cmocka_set_test_filter(argv[1]);
	if (argc > 2)
		log_level_set(LOG_DEBUG);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
