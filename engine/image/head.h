/* SPDX-License-Identifier: MIT */
/* Walking through the head of an image, for who only looks. */
#ifndef BATON_HEAD_H
#define BATON_HEAD_H

#include "engine/image/read.h"
#include <pb.h>

/* Calls `fn` for each frame of the head until it returns non-zero, which is passed on. `body` is valid up to the next read. */
typedef int image_head_fn(void *data, const struct frame *frame, const uint8_t *body);
int image_each_head(struct image *image, image_head_fn *fn, void *data);

/* A message, decoded into scratch memory. NULL, with the reason said: there is no room, or it does not decode. */
void *image_message(const struct frame *frame, const uint8_t *body, const pb_msgdesc_t *fields,
		    size_t size);

#endif
