/* SPDX-License-Identifier: MIT */
/*
 * Pages where the threads stood are the first that are pushed, each once; and nothing is lost by it.
 * emulator: no
 * needs: engine/paging/pager*.c engine/paging/todo.c engine/paging/uffd.c engine/paging/histogram.c engine/paging/serve.c
 * needs: engine/paging/source.c engine/paging/pagemap.c lib/arena.c lib/log.c transport/lane.c transport/pack.c transport/traffic.c transport/pace.c transport/frame.c
 * needs: engine/process/family.c engine/process/halt.c engine/process/proc.c engine/process/clocks.c engine/process/restart.c
 * needs: engine/process/remote.c engine/process/batch.c arch/batch.c engine/process/freeze.c arch/regs.c arch/xstate.c arch/inject.c
 * needs: arch/sigreturn.c arch/pagetable.c lib/io.c lib/readers.c lib/text.c
 * needs: tests/unit/fake_tls.c tests/unit/pager_world.c tests/unit/pager_model.c
 */
#include "tests/unit/pager_model.h"

#include "engine/paging/pager_internal.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <sys/socket.h>
#include <unistd.h>
#include <cmocka.h>

static uint64_t at(const struct world *w, unsigned int page)
{
	return (uintptr_t)w->window + page * w->page;
}

static int play_wait(struct world *w)
{
	(void)w;
	pause();
	return 0;
}

static int play_check(struct world *w)
{
	model_init(1);
	return model_check(w, 5000) || model_check(w, 3) || model_check_all(w);
}

static int end_at_once(void *data, const struct pager_counters *counters)
{
	(void)data;
	(void)counters;
	return -ETIME;
}

struct asked {
	uint64_t start, end;
	bool behind;
};

/* What one turn of the pager asks for on a new link: the number of requests. */
static unsigned int asked_first(struct world *w, enum pager_mode mode, struct asked *asked,
				unsigned int most)
{
	uint8_t header[FRAME_HEADER_BYTES], body[8];
	int faults[2], bulk[2];
	struct frame frame;
	unsigned int nr = 0;

	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, faults), 0);
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, bulk), 0);
	w->faults.fd = faults[0];
	w->bulk.fd = bulk[0];
	assert_int_equal(pager_run(w->pager, &w->faults, &w->bulk, mode, end_at_once, NULL),
			 -ETIME);
	lane_close(&w->faults);
	lane_close(&w->bulk);
	while (read(bulk[1], header, sizeof(header)) == sizeof(header)) {
		assert_int_equal(frame_decode(header, &frame), 0);
		assert_int_equal(frame.type, FRAME_PUSH);
		assert_int_equal(read(bulk[1], body, 8), 8);
		if (nr < most)
			asked[nr] = (struct asked){.start = frame.addr,
						   .end = frame_get_u64(body),
						   .behind = frame.space & PUSH_BEHIND};
		nr++;
	}
	close(faults[1]);
	close(bulk[1]);
	return nr;
}

static void assert_asked(const struct world *w, const struct asked *asked, unsigned int from,
			 unsigned int to)
{
	assert_int_equal(asked->start, at(w, from));
	assert_int_equal(asked->end, at(w, to));
	assert_true(asked->behind);
}

/* A stack's pages, one that a register leads into twice, and addresses of nothing. */
static void predict_some(struct world *w)
{
	assert_true(pager_predict(w->pager, at(w, 5000) + 4000));
	assert_true(pager_predict(w->pager, at(w, 5001) + 8));
	assert_true(pager_predict(w->pager, at(w, 5002)));
	assert_false(pager_predict(w->pager, at(w, 5000)));
	assert_false(pager_predict(w->pager, 0));
	assert_false(pager_predict(w->pager, 4711));
	assert_false(pager_predict(w->pager, UINT64_MAX));
	assert_true(pager_predict(w->pager, at(w, WORLD_AREA_PAGES)));
	assert_true(pager_predict(w->pager, at(w, 3)));
	assert_true(pager_predict(w->pager, at(w, WORLD_AREA_PAGES - 1)));
	assert_true(pager_predict(w->pager, at(w, WORLD_AREA_PAGES + 1)));
}

static void test_they_are_asked_for_first(void **state)
{
	struct asked asked[4];
	struct world w;

	(void)state;
	world_begin(&w);
	world_target(&w, play_wait);
	pager_ledger_checkpoint(w.pager);
	predict_some(&w);
	/* The second time on another link, the third in place of a worker that died. */
	for (int i = 0; i < 3; i++) {
		if (i == 2)
			assert_int_equal(pager_take_over(w.pager), 0);
		assert_true(asked_first(&w, PAGER_LAZY, asked, 4) >= 4);
		assert_asked(&w, &asked[0], 5000, 5003);
		assert_asked(&w, &asked[1], 3, 4);
		assert_asked(&w, &asked[2], WORLD_AREA_PAGES - 1, WORLD_AREA_PAGES);
		assert_int_equal(asked[3].start, at(&w, 0));
	}
	/* Before the start nobody waits for them. */
	assert_true(asked_first(&w, PAGER_EAGER, asked, 1) >= 1);
	assert_int_equal(asked[0].start, at(&w, 0));
	assert_int_equal(asked_first(&w, PAGER_ON_DEMAND, asked, 1), 0);
	world_end(&w);
}

static void test_there_is_an_end(void **state)
{
	struct todo_piece piece;
	struct world w;
	unsigned int nr = 0;

	(void)state;
	world_begin(&w);
	world_target(&w, play_wait);
	for (unsigned int i = 0; i < PAGER_PREDICTED; i++)
		assert_true(pager_predict(w.pager, at(&w, 2 * i)));
	assert_false(pager_predict(w.pager, at(&w, 1)));
	while (pager_predict_next(w.pager, &piece))
		assert_int_equal(piece.start, at(&w, 2 * nr++));
	assert_int_equal(nr, PAGER_PREDICTED);
	pager_reset(w.pager);
	assert_true(pager_predict(w.pager, at(&w, 1)));
	world_end(&w);
}

/* Each may cost a node. */
static void test_nodes_run_short(void **state)
{
	struct todo_piece piece;
	struct world w;

	(void)state;
	world_begin(&w);
	world_target(&w, play_wait);
	predict_some(&w);
	w.pager->pool.nr_free = 2;
	assert_false(pager_predict_next(w.pager, &piece));
	w.pager->pool.nr_free = w.pager->pool.nr - 1;
	world_end(&w);
}

static void test_every_byte_is_right(void **state)
{
	struct pager_counters counters;
	struct world w;

	(void)state;
	for (int i = 0; i < 2; i++) {
		world_begin(&w);
		w.rate_mib_s = i ? 0 : 20;
		world_target(&w, play_check);
		predict_some(&w);
		/* Of what exists nowhere, nothing comes. */
		pager_predict(w.pager, at(&w, 1024));
		world_connect(&w, true);
		assert_int_equal(world_run(&w, PAGER_LAZY), 0);
		pager_counters(w.pager, &counters);
		assert_int_equal(counters.pages_predicted, 5);
		world_check_target(&w);
		world_end(&w);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_they_are_asked_for_first),
		cmocka_unit_test(test_there_is_an_end),
		cmocka_unit_test(test_nodes_run_short),
		cmocka_unit_test(test_every_byte_is_right),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
