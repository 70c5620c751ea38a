/* SPDX-License-Identifier: MIT */
/* Disjoint intervals in a pool of fixed size: what is still at the source. */
#include "engine/paging/todo.h"

#include <errno.h>
#include <stddef.h>

static struct todo_node *node_at(const struct todo_list *list, uint16_t index)
{
	return &list->pool->nodes[index];
}

/* The caller has checked that there is one. */
static uint16_t node_take(struct todo_list *list)
{
	struct todo_pool *pool = list->pool;
	uint16_t index = pool->free;

	pool->free = pool->nodes[index].next;
	pool->nr_free--;
	list->nr++;
	return index;
}

static void node_give(struct todo_list *list, uint16_t index)
{
	struct todo_pool *pool = list->pool;

	if (list->hint == index)
		list->hint = TODO_NONE;
	if (list->near == index)
		list->near = TODO_NONE;
	pool->nodes[index].next = pool->free;
	pool->free = index;
	pool->nr_free++;
	list->nr--;
}

/* A node that ends at or below `addr`, from which on a search may begin; TODO_NONE: from the head. */
static uint16_t search_begin(const struct todo_list *list, uint64_t addr)
{
	return list->near != TODO_NONE && node_at(list, list->near)->end <= addr ? list->near
										 : TODO_NONE;
}

/* The link (head or a node's next) that leads to the first node that ends above `addr`. */
static uint16_t *link_find(struct todo_list *list, uint64_t addr)
{
	uint16_t begin = search_begin(list, addr);
	uint16_t *link = begin == TODO_NONE ? &list->head : &node_at(list, begin)->next;

	while (*link != TODO_NONE && node_at(list, *link)->end <= addr) {
		list->near = *link;
		link = &node_at(list, *link)->next;
	}
	return link;
}

static const struct todo_node *node_find(const struct todo_list *list, uint64_t addr)
{
	uint16_t begin = search_begin(list, addr);
	uint16_t index = begin == TODO_NONE ? list->head : node_at(list, begin)->next;

	while (index != TODO_NONE && node_at(list, index)->end <= addr)
		index = node_at(list, index)->next;
	return index == TODO_NONE ? NULL : node_at(list, index);
}

/* True when `b` continues `a`, in both address spaces. */
static bool node_continues(const struct todo_node *a, const struct todo_node *b)
{
	return a->end == b->start && a->source + (a->end - a->start) == b->source;
}

/* Joins a node with the one behind it where that one continues it. */
static void node_join(struct todo_list *list, uint16_t index)
{
	struct todo_node *node = node_at(list, index);
	uint16_t next = node->next;

	if (next == TODO_NONE || !node_continues(node, node_at(list, next)))
		return;
	node->end = node_at(list, next)->end;
	node->next = node_at(list, next)->next;
	node_give(list, next);
}

/* Makes `addr` a border where an interval lies across it. The caller has checked for a node. */
static void node_split(struct todo_list *list, uint64_t addr)
{
	uint16_t *link = link_find(list, addr), index;
	struct todo_node *node, *tail;

	if (*link == TODO_NONE || node_at(list, *link)->start >= addr)
		return;
	node = node_at(list, *link);
	index = node_take(list);
	tail = node_at(list, index);
	tail->start = addr;
	tail->end = node->end;
	tail->source = node->source + (addr - node->start);
	tail->next = node->next;
	node->end = addr;
	node->next = index;
}

static bool is_inside(const struct todo_list *list, uint64_t addr)
{
	const struct todo_node *node = node_find(list, addr);

	return node && node->start < addr;
}

/* Puts a node that is in no list where it belongs, without overlap, and joins it. */
static void node_insert(struct todo_list *list, uint16_t index)
{
	struct todo_node *node = node_at(list, index);
	uint16_t *link = link_find(list, node->start);
	uint16_t previous = search_begin(list, node->start);

	node->next = *link;
	*link = index;
	node_join(list, index);
	if (previous != TODO_NONE)
		node_join(list, previous);
}

