/* SPDX-License-Identifier: MIT */
/*
 * An image file as anybody may have made it: whatever it says, reading it ends, and gives out nothing but what its own
 * checksums cover. Checksums of the input are put right first, where there is something to be put right.
 *
 * needs: engine/image/format.c engine/image/read.c transport/frame.c transport/route.c transport/pack.c
 * needs: lib/arena.c lib/io.c lib/readers.c lib/text.c lib/log.c mbedtls
 */
#include "engine/image/read.h"
#include "lib/arena.h"
#include "lib/log.h"
#include "transport/sign.h"
#include <errno.h>
#include <fcntl.h>
#include <mbedtls/sha256.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define INPUT_MAX 65536

int sign_check(const char *what, const uint8_t digest[static 32], const uint8_t *cert,
	       size_t cert_len, const uint8_t *signature, size_t signature_len,
	       char name[static KEYS_NAME_MAX], uint8_t fingerprint[static KEYS_FINGERPRINT_BYTES])
{
	(void)what, (void)digest, (void)cert, (void)cert_len, (void)signature, (void)signature_len;
	(void)name, (void)fingerprint;
	return -EKEYREJECTED;
}

/* Hashes of entries, from the lowest nodes up as they lie in the file, then the root's and the seal's. */
static void mend(uint8_t *data, size_t size)
{
	struct image_seal seal;
	struct frame frame;
	size_t at = ROUTE_BYTES, front;
	uint8_t bytes[ROUTE_BYTES + IMAGE_SEAL_MAX];

	for (; at + FRAME_HEADER_BYTES <= size && !frame_decode(data + at, &frame);
	     at += FRAME_HEADER_BYTES + frame.len) {
		if (frame.len > size - at - FRAME_HEADER_BYTES || frame.type == FRAME_SEAL)
			break;
		for (size_t e = at + FRAME_HEADER_BYTES;
		     frame.type == FRAME_INDEX &&
		     e + IMAGE_ENTRY_BYTES <= at + FRAME_HEADER_BYTES + frame.len;
		     e += IMAGE_ENTRY_BYTES) {
			struct image_entry entry;

			image_entry_decode(data + e, &entry);
			if (entry.at < size && entry.len <= size - entry.at)
				mbedtls_sha256(data + entry.at, entry.len, data + e + 24, 0);
		}
	}
	if (at + FRAME_HEADER_BYTES > size || frame.type != FRAME_SEAL ||
	    frame.len > size - at - FRAME_HEADER_BYTES ||
	    image_seal_decode(data + at + FRAME_HEADER_BYTES, frame.len, &seal))
		return;
	if (seal.root.at < size && seal.root.len <= size - seal.root.at)
		mbedtls_sha256(data + seal.root.at, seal.root.len,
			       data + at + FRAME_HEADER_BYTES + 4 + 24, 0);
	(void)image_seal_decode(data + at + FRAME_HEADER_BYTES, frame.len, &seal);
	memcpy(bytes, data, ROUTE_BYTES);
	front = image_seal_encode_front(&seal, bytes + ROUTE_BYTES);
	mbedtls_sha256(bytes, ROUTE_BYTES + front, data + at + FRAME_HEADER_BYTES + front, 0);
}

static void walk(struct image *image)
{
	uint64_t key = 0, next;
	struct image_entry entry;
	struct frame frame;
	const uint8_t *body;
	unsigned int sum = 0;

	for (unsigned int steps = 0; steps < 300; steps++) {
		if (image_find(image, key, &entry, &next))
			break;
		if (!image_read(image, &entry, &frame, &body))
			for (uint32_t i = 0; i < frame.len; i++)
				sum += body[i];
		if (next == UINT64_MAX)
			break;
		key = next;
	}
	for (uint64_t i = 0; i < 8 && !image_read_head(image, i, &frame, &body); i++)
		sum += frame.type;
	(void)image_find_memory(image, 0, 1ULL << 47, &entry);
	__asm__ volatile("" : : "r"(sum));
	(void)image_check_signature(image);
}

int LLVMFuzzerTestOneInput(const uint8_t *input, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *input, size_t size)
{
	static uint8_t data[INPUT_MAX];
	static struct image image;
	static int fd = -1;
	static char path[32];

	if (fd < 0) {
		log_level_set(LOG_ERROR);
		fd = memfd_create("image", MFD_CLOEXEC);
		snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	}
	if (size > sizeof(data) || arena_init())
		return 0;
	memcpy(data, input, size);
	for (int mended = 0; mended < 2; mended++) {
		size_t mark = arena_mark();

		if (ftruncate(fd, 0) || pwrite(fd, data, size, 0) != (ssize_t)size)
			return 0;
		log_reason_clear();
		if (!image_open(&image, path)) {
			walk(&image);
			image_close(&image);
		}
		arena_reset(mark);
		if (size > ROUTE_BYTES)
			mend(data, size);
	}
	return 0;
}
