/* SPDX-License-Identifier: MIT */
/* Reading an image. */
#include "engine/image/read.h"

#include "lib/arena.h"
#include "lib/io.h"
#include "lib/log.h"
#include "transport/pack.h"
#include "transport/sign.h"

#include <errno.h>
#include <fcntl.h>
#include <mbedtls/sha256.h>
#include <string.h>
#include <sys/stat.h>

struct image_cached {
	struct image_entry entry; /* of the node; len 0: none */
	uint8_t bytes[FRAME_HEADER_BYTES + IMAGE_NODE_BYTES];
};

static int damaged(const struct image *image, uint64_t at, const char *what)
{
	return log_fail(EBADMSG, "%s is damaged: %s at byte %llu", image->path, what,
			(unsigned long long)at);
}

/* ---- frames ---- */

static int read_bytes(struct image *image, void *out, size_t len, uint64_t at)
{
	int err = io_pread_full(image->fd, out, len, at);

	if (err == -ENODATA)
		return damaged(image, at, "it ends");
	return err ? log_fail(-err, "%s cannot be read at byte %llu: %m", image->path,
			      (unsigned long long)at)
		   : 0;
}

/* The frame of an entry, into `out` of `cap` bytes, checked against it. */
static int read_frame(struct image *image, const struct image_entry *entry, uint8_t *out,
		      size_t cap, struct frame *frame)
{
	uint8_t hash[IMAGE_HASH_BYTES];
	int err;

	if (entry->len < FRAME_HEADER_BYTES || entry->len > cap || entry->at < ROUTE_BYTES ||
	    entry->at > image->size || entry->len > image->size - entry->at)
		return damaged(image, entry->at, "an entry of its index makes no sense");
	err = read_bytes(image, out, entry->len, entry->at);
	if (err)
		return err;
	if (mbedtls_sha256(out, entry->len, hash, 0) ||
	    memcmp(hash, entry->hash, sizeof(hash)) != 0)
		return damaged(image, entry->at, "the checksum does not fit");
	if (frame_decode(out, frame) || frame->len != entry->len - FRAME_HEADER_BYTES)
		return damaged(image, entry->at, "a frame makes no sense");
	return 0;
}

/* Room for a frame that is unpacked in place; one that is not begins where the pages of a packed one do. */
#define ROOM_BYTES (FRAME_HEADER_BYTES + PACK_ROOM_BYTES)

/* What entry says is memory has one length where it is plain, another one where it is packed. */
static bool is_packed(const struct image *image, const struct image_entry *entry)
{
	return image->seal.packing && entry->key & IMAGE_MEMORY &&
	       entry->len != FRAME_HEADER_BYTES + entry->span;
}

/* Packed memory, at the end of its room, into the beginning. */
static int read_packed(struct image *image, const struct image_entry *entry, struct frame *frame)
{
	uint8_t *at = image->frame + ROOM_BYTES - entry->len;
	int err = entry->len > FRAME_HEADER_BYTES + FRAME_BODY_MAX
			  ? damaged(image, entry->at, "an entry of its index makes no sense")
			  : read_frame(image, entry, at, entry->len, frame);

	if (!err && (frame->type != FRAME_PACKED ||
		     pack_open(image->frame + FRAME_HEADER_BYTES, frame->len, &frame->len)))
		err = damaged(image, entry->at, "memory cannot be unpacked");
	if (err)
		return err;
	frame->type = FRAME_PAGES;
	frame_encode(frame, image->frame);
	return 0;
}

int image_read(struct image *image, const struct image_entry *entry, struct frame *frame,
	       const uint8_t **body)
{
	bool memory = entry->key & IMAGE_MEMORY;
	int err = 0;

	if (!image->held.len || memcmp(&image->held, entry, sizeof(*entry)) != 0) {
		image->held.len = 0;
		err = is_packed(image, entry)
			      ? read_packed(image, entry, frame)
			      : read_frame(image, entry, image->frame,
					   FRAME_HEADER_BYTES + FRAME_BODY_MAX, frame);
	} else {
		(void)frame_decode(image->frame, frame);
	}
	if (err)
		return err;
	if (memory && (frame->type != FRAME_PAGES || frame->addr != (entry->key ^ IMAGE_MEMORY) ||
		       frame->len != entry->span))
		return damaged(image, entry->at, "memory is not what its index says");
	memcpy(&image->held, entry, sizeof(*entry));
	*body = image->frame + FRAME_HEADER_BYTES;
	return 0;
}

/* ---- the index ---- */