void todo_pool_init(struct todo_pool *pool, struct todo_node *nodes, uint16_t nr)
{
	*pool = (struct todo_pool){.nodes = nodes, .nr = nr, .free = TODO_NONE, .nr_free = nr};
	for (uint16_t i = nr; i-- > 0;) {
		nodes[i].next = pool->free;
		pool->free = i;
	}
}

void todo_init(struct todo_list *list, struct todo_pool *pool)
{
	*list = (struct todo_list){
		.pool = pool, .head = TODO_NONE, .hint = TODO_NONE, .near = TODO_NONE};
}

int todo_add(struct todo_list *list, uint64_t start, uint64_t end, uint64_t source)
{
	const struct todo_node *above = node_find(list, start);
	struct todo_piece elsewhere;
	uint16_t index;

	if (start >= end || source + (end - start) < source)
		return -EINVAL;
	list->moved |= source != start;
	if ((above && above->start < end) ||
	    (list->moved && todo_find_source(list, source, source + (end - start), &elsewhere)))
		return -EEXIST;
	if (list->pool->nr_free == 0)
		return -ENOSPC;
	index = node_take(list);
	*node_at(list, index) = (struct todo_node){.start = start, .end = end, .source = source};
	list->bytes += end - start;
	node_insert(list, index);
	return 0;
}

int todo_cut(struct todo_list *list, uint64_t start, uint64_t end)
{
	uint16_t *link = link_find(list, start);

	if (start >= end)
		return 0;
	if (*link != TODO_NONE && node_at(list, *link)->start < start &&
	    node_at(list, *link)->end > end) {
		if (list->pool->nr_free == 0)
			return -ENOSPC;
		node_split(list, end);
	}
	while (*link != TODO_NONE && node_at(list, *link)->start < end) {
		uint16_t index = *link;
		struct todo_node *node = node_at(list, index);

		if (node->start < start) {
			list->bytes -= node->end - start;
			node->end = start;
			link = &node->next;
		} else if (node->end > end) {
			list->bytes -= end - node->start;
			node->source += end - node->start;
			node->start = end;
			break;
		} else {
			list->bytes -= node->end - node->start;
			*link = node->next;
			node_give(list, index);
		}
	}
	return 0;
}

bool todo_would_split(const struct todo_list *list, uint64_t start, uint64_t end)
{
	const struct todo_node *node = node_find(list, start);

	return node && node->start < start && node->end > end;
}

/* Takes the nodes of [start, end), which are borders, out of the list: a chain in order. */
static uint16_t chain_detach(struct todo_list *list, uint64_t start, uint64_t end)
{
	uint16_t *link = link_find(list, start), *last, chain = *link;

	for (last = link; *last != TODO_NONE && node_at(list, *last)->start < end;)
		last = &node_at(list, *last)->next;
	if (last == link)
		return TODO_NONE;
	*link = *last;
	*last = TODO_NONE;
	return chain;
}

int todo_remap(struct todo_list *list, uint64_t from, uint64_t to, uint64_t len)
{
	unsigned int need = is_inside(list, from) + is_inside(list, from + len);
	uint16_t chain, next;
	bool blocked = false;

	if (from == to || len == 0)
		return 0;
	if (from + len < from || to + len < to)
		return -EINVAL;
	if (list->pool->nr_free < need)
		return -ENOSPC;
	node_split(list, from);
	node_split(list, from + len);
	list->hint = list->near = TODO_NONE;
	list->moved = true;
	for (chain = chain_detach(list, from, from + len); chain != TODO_NONE; chain = next) {
		struct todo_node *node = node_at(list, chain);
		const struct todo_node *above;

		next = node->next;
		list->bytes -= node->end - node->start;
		node->start = node->start - from + to;
		node->end = node->end - from + to;
		above = blocked ? NULL : node_find(list, node->start);
		if (blocked || (above && above->start <= node->start)) {
			blocked = true;
			node_give(list, chain);
			continue;
		}
		if (above && above->start < node->end) {
			blocked = true;
			node->end = above->start;
		}
		list->bytes += node->end - node->start;
		node_insert(list, chain);
	}
	return 0;
}

