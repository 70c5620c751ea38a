/* SPDX-License-Identifier: MIT */
/*
 * Where the program stood: what its threads' registers lead to is what it touches at once. These pages are the
 * first that are pushed. It is an order, nothing else: what is forgotten of it comes later, or with a fault.
 */
#include "engine/paging/pager_internal.h"

#include "arch/arch.h"

/* Below are counts, flags and nothing that the kernel maps. */
#define LOWEST 65536

bool pager_predict(struct pager *p, uint64_t addr)
{
	struct pager_predict *predict = &p->predict;
	uint64_t page = addr & ~(p->page_bytes - 1);

	if (predict->nr == PAGER_PREDICTED || page < LOWEST || page >= arch_user_top())
		return false;
	for (unsigned int i = 0; i < predict->nr; i++) {
		if (predict->page[i] == page)
			return false;
	}
	predict->page[predict->nr++] = page;
	return true;
}

bool pager_predict_next(struct pager *p, struct todo_piece *piece)
{
	struct pager_predict *predict = &p->predict;

	/* Each may cut an interval in two. */
	if (!p->lists[0].refs || p->pool.nr_free <= 2 * pager_reserve(p))
		predict->next = predict->nr;
	while (predict->next < predict->nr) {
		uint64_t page = predict->page[predict->next++], end = page + p->page_bytes;

		if (!todo_find(&p->lists[0].todo, page, piece))
			continue;
		while (predict->next < predict->nr && predict->page[predict->next] == end) {
			predict->next++;
			end += p->page_bytes;
		}
		if (piece->end > end)
			piece->end = end;
		return true;
	}
	return false;
}
