/* SPDX-License-Identifier: MIT */
/* Packing of pages with LZ4: when it pays, making it, and undoing what a peer made. */
#include "transport/pack.h"

#include "lib/arena.h"
#include "lib/clock.h"
#include <string.h>
/*
 * As part of this file: of its functions for every sort of input the one that is needed is made, not four of
 * them. Nothing is allocated.
 */
#define LZ4_HEAPMODE 0
#define LZ4_FAST_DEC_LOOP 0
#define LZ4_STATIC_LINKING_ONLY
#define LZ4_STATIC_LINKING_ONLY_DISABLE_MEMORY_ALLOCATION
#include <lz4.c> /* NOLINT(bugprone-suspicious-include): it becomes a part of this one */

#define LENGTH_BYTES 4
/* The table of places seen before has 16 KiB, in numbers of two bytes where these reach. */
#define TABLE (CONFIG_RUN_KIB * 1024 < LZ4_64Klimit ? byU16 : byU32)
/* Not worth it unless it saves this part. */
#define SAVES_PART 8
/* Most runs that are left as they are between two tries on what does not shrink. */
#define SKIP_MOST 63
/* The smallest page of any kernel. */
#define PAGE_MIN_BYTES 4096 /* not a page of this device */

bool pack_pays(const struct packer *packer, uint64_t link_bytes_s)
{
	/* ns a KiB: packing against the link. Half of what is packed is saved, as a rule. */
	return packer->rule == PACK_ALWAYS ||
	       (packer->rule == PACK_AUTO && link_bytes_s &&
		packer->ns_kib < 1024 * UINT64_C(1000000000) / 2 / link_bytes_s);
}

/* The least that was seen, so that a busy moment is not taken for a slow processor; it rises by itself. */
static void note_cost(struct packer *packer, int64_t ns, uint32_t raw)
{
	uint64_t ns_kib = (uint64_t)ns * 1024 / raw;
	uint32_t risen = packer->ns_kib + packer->ns_kib / 32 + 1;

	packer->ns_kib = packer->ns_kib && risen < ns_kib ? risen : (uint32_t)ns_kib;
}

static void note_result(struct packer *packer, bool shrunk)
{
	packer->nr_skip_last = shrunk ? 0 : 2 * packer->nr_skip_last + 1;
	if (packer->nr_skip_last > SKIP_MOST)
		packer->nr_skip_last = SKIP_MOST;
	packer->nr_skip = packer->rule == PACK_ALWAYS ? 0 : packer->nr_skip_last;
}

void pack_shrink(struct packer *packer, struct frame *frame, uint8_t *body)
{
	uint32_t raw = frame->len, most = raw - raw / SAVES_PART;
	int64_t began_ns = clock_now_ns();
	size_t mark = arena_mark();
	LZ4_stream_t *state;
	uint8_t *packed;
	int len = 0;

	if (packer->nr_skip) {
		packer->nr_skip--;
		return;
	}
	state = arena_alloc(ARENA_SCRATCH, sizeof(*state), 16);
	packed = arena_alloc(ARENA_SCRATCH, most, 16);
	if (state && packed)
		len = LZ4_compress_generic(&state->internal_donotuse, (const char *)body,
					   (char *)packed + LENGTH_BYTES, (int)raw, NULL,
					   (int)(most - LENGTH_BYTES), limitedOutput, TABLE, noDict,
					   noDictIssue, 1);
	if (len > 0) {
		for (int i = 0; i < LENGTH_BYTES; i++)
			packed[i] = (uint8_t)(raw >> (8 * i));
		frame->type = FRAME_PACKED;
		frame->len = LENGTH_BYTES + (uint32_t)len;
		memcpy(body, packed, frame->len);
	}
	arena_reset(mark);
	note_cost(packer, clock_now_ns() - began_ns, raw);
	note_result(packer, len > 0);
}

int pack_open(uint8_t *room, uint32_t len, uint32_t *raw_bytes)
{
	const uint8_t *packed = room + PACK_ROOM_BYTES - len;
	uint32_t raw;

	if (len <= LENGTH_BYTES || len > FRAME_BODY_MAX)
		return -EPROTO;
	raw = pack_raw_bytes(packed);
	if (raw <= len || raw > FRAME_BODY_MAX || raw % PAGE_MIN_BYTES)
		return -EPROTO;
	/*
	 * In place: what is written never overtakes what is still to be read when the block is a right one
	 * (lz4.h, LZ4_DECOMPRESS_INPLACE_MARGIN). A wrong one spoils itself, within `room`.
	 */
	if (LZ4_decompress_safe((const char *)packed + LENGTH_BYTES, (char *)room,
				(int)(len - LENGTH_BYTES), (int)raw) != (int)raw)
		return -EPROTO;
	*raw_bytes = raw;
	return 0;
}

_Static_assert(PACK_MARGIN_BYTES >= LZ4_DECOMPRESS_INPLACE_MARGIN(CONFIG_RUN_KIB * 1024),
	       "a run can be unpacked in place");
