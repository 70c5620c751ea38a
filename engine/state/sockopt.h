/* SPDX-License-Identifier: MIT */
/* Options of sockets: those that differ from a new socket's are carried. */
#ifndef BATON_SOCKOPT_H
#define BATON_SOCKOPT_H

#include "engine/state/sockopt.pb.h"
#include <stdbool.h>

/*
 * Lists the options of `fd` that differ from those of a new socket of the same kind. At most `max`;
 * -E2BIG when there are more. -errno of socket(2).
 */
int sockopt_collect(int fd, baton_SockOption *options, unsigned int max, pb_size_t *nr);

/* Sets them. Options that baton does not know are refused: -EPROTO. -errno with log_fail. */
int sockopt_apply(int fd, const baton_SockOption *options, unsigned int nr);

/* What cannot be moved of a socket, in words, or NULL. */
const char *sockopt_unfit(int fd);

/* An option of four bytes; -errno. */
int sockopt_get_int(int fd, int level, int name, int *value);

#endif