int todo_copy(struct todo_list *list, const struct todo_list *from)
{
	uint16_t *link = &list->head;

	if (list->pool->nr_free < from->nr)
		return -ENOSPC;
	for (uint16_t i = from->head; i != TODO_NONE; i = node_at(from, i)->next) {
		uint16_t index = node_take(list);

		*node_at(list, index) = *node_at(from, i);
		*link = index;
		link = &node_at(list, index)->next;
	}
	*link = TODO_NONE;
	list->bytes = from->bytes;
	list->moved = from->moved;
	return 0;
}

void todo_clear(struct todo_list *list)
{
	while (list->head != TODO_NONE) {
		uint16_t index = list->head;

		list->head = node_at(list, index)->next;
		node_give(list, index);
	}
	list->bytes = 0;
	list->moved = false;
}

static void piece_set(struct todo_piece *piece, const struct todo_node *node, uint64_t start)
{
	piece->start = start > node->start ? start : node->start;
	piece->end = node->end;
	piece->source = node->source + (piece->start - node->start);
}

bool todo_find(const struct todo_list *list, uint64_t addr, struct todo_piece *piece)
{
	const struct todo_node *node = node_find(list, addr);

	if (!node || node->start > addr)
		return false;
	piece_set(piece, node, addr);
	return true;
}

bool todo_next(const struct todo_list *list, uint64_t addr, struct todo_piece *piece)
{
	const struct todo_node *node = node_find(list, addr);

	if (!node)
		return false;
	piece_set(piece, node, addr);
	return true;
}

/* The part of `node` in the source range [start, end), which it meets. */
static void piece_clip_source(struct todo_piece *piece, const struct todo_node *node,
			      uint64_t start, uint64_t end)
{
	uint64_t skip = start > node->source ? start - node->source : 0;
	uint64_t source_end = node->source + (node->end - node->start);

	piece->start = node->start + skip;
	piece->source = node->source + skip;
	piece->end = source_end > end ? node->end - (source_end - end) : node->end;
}

bool todo_find_source(struct todo_list *list, uint64_t start, uint64_t end,
		      struct todo_piece *piece)
{
	const struct todo_node *node;
	uint16_t best = TODO_NONE;
	uint64_t lowest = UINT64_MAX;

	if (list->hint != TODO_NONE) {
		node = node_at(list, list->hint);
		if (node->source <= start && start < node->source + (node->end - node->start)) {
			piece_clip_source(piece, node, start, end);
			return start < end;
		}
	}
	for (uint16_t i = list->head; i != TODO_NONE; i = node_at(list, i)->next) {
		node = node_at(list, i);
		if (node->source >= end || node->source + (node->end - node->start) <= start)
			continue;
		if (node->source < lowest) {
			lowest = node->source;
			best = i;
		}
	}
	if (best == TODO_NONE || start >= end)
		return false;
	list->hint = best;
	piece_clip_source(piece, node_at(list, best), start, end);
	return true;
}

bool todo_next_gap(const struct todo_list *list, uint64_t addr, uint64_t min_bytes,
		   uint64_t max_bytes, struct todo_piece *gap)
{
	const struct todo_node *below = node_find(list, addr), *above;

	for (; below && below->next != TODO_NONE; below = above) {
		uint64_t len;

		above = node_at(list, below->next);
		len = above->start - below->end;
		if (len <= min_bytes || len > max_bytes ||
		    above->source - below->source != above->start - below->start)
			continue;
		*gap = (struct todo_piece){.start = below->end,
					   .end = above->start,
					   .source = below->source + (below->end - below->start)};
		return true;
	}
	return false;
}

bool todo_next_small(const struct todo_list *list, uint64_t addr, uint64_t max_bytes,
		     struct todo_piece *piece)
{
	const struct todo_node *node = node_find(list, addr);

	while (node && (node->start < addr || node->end - node->start > max_bytes))
		node = node->next == TODO_NONE ? NULL : node_at(list, node->next);
	if (!node)
		return false;
	piece_set(piece, node, node->start);
	return true;
}
