/* SPDX-License-Identifier: MIT */
/*
 * What is still at the source: disjoint address intervals, for the restored process and for the
 * children that it forked while being filled. One fixed pool of nodes for all lists. See
 * docs/design.md, "The target pulls".
 *
 * Within one list a source address appears at most once: intervals only ever move.
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
	uint16_t hint; /* where todo_find_source hit last, a node of this list; TODO_NONE */
	uint16_t near; /* in front of what was changed last, likewise */
	uint16_t nr;
	bool moved; /* not all intervals are where their source is */
	uint64_t bytes;
};

/* A part of an interval: target range, and the source address of `start`. */
struct todo_piece {
	uint64_t start, end;
	uint64_t source;
};

/* Most nodes that one todo_cut or one todo_remap takes from the pool. */
#define TODO_NODES_PER_CHANGE 2

/* `nr` below TODO_NONE. */
void todo_pool_init(struct todo_pool *pool, struct todo_node *nodes, uint16_t nr);

void todo_init(struct todo_list *list, struct todo_pool *pool);

/*
 * Adds [start, end), whose content lies at `source` at the source. Joins neighbours that continue it.
 * -EEXIST when it overlaps what is listed, at the target or at the source; -EINVAL when it is empty or
 * wraps, -ENOSPC without a node; the list is then unchanged.
 */
int todo_add(struct todo_list *list, uint64_t start, uint64_t end, uint64_t source);

/*
 * Takes [start, end) out. -ENOSPC when an interval would have to be split and there is no node: the
 * list is then unchanged.
 */
int todo_cut(struct todo_list *list, uint64_t start, uint64_t end);

/* True when todo_cut of this range would take a node. */
bool todo_would_split(const struct todo_list *list, uint64_t start, uint64_t end);

/*
 * [from, from + len) has moved to `to`. What is listed at the destination already stays and ends
 * the move there: old kernels announce a move that also shrinks with the old length, so the tail of
 * the range may name a neighbour. -ENOSPC, unchanged, when there are no nodes to split with.
 */
int todo_remap(struct todo_list *list, uint64_t from, uint64_t to, uint64_t len);

/* Makes `list` (empty) a copy of `from`. -ENOSPC: `list` stays empty. */
int todo_copy(struct todo_list *list, const struct todo_list *from);

/* Gives all nodes back. */
void todo_clear(struct todo_list *list);

/* The rest of the interval that holds target address `addr`, from `addr` on. */
bool todo_find(const struct todo_list *list, uint64_t addr, struct todo_piece *piece);

/* The first part of an interval at or above target address `addr`. */
bool todo_next(const struct todo_list *list, uint64_t addr, struct todo_piece *piece);

/* The part with the lowest source address that meets the source range [start, end). */
bool todo_find_source(struct todo_list *list, uint64_t start, uint64_t end,
		      struct todo_piece *piece);

/*
 * The first gap, at or above `addr`, of more than `min_bytes` and at most `max_bytes`, between two
 * intervals that it keeps from being one. Added (todo_add), it frees a node.
 */
bool todo_next_gap(const struct todo_list *list, uint64_t addr, uint64_t min_bytes,
		   uint64_t max_bytes, struct todo_piece *gap);

/* The first interval that begins at or above `addr` and has at most `max_bytes`. */
bool todo_next_small(const struct todo_list *list, uint64_t addr, uint64_t max_bytes,
		     struct todo_piece *piece);

#endif
