/* SPDX-License-Identifier: MIT */
/*
 * Frame headers and preambles: what is accepted is within its bounds and encodes to the same bytes.
 *
 * needs: transport/frame.c transport/route.c
 */
#include "transport/frame.h"
#include "transport/route.h"

#include <stddef.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	uint8_t again[ROUTE_BYTES];
	struct frame frame;
	struct route route;

	if (size >= FRAME_HEADER_BYTES && frame_decode(data, &frame) == 0) {
		if (frame.len > FRAME_BODY_MAX || frame_name(frame.type)[0] == '?')
			abort();
		frame_encode(&frame, again);
		if (memcmp(again, data, FRAME_HEADER_BYTES) != 0)
			abort();
	}
	if (size >= ROUTE_BYTES && route_decode(data, &route) == 0) {
		route_encode(&route, again);
		if (route.lane >= ROUTE_LANES || memcmp(again, data, ROUTE_BYTES) != 0)
			abort();
	}
	return 0;
}
