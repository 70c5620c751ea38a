/* SPDX-License-Identifier: MIT */
/* The index of an image while it is written. */
#include "engine/image/tree.h"

#include "lib/arena.h"
#include "lib/log.h"

#include <errno.h>

int image_tree_begin(struct image_tree *tree, image_emit_fn *emit, void *data)
{
	*tree = (struct image_tree){.emit = emit, .data = data};
	tree->nodes = arena_alloc(ARENA_SCRATCH, IMAGE_LEVELS * sizeof(*tree->nodes), 16);
	return tree->nodes ? 0 : log_no_room("an index");
}

/* Writes a node, which is empty then. */
static int write_node(struct image_tree *tree, unsigned int level, struct image_entry *entry)
{
	struct image_node *node = &tree->nodes[level];
	struct frame frame = {.type = FRAME_INDEX,
			      .space = (uint16_t)level,
			      .len = node->nr * IMAGE_ENTRY_BYTES,
			      .addr = node->first};

	*entry = (struct image_entry){.key = node->first};
	node->nr = 0;
	return tree->emit(tree->data, &frame, node->body, entry);
}

static void append(struct image_node *node, const struct image_entry *entry)
{
	if (!node->nr)
		node->first = entry->key;
	image_entry_encode(entry, node->body + node->nr++ * IMAGE_ENTRY_BYTES);
}

static int insert(struct image_tree *tree, unsigned int level, const struct image_entry *entry)
{
	struct image_entry one = *entry, above;

	for (; level < IMAGE_LEVELS; level++) {
		struct image_node *node = &tree->nodes[level];
		int err;

		if (node->nr < IMAGE_NODE_ENTRIES) {
			append(node, &one);
			return 0;
		}
		err = write_node(tree, level, &above);
		if (err)
			return err;
		append(node, &one);
		one = above;
	}
	return log_fail(E2BIG, "the process has more pieces of memory than an image can name");
}

int image_tree_add(struct image_tree *tree, const struct image_entry *entry)
{
	return insert(tree, 0, entry);
}

int image_tree_end(struct image_tree *tree, struct image_entry *root)
{
	/* Where there is a node above, it has an entry: then this one is not the root. */
	for (unsigned int level = 0;; level++) {
		int err = write_node(tree, level, root);

		if (err || level + 1 == IMAGE_LEVELS || !tree->nodes[level + 1].nr)
			return err;
		err = insert(tree, level + 1, root);
		if (err)
			return err;
	}
}
