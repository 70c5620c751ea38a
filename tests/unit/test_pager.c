/* SPDX-License-Identifier: MIT */
/*
 * The pager and the page server together: a process that forks, moves, discards and unmaps its
 * memory while it is being filled reads every byte right.
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

#include "engine/paging/pager_internal.h"
#include "engine/paging/uffd.h"
#include "lib/clock.h"
#include "lib/kernel.h"
#include "lib/log.h"

#include <errno.h>
#include <linux/mman.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>
#include <cmocka.h>

/* Pages that the changing thread leaves alone, for the thread that only reads. */
#define STEADY_FIRST 5120
#define CHANGES 3000

static int play_changes(struct world *w, unsigned int nr, bool may_fork);

/* A child that changes its own copy, one that runs another program, or one that just ends. */
static int change_fork(struct world *w)
{
	unsigned int how = model_pick(4), child_seed = model_pick(1u << 30);
	pid_t pid = fork();
	int status;

	if (pid == 0) {
		model_seed(child_seed);
		if (how == 0)
			execl("/bin/true", "true", NULL);
		if (how == 1)
			_exit(0);
		status = play_changes(w, how * 10, how == 3 && model_pick(2));
		_exit(status ? status : how == 2 ? model_check_all(w) : 0);
	}
	if (pid < 0 || waitpid(pid, &status, 0) != pid)
		return 6;
	return WIFEXITED(status) ? WEXITSTATUS(status) : 7;
}

/* In the part that changes, or above the area. */
static unsigned int pick_place(unsigned int len)
{
	unsigned int at = model_pick(STEADY_FIRST + WORLD_PAGES - WORLD_AREA_PAGES - 2 * len);

	if (at + len <= STEADY_FIRST)
		return at;
	return at + WORLD_AREA_PAGES - STEADY_FIRST + len;
}

static int change_once(struct world *w, bool may_fork)
{
	unsigned int len = 1 + model_pick(60), at = pick_place(len), to = pick_place(len);

	switch (model_pick(24)) {
	case 0:
	case 1:
	case 2:
		return model_discard(w, at, len);
	case 3:
		return model_unmap(w, at, 1 + len / 8);
	case 4:
		return model_map(w, at, 1 + len / 8);
	case 5:
	case 6:
		return model_move(w, at, len, to, len, false);
	case 7:
		return model_move(w, at, len, to, len, model[at].vma == 1);
	case 8:
		return model_move(w, at, len, to, 1 + len / 2, false);
	case 9:
		return model_grow(w, at, 1 + len / 8);
	case 10:
		return may_fork && model_pick(6) == 0 ? change_fork(w) : 0;
	case 11:
	case 12:
	case 13:
		model_write(w, at);
		return 0;
	default:
		return model_check(w, at);
	}
}

static int play_changes(struct world *w, unsigned int nr, bool may_fork)
{
	for (unsigned int i = 0; i < nr; i++) {
		int err = change_once(w, may_fork);

		if (err) {
			fprintf(stderr, "change %u: failure %d\n", i, err);
			return err;
		}
	}
	return 0;
}

/* Two of these meet at the same pages. */
static void *read_steadily(void *data)
{
	struct world *w = data;
	unsigned int state = 77;

	for (unsigned int i = 0; i < 3000; i++) {
		unsigned int span = WORLD_AREA_PAGES - STEADY_FIRST;

		state = state * 1103515245 + 12345;
		if (model_check(w, STEADY_FIRST + (state >> 8) % span))
			_exit(40);
	}
	return NULL;
}

static unsigned int play_seed;

static int play_all(struct world *w)
{
	pthread_t readers[2];
	int err;

	model_init(play_seed);
	for (int i = 0; i < 2; i++)
		pthread_create(&readers[i], NULL, read_steadily, w);
	err = play_changes(w, CHANGES, true);
	for (int i = 0; i < 2; i++)
		pthread_join(readers[i], NULL);
	return err ? err : model_check_all(w);
}

