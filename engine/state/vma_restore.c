/* SPDX-License-Identifier: MIT */
/* Mappings made again at the target, each with its protection, advice and name. */
#include "engine/process/batch.h"
#include "engine/state/fd.h"
#include "engine/state/state.h"
#include "engine/state/vma.pb.h"
#include "engine/state/vma_class.h"
#include "lib/kernel.h"
#include "lib/log.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <time.h>
#include <unistd.h>

#ifndef PR_SET_VMA
#define PR_SET_VMA 0x53564d41
#define PR_SET_VMA_ANON_NAME 0
#endif

static int check(const struct restore *r, const baton_Vma *msg)
{
	uint64_t page = 1ULL << arch_page_shift(), top = arch_user_top();

	if (msg->start % page || msg->len % page || msg->offset % page || !msg->len ||
	    msg->start >= top || msg->len > top - msg->start ||
	    msg->prot & ~(uint32_t)(PROT_READ | PROT_WRITE | PROT_EXEC) ||
	    (msg->start < r->scratch + r->scratch_len && msg->start + msg->len > r->scratch))
		return log_fail(EPROTO, "the peer described a mapping that cannot be");
	return 0;
}

/* The calls that a mapping needs at most: two for its file, mmap and what follows it, a name, locking, advice. */
#define MAX_CALLS 24
#define ROUNDING 8 /* of each piece of data */

/* Of a file that a queue opens: the path of the last one before the call. */
static const char *mapped_file(const struct batch *b, const struct arch_batch_call *call)
{
	if (!(call->flags & ARCH_BATCH_FIFTH))
		return "";
	while (call > b->calls)
		if ((--call)->nr == SYS_openat)
			return batch_text(b, call->args[1]);
	return "";
}

static int fail_open(const struct batch *b, const struct arch_batch_call *call, int err)
{
	const struct restore *r = b->owner;
	const char *path = batch_text(b, call->args[1]);

	return log_fail(-rights_denied(r->rights, err, path), "mapped file %s: %s", path,
			strerror(-err));
}

static int fail_map(const struct batch *b, const struct arch_batch_call *call, int err)
{
	return log_fail(-err, "mapping of %llu bytes at %#llx %s: %m",
			(unsigned long long)call->args[1], (unsigned long long)call->args[0],
			mapped_file(b, call));
}

static int fail_count(const struct batch *b, const struct arch_batch_call *call, int err)
{
	(void)b;
	return log_fail(-err, "mapping at %#llx: %m", (unsigned long long)call->args[1]);
}

/* The descriptor to map where it is none that a queue opens, in the new process; -1: none; -errno below that. */
static int64_t open_backing(struct restore *r, const baton_Vma *msg)
{
	char path[64];
	int64_t fd, ret;

	switch (msg->backing) {
	case baton_VmaBacking_VMA_MEMFD:
		if (msg->fd >= 0)
			return fd_is_placed(r, msg->fd) ? msg->fd : -EPROTO - 1;
		break;
	case baton_VmaBacking_VMA_SHARED_ANONYMOUS:
		if (!msg->origin_start && msg->offset == 0 && msg->len == msg->object_len)
			return -1;
		break;
	default:
		return -1;
	}
	if (msg->origin_start) {
		unsigned long long end = msg->origin_start + msg->origin_len;

		snprintf(path, sizeof(path), "/proc/self/map_files/%llx-%llx",
			 (unsigned long long)msg->origin_start, end);
		fd = fd_remote_open(r, path, O_RDWR);
		return fd < 0 ? fd - 1 : fd;
	}
	fd = remote_call(&r->leader, SYS_memfd_create, remote_push_str(&r->leader, msg->path));
	if (fd < 0)
		return fd - 1;
	ret = remote_call(&r->leader, SYS_ftruncate, (uint64_t)fd, msg->object_len);
	return ret < 0 ? ret - 1 : fd;
}

static uint32_t protection(const baton_Vma *msg)
{
	uint32_t prot = msg->prot;

	for (unsigned int i = 0; i < vma_nr_flags; i++)
		if ((msg->flags >> i) & 1)
			prot |= vma_flags[i].prot;
	return prot;
}

/*
 * Memory that was writable once and is counted ever since (against the limit of vm.overcommit_memory)
 * has to be so again. Since Linux 6.6 an anonymous mapping in which nothing was ever written is no
 * longer counted when it becomes read-only (mm/mprotect.c): the kernel writes the time to it.
 */
