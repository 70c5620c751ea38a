/* SPDX-License-Identifier: MIT */
/*
 * What is still at the source: disjoint address intervals, for the restored process and each child
 * that it forked while being filled ("spaces"). One fixed pool of nodes for all spaces. See
 * docs/design.md, "The target pulls".
 */
#ifndef BATON_TODO_H
#define BATON_TODO_H

#include <stdbool.h>
#include <stdint.h>

struct todo_node {
	uint64_t start, end; /* target addresses, page-aligned, start < end */
	uint64_t source;     /* source address of `start` */
	uint16_t next;       /* index in the pool; TODO_NONE */
};
#define TODO_NONE 0xffff

struct todo_pool {
	struct todo_node *nodes;
	uint16_t nr, free, nr_free;
};

struct todo_list {
	struct todo_pool *pool;
	uint16_t head; /* sorted by start */
	uint64_t bytes;
};
#endif
