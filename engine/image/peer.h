/* SPDX-License-Identifier: MIT */
/*
 * An image as the peer of a move: the source, which answers at once. move_target takes the process from it as from any
 * other; whatever it asks for is read from the file then, and checked before it is given.
 */
#ifndef BATON_PEER_H
#define BATON_PEER_H

#include "engine/image/read.h"
#include "engine/move/link.h"

/*
 * Makes a link that leads to an image, which is open and whose signature was checked, or need not be. It is opened with
 * link_open as others are. A page that is damaged ends it with -EBADMSG. -errno of getrandom(2).
 */
int image_peer_link(struct link *link, struct image *image);

#endif
