/* SPDX-License-Identifier: MIT */
/*
 * Writing an image: the end of a lane. What is sent into it lies under a temporary name until all of it is on disk;
 * whatever dies meanwhile leaves what was there before.
 */
#ifndef BATON_WRITE_H
#define BATON_WRITE_H

#include "engine/image/tree.h"
#include "transport/lane.h"
#include <limits.h>
#include <stdbool.h>

struct image_writer {
	int folder_fd, fd;
	const char *path;
	char name[NAME_MAX + 1], temp[NAME_MAX + 1]; /* in the folder */
	uint8_t preamble[ROUTE_BYTES];
	uint64_t at;      /* where the next frame goes */
	uint64_t nr_head; /* frames of the head so far */
	bool described;   /* the head is complete: memory follows */
	uint64_t head_bytes, memory_bytes;
	uint16_t packing; /* what a reader must know, so far */
	struct image_tree tree;
	int err; /* of the first write that failed: the file is given up */
};

/*
 * Opens the temporary file beside `path`, and `lane` into it. -EEXIST: `path` is there and no plain file; -EBUSY:
 * another baton is writing it; -ENOSPC, -EACCES, ... with the reason said.
 */
int image_write_begin(struct image_writer *writer, const char *path, struct lane *lane);

/*
 * All was sent: index and seal, then the file gets its name. After 0 it survives a power cut. On failure what was
 * under the name before is there still; but after -EIO of the very last step, the sync of the folder, the new
 * one is, which may not survive a power cut yet. With `sign` tls_setup has been done.
 */
int image_write_end(struct image_writer *writer, bool sign);

/* Gives up what was not ended. Idempotent. */
void image_write_drop(struct image_writer *writer);

#endif
