/* SPDX-License-Identifier: MIT */
/* The index of an image while it is written: a tree that grows from below, of which one node a level is kept. */
#ifndef BATON_TREE_H
#define BATON_TREE_H

#include "engine/image/format.h"

struct image_node {
	uint64_t first; /* key */
	unsigned int nr;
	uint8_t body[IMAGE_NODE_BYTES];
};

/* Writes a frame and says where it went. 0 or -errno with log_fail. */
typedef int image_emit_fn(void *data, const struct frame *frame, const uint8_t *body,
			  struct image_entry *entry);

struct image_tree {
	struct image_node *nodes; /* IMAGE_LEVELS of them */
	image_emit_fn *emit;
	void *data;
};

/* Takes the nodes from scratch memory, which is the caller's to give back. -ENOMEM. */
int image_tree_begin(struct image_tree *tree, image_emit_fn *emit, void *data);
/* One more entry, with a higher key than all before. -E2BIG: the tree is full; or what `emit` says. */
int image_tree_add(struct image_tree *tree, const struct image_entry *entry);
/* Writes what is left; `root` becomes the entry of the topmost node. At least one entry was added. */
int image_tree_end(struct image_tree *tree, struct image_entry *root);

#endif
