/* SPDX-License-Identifier: MIT */
/* The userfaultfd ioctls, each driven to the end of its range where that is possible. */
#include "engine/paging/uffd.h"

#include "lib/kernel.h"
#include "lib/log.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <string.h>
#include <unistd.h>

/* mmap_min_addr of any usual configuration; no page below it is ever waited for. */
#define LOWEST_ADDR 0x10000

/* One try on one range. Bytes filled, or -errno. */
static int64_t fill_try(int fd, uint64_t dst, const uint8_t *data, uint64_t len)
{
	int64_t filled;
	int err;

	if (data) {
		struct uffdio_copy copy = {.dst = dst, .src = (uintptr_t)data, .len = len};

		err = ioctl(fd, UFFDIO_COPY, &copy) ? errno : 0;
		filled = copy.copy;
	} else {
		struct uffdio_zeropage zero = {.range = {.start = dst, .len = len}};

		err = ioctl(fd, UFFDIO_ZEROPAGE, &zero) ? errno : 0;
		filled = zero.zeropage;
	}
	/* A range that was begun and not finished says EAGAIN, and how far it came. */
	if (filled > 0 && (err == 0 || err == EAGAIN))
		return filled;
	return err ? -err : -EIO;
}

/*
 * The kernel looks whether changes are announced, then waits for the mapping, and then looks for it
 * (mm/userfaultfd.c since Linux 6.8): one that moved away in between is not found, though its content still has
 * to come. Asked again it says EAGAIN.
 */
static int64_t fill_once(int fd, uint64_t dst, const uint8_t *data, uint64_t len)
{
	int64_t n = fill_try(fd, dst, data, len);

	return n == -ENOENT ? fill_try(fd, dst, data, len) : n;
}

/* The reason why a fill cannot go on, said where the caller has no answer to it. */
static int fill_failed(int err, uint64_t addr)
{
	switch (err) {
	case -EAGAIN:
	case -ESRCH:
		return err;
	case -ENOSPC:
		return -ESRCH; /* the word of Linux 4.11 to 4.13 for it */
	case -ENOMEM:
		return log_fail(ENOMEM, "no memory left on this device for the process that is "
					"being received (or its memory cgroup is full); "
					"free some, then continue");
	default:
		return log_fail(-err, "cannot fill memory at %#llx: %m", (unsigned long long)addr);
	}
}

/*
 * The kernel takes a range only when it lies in one mapping and nothing of it is there. So on
 * ENOENT the range is halved down to a page, which is then passed over; it grows again with success.
 */
static int fill(int fd, uint64_t dst, const uint8_t *data, uint64_t len, uint64_t page_bytes,
		uint64_t *done)
{
	uint64_t piece = len;

	for (*done = 0; *done < len;) {
		uint64_t left = len - *done;
		int64_t n;

		if (piece > left)
			piece = left;
		n = fill_once(fd, dst + *done, data ? data + *done : NULL, piece);
		if (n > 0) {
			*done += (uint64_t)n;
			piece *= 2;
		} else if (n == -EEXIST) {
			uffd_wake(fd, dst + *done, page_bytes);
			*done += page_bytes;
		} else if (n == -ENOENT || n == -EINVAL) {
			if (piece > page_bytes) {
				piece = piece / 2 / page_bytes * page_bytes;
				continue;
			}
			uffd_wake(fd, dst + *done, page_bytes);
			*done += page_bytes;
		} else {
			return fill_failed((int)n, dst + *done);
		}
	}
	return 0;
}

int uffd_copy(int fd, uint64_t dst, const void *data, uint64_t len, uint64_t page_bytes,
	      uint64_t *done)
{
	return fill(fd, dst, data, len, page_bytes, done);
}

int uffd_zero(int fd, uint64_t dst, uint64_t len, uint64_t page_bytes, uint64_t *done)
{
	return fill(fd, dst, NULL, len, page_bytes, done);
}

int uffd_zero_whole(int fd, uint64_t start, uint64_t len, uint64_t page_bytes, bool may_exist)
{
	uint64_t done = 0, piece = len;

	while (done < len) {
		int64_t n;

		if (piece > len - done)
			piece = len - done;
		n = fill_once(fd, start + done, NULL, piece);
		if (n > 0)
			done += (uint64_t)n;
		else if (n == -EEXIST && may_exist)
			done += page_bytes;
		else if (n == -EEXIST)
			return -EEXIST;
		else if (n != -ENOENT && n != -EINVAL)
			return fill_failed((int)n, start + done);
		else if (piece == page_bytes)
			return -ENOENT;
		else
			piece = piece / 2 / page_bytes * page_bytes;
	}
	return 0;
}

static int wake(int fd, uint64_t start, uint64_t len)
{
	struct uffdio_range range = {.start = start, .len = len};

	return ioctl(fd, UFFDIO_WAKE, &range) ? -errno : 0;
}

void uffd_wake(int fd, uint64_t start, uint64_t len)
{
	if (len)
		wake(fd, start, len);
}

void uffd_wake_all(int fd, uint64_t top)
{
	/* A system with a higher mmap_min_addr refuses the first range. */
	for (uint64_t start = LOWEST_ADDR; start < top; start *= 2) {
		if (wake(fd, start, top - start) != -EINVAL)
			return;
	}
}

/* A fill that cannot be done: its source cannot be read. The errno of it. */
static int probe(int fd, uint64_t addr, const void *unreadable, uint64_t page_bytes)
{
	struct uffdio_copy copy = {.dst = addr, .src = (uintptr_t)unreadable, .len = page_bytes};

	return ioctl(fd, UFFDIO_COPY, &copy) ? errno : 0;
}

bool uffd_is_alive(int fd, uint64_t addr, const void *unreadable, uint64_t page_bytes)
{
	int err = probe(fd, addr, unreadable, page_bytes);

	return err != ESRCH && err != ENOSPC;
}

bool uffd_is_changing(int fd, uint64_t addr, const void *unreadable, uint64_t page_bytes)
{
	return probe(fd, addr, unreadable, page_bytes) == EAGAIN;
}

int uffd_read(int fd, struct uffd_msg *msg)
{
	ssize_t n;

	do {
		n = read(fd, msg, sizeof(*msg));
	} while (n < 0 && errno == EINTR);
	if (n == (ssize_t)sizeof(*msg))
		return 1;
	if (n < 0 && errno != EAGAIN)
		return -errno;
	return 0;
}

int uffd_adopt(int fd)
{
	int flags = fcntl(fd, F_GETFL);

	if (flags < 0 || fcntl(fd, F_SETFL, flags | O_NONBLOCK) < 0 ||
	    fcntl(fd, F_SETFD, FD_CLOEXEC) < 0)
		return -errno;
	return 0;
}
