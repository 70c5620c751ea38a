/* SPDX-License-Identifier: MIT */
/*
 * Reading an image. Nothing of it is given out that was not checked against the index, nothing of the index that was not
 * checked against its root, and the root against the seal: a file that changes while it is open is as good as damaged.
 */
#ifndef BATON_READ_H
#define BATON_READ_H

#include "engine/image/format.h"
#include "transport/keys.h"
#include <stdbool.h>

struct image_cached; /* a node of the index */

struct image {
	int fd;
	const char *path;
	uint64_t size; /* bytes of the file */
	struct image_seal seal;
	char signer[KEYS_NAME_MAX]; /* who signed it, once that was checked */
	uint8_t fingerprint[KEYS_FINGERPRINT_BYTES];
	unsigned int root_level;
	struct image_cached *nodes; /* one a level */
	uint8_t *frame;             /* the last one that was read, header and body, unpacked */
	struct image_entry held;    /* which; len 0: none */
};

/*
 * Opens a file and checks what holds it together: preamble, end, seal, root. -EMEDIUMTYPE: it is no image; -EBADMSG: it is
 * damaged or cut off; -EPROTONOSUPPORT: of another version; -ENOENT, -EACCES, ... Each with the reason said. Its buffers are
 * scratch memory that is not given back.
 */
int image_open(struct image *image, const char *path);
void image_close(struct image *image);

/*
 * Whether this build can unpack what is in it. -EOPNOTSUPP, with the reason said: what is behind the head cannot be
 * read.
 */
int image_check_packing(const struct image *image);

/* Whether somebody signed it who is trusted here, after tls_setup: see sign_check. -EKEYREJECTED as well: nobody did. */
int image_check_signature(struct image *image);

/*
 * The last entry at or below `key`, and the key of the one behind it (UINT64_MAX: none). -EBADMSG: the index is damaged;
 * -EIO and the like when it cannot be read.
 */
int image_find(struct image *image, uint64_t key, struct image_entry *entry, uint64_t *next);

/*
 * A frame, checked; it stays until the next one is read. PACKED has become PAGES. -EBADMSG: damaged; -EIO and the like. What
 * it says of itself is as its entry says.
 */
int image_read(struct image *image, const struct image_entry *entry, struct frame *frame,
	       const uint8_t **body);

/* A frame of the head by its number. -ENOENT: there are not so many. */
int image_read_head(struct image *image, uint64_t number, struct frame *frame,
		    const uint8_t **body);

/* The first run of memory that ends above `addr` and begins below `end`. -ENOENT: none. */
int image_find_memory(struct image *image, uint64_t addr, uint64_t end, struct image_entry *entry);

#endif
