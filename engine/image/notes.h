/* SPDX-License-Identifier: MIT */
/* The notes of a core file: threads and their registers, the process, its auxiliary vector and its files. */
#ifndef BATON_NOTES_H
#define BATON_NOTES_H

#include "engine/image/read.h"

/* Writes them at `at` of a file; *len becomes their bytes. -EBADMSG, -ENOSPC, ... with the reason said. */
int image_notes(struct image *image, int fd, uint64_t page, uint64_t at, uint64_t *len);

#endif
