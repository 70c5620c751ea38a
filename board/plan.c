/* SPDX-License-Identifier: MIT */
/* What an evacuation moves, and in which order. */
#include <string.h>

#include "board/plan.h"
#include "lib/text.h"

struct plan_item *plan_add(struct plan *plan, const char *name, pid_t pid)
{
	struct plan_item *item = &plan->items[plan->nr];

	for (unsigned int i = 0; pid && i < plan->nr; i++)
		if (plan->items[i].pid == pid)
			return NULL;
	if (plan->nr == PLAN_MOST) {
		plan->full = true;
		return NULL;
	}
	plan->nr++;
	*item = (struct plan_item){.pid = pid, .state = pid ? PLAN_WAITING : PLAN_ABSENT};
	text_copy(item->name, sizeof(item->name), name);
	return item;
}

unsigned int plan_count(const struct plan *plan, enum plan_state state)
{
	unsigned int nr = 0;

	for (unsigned int i = 0; i < plan->nr; i++)
		nr += plan->items[i].state == state;
	return nr;
}

/* Whether what it comes after has yet to begin. */
static bool must_wait(const struct plan *plan, const struct plan_item *item)
{
	for (unsigned int i = 0; item->after[0] && i < plan->nr; i++)
		if (!strcmp(plan->items[i].name, item->after))
			return &plan->items[i] != item && plan->items[i].state == PLAN_WAITING;
	return false;
}

struct plan_item *plan_next(struct plan *plan, int64_t now_ms)
{
	struct plan_item *best = NULL, *first = NULL;
	bool may = false; /* one of them could, now or when it is tried again */

	if (plan_count(plan, PLAN_SENDING))
		return NULL;
	for (unsigned int i = 0; i < plan->nr; i++) {
		struct plan_item *item = &plan->items[i];

		if (item->state != PLAN_WAITING)
			continue;
		if (!first || item->priority > first->priority)
			first = item;
		if (must_wait(plan, item))
			continue;
		may = true;
		if (now_ms >= item->again_ms && (!best || item->priority > best->priority))
			best = item;
	}
	if (!may)
		best = first;
	return best && now_ms >= best->again_ms ? best : NULL;
}
