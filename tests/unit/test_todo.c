/* SPDX-License-Identifier: MIT */
/*
 * The todo list: each operation, and random ones against a model that knows every page.
 * needs: engine/paging/todo.c
 */
#include "engine/paging/todo.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#define PAGE 4096ull
#define PAGES 200
#define NODES 24
#define ROUNDS 200000

static struct todo_node nodes[NODES];
static struct todo_pool pool;

static unsigned int nr_free_counted(void)
{
	unsigned int n = 0;

	for (uint16_t i = pool.free; i != TODO_NONE; i = pool.nodes[i].next)
		n++;
	return n;
}

/* The model: source page of each target page, or -1. */
struct model {
	int source[PAGES];
};

static void model_clear(struct model *m)
{
	memset(m->source, 0xff, sizeof(m->source));
}

static void check_same(const struct todo_list *list, const struct model *m)
{
	uint64_t bytes = 0, last_end = 0;
	unsigned int nr = 0;

	for (uint16_t i = list->head; i != TODO_NONE; i = pool.nodes[i].next) {
		const struct todo_node *node = &pool.nodes[i];

		assert_true(node->start < node->end);
		assert_true(node->start >= last_end);
		for (uint64_t a = last_end; a < node->start; a += PAGE)
			assert_int_equal(m->source[a / PAGE], -1);
		for (uint64_t a = node->start; a < node->end; a += PAGE)
			assert_int_equal(m->source[a / PAGE],
					 (node->source + (a - node->start)) / PAGE);
		last_end = node->end;
		bytes += node->end - node->start;
		nr++;
	}
	for (uint64_t a = last_end; a < PAGES * PAGE; a += PAGE)
		assert_int_equal(m->source[a / PAGE], -1);
	assert_int_equal(list->bytes, bytes);
	assert_int_equal(list->nr, nr);
	assert_int_equal(pool.nr_free, nr_free_counted());
}

static void check_finds(struct todo_list *list, const struct model *m, uint64_t at, uint64_t len)
{
	struct todo_piece piece;
	bool found = todo_find(list, at * PAGE, &piece);
	int lowest = -1;

	assert_int_equal(found, m->source[at] >= 0);
	if (found) {
		assert_int_equal(piece.start, at * PAGE);
		assert_int_equal(piece.source, m->source[at] * PAGE);
	}
	for (int i = 0; i < PAGES; i++) {
		int s = m->source[i];

		if (s >= (int)at && s < (int)(at + len) && (lowest < 0 || s < m->source[lowest]))
			lowest = i;
	}
	found = todo_find_source(list, at * PAGE, (at + len) * PAGE, &piece);
	assert_int_equal(found, lowest >= 0);
	if (found) {
		assert_int_equal(piece.start, lowest * PAGE);
		assert_int_equal(piece.source, m->source[lowest] * PAGE);
		assert_true(piece.source + (piece.end - piece.start) <= (at + len) * PAGE);
	}
	found = todo_next(list, at * PAGE, &piece);
	for (uint64_t i = at; i < PAGES; i++) {
		if (m->source[i] < 0)
			continue;
		assert_true(found);
		assert_int_equal(piece.start, i * PAGE);
		return;
	}
	assert_false(found);
}

static void test_add_joins(void **state)
{
	struct todo_list list;

	(void)state;
	todo_pool_init(&pool, nodes, NODES);
	todo_init(&list, &pool);
	assert_int_equal(todo_add(&list, 0x1000, 0x3000, 0x1000), 0);
	assert_int_equal(todo_add(&list, 0x5000, 0x6000, 0x5000), 0);
	assert_int_equal(todo_add(&list, 0x3000, 0x5000, 0x3000), 0);
	assert_int_equal(list.nr, 1);
	assert_int_equal(list.bytes, 0x5000);
	assert_int_equal(todo_add(&list, 0x6000, 0x7000, 0x9000), 0);
	assert_int_equal(list.nr, 2);
	assert_int_equal(todo_add(&list, 0x6000, 0x8000, 0x20000), -EEXIST);
	assert_int_equal(todo_add(&list, 0x9000, 0x9000, 0), -EINVAL);
	assert_int_equal(todo_add(&list, 0x9000, 0xb000, UINT64_MAX - 0xfff), -EINVAL);
	todo_clear(&list);
	assert_int_equal(pool.nr_free, NODES);
	assert_int_equal(list.bytes, 0);
}

