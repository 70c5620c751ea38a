/* SPDX-License-Identifier: MIT */
/*
 * The userfaultfd ioctls, each driven to the end of its range where that is possible. They act on
 * the memory that the descriptor was made for, whoever calls. See userfaultfd(2), ioctl_userfaultfd(2).
 */
#ifndef BATON_UFFD_H
#define BATON_UFFD_H

#include <stdbool.h>
#include <stdint.h>

struct uffd_msg;

/*
 * Fills [dst, dst + len) with `data`, or with zero pages, and wakes who waits there. Pages that are
 * there already are left alone (and woken), pages in no registered mapping are passed over.
 * *done: bytes from `dst` on that are dealt with; `len` when 0 is returned.
 * -EAGAIN: an event has to be read first, or the program is right now in the call that it
 * announced; -ESRCH: that memory is gone; -ENOMEM: this device is out of memory, said by log_fail.
 */
int uffd_copy(int fd, uint64_t dst, const void *data, uint64_t len, uint64_t page_bytes,
	      uint64_t *done);
int uffd_zero(int fd, uint64_t dst, uint64_t len, uint64_t page_bytes, uint64_t *done);

/* Lets everybody who waits in the range try again. No registration is needed. */
void uffd_wake(int fd, uint64_t start, uint64_t len);

/* The same for all memory of the process, up to `top`. */
void uffd_wake_all(int fd, uint64_t top);

/*
 * Makes a range present as a whole, with zero pages where nothing is. -EEXIST when something is there and
 * `may_exist` is not set, -ENOENT when a part of it is in no registered mapping; what lies before
 * that is then present. -EAGAIN, -ESRCH, -ENOMEM as above.
 */
int uffd_zero_whole(int fd, uint64_t start, uint64_t len, uint64_t page_bytes, bool may_exist);

/*
 * Whether the memory is still there, asked with a fill of the page at `addr` from `unreadable`, a
 * page of ours that cannot be read: changes nothing.
 */
bool uffd_is_alive(int fd, uint64_t addr, const void *unreadable, uint64_t page_bytes);

/* Whether a change of that memory is announced, so that every fill says -EAGAIN. Asked likewise. */
bool uffd_is_changing(int fd, uint64_t addr, const void *unreadable, uint64_t page_bytes);

/* 1: a message was read; 0: there is none; -errno of read(2), -EMFILE for a fork. */
int uffd_read(int fd, struct uffd_msg *msg);

/* Prepares a descriptor that came from elsewhere: poll(2) reports an error on blocking ones. */
int uffd_adopt(int fd);

#endif
