/* SPDX-License-Identifier: MIT */
/*
 * Unpacking: any bytes give an error or whole pages, and touch nothing outside of their room; what was packed
 * comes back as it was.
 *
 * needs: transport/pack.c lib/arena.c
 */
#include "transport/pack.h"

#include "lib/arena.h"
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* At the end of memory of its own size, so that a byte behind it is noticed. */
static uint8_t *room;

static void open_any(const uint8_t *data, size_t size)
{
	uint32_t raw = 0;

	if (size > FRAME_BODY_MAX)
		return;
	memcpy(room + PACK_ROOM_BYTES - size, data, size);
	if (pack_open(room, (uint32_t)size, &raw) == 0 &&
	    (raw == 0 || raw > FRAME_BODY_MAX || raw % 4096 != 0)) /* not a page */
		abort();
}

/* Pages made of the input, again and again. */
static void there_and_back(const uint8_t *data, size_t size)
{
	struct packer packer = {.rule = PACK_ALWAYS};
	struct frame frame = {.type = FRAME_PAGES,
			      .len = (1 + data[0] % 4) * 4096}; /* not a page */
	uint8_t *body = malloc(frame.len), *before = malloc(frame.len);
	uint32_t raw = 0;

	for (uint32_t i = 0; i < frame.len; i++)
		before[i] = data[i % size] ^ (uint8_t)(i / size * data[size / 2]);
	memcpy(body, before, frame.len);
	pack_shrink(&packer, &frame, body);
	if (frame.type == FRAME_PACKED) {
		memcpy(room + PACK_ROOM_BYTES - frame.len, body, frame.len);
		if (pack_open(room, frame.len, &raw) || memcmp(room, before, raw) != 0)
			abort();
	} else if (memcmp(body, before, frame.len) != 0) {
		abort();
	}
	free(body);
	free(before);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	if (!room && (arena_init() || !(room = malloc(PACK_ROOM_BYTES))))
		abort();
	open_any(data, size);
	if (size)
		there_and_back(data, size);
	return 0;
}
