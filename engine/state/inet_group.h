/* SPDX-License-Identifier: MIT */
/* Multicast groups of a socket. */
#ifndef BATON_INET_GROUP_H
#define BATON_INET_GROUP_H

#include "engine/state/inet.pb.h"

#define INET_GROUPS_MAX (sizeof(((baton_Inet *)0)->groups) / sizeof(baton_InetGroup))

/*
 * Lists the groups that socket `fd` of the process has joined (groups NULL: only looks). -E2BIG when
 * there are more than `max`; -EOPNOTSUPP when one is limited to chosen senders; -errno.
 */
int inet_group_collect(int proc_fd, int fd, baton_InetGroup *groups, unsigned int max,
		       pb_size_t *nr);

/* Joins them. 0 or -errno with log_fail. */
int inet_group_join(int fd, const baton_InetGroup *groups, unsigned int nr);

#endif
