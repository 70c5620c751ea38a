/* SPDX-License-Identifier: MIT */
/* Protobuf messages as bodies of frames. */
#ifndef BATON_MESSAGE_H
#define BATON_MESSAGE_H

#include "transport/lane.h"
#include <pb.h>

/* Encodes `msg` straight into the lane's queue as one frame (frame->len is set here), flushing when
 * there is no room. -EMSGSIZE when it exceeds FRAME_BODY_MAX. */
int message_queue(struct lane *lane, struct frame *frame, const pb_msgdesc_t *fields,
		  const void *msg, int timeout_ms);

/* Decodes the body of the lane's received frame. -EPROTO when it does not parse or fit. */
int message_decode(const struct lane *lane, const pb_msgdesc_t *fields, void *msg);

#endif
