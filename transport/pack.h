/* SPDX-License-Identifier: MIT */
/*
 * Pages packed for the way: PAGES becomes PACKED, where that makes it smaller and the link is slow enough.
 *
 *     body of PACKED   u32 bytes of pages (little-endian), then one LZ4 block that unpacks to just those
 */
#ifndef BATON_PACK_H
#define BATON_PACK_H

#include "lib/config.h"
#include "transport/frame.h"
#include <errno.h>
#include <stdbool.h>
#include <stdint.h>

/* HELLO's `packing`: what a side takes. */
#define PACK_TAKES_LZ4 1u    /* PACKED frames, with LZ4 */
#define PACK_WANTS_ALWAYS 2u /* and as many as there can be */

enum pack_rule {
	PACK_NEVER,
	PACK_AUTO, /* where it saves more time than it takes */
	PACK_ALWAYS,
};

/* A sender's: all zeros at first, but for the rule. */
struct packer {
	enum pack_rule rule;
	uint32_t ns_kib; /* what it takes, the least seen lately, ns for each KiB; 0: not known */
	unsigned int
		nr_skip; /* so many runs are left as they are: the last one tried did not shrink */
	unsigned int nr_skip_last;
};

/* So much longer than a body is the buffer in which one is unpacked. */
#define PACK_MARGIN_BYTES (CONFIG_RUN_KIB * 16 + 64)
#define PACK_ROOM_BYTES (FRAME_BODY_MAX + PACK_MARGIN_BYTES)

/* Bytes of pages that a body of PACKED says it has. */
static inline uint32_t pack_raw_bytes(const uint8_t *body)
{
	return body[0] | (uint32_t)body[1] << 8 | (uint32_t)body[2] << 16 | (uint32_t)body[3] << 24;
}

#if IS_ENABLED(CONFIG_COMPRESS_LZ4)

/*
 * Whether the next run should be tried, on a link that carries `link_bytes_s` bytes a second (0: not
 * known, which is taken for a fast one).
 */
bool pack_pays(const struct packer *packer, uint64_t link_bytes_s);

/*
 * Makes of the frame PAGES, whose body is at `body`, a frame PACKED in the same place. It stays as it is when
 * that would not save an eighth, or when ARENA_SCRATCH has no room (16 KiB and the body).
 */
void pack_shrink(struct packer *packer, struct frame *frame, uint8_t *body);

/*
 * Unpacks what a peer sent: `len` bytes, the last ones of `room`, which has PACK_ROOM_BYTES. The pages are
 * then at the start of `room`, and *raw_bytes of them, a multiple of 4,096 and at most FRAME_BODY_MAX.
 * -EPROTO: it is not one block of just that length; what is in `room` then means nothing.
 */
int pack_open(uint8_t *room, uint32_t len, uint32_t *raw_bytes);

#else

static inline bool pack_pays(const struct packer *packer, uint64_t link_bytes_s)
{
	(void)packer;
	(void)link_bytes_s;
	return false;
}

static inline void pack_shrink(struct packer *packer, struct frame *frame, uint8_t *body)
{
	(void)packer;
	(void)frame;
	(void)body;
}

static inline int pack_open(uint8_t *room, uint32_t len, uint32_t *raw_bytes)
{
	(void)room;
	(void)len;
	(void)raw_bytes;
	return -EOPNOTSUPP;
}

#endif
#endif