static void test_no_room_changes_nothing(void **state)
{
	struct todo_node few[2];
	struct todo_list list, copy;
	struct todo_piece piece;

	(void)state;
	todo_pool_init(&pool, few, 2);
	todo_init(&list, &pool);
	todo_init(&copy, &pool);
	assert_int_equal(todo_add(&list, 0x1000, 0x9000, 0x1000), 0);
	assert_int_equal(todo_cut(&list, 0x3000, 0x4000), 0);
	assert_int_equal(list.nr, 2);
	assert_true(todo_would_split(&list, 0x6000, 0x7000));
	assert_false(todo_would_split(&list, 0x4000, 0x7000));
	assert_int_equal(todo_cut(&list, 0x6000, 0x7000), -ENOSPC);
	assert_int_equal(todo_remap(&list, 0x6000, 0x20000, 0x1000), -ENOSPC);
	assert_int_equal(todo_add(&list, 0x30000, 0x31000, 0x30000), -ENOSPC);
	assert_int_equal(todo_copy(&copy, &list), -ENOSPC);
	assert_int_equal(list.bytes, 0x7000);
	assert_true(todo_next_small(&list, 0, 0x5000, &piece));
	assert_int_equal(piece.start, 0x1000);
	assert_int_equal(piece.end, 0x3000);
	assert_true(todo_next_small(&list, 0x2000, 0x5000, &piece));
	assert_int_equal(piece.start, 0x4000);
	assert_false(todo_next_small(&list, 0x3000, 0x4000, &piece));
	assert_false(todo_next_small(&list, 0x5000, 0x5000, &piece));
	/* From a border no node is needed. */
	assert_int_equal(todo_cut(&list, 0x4000, 0x7000), 0);
	assert_int_equal(todo_cut(&list, 0, 0x100000), 0);
	assert_int_equal(list.bytes, 0);
	assert_int_equal(pool.nr_free, 2);
}

/* An old kernel's word of a move that also shrinks: the tail must not displace a neighbour. */
static void test_remap_ends_at_neighbour(void **state)
{
	struct todo_list list;
	struct todo_piece piece;

	(void)state;
	todo_pool_init(&pool, nodes, NODES);
	todo_init(&list, &pool);
	assert_int_equal(todo_add(&list, 0x10000, 0x18000, 0x10000), 0);
	assert_int_equal(todo_add(&list, 0x42000, 0x43000, 0x42000), 0);
	assert_int_equal(todo_remap(&list, 0x10000, 0x40000, 0x8000), 0);
	assert_true(todo_find(&list, 0x41000, &piece));
	assert_int_equal(piece.source, 0x11000);
	assert_int_equal(piece.end, 0x42000);
	assert_true(todo_find(&list, 0x42000, &piece));
	assert_int_equal(piece.source, 0x42000);
	assert_false(todo_find(&list, 0x43000, &piece));
	assert_int_equal(list.bytes, 0x3000);
}

static void test_gaps(void **state)
{
	struct todo_list list;
	struct todo_piece gap;

	(void)state;
	todo_pool_init(&pool, nodes, NODES);
	todo_init(&list, &pool);
	assert_int_equal(todo_add(&list, 0x10000, 0x30000, 0x50000), 0);
	assert_false(todo_next_gap(&list, 0, 0, 0x10000, &gap));
	assert_int_equal(todo_cut(&list, 0x12000, 0x13000), 0);
	assert_int_equal(todo_cut(&list, 0x18000, 0x20000), 0);
	assert_true(todo_next_gap(&list, 0, 0, 0x10000, &gap));
	assert_int_equal(gap.start, 0x12000);
	assert_int_equal(gap.end, 0x13000);
	assert_int_equal(gap.source, 0x52000);
	assert_true(todo_next_gap(&list, gap.end, 0, 0x10000, &gap));
	assert_int_equal(gap.start, 0x18000);
	assert_false(todo_next_gap(&list, gap.end, 0, 0x10000, &gap));
	assert_false(todo_next_gap(&list, 0x13000, 0, 0x7000, &gap));
	assert_true(todo_next_gap(&list, 0, 0x1000, 0x10000, &gap));
	assert_int_equal(gap.start, 0x18000);
	assert_int_equal(list.nr, 3);
	assert_int_equal(todo_add(&list, gap.start, gap.end, gap.source), 0);
	assert_int_equal(list.nr, 2);
	/* What was moved to beside it does not continue it. */
	assert_int_equal(todo_add(&list, 0x31000, 0x32000, 0x90000), 0);
	assert_false(todo_next_gap(&list, 0x14000, 0, 0x10000, &gap));
	/* What was moved away from there is not listed twice. */
	assert_int_equal(todo_remap(&list, 0x15000, 0x70000, 0x1000), 0);
	assert_true(todo_next_gap(&list, 0x14000, 0, 0x10000, &gap));
	assert_int_equal(todo_add(&list, gap.start, gap.end, gap.source), -EEXIST);
}

