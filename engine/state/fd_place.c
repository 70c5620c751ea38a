/* SPDX-License-Identifier: MIT */
/* The target's side of descriptors: numbers of the new process. */
#include "engine/process/batch.h"
#include "engine/state/fd.h"

#include "lib/kernel.h"
#include "lib/log.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

/* Where the receiver's streams wait at first: above what most programs use, below any table's growth. */
#define STASH_BASE 64

/* Numbers that were placed, ascending. */
static int32_t *placed;
static unsigned int nr_placed;

static unsigned int placed_index(int32_t fd)
{
	unsigned int low = 0, high = nr_placed;

	while (low < high) {
		unsigned int mid = (low + high) / 2;

		if (placed[mid] < fd)
			low = mid + 1;
		else
			high = mid;
	}
	return low;
}

bool fd_is_placed(struct restore *r, int32_t fd)
{
	unsigned int index = placed_index(fd);

	return r->fds.begun && index < nr_placed && placed[index] == fd;
}

/* Checks and remembers a number. */
static int claim(struct restore *r, int32_t fd)
{
	unsigned int index;

	if (fd < 0 || fd >= FD_NUMBER_MAX || fd_is_placed(r, fd))
		return log_fail(EPROTO, "descriptor %d twice, or out of range", fd);
	if (nr_placed == CONFIG_MAX_FDS)
		return log_fail(E2BIG,
				"more than %d descriptors, the most this baton was built for "
				"(CONFIG_MAX_FDS)",
				CONFIG_MAX_FDS);
	index = placed_index(fd);
	memmove(&placed[index + 1], &placed[index], (nr_placed - index) * sizeof(*placed));
	placed[index] = fd;
	nr_placed++;
	return 0;
}

static int fail_place(const struct batch *b, const struct arch_batch_call *call, int err)
{
	(void)b;
	return log_fail(-err, "cannot put a descriptor at number %d: %m", (int)call->args[1]);
}

/* Moves one of the receiver's streams to some number from `base` on. */
static int stash(struct restore *r, int stream, int base)
{
	int old = r->stdio_fd[stream];
	int64_t fd;

	if (old < 0)
		return 0;
	fd = remote_call(&r->leader, SYS_fcntl, (uint64_t)old, F_DUPFD_CLOEXEC, (uint64_t)base);
	if (fd == -EBADF) { /* the receiver was started without this stream */
		r->stdio_fd[stream] = -1;
		return 0;
	}
	if (fd < 0)
		return (int)fd;
	remote_call(&r->leader, SYS_close, (uint64_t)old);
	r->stdio_fd[stream] = (int)fd;
	return 0;
}

int fd_place_begin(struct restore *r)
{
	struct rlimit old, wide = {FD_NUMBER_MAX, FD_NUMBER_MAX};
	int err = 0;

	if (r->fds.begun)
		return 0;
	placed = fd_placed_room();
	if (!placed)
		return log_fail(ENOMEM,
				"no room for the table of descriptors; raise the memory budget");
	nr_placed = 0;
	/* The program may have lowered its limit below numbers that it holds. */
	if (prlimit(r->pid, RLIMIT_NOFILE, NULL, &old) < 0)
		return log_fail(errno, "cannot read the descriptor limit: %m");
	r->fds.soft = old.rlim_cur;
	r->fds.hard = old.rlim_max;
	if (prlimit(r->pid, RLIMIT_NOFILE, &wide, NULL) < 0) {
		wide.rlim_cur = wide.rlim_max = old.rlim_max;
		prlimit(r->pid, RLIMIT_NOFILE, &wide, NULL);
	}
	/* The new process begins as a copy of ours, with our streams and nothing else. */
	err = batch_room(&r->leader, 6, 0);
	for (int i = 0; i < 3 && !err; i++) {
		r->stdio_fd[i] = fcntl(i, F_GETFD) < 0 ? -1 : STASH_BASE + i;
		if (r->stdio_fd[i] < 0)
			continue;
		batch_call(&r->leader, fail_place, SYS_dup3, (uint64_t)i, STASH_BASE + i,
			   O_CLOEXEC);
		batch_try(&r->leader, SYS_close, (uint64_t)i);
	}
	r->fds.begun = true;
	return err;
}

int fd_clear_number(struct restore *r, int32_t to)
{
	for (int i = 0; i < 3; i++) {
		int err = r->stdio_fd[i] == to ? stash(r, i, 2 * to + 3) : 0;

		if (err)
			return log_fail(err, "cannot make room for fd %d: %m", to);
	}
	return 0;
}

static int place(struct restore *r, int64_t from, int32_t to, bool keep, uint32_t flags)
{
	int err;

	if (from < 0)
		return (int)from;
	err = claim(r, to);
	if (err || from == to)
		return err;
	err = fd_clear_number(r, to);
	if (!err)
		err = batch_room(&r->leader, 2, 0);
	if (err)
		return err;
	batch_call(&r->leader, fail_place, SYS_dup3, (uint64_t)from, (uint64_t)to, flags);
	if (!keep)
		batch_try(&r->leader, SYS_close, (uint64_t)from);
	return 0;
}

int fd_place(struct restore *r, int64_t from, int32_t to)
{
	return place(r, from, to, false, 0);
}

int fd_place_copy(struct restore *r, int64_t from, int32_t to)
{
	return place(r, from, to, true, 0);
}

int fd_place_dup(struct restore *r, int32_t from, int32_t to, bool cloexec)
{
	return from == to ? -EPROTO : place(r, from, to, true, cloexec ? O_CLOEXEC : 0);
}

int fd_restore_take(struct restore *r, int32_t fd)
{
	int copy, err;

	if (!fd_is_placed(r, fd))
		return log_fail(EPROTO, "descriptor %d is spoken of but was not restored", fd);
	err = batch_flush(&r->leader);
	if (err)
		return err;
	copy = fd_take(r->pidfd, fd);
	return copy < 0 ? log_fail(copy, "cannot reach fd %d: %m", fd) : copy;
}

int64_t fd_remote_open(struct restore *r, const char *path, uint32_t flags)
{
	uint64_t addr;
	int64_t fd;

	remote_reset(&r->leader);
	addr = remote_push_str(&r->leader, path);
	if (!addr)
		return -EFAULT;
	fd = remote_call(&r->leader, SYS_openat, (uint64_t)AT_FDCWD, addr, flags, 0);
	remote_reset(&r->leader);
	return fd < 0 ? rights_denied(r->rights, (int)fd, path) : fd;
}

int fd_place_finish(struct restore *r)
{
	struct rlimit limit;
	int err = fd_place_begin(r); /* a process without descriptors has none of ours either */

	if (!err)
		err = batch_room(&r->leader, 3, 0);
	for (int i = 0; i < 3 && !err; i++) {
		if (r->stdio_fd[i] >= 0)
			batch_try(&r->leader, SYS_close, (uint64_t)r->stdio_fd[i]);
		r->stdio_fd[i] = -1;
	}
	/* Numbers above the limit are used in what is queued. */
	if (!err)
		err = batch_flush(&r->leader);
	limit.rlim_cur = r->fds.soft;
	limit.rlim_max = r->fds.hard;
	if (!err && prlimit(r->pid, RLIMIT_NOFILE, &limit, NULL) < 0)
		err = log_fail(errno, "cannot set the descriptor limit: %m");
	return err;
}