static void protect_counted(struct restore *r, const baton_Vma *msg)
{
	struct remote *leader = &r->leader;

	if (msg->backing == baton_VmaBacking_VMA_ANONYMOUS) {
		batch_call(leader, fail_count, SYS_clock_gettime, CLOCK_REALTIME, msg->start);
		batch_try(leader, SYS_madvise, msg->start, 1ULL << arch_page_shift(),
			  MADV_DONTNEED);
	}
	batch_call(leader, fail_map, SYS_mprotect, msg->start, msg->len, protection(msg));
}

static void map(struct restore *r, const baton_Vma *msg, int64_t fd)
{
	uint64_t flags = MAP_FIXED_NOREPLACE | (msg->shared ? MAP_SHARED : MAP_PRIVATE);
	bool counted = !msg->shared && vma_has(msg->flags, "ac") && !(msg->prot & PROT_WRITE);
	bool file = msg->backing == baton_VmaBacking_VMA_FILE;
	unsigned int i;

	if (file)
		batch_open(&r->leader, fail_open, msg->path,
			   msg->shared && vma_has(msg->flags, "mw") ? O_RDWR : O_RDONLY);
	else if (fd < 0)
		flags |= MAP_ANONYMOUS;
	for (i = 0; i < vma_nr_flags; i++)
		if ((msg->flags >> i) & 1)
			flags |= (uint64_t)vma_flags[i].map_flag;
	batch_add(&r->leader, file ? ARCH_BATCH_FIFTH : 0, fail_map, SYS_mmap,
		  (const uint64_t[6]){msg->start, msg->len,
				      counted ? PROT_READ | PROT_WRITE : protection(msg), flags,
				      (uint64_t)fd, file || fd >= 0 ? msg->offset : 0});
	if (counted)
		protect_counted(r, msg);
}

/* Advice is what a program has asked for; a kernel without that feature is no reason to fail. */
static void advise(struct restore *r, const baton_Vma *msg)
{
	unsigned int i;

	for (i = 0; i < vma_nr_flags; i++)
		if (((msg->flags >> i) & 1) && vma_flags[i].advice)
			batch_try(&r->leader, SYS_madvise, msg->start, msg->len,
				  (uint64_t)vma_flags[i].advice);
	if (vma_has(msg->flags, "lo"))
		batch_try(&r->leader, SYS_mlock2, msg->start, msg->len,
			  vma_is_locked(msg->flags) ? 0 : MLOCK_ONFAULT);
	if (msg->anon_name[0])
		batch_try(&r->leader, SYS_prctl, PR_SET_VMA, PR_SET_VMA_ANON_NAME, msg->start,
			  msg->len, batch_push_str(&r->leader, msg->anon_name));
}

/* Pages that follow go into the object itself: its mapping may be read-only. */
static int note_object(struct restore *r, const baton_Vma *msg)
{
	int err;

	if (r->object_fd >= 0)
		close(r->object_fd);
	r->object_fd = -1;
	if (!msg->shared || msg->backing == baton_VmaBacking_VMA_FILE || msg->fd >= 0)
		return 0;
	err = batch_flush(&r->leader);
	if (err)
		return err;
	r->object_fd = vma_open_object(r->proc_fd, msg->start, msg->len, O_RDWR);
	if (r->object_fd < 0)
		return log_fail(errno, "shared memory at %#llx cannot be filled: %m",
				(unsigned long long)msg->start);
	r->object_start = msg->start;
	r->object_end = msg->start + msg->len;
	r->object_offset = msg->offset;
	r->object_len = msg->object_len;
	return 0;
}

int vma_restore(struct restore *r, const void *data)
{
	const baton_Vma *msg = data;
	int64_t fd;
	int err = check(r, msg);

	if (err)
		return err;
	fd = open_backing(r, msg);
	if (fd < -1)
		return log_fail((int)-(fd + 1), "mapping at %#llx: %m",
				(unsigned long long)msg->start);
	err = batch_room(&r->leader, MAX_CALLS,
			 strlen(msg->path) + strlen(msg->anon_name) + 2 * ROUNDING);
	if (err)
		return err;
	map(r, msg, fd);
	if (fd >= 0 && fd != msg->fd)
		batch_try(&r->leader, SYS_close, (uint64_t)fd);
	advise(r, msg);
	err = note_object(r, msg);
	if (!err && msg->lazy && msg->backing == baton_VmaBacking_VMA_ANONYMOUS && r->lazy.on_range)
		err = r->lazy.on_range(r->lazy.data, msg->start, msg->start + msg->len);
	return err;
}

int vma_finish(struct restore *r)
{
	if (r->object_fd >= 0)
		close(r->object_fd);
	r->object_fd = -1;
	return 0;
}