/* One random change to both. `next` is where sources come from that were never used. */
static void step(struct todo_list *list, struct model *m, int *next)
{
	uint64_t start = (uint64_t)rand() % PAGES, len = 1 + (uint64_t)rand() % 24, to;
	struct model old = *m;
	bool busy = false;
	int err;

	if (start + len > PAGES)
		len = PAGES - start;
	switch (rand() % 4) {
	case 0:
		for (uint64_t i = start; i < start + len; i++)
			busy |= m->source[i] >= 0;
		if (*next + (int)len > PAGES * 50)
			return;
		err = todo_add(list, start * PAGE, (start + len) * PAGE, (uint64_t)*next * PAGE);
		assert_int_equal(err, busy ? -EEXIST : pool.nr_free || !err ? 0 : -ENOSPC);
		if (!err) {
			for (uint64_t i = start; i < start + len; i++)
				m->source[i] = (*next)++;
			*next += rand() % 2;
		}
		break;
	case 1:
	case 2:
		err = todo_cut(list, start * PAGE, (start + len) * PAGE);
		if (err) {
			assert_int_equal(err, -ENOSPC);
			assert_int_equal(pool.nr_free, 0);
			break;
		}
		for (uint64_t i = start; i < start + len; i++)
			m->source[i] = -1;
		break;
	default:
		to = (uint64_t)rand() % (PAGES - len + 1);
		/* The kernel refuses overlap; the destination was unmapped before. */
		if (to + len > start && start + len > to)
			return;
		if (todo_cut(list, to * PAGE, (to + len) * PAGE))
			return;
		for (uint64_t i = 0; i < len; i++)
			m->source[to + i] = -1;
		err = todo_remap(list, start * PAGE, to * PAGE, len * PAGE);
		if (err) {
			assert_int_equal(err, -ENOSPC);
			break;
		}
		for (uint64_t i = 0; i < len; i++) {
			m->source[to + i] = old.source[start + i];
			m->source[start + i] = -1;
		}
	}
}

static void test_random(void **state)
{
	struct todo_list list, child;
	struct model m, child_m;
	int next = 0;

	(void)state;
	srand(1);
	todo_pool_init(&pool, nodes, NODES);
	todo_init(&list, &pool);
	todo_init(&child, &pool);
	model_clear(&m);
	model_clear(&child_m);
	for (int i = 0; i < ROUNDS; i++) {
		step(&list, &m, &next);
		if (child.nr)
			step(&child, &child_m, &next);
		if (rand() % 50 == 0) {
			todo_clear(&child);
			model_clear(&child_m);
			if (todo_copy(&child, &list) == 0)
				child_m = m;
		}
		if (next > PAGES * 49) {
			todo_clear(&list);
			model_clear(&m);
			next = 0;
			todo_clear(&child);
			model_clear(&child_m);
		}
		check_same(&list, &m);
		check_same(&child, &child_m);
		check_finds(&list, &m, (uint64_t)rand() % PAGES, 1 + (uint64_t)rand() % 40);
		assert_int_equal(list.nr + child.nr + pool.nr_free, NODES);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_add_joins),
		cmocka_unit_test(test_no_room_changes_nothing),
		cmocka_unit_test(test_remap_ends_at_neighbour),
		cmocka_unit_test(test_gaps),
		cmocka_unit_test(test_random),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
