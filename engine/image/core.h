/* SPDX-License-Identifier: MIT */
/* An image as an ELF core file, for gdb. */
#ifndef BATON_CORE_H
#define BATON_CORE_H

#include "engine/image/read.h"

/*
 * Writes it into an open, empty file. -ENOEXEC: it is of another architecture; -EBADMSG: the image is damaged; -ENOSPC and
 * the like. The reason is said.
 */
int image_core(struct image *image, int fd);

#endif
