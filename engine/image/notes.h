/* SPDX-License-Identifier: MIT */
/* The notes of a core file: threads and their registers, the process, its auxiliary vector and its files. */
#ifndef BATON_NOTES_H
#define BATON_NOTES_H

#include "engine/image/read.h"

/*
 * Two rounds through the head of an image: in the first one only their length is found.
 *
 *     notes_begin, notes_take for each frame, notes_place, notes_take for each frame again
 */
void notes_begin(const struct image *image);

/* A frame of the head. `page`: bytes of one. -EBADMSG, -ENOSPC, ... with the reason said. */
int notes_take(const struct frame *frame, const uint8_t *body, uint64_t page);

/* They go to `at` of a file; *end becomes what is behind them. -ENOSPC and the like. */
int notes_place(int fd, uint64_t page, uint64_t at, uint64_t *end);

#endif