static void run_all(enum pager_mode mode, unsigned int rate, unsigned int with_seed)
{
	struct world w;
	int err;

	play_seed = with_seed;
	world_begin(&w);
	w.rate_mib_s = rate;
	world_target(&w, play_all);
	world_connect(&w, false);
	err = world_run(&w, mode);
	if (err)
		print_message("seed %u: %s\n", with_seed, strerror(-err));
	assert_int_equal(err, 0);
	world_check_target(&w);
	world_end(&w);
}

static void test_lazy_while_changing(void **state)
{
	(void)state;
	for (unsigned int i = 1; i <= 2; i++)
		run_all(PAGER_LAZY, 12, i);
	run_all(PAGER_LAZY, 0, 5);
}

static void test_on_demand_while_changing(void **state)
{
	(void)state;
	for (unsigned int i = 11; i <= 12; i++)
		run_all(PAGER_ON_DEMAND, 0, i);
}

/* ---- single things ---- */

static int play_reads(struct world *w)
{
	model_init(1);
	for (int i = 0; i < 300; i++) {
		if (model_check(w, model_pick(WORLD_AREA_PAGES)))
			return 1;
	}
	return model_check_all(w);
}

static int play_wait_and_read(struct world *w)
{
	model_init(1);
	usleep(300000);
	return model_check_all(w);
}

static void test_eager(void **state)
{
	struct pager_counters counters;
	struct world w;

	(void)state;
	world_begin(&w);
	world_target(&w, play_wait_and_read);
	world_connect(&w, true);
	assert_int_equal(world_run(&w, PAGER_EAGER), 0);
	pager_counters(w.pager, &counters);
	assert_int_equal(counters.todo_bytes, 0);
	assert_true(counters.pages_sent < WORLD_AREA_PAGES);
	assert_true(counters.pages_sent > WORLD_AREA_PAGES / 2);
	world_check_target(&w);
	world_end(&w);
}

static int break_soon(void *data, const struct pager_counters *counters)
{
	struct world *w = data;

	(void)counters;
	if (w->server > 0) {
		kill(w->server, SIGKILL);
		waitpid(w->server, NULL, 0);
		w->server = 0;
	}
	return 0;
}

static void test_link_breaks(void **state)
{
	struct world w;
	int err = -1;

	(void)state;
	world_begin(&w);
	w.rate_mib_s = 20;
	world_target(&w, play_reads);
	assert_int_equal(write(w.target_go, "", 1), 1);
	close(w.target_go);
	w.target_go = -1;
	for (int i = 0; i < 5; i++) {
		world_connect(&w, i % 2);
		err = pager_run(w.pager, &w.faults, &w.bulk, PAGER_LAZY, break_soon, &w);
		assert_true(err == -ECONNRESET || err == -EPIPE);
		world_disconnect(&w);
	}
	world_connect(&w, true);
	assert_int_equal(world_run(&w, PAGER_LAZY), 0);
	world_check_target(&w);
	world_end(&w);
}

static int play_read_and_stay(struct world *w)
{
	int wrong;

	model_init(1);
	wrong = model_check_all(w);
	if (!wrong)
		pause();
	return wrong;
}

/*
 * A worker dies between a fill and its note of it. Nobody touches that page any more: on demand the end must
 * come all the same.
 */
static void test_worker_dies_after_a_fill(void **state)
{
	uint64_t page[512], done;
	struct world w;

	(void)state;
	world_begin(&w);
	world_target(&w, play_read_and_stay);
	pager_ledger_checkpoint(w.pager);
	assert_int_equal(sizeof(page), w.page);
	world_page_fill(page, 7, w.page);
	assert_int_equal(
		uffd_copy(w.uffd, (uintptr_t)w.window + 7 * w.page, page, w.page, w.page, &done),
		0);
	assert_int_equal(pager_take_over(w.pager), 0);
	world_connect(&w, false);
	assert_int_equal(world_run(&w, PAGER_ON_DEMAND), 0);
	world_end(&w);
}