/* A node, by its entry, into its level's place; that level must be its own. Its number of entries, or -errno. */
static int read_node(struct image *image, const struct image_entry *entry, unsigned int level)
{
	struct image_cached *cached = &image->nodes[level];
	struct frame frame = {0};
	int err = 0;

	if (!cached->entry.len || memcmp(&cached->entry, entry, sizeof(*entry)) != 0) {
		cached->entry.len = 0;
		err = read_frame(image, entry, cached->bytes, sizeof(cached->bytes), &frame);
	} else {
		(void)frame_decode(cached->bytes, &frame);
	}
	if (err)
		return err;
	if (frame.type != FRAME_INDEX || frame.space != level || frame.addr != entry->key ||
	    !frame.len || frame.len % IMAGE_ENTRY_BYTES)
		return damaged(image, entry->at, "a node of its index makes no sense");
	memcpy(&cached->entry, entry, sizeof(*entry));
	return (int)(frame.len / IMAGE_ENTRY_BYTES);
}

/* The last entry of a node at or below `key`; *next: the key behind it, if there is one here. */
static int search(const struct image *image, const struct image_cached *node, int nr, uint64_t key,
		  struct image_entry *entry, uint64_t *next)
{
	const uint8_t *at = node->bytes + FRAME_HEADER_BYTES;
	int low = 0, high = nr;

	/* Keys below `low` are not above it, those from `high` on are. */
	while (low < high) {
		int middle = (low + high) / 2;

		if (frame_get_u64(at + middle * IMAGE_ENTRY_BYTES) <= key)
			low = middle + 1;
		else
			high = middle;
	}
	if (!low)
		return damaged(image, node->entry.at, "a node of its index has no such key");
	if (low < nr)
		*next = frame_get_u64(at + low * IMAGE_ENTRY_BYTES);
	image_entry_decode(at + (low - 1) * IMAGE_ENTRY_BYTES, entry);
	return 0;
}

/* The level of the root is in its header, which is checked as soon as it is read as a node. */
static int root_level(struct image *image, unsigned int *level)
{
	uint8_t bytes[FRAME_HEADER_BYTES];
	struct frame frame;
	int err = read_bytes(image, bytes, sizeof(bytes), image->seal.root.at);

	if (err)
		return err;
	if (frame_decode(bytes, &frame) || frame.space >= IMAGE_LEVELS)
		return damaged(image, image->seal.root.at, "the root of its index makes no sense");
	*level = frame.space;
	return 0;
}

int image_find(struct image *image, uint64_t key, struct image_entry *entry, uint64_t *next)
{
	*entry = image->seal.root;
	*next = UINT64_MAX;
	for (unsigned int level = image->root_level;; level--) {
		int nr = read_node(image, entry, level), err;

		if (nr < 0)
			return nr;
		err = search(image, &image->nodes[level], nr, key, entry, next);
		if (err || !level)
			return err;
	}
}

int image_read_head(struct image *image, uint64_t number, struct frame *frame, const uint8_t **body)
{
	struct image_entry entry;
	uint64_t next;
	int err;

	if (number >= image->seal.nr_head)
		return -ENOENT;
	err = image_find(image, number, &entry, &next);
	if (!err && entry.key != number)
		err = damaged(image, image->seal.root.at,
			      "its index lacks a part of the description");
	return err ? err : image_read(image, &entry, frame, body);
}

int image_find_memory(struct image *image, uint64_t addr, uint64_t end, struct image_entry *entry)
{
	uint64_t key = IMAGE_MEMORY | addr, next;
	int err = image_find(image, key, entry, &next);

	if (!err &&
	    (!(entry->key & IMAGE_MEMORY) || (entry->key ^ IMAGE_MEMORY) + entry->span <= addr)) {
		if (next == UINT64_MAX || next >= (IMAGE_MEMORY | end))
			return -ENOENT;
		key = next;
		err = image_find(image, key, entry, &next);
		if (!err && entry->key != key)
			err = damaged(image, entry->at, "its index is out of order");
	}
	return err;
}

/* ---- opening ---- */

static int check_preamble(struct image *image, uint8_t preamble[static ROUTE_BYTES])
{
	int err = image->size < ROUTE_BYTES ? -EPROTO : read_bytes(image, preamble, ROUTE_BYTES, 0);

	if (!err)
		err = image_preamble_decode(preamble);
	if (err == -EPROTONOSUPPORT)
		return log_fail(
			EPROTONOSUPPORT,
			"%s was written by another version of baton (%u; this one reads %d)",
			image->path, preamble[5], ROUTE_VERSION);
	return err == -EPROTO ? log_fail(EMEDIUMTYPE, "%s is no image file of baton", image->path)
			      : err;
}

/* Where the seal begins, as the end of the file says. */
static int find_seal(struct image *image, uint64_t *at)
{
	uint8_t end[IMAGE_END_BYTES];
	uint64_t least = ROUTE_BYTES + FRAME_HEADER_BYTES + IMAGE_END_BYTES;
	int err = -EPROTO;

	if (image->size >= least)
		err = read_bytes(image, end, sizeof(end), image->size - sizeof(end));
	if (!err)
		err = image_end_decode(end, at);
	if (err == -EPROTO || (!err && (*at < ROUTE_BYTES || *at > image->size - IMAGE_END_BYTES)))
		return log_fail(EBADMSG, "%s is cut off, or damaged: its end is missing",
				image->path);
	return err;
}

