/* SPDX-License-Identifier: MIT */
/*
 * The order of an evacuation.
 *
 * needs: board/plan.c lib/text.c
 */
#include "board/plan.h"

#include "tests/unit/unit.h"
#include <stdio.h>
#include <string.h>

static struct plan plan;

static int begin(void **state)
{
	UNUSED(state);
	plan = (struct plan){0};
	return 0;
}

static struct plan_item *add(const char *name, int priority, const char *after)
{
	struct plan_item *item = plan_add(&plan, name, 100 + (pid_t)plan.nr);

	assert_non_null(item);
	item->priority = priority;
	snprintf(item->after, sizeof(item->after), "%s", after);
	return item;
}

/* Sends everything, one after the other; the names in that order. */
static const char *order(void)
{
	static char names[PLAN_MOST * 4];
	struct plan_item *item;

	names[0] = '\0';
	while ((item = plan_next(&plan, 0))) {
		strcat(names, item->name);
		item->state = PLAN_THERE;
	}
	return names;
}

static void test_priority(void **unused)
{
	UNUSED(unused);
	add("a", 0, "");
	add("b", 5, "");
	add("c", -5, "");
	add("d", 5, "");
	assert_string_equal(order(), "bdac");
}

static void test_after(void **unused)
{
	UNUSED(unused);
	add("a", 9, "c");
	add("b", 5, "");
	add("c", 0, "d");
	add("d", -1, "");
	add("e", 1, "nobody");
	assert_string_equal(order(), "bedca");
}

static void test_circle(void **unused)
{
	UNUSED(unused);
	add("a", 0, "b");
	add("b", 3, "c");
	add("c", 1, "a");
	add("d", 0, "d");
	/* Who waits for itself waits for nobody; the others begin with the highest. */
	assert_string_equal(order(), "dbac");
}

static void test_one_at_a_time(void **unused)
{
	struct plan_item *a, *b, *c;

	UNUSED(unused);
	a = add("a", 1, "");
	b = add("b", 0, "");
	c = add("c", 2, "a");
	assert_ptr_equal(plan_next(&plan, 0), a);
	a->state = PLAN_SENDING;
	assert_null(plan_next(&plan, 0));
	a->state = PLAN_WAITING;
	a->again_ms = 50;
	/* One that is tried again keeps its place, and nobody waits for it but what comes after it. */
	assert_ptr_equal(plan_next(&plan, 49), b);
	assert_ptr_equal(plan_next(&plan, 50), a);
	b->state = PLAN_THERE;
	assert_null(plan_next(&plan, 49));
	a->state = PLAN_STAYS;
	assert_ptr_equal(plan_next(&plan, 0), c);
}

static void test_add(void **unused)
{
	char name[16];

	UNUSED(unused);
	assert_int_equal(plan_add(&plan, "gone", 0)->state, PLAN_ABSENT);
	assert_int_equal(plan_add(&plan, "gone2", 0)->state, PLAN_ABSENT);
	assert_non_null(plan_add(&plan, "x", 7));
	assert_null(plan_add(&plan, "the same", 7));
	assert_false(plan.full);
	for (int i = 3; i < PLAN_MOST; i++) {
		snprintf(name, sizeof(name), "p%d", i);
		assert_non_null(plan_add(&plan, name, 1000 + i));
	}
	assert_null(plan_add(&plan, "more", 999));
	assert_true(plan.full);
	assert_int_equal(plan_count(&plan, PLAN_WAITING), PLAN_MOST - 2);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup(test_priority, begin),
		cmocka_unit_test_setup(test_after, begin),
		cmocka_unit_test_setup(test_circle, begin),
		cmocka_unit_test_setup(test_one_at_a_time, begin),
		cmocka_unit_test_setup(test_add, begin),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