static int play_die(struct world *w)
{
	model_init(1);
	return model_check(w, 7) || model_check(w, 4711);
}

static void test_process_ends(void **state)
{
	struct world w;

	(void)state;
	for (int i = 0; i < 2; i++) {
		world_begin(&w);
		w.rate_mib_s = 1;
		world_target(&w, play_die);
		world_connect(&w, false);
		assert_int_equal(world_run(&w, i ? PAGER_ON_DEMAND : PAGER_LAZY), 0);
		world_check_target(&w);
		world_end(&w);
	}
}

/* More living children than there are spaces. */
#define CHILDREN (CONFIG_MAX_SPACES + 8)

static int play_child(struct world *w, unsigned int nr)
{
	model_seed(nr);
	for (int round = 0; round < 2; round++) {
		if (model_discard(w, 1000 + nr * 3, 2) || model_discard(w, model_pick(5000), 1))
			return 3;
		for (int i = 0; i < 100; i++) {
			if (model_check(w, model_pick(WORLD_AREA_PAGES)) ||
			    model_check(w, model_pick(nr * 3 + 1)))
				return 4;
			model_write(w, model_pick(WORLD_AREA_PAGES));
		}
		usleep(200000);
	}
	return model_check(w, nr * 3);
}

static int play_many_children(struct world *w)
{
	static pid_t pids[CHILDREN];
	int status, err = 0;

	model_init(1);
	for (unsigned int i = 0; i < CHILDREN; i++) {
		/* Each differs from the others, so that nothing is shared. */
		if (model_discard(w, i * 3, 1))
			return 2;
		pids[i] = fork();
		if (pids[i] == 0)
			_exit(play_child(w, i));
	}
	err = model_check_all(w);
	for (unsigned int i = 0; i < CHILDREN; i++) {
		if (waitpid(pids[i], &status, 0) != pids[i] || status)
			err = 4;
	}
	return err;
}

static void test_many_children(void **state)
{
	struct world w;

	(void)state;
	for (int i = 0; i < 2; i++) {
		world_begin(&w);
		w.rate_mib_s = 30;
		world_target(&w, play_many_children);
		world_connect(&w, false);
		assert_int_equal(world_run(&w, i ? PAGER_ON_DEMAND : PAGER_LAZY), 0);
		world_check_target(&w);
		world_end(&w);
	}
}

/* More holes than there are nodes. */
static int play_holes(struct world *w)
{
	model_init(1);
	for (unsigned int i = 0; i + 1 < WORLD_AREA_PAGES; i += 2) {
		if (model_discard(w, i, 1))
			return 2;
	}
	return model_check_all(w);
}

static void test_many_holes(void **state)
{
	struct world w;

	(void)state;
	for (int i = 0; i < 2; i++) {
		world_begin(&w);
		w.rate_mib_s = 4;
		world_target(&w, play_holes);
		world_connect(&w, false);
		assert_int_equal(world_run(&w, i ? PAGER_ON_DEMAND : PAGER_LAZY), 0);
		world_check_target(&w);
		world_end(&w);
	}
}

/* ---- requests and answers that make no sense ---- */