static int read_seal(struct image *image, uint64_t at, const uint8_t *preamble)
{
	uint8_t bytes[FRAME_HEADER_BYTES + IMAGE_SEAL_MAX], front[ROUTE_BYTES + IMAGE_SEAL_MAX];
	uint64_t len = image->size - IMAGE_END_BYTES - at;
	uint8_t digest[IMAGE_HASH_BYTES];
	struct frame frame;
	size_t front_len;
	int err;

	if (len < FRAME_HEADER_BYTES || len > sizeof(bytes))
		return damaged(image, at, "its seal makes no sense");
	err = read_bytes(image, bytes, len, at);
	if (err)
		return err;
	if (frame_decode(bytes, &frame) || frame.type != FRAME_SEAL || frame.space ||
	    frame.addr != at || frame.len != len - FRAME_HEADER_BYTES)
		return damaged(image, at, "its seal makes no sense");
	err = image_seal_decode(bytes + FRAME_HEADER_BYTES, frame.len, &image->seal);
	if (err == -EPROTONOSUPPORT)
		return log_fail(
			EPROTONOSUPPORT,
			"%s was written by a %s version of baton (format %u.%u; this one reads %d)",
			image->path, image->seal.major > IMAGE_MAJOR ? "newer" : "older",
			image->seal.major, image->seal.minor, IMAGE_MAJOR);
	if (err)
		return damaged(image, at, "its seal makes no sense");
	memcpy(front, preamble, ROUTE_BYTES);
	front_len = ROUTE_BYTES + image_seal_encode_front(&image->seal, front + ROUTE_BYTES);
	if (mbedtls_sha256(front, front_len, digest, 0) ||
	    memcmp(digest, image->seal.digest, sizeof(digest)) != 0)
		return damaged(image, at, "its seal does not fit");
	return 0;
}

static int open_file(struct image *image)
{
	struct stat st;

	/* What is no plain file is not waited for, and not acted upon. */
	image->fd = open(image->path, O_RDONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
	if (image->fd < 0 || fstat(image->fd, &st) < 0)
		return log_fail(errno, "image file %s: %m", image->path);
	if (!S_ISREG(st.st_mode))
		return log_fail(EMEDIUMTYPE, "%s is %s: give the name of an image file%s",
				image->path, image_kind_of_file(st.st_mode),
				S_ISDIR(st.st_mode) ? " in it" : "");
	image->size = (uint64_t)st.st_size;
	return 0;
}

int image_open(struct image *image, const char *path)
{
	uint8_t preamble[ROUTE_BYTES];
	struct image_entry entry;
	uint64_t at = 0, next;
	int err;

	*image = (struct image){.fd = -1, .path = path};
	image->nodes = arena_alloc(ARENA_SCRATCH, IMAGE_LEVELS * sizeof(*image->nodes), 16);
	image->frame = arena_alloc(ARENA_SCRATCH, ROOM_BYTES, 16);
	if (!image->nodes || !image->frame)
		return log_no_room("an image");
	err = open_file(image);
	if (!err)
		err = check_preamble(image, preamble);
	if (!err)
		err = find_seal(image, &at);
	if (!err)
		err = read_seal(image, at, preamble);
	if (!err)
		err = root_level(image, &image->root_level);
	if (!err)
		err = image_find(image, 0, &entry, &next);
	if (err)
		image_close(image);
	return err;
}

void image_close(struct image *image)
{
	io_close(&image->fd);
}

int image_check_packing(const struct image *image)
{
	uint16_t unknown = image->seal.packing & (uint16_t)~PACK_TAKES_LZ4;

	if (unknown)
		return log_fail(
			EOPNOTSUPP,
			"the memory in %s is packed in a way (%#x) that this baton does not know",
			image->path, unknown);
	if (!IS_ENABLED(CONFIG_COMPRESS_LZ4) && image->seal.packing)
		return log_fail(EOPNOTSUPP,
				"the memory in %s is packed with LZ4, which is not built in "
				"(CONFIG_COMPRESS_LZ4); write it with: baton dump --compress off",
				image->path);
	return 0;
}

int image_check_signature(struct image *image)
{
	const struct image_seal *seal = &image->seal;

	if (!seal->signature_len)
		return log_fail(
			EKEYREJECTED,
			"%s is not signed: whoever made it could have put anything into it; "
			"if you made it, take it with --allow-unsigned",
			image->path);
	return sign_check(image->path, seal->digest, seal->cert, seal->cert_len, seal->signature,
			  seal->signature_len, image->signer, image->fingerprint);
}
