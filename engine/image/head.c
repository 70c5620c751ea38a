/* SPDX-License-Identifier: MIT */
/* Walking through the head of an image. */
#include "engine/image/head.h"

#include "lib/arena.h"
#include "lib/log.h"

#include <errno.h>
#include <pb_decode.h>

int image_each_head(struct image *image, image_head_fn *fn, void *data)
{
	for (uint64_t i = 0; i < image->seal.nr_head; i++) {
		struct frame frame;
		const uint8_t *body;
		size_t mark = arena_mark();
		int err = image_read_head(image, i, &frame, &body);

		if (!err)
			err = fn(data, &frame, body);
		arena_reset(mark);
		if (err)
			return err;
	}
	return 0;
}

void *image_message(const struct frame *frame, const uint8_t *body, const pb_msgdesc_t *fields,
		    size_t size)
{
	pb_istream_t stream = pb_istream_from_buffer(body, frame->len);
	void *msg = arena_alloc(ARENA_SCRATCH, size, 16);

	if (!msg)
		log_no_room("a message");
	else if (!pb_decode(&stream, fields, msg))
		log_fail(EBADMSG, "a message in it (%s) does not decode", frame_name(frame->type));
	else
		return msg;
	return NULL;
}
