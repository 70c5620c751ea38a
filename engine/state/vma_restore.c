/* SPDX-License-Identifier: MIT */
/* Mappings made again at the target, each with its protection, advice and name. */
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

/* The descriptor to map, in the new process; -1 for anonymous memory; -errno below that. */
static int64_t open_backing(struct restore *r, const baton_Vma *msg)
{
	bool writes = msg->shared && vma_has(msg->flags, "mw");
	char path[64];
	int64_t fd, ret;

	switch (msg->backing) {
	case baton_VmaBacking_VMA_FILE:
		fd = fd_remote_open(r, msg->path, writes ? O_RDWR : O_RDONLY);
		if (fd < 0)
			log_fail((int)-fd, "mapped file %s: %s", msg->path, strerror((int)-fd));
		return fd < 0 ? fd - 1 : fd;
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
 * longer counted when it becomes read-only (mm/mprotect.c).
 */
static int protect_counted(struct restore *r, const baton_Vma *msg)
{
	const uint8_t zero = 0;
	int64_t ret;
	int err = 0;

	if (msg->backing == baton_VmaBacking_VMA_ANONYMOUS) {
		err = remote_write(&r->leader, msg->start, &zero, sizeof(zero));
		remote_call(&r->leader, SYS_madvise, msg->start, 1ULL << arch_page_shift(),
			    MADV_DONTNEED);
	}
	ret = remote_call(&r->leader, SYS_mprotect, msg->start, msg->len, protection(msg));
	return ret < 0 ? (int)ret : err;
}

static int map(struct restore *r, const baton_Vma *msg, int64_t fd)
{
	uint64_t flags = MAP_FIXED_NOREPLACE | (msg->shared ? MAP_SHARED : MAP_PRIVATE);
	bool counted = !msg->shared && vma_has(msg->flags, "ac") && !(msg->prot & PROT_WRITE);
	unsigned int i;
	int64_t ret;

	if (fd < 0)
		flags |= MAP_ANONYMOUS;
	for (i = 0; i < vma_nr_flags; i++)
		if ((msg->flags >> i) & 1)
			flags |= (uint64_t)vma_flags[i].map_flag;
	ret = remote_call(&r->leader, SYS_mmap, msg->start, msg->len,
			  counted ? PROT_READ | PROT_WRITE : protection(msg), flags, (uint64_t)fd,
			  fd < 0 ? 0 : msg->offset);
	if (ret == (int64_t)msg->start)
		ret = counted ? protect_counted(r, msg) : 0;
	else
		ret = ret < 0 ? ret : -EEXIST;
	if (ret == 0)
		return 0;
	return log_fail((int)-ret, "mapping of %llu bytes at %#llx %s: %s",
			(unsigned long long)msg->len, (unsigned long long)msg->start, msg->path,
			strerror((int)-ret));
}

/* Advice is what a program has asked for; a kernel without that feature is no reason to fail. */
static void advise(struct restore *r, const baton_Vma *msg)
{
	unsigned int i;

	for (i = 0; i < vma_nr_flags; i++)
		if (((msg->flags >> i) & 1) && vma_flags[i].advice)
			remote_call(&r->leader, SYS_madvise, msg->start, msg->len,
				    (uint64_t)vma_flags[i].advice);
	if (vma_has(msg->flags, "lo"))
		remote_call(&r->leader, SYS_mlock2, msg->start, msg->len,
			    vma_is_locked(msg->flags) ? 0 : MLOCK_ONFAULT);
	if (msg->anon_name[0])
		remote_call(&r->leader, SYS_prctl, PR_SET_VMA, PR_SET_VMA_ANON_NAME, msg->start,
			    msg->len, remote_push_str(&r->leader, msg->anon_name));
}

/* Pages that follow go into the object itself: its mapping may be read-only. */
static int note_object(struct restore *r, const baton_Vma *msg)
{
	if (r->object_fd >= 0)
		close(r->object_fd);
	r->object_fd = -1;
	if (!msg->shared || msg->backing == baton_VmaBacking_VMA_FILE || msg->fd >= 0)
		return 0;
	r->object_fd = vma_open_object(r->proc_fd, msg->start, msg->len, O_RDWR);
	if (r->object_fd < 0)
		return log_fail(errno, "shared memory at %#llx cannot be filled: %s",
				(unsigned long long)msg->start, strerror(errno));
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
		return log_fail((int)-(fd + 1), "mapping at %#llx: %s",
				(unsigned long long)msg->start, strerror((int)-(fd + 1)));
	err = map(r, msg, fd);
	if (fd >= 0 && fd != msg->fd)
		remote_call(&r->leader, SYS_close, (uint64_t)fd);
	if (err)
		return err;
	remote_reset(&r->leader);
	advise(r, msg);
	err = note_object(r, msg);
	if (!err && msg->lazy && msg->backing == baton_VmaBacking_VMA_ANONYMOUS && r->on_lazy)
		err = r->on_lazy(r->on_lazy_data, msg->start, msg->start + msg->len);
	return err;
}

int vma_finish(struct restore *r)
{
	if (r->object_fd >= 0)
		close(r->object_fd);
	r->object_fd = -1;
	return 0;
}