static int server_verdict(uint8_t type, uint16_t space, uint64_t addr, uint64_t value, bool on_bulk)
{
	struct frame frame = {.type = type, .space = space, .addr = addr, .len = 8};
	struct world w;
	uint8_t body[8];
	int status = -1;

	world_begin(&w);
	world_connect(&w, false);
	frame_put_u64(value, body);
	if (type == FRAME_GO)
		frame.len = 0;
	lane_queue(on_bulk ? &w.bulk : &w.faults, &frame, body);
	assert_int_equal(lane_flush(on_bulk ? &w.bulk : &w.faults), 1);
	waitpid(w.server, &status, 0);
	w.server = 0;
	w.target = 0;
	world_end(&w);
	return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

static void test_hostile_requests(void **state)
{
	(void)state;
	assert_int_equal(server_verdict(FRAME_GO, 0, 0, 0, false), 0);
	assert_int_equal(server_verdict(FRAME_FETCH, 0, 0x1001, 4096, false), EPROTO);
	assert_int_equal(server_verdict(FRAME_FETCH, 0, 0x1000, 4095, false), EPROTO);
	assert_int_equal(server_verdict(FRAME_FETCH, 0, 0x1000, 0, false), EPROTO);
	assert_int_equal(server_verdict(FRAME_FETCH, 0, 0x1000, FRAME_BODY_MAX + 4096, false),
			 EPROTO);
	assert_int_equal(server_verdict(FRAME_FETCH, 0, ~0xfffull, 8192, false), EPROTO);
	assert_int_equal(server_verdict(FRAME_FETCH, 0, 1ull << 63, 4096, false), EPROTO);
	assert_int_equal(server_verdict(FRAME_PUSH, 0, 0x2000, 0x1000, true), EPROTO);
	assert_int_equal(server_verdict(FRAME_PUSH, 0, 0x2000, ~0xfffull, true), EPROTO);
	assert_int_equal(server_verdict(FRAME_PUSH, 0, 0x2001, 0x4000, true), EPROTO);
	assert_int_equal(server_verdict(FRAME_FETCH, 0, 0x1000, 4096, true), EPROTO);
}

/* The tests' own end plays the source. */
static void answer_wrongly(uint8_t type, uint64_t addr, uint64_t len, bool on_bulk)
{
	struct frame frame = {.type = type, .addr = addr, .len = (uint32_t)len};
	static uint8_t body[65536];
	struct lane lane = {.tx_cap = sizeof(body), .tx_allowed = UINT64_MAX};
	static uint8_t tx[sizeof(body) + 64];
	int faults[2], bulk[2];
	struct world w;

	world_begin(&w);
	world_target(&w, play_reads);
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, faults), 0);
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, bulk), 0);
	w.faults.fd = faults[0];
	w.bulk.fd = bulk[0];
	lane.tx = tx;
	lane.fd = on_bulk ? bulk[1] : faults[1];
	if (type == FRAME_ZERO) {
		frame_put_u64(len, body);
		frame.len = 8;
	}
	assert_int_equal(lane_queue(&lane, &frame, body), 0);
	assert_int_equal(lane_flush(&lane), 1);
	assert_int_equal(world_run(&w, PAGER_LAZY), -EPROTO);
	close(faults[1]);
	close(bulk[1]);
	world_end(&w);
}

static void test_hostile_answers(void **state)
{
	(void)state;
	answer_wrongly(FRAME_PAGES, 0x10000, 4096, false);
	answer_wrongly(FRAME_PAGES, 0x10000, 4096, true);
	answer_wrongly(FRAME_PAGES, 0x10001, 4096, true);
	answer_wrongly(FRAME_ZERO, 0x10000, ~0xfffull, true);
	answer_wrongly(FRAME_ZERO, 0x10000, 0, true);
	answer_wrongly(FRAME_REACHED, 0x10000, 0, true);
	answer_wrongly(FRAME_GO, 0, 0, false);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_eager),
		cmocka_unit_test(test_process_ends),
		cmocka_unit_test(test_link_breaks),
		cmocka_unit_test(test_worker_dies_after_a_fill),
		cmocka_unit_test(test_hostile_requests),
		cmocka_unit_test(test_hostile_answers),
		cmocka_unit_test(test_many_children),
		cmocka_unit_test(test_many_holes),
		cmocka_unit_test(test_lazy_while_changing),
		cmocka_unit_test(test_on_demand_while_changing),
	};

	/* One test alone: its name; a second argument: every detail. */
	if (argc > 1)
		cmocka_set_test_filter(argv[1]);
	if (argc > 2)
		log_level_set(LOG_DEBUG);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
