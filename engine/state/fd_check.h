/* SPDX-License-Identifier: MIT */
/* One pair of functions a type of descriptor: see struct fd_type_ops. */
#ifndef BATON_FD_CHECK_H
#define BATON_FD_CHECK_H

#include "engine/state/fd.h"

bool file_check(struct fd_look *look);
bool pipe_check(struct fd_look *look);
bool eventfd_check(struct fd_look *look);
bool epoll_check(struct fd_look *look);
bool timerfd_check(struct fd_look *look);
bool signalfd_check(struct fd_look *look);
bool inotify_check(struct fd_look *look);
bool memfd_check(struct fd_look *look);
bool inet_check(struct fd_look *look);
bool unix_check(struct fd_look *look);
bool stdio_check(struct fd_look *look);
bool tty_check(struct fd_look *look);

bool pipe_is_outside(const struct fd_table *table, const struct fd_entry *entry, int copy);
bool unix_is_outside(const struct fd_table *table, const struct fd_entry *entry, int copy);
bool tty_is_outside(const struct fd_table *table, const struct fd_entry *entry, int copy);

#endif
