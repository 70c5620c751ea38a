/* SPDX-License-Identifier: MIT */
/* Protobuf messages as bodies of frames: encoded in place in the lane's queue. */
#include "transport/message.h"

#include "lib/log.h"
#include <errno.h>
#include <pb_decode.h>
#include <pb_encode.h>

int message_queue(struct lane *lane, struct frame *frame, const pb_msgdesc_t *fields,
		  const void *msg, int timeout_ms)
{
	pb_ostream_t stream;
	size_t size;
	uint8_t *body;
	int err;

	if (!pb_get_encoded_size(&size, fields, msg) || size > FRAME_BODY_MAX)
		return log_fail(EMSGSIZE, "a %s message exceeds the %u bytes of a frame",
				frame_name(frame->type), FRAME_BODY_MAX);
	frame->len = (uint32_t)size;
	err = lane_room_wait(lane, frame->len, timeout_ms);
	if (err)
		return err;
	body = lane_body(lane, frame->len);
	if (!body)
		return -ENOBUFS;
	stream = pb_ostream_from_buffer(body, size);
	if (!pb_encode(&stream, fields, msg) || stream.bytes_written != size)
		return log_fail(EMSGSIZE, "a %s message cannot be encoded",
				frame_name(frame->type));
	return lane_queue(lane, frame, NULL);
}

int message_decode(const struct lane *lane, const pb_msgdesc_t *fields, void *msg)
{
	pb_istream_t stream = pb_istream_from_buffer(lane->rx_body, lane->rx.len);

	if (!pb_decode(&stream, fields, msg))
		return log_fail(EPROTO, "%s sent a %s message that does not decode", lane->peer,
				frame_name(lane->rx.type));
	return 0;
}
