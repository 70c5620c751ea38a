/* SPDX-License-Identifier: MIT */
/*
 * Pager, page server, lanes and tables with pages of 4, 16 and 64 KiB, all in one binary and within the same
 * budget. The kernel's own pages stay what they are: to it the larger ones are a few of its own.
 * emulator: no
 * needs: engine/paging/pager*.c engine/paging/todo.c engine/paging/uffd.c engine/paging/histogram.c engine/paging/serve.c
 * needs: engine/paging/source.c engine/paging/pagemap.c lib/arena.c lib/log.c transport/lane.c transport/pack.c transport/traffic.c transport/pace.c transport/frame.c
 * needs: engine/process/family.c engine/process/halt.c engine/process/proc.c engine/process/clocks.c engine/process/restart.c
 * needs: engine/process/remote.c engine/process/batch.c arch/batch.c engine/process/freeze.c arch/regs.c arch/xstate.c arch/inject.c
 * needs: arch/sigreturn.c lib/io.c lib/readers.c lib/text.c
 * needs: tests/unit/fake_tls.c tests/unit/pager_world.c tests/unit/pager_model.c tests/unit/pages.c
 * libs: -lpthread
 */
#include "tests/unit/pager_model.h"
#include "tests/unit/pages.h"

#include "lib/kernel.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>
#include <cmocka.h>

static const unsigned int shifts[] = {12, 14, 16};
#define NR_SHIFTS (sizeof(shifts) / sizeof(shifts[0]))

/* The first of the sizes that this kernel could have. */
static size_t first_shift(void)
{
	size_t i = 0;

	while ((1L << shifts[i]) < sysconf(_SC_PAGESIZE))
		i++;
	return i;
}

static int play_reads(struct world *w)
{
	model_init(1);
	for (int i = 0; i < 300; i++) {
		unsigned int at = model_pick(WORLD_AREA_PAGES);

		if (model_check(w, at))
			return 1;
		if (i % 3 == 0)
			model_write(w, at);
	}
	return model_check_all(w);
}

static void fill_world(enum pager_mode mode)
{
	struct pager_counters counters;
	struct world w;
	int err;

	world_begin(&w);
	world_target(&w, play_reads);
	world_connect(&w, true);
	err = world_run(&w, mode);
	if (err)
		print_message("pages of %llu: %s\n", (unsigned long long)w.page, strerror(-err));
	assert_int_equal(err, 0);
	pager_counters(w.pager, &counters);
	assert_int_equal(counters.todo_bytes, 0);
	world_check_target(&w);
	world_end(&w);
}

static void test_fill(void **state)
{
	(void)state;
	for (size_t i = first_shift(); i < NR_SHIFTS; i++) {
		pages_shift = shifts[i];
		fill_world(PAGER_EAGER);
		fill_world(PAGER_LAZY);
		fill_world(PAGER_ON_DEMAND);
	}
	pages_shift = 0;
}

/* ---- what is sent of memory ---- */

/* One frame of the source for [first, first + nr), as it arrives. */
static void ask(struct world *w, struct lane *lane, unsigned int first, unsigned int nr)
{
	struct frame frame = {
		.type = FRAME_FETCH, .len = 8, .addr = (uintptr_t)w->window + first * w->page};
	uint8_t body[8];

	frame_put_u64(nr * w->page, body);
	assert_int_equal(lane_queue(lane, &frame, body), 0);
	assert_int_equal(lane_flush(lane), 1);
	assert_int_equal(lane_receive_wait(lane, 10000), 0);
	assert_int_equal(lane->rx.addr, frame.addr);
}

/* The whole of a page fits a frame, and a frame has nothing but whole pages. */
static void test_frames(void **state)
{
	(void)state;
	for (size_t i = first_shift(); i < NR_SHIFTS; i++) {
		struct world w;

		pages_shift = shifts[i];
		world_begin(&w);
		world_connect(&w, false);
		/* A slow link is given less at first, but never less than a page. */
		ask(&w, &w.faults, 0, (unsigned int)(FRAME_BODY_MAX / w.page));
		assert_int_equal(w.faults.rx.type, FRAME_PAGES);
		assert_in_range(w.faults.rx.len, w.page, FRAME_BODY_MAX);
		assert_int_equal(w.faults.rx.len % w.page, 0);
		for (uint64_t got = w.faults.rx.len; got < FRAME_BODY_MAX; got += w.faults.rx.len) {
			lane_receive_done(&w.faults);
			assert_int_equal(lane_receive_wait(&w.faults, 10000), 0);
			assert_int_equal(w.faults.rx.len % w.page, 0);
		}
		lane_receive_done(&w.faults);
		/* Zeros that exist, and nothing at all: both are told, none is sent. */
		ask(&w, &w.faults, 1024 + 64, 1);
		assert_int_equal(w.faults.rx.type, FRAME_ZERO);
		assert_int_equal(frame_get_u64(w.faults.rx_body), w.page);
		lane_receive_done(&w.faults);
		ask(&w, &w.faults, 1024, 1);
		assert_int_equal(w.faults.rx.type, FRAME_ZERO);
		lane_receive_done(&w.faults);
		world_end(&w);
	}
	pages_shift = 0;
}

static int verdict(uint64_t addr, uint64_t len)
{
	struct frame frame = {.type = FRAME_FETCH, .addr = addr, .len = 8};
	struct world w;
	uint8_t body[8];
	int status = -1;

	world_begin(&w);
	world_connect(&w, false);
	frame_put_u64(len, body);
	lane_queue(&w.faults, &frame, body);
	assert_int_equal(lane_flush(&w.faults), 1);
	waitpid(w.server, &status, 0);
	w.server = 0;
	world_end(&w);
	return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

/* What is page-aligned on a device with smaller pages only. */
static void test_smaller_pages_are_refused(void **state)
{
	(void)state;
	for (size_t i = first_shift() + 1; i < NR_SHIFTS; i++) {
		uint64_t page = 1ull << shifts[i];

		pages_shift = shifts[i];
		assert_int_equal(verdict(4 * page + page / 4, page), EPROTO);
		assert_int_equal(verdict(4 * page, page / 4), EPROTO);
	}
	pages_shift = 0;
}

static void test_ranges(void **state)
{
	(void)state;
	for (size_t i = first_shift(); i < NR_SHIFTS; i++) {
		struct world w;

		pages_shift = shifts[i];
		world_begin(&w);
		assert_int_equal(pager_add(w.pager, 8 * w.page, 9 * w.page), 0);
		assert_int_equal(pager_add(w.pager, 16 * w.page + w.page / 4, 18 * w.page),
				 -EINVAL);
		assert_int_equal(pager_add(w.pager, 16 * w.page, 18 * w.page - w.page / 4),
				 -EINVAL);
		world_end(&w);
	}
	pages_shift = 0;
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_ranges),
		cmocka_unit_test(test_frames),
		cmocka_unit_test(test_smaller_pages_are_refused),
		cmocka_unit_test(test_fill),
	};

	if (argc > 1)
		cmocka_set_test_filter(argv[1]);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
