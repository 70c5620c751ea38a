/* SPDX-License-Identifier: MIT */
/* Frame headers: encoding, decoding, and the bounds of each type. */
#include "transport/frame.h"

#include <errno.h>
#include <stddef.h>

/* Bodies are of three sorts: none, one u64, or a bounded text of any length up to `max`. */
struct frame_bounds {
	const char *name;
	uint32_t min, max; /* bytes of body */
	uint32_t unit;     /* the length is a multiple of it */
	uint8_t flags;     /* bits that may be set */
};

#define BODY_NONE .min = 0, .max = 0, .unit = 1
#define BODY_U64 .min = 8, .max = 8, .unit = 1
#define BODY_UP_TO(most) .min = 0, .max = (most), .unit = 1
/* The smallest page of any kernel; whoever fills pages checks against the size of its own. */
#define PAGE_MIN_BYTES 4096 /* not a page of this device */
#define BODY_PAGES .min = PAGE_MIN_BYTES, .max = FRAME_BODY_MAX, .unit = PAGE_MIN_BYTES

#define ABORT_MAX_BYTES 4096 /* not a page */

static const struct frame_bounds bounds[FRAME_TYPE_END] = {
	[FRAME_HELLO] = {"HELLO", BODY_UP_TO(1024)},
	[FRAME_OFFER] = {"OFFER", BODY_UP_TO(FRAME_BODY_MAX)},
	[FRAME_FILE] = {"FILE", BODY_UP_TO(FRAME_BODY_MAX)},
	[FRAME_CHECK] = {"CHECK", BODY_NONE},
	[FRAME_ANSWER] = {"ANSWER", BODY_UP_TO(FRAME_BODY_MAX)},
	[FRAME_STATE] = {"STATE", BODY_UP_TO(FRAME_BODY_MAX)},
	[FRAME_PAGES] = {"PAGES", BODY_PAGES},
	[FRAME_ZERO] = {"ZERO", BODY_U64},
	[FRAME_DESCRIBED] = {"DESCRIBED", BODY_NONE},
	[FRAME_READY] = {"READY", BODY_NONE},
	[FRAME_GO] = {"GO", BODY_NONE},
	[FRAME_STARTED] = {"STARTED", BODY_NONE},
	[FRAME_FETCH] = {"FETCH", BODY_U64},
	[FRAME_PUSH] = {"PUSH", BODY_U64},
	[FRAME_REACHED] = {"REACHED", BODY_NONE},
	[FRAME_COMPLETE] = {"COMPLETE", BODY_UP_TO(1024)},
	[FRAME_DONE] = {"DONE", BODY_UP_TO(1024)},
	[FRAME_ABORT] = {"ABORT", BODY_UP_TO(ABORT_MAX_BYTES)},
	[FRAME_PING] = {"PING", BODY_UP_TO(FRAME_BODY_MAX), .flags = FRAME_PING_QUIET},
	[FRAME_PONG] = {"PONG", BODY_UP_TO(64)},
	[FRAME_PACKED] = {"PACKED", .min = 5, .max = FRAME_BODY_MAX, .unit = 1},
	[FRAME_INDEX] = {"INDEX", BODY_UP_TO(4096) /* not a page */},
	[FRAME_SEAL] = {"SEAL", BODY_UP_TO(4096) /* not a page */},
};

static void put_le(uint8_t *out, uint64_t value, int bytes)
{
	for (int i = 0; i < bytes; i++)
		out[i] = (uint8_t)(value >> (8 * i));
}

static uint64_t get_le(const uint8_t *in, int bytes)
{
	uint64_t value = 0;

	for (int i = 0; i < bytes; i++)
		value |= (uint64_t)in[i] << (8 * i);
	return value;
}

/* Offsets: type 0, flags 1, space 2, len 4, addr 8. */
void frame_encode(const struct frame *frame, uint8_t out[static FRAME_HEADER_BYTES])
{
	out[0] = frame->type;
	out[1] = frame->flags;
	put_le(out + 2, frame->space, 2);
	put_le(out + 4, frame->len, 4);
	put_le(out + 8, frame->addr, 8);
}

int frame_decode(const uint8_t in[static FRAME_HEADER_BYTES], struct frame *frame)
{
	const struct frame_bounds *allowed;

	frame->type = in[0];
	frame->flags = in[1];
	frame->space = (uint16_t)get_le(in + 2, 2);
	frame->len = (uint32_t)get_le(in + 4, 4);
	frame->addr = get_le(in + 8, 8);

	if (frame->type >= FRAME_TYPE_END || !bounds[frame->type].name)
		return -EPROTO;
	allowed = &bounds[frame->type];
	if ((frame->flags & ~allowed->flags) != 0)
		return -EPROTO;
	if (frame->len < allowed->min || frame->len > allowed->max)
		return -EPROTO;
	return frame->len % allowed->unit == 0 ? 0 : -EPROTO;
}

const char *frame_name(uint8_t type)
{
	return type < FRAME_TYPE_END && bounds[type].name ? bounds[type].name : "?";
}

void frame_put_u64(uint64_t value, uint8_t out[static 8])
{
	put_le(out, value, 8);
}

uint64_t frame_get_u64(const uint8_t in[static 8])
{
	return get_le(in, 8);
}
