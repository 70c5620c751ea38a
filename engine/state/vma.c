/* SPDX-License-Identifier: MIT */
/*
 * Mappings. Private anonymous ones are only made; their pages come by faults and pushes. Written
 * pages of private file mappings and the content of shared memory are sent right behind the
 * mapping, before the start.
 */
#include "engine/paging/pagemap.h"
#include "engine/process/proc.h"
#include "engine/state/fd.h"
#include "engine/state/guardpage.h"
#include "engine/state/state.h"
#include "engine/state/vma.pb.h"
#include "engine/state/vma_class.h"
#include "lib/arena.h"
#include "lib/config.h"
#include "lib/kernel.h"
#include "lib/log.h"
#include "lib/text.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/sysmacros.h>
#include <unistd.h>

/* Shared objects that can be told apart; each costs 32 bytes while mappings are described. */
#define MAX_OBJECTS 256
#define SEND_TIMEOUT_MS 20000

/* The kernel itself gives a key to memory that may only be executed, and will do so again. */
static uint64_t flags_of(const struct smaps *s)
{
	bool has_key = s->key && (s->map.read || s->map.write || !s->map.exec);

	return vma_flags_parse(s->flags) | (has_key ? vma_flags_parse("pk") : 0);
}

/* ---- dump ---- */

struct object {
	uint64_t dev, inode, start, len;
};

struct vma_dump {
	struct dump *d;
	const struct state_kind *kind;
	struct smaps smaps;
	baton_Vma msg;
	struct object objects[MAX_OBJECTS];
	unsigned int nr_objects;
};

static void set_flags(baton_Vma *msg, const struct proc_map *map, uint64_t flags)
{
	msg->flags = flags & ((1ULL << VMA_BAD_FIRST) - 1);
	msg->prot = (map->read ? PROT_READ : 0) | (map->write ? PROT_WRITE : 0) |
		    (map->exec ? PROT_EXEC : 0);
	msg->shared = map->shared;
}

/* Content of shared memory: where the object has data, whoever wrote it. */
static int dump_shared_pages(struct dump *d, const baton_Vma *msg, int object)
{
	const off_t page = (off_t)d->pagemap.page_bytes;
	off_t at = (off_t)msg->offset, end = (off_t)(msg->offset + msg->len), hole;
	int err = 0;

	while (!err && at < end) {
		at = lseek(object, at, SEEK_DATA);
		if (at < 0 || at >= end)
			return at < 0 && errno != ENXIO ? -errno : 0;
		hole = lseek(object, at, SEEK_HOLE);
		if (hole < 0)
			return -errno;
		/* The end of an object is a hole, too, and may lie within a page. */
		hole = hole < end ? (hole + page - 1) / page * page : end;
		err = dump_emit_pages(d, msg->start + (uint64_t)at - msg->offset,
				      msg->start + (uint64_t)hole - msg->offset);
		at = hole;
	}
	return err;
}

/* Finds the first mapping of the same object, or notes this as the first. */
static int find_origin(struct vma_dump *v, const struct proc_map *map)
{
	uint64_t dev = makedev(map->dev_major, map->dev_minor);
	unsigned int i;

	for (i = 0; i < v->nr_objects; i++) {
		if (v->objects[i].dev != dev || v->objects[i].inode != map->inode)
			continue;
		v->msg.origin_start = v->objects[i].start;
		v->msg.origin_len = v->objects[i].len;
		return 0;
	}
	if (v->nr_objects == MAX_OBJECTS)
		return log_fail(E2BIG, "pid %d maps more than %d shared memory objects", v->d->pid,
				MAX_OBJECTS);
	v->objects[v->nr_objects++] = (struct object){dev, map->inode, v->msg.start, v->msg.len};
	return 0;
}

static int dump_shared_memory(struct vma_dump *v, const struct proc_map *map)
{
	struct dump *d = v->d;
	struct stat st;
	int object, err;

	v->msg.fd = -1;
	if (v->msg.backing == baton_VmaBacking_VMA_MEMFD)
		v->msg.fd = fd_find_memfd(d, makedev(map->dev_major, map->dev_minor), map->inode);
	if (v->msg.fd >= 0)
		return dump_emit(d, v->kind, &v->msg);
	v->msg.fd = -1;
	err = find_origin(v, map);
	if (err)
		return err;
	object = vma_open_object(d->proc_fd, v->msg.start, v->msg.len, O_RDONLY);
	if (object < 0 || fstat(object, &st) < 0) {
		err = log_fail(errno, "pid %d: shared memory at %#llx cannot be opened: %m", d->pid,
			       (unsigned long long)v->msg.start);
	} else {
		v->msg.object_len = (uint64_t)st.st_size;
		err = dump_emit(d, v->kind, &v->msg);
		if (!err)
			err = dump_shared_pages(d, &v->msg, object);
	}
	if (object >= 0)
		close(object);
	return err;
}

/* What smaps counts as none (terabytes of reserved addresses, files of the program) is not looked through. */
static int dump_own_pages(struct vma_dump *v, const struct proc_map *map)
{
	return v->smaps.has_pages ? dump_emit_existing(v->d, map->start, map->end) : 0;
}

/* Locked memory never waits for a page: its pages come before the start. */
static bool is_lazy(const struct smaps *smaps, uint64_t flags)
{
	return smaps->has_pages && !vma_is_locked(flags);
}

static int dump_anonymous(struct vma_dump *v, const struct proc_map *map)
{
	static const char prefix[] = "[anon:";
	size_t len = strlen(map->name);
	int err;

	if (strncmp(map->name, prefix, sizeof(prefix) - 1) == 0 &&
	    text_copy(v->msg.anon_name, sizeof(v->msg.anon_name), map->name + sizeof(prefix) - 1))
		v->msg.anon_name[len - sizeof(prefix)] = '\0';
	v->msg.lazy = is_lazy(&v->smaps, v->msg.flags);
	err = dump_emit(v->d, v->kind, &v->msg);
	return err || v->msg.lazy ? err : dump_own_pages(v, map);
}

static int dump_file(struct vma_dump *v, const struct proc_map *map)
{
	int err;

	if (!text_copy(v->msg.path, sizeof(v->msg.path), map->name))
		return -ENAMETOOLONG;
	err = dump_emit(v->d, v->kind, &v->msg);
	return err || map->shared ? err : dump_own_pages(v, map);
}

/* Name of a memfd: without what /proc puts around it. */
static void memfd_name(baton_Vma *msg, const char *name)
{
	static const char prefix[] = "/memfd:", suffix[] = " (deleted)";
	size_t len = strlen(name) - (sizeof(prefix) - 1) - (sizeof(suffix) - 1);

	memcpy(msg->path, name + sizeof(prefix) - 1, len < 250 ? len : 249);
}

static int dump_backing(struct vma_dump *v, const struct proc_map *map)
{
	int err;

	switch (v->msg.backing) {
	case baton_VmaBacking_VMA_FILE:
		return dump_file(v, map);
	case baton_VmaBacking_VMA_MEMFD:
		memfd_name(&v->msg, map->name);
		err = dump_shared_memory(v, map);
		return err || map->shared ? err : dump_own_pages(v, map);
	case baton_VmaBacking_VMA_SHARED_ANONYMOUS:
		return dump_shared_memory(v, map);
	default:
		return dump_anonymous(v, map);
	}
}

/*
 * The vdso of this kernel, where the target has another one: its image becomes ordinary memory, and its data
 * zeros. Code that a signal handler has interrupted and that goes on in there finds no clock in them, and makes
 * a system call.
 */
static int dump_vdso_part(struct vma_dump *v, const struct proc_map *map)
{
	const struct dump *d = v->d;

	if (!IS_ENABLED(CONFIG_OTHER_VDSO) || !d->other_vdso ||
	    d->vdso.known.start != d->vdso.own.start || !arch_vdso_is_part(map->name))
		return 0;
	v->msg = (baton_Vma){.start = map->start,
			     .len = map->end - map->start,
			     .backing = baton_VmaBacking_VMA_ANONYMOUS,
			     .anon_name = "vdso of another kernel",
			     .fd = -1};
	set_flags(&v->msg, map, 0);
	return dump_emit(v->d, v->kind, &v->msg);
}

static int dump_one(struct vma_dump *v)
{
	const struct proc_map *map = &v->smaps.map;
	uint64_t flags = flags_of(&v->smaps);
	const char *why;
	baton_VmaBacking backing = 0;
	int err;

	if (!v->d->room && map->start == v->d->leader.scratch)
		return 0;
	switch (vma_classify(map, flags, &backing, &why)) {
	case VMA_SKIP:
		return dump_vdso_part(v, map);
	case VMA_REFUSE:
		return log_fail(EOPNOTSUPP, "pid %d: %llx-%llx %s: %s", v->d->pid,
				(unsigned long long)map->start, (unsigned long long)map->end,
				map->name, why);
	case VMA_CARRY:
		break;
	}
	v->msg = (baton_Vma){.start = map->start,
			     .len = map->end - map->start,
			     .offset = map->offset,
			     .backing = backing,
			     .fd = -1};
	set_flags(&v->msg, map, flags);
	err = dump_backing(v, map);
	return err ? err : guardpage_dump(v->d, map->start, map->end);
}

static int vma_dump(struct dump *d, const struct state_kind *kind)
{
	size_t mark = arena_mark();
	struct vma_dump *v = arena_alloc(ARENA_SCRATCH, sizeof(*v), 16);
	int err, got;

	if (!v)
		return log_fail(ENOMEM, "no room to describe mappings");
	v->d = d;
	v->kind = kind;
	v->nr_objects = 0;
	err = vma_skip_begin(d, &v->smaps);
	while (!err && (got = vma_skip_next(d, &v->smaps)) != 0)
		err = got < 0 ? got : dump_one(v);
	smaps_close(&v->smaps);
	vma_skip_close(&d->skip);
	arena_reset(mark);
	/* The target changes it before the start. */
	if (IS_ENABLED(CONFIG_OTHER_VDSO) && !err && d->other_vdso)
		err = dump_emit_pages(d, d->vdso.known.start,
				      d->vdso.known.start + d->vdso.known.len);
	return err;
}

int vma_each_lazy(int proc_fd, int (*fn)(void *data, uint64_t start, uint64_t end), void *data)
{
	size_t mark = arena_mark();
	struct smaps *smaps = arena_alloc(ARENA_SCRATCH, sizeof(*smaps), 16);
	baton_VmaBacking backing = 0;
	const char *why;
	int err = -ENOMEM;

	if (smaps)
		err = smaps_open(smaps, proc_fd);
	while (!err && (err = smaps_next(smaps)) > 0) {
		uint64_t flags = flags_of(smaps);

		err = 0;
		if (vma_classify(&smaps->map, flags, &backing, &why) == VMA_CARRY &&
		    backing == baton_VmaBacking_VMA_ANONYMOUS && is_lazy(smaps, flags))
			err = fn(data, smaps->map.start, smaps->map.end);
	}
	if (smaps)
		smaps_close(smaps);
	arena_reset(mark);
	return err;
}

/* ---- probe ---- */

struct vma_probe {
	struct probe *probe;
	struct smaps smaps;
	uint64_t lazy_end; /* of the last area that is to come lazily */
	unsigned int nr_areas;
};

/* The target has a table of them, of a fixed size. */
static void count_area(struct vma_probe *v, const struct proc_map *map, baton_VmaBacking backing)
{
	if (backing != baton_VmaBacking_VMA_ANONYMOUS || !v->smaps.has_pages)
		return;
	v->nr_areas += map->start != v->lazy_end;
	v->lazy_end = map->end;
}

static void probe_one(struct vma_probe *v)
{
	const struct proc_map *map = &v->smaps.map;
	struct probe *p = v->probe;
	baton_VmaBacking backing;
	enum vma_class class;
	const char *why;
	char item[96];

	class = vma_classify(map, flags_of(&v->smaps), &backing, &why);
	if (class == VMA_CARRY)
		count_area(v, map, backing);
	if (class != VMA_REFUSE)
		return;
	snprintf(item, sizeof(item), "mapping %llx-%llx %.48s", (unsigned long long)map->start,
		 (unsigned long long)map->end, map->name);
	probe_refused(p, item, "is %s", why);
}

static int vma_probe(struct probe *p)
{
	size_t mark = arena_mark();
	struct vma_probe *v = arena_alloc(ARENA_SCRATCH, sizeof(*v), 16);
	int err = -ENOMEM;

	if (v) {
		*v = (struct vma_probe){.probe = p};
		err = smaps_open(&v->smaps, p->proc_fd);
		while (!err && (err = smaps_next(&v->smaps)) > 0) {
			probe_one(v);
			err = 0;
		}
		smaps_close(&v->smaps);
		if (v->nr_areas > CONFIG_TODO_NODES)
			probe_refused(p, "memory",
				      "is in %u separate areas; this build takes %d "
				      "(CONFIG_TODO_NODES)",
				      v->nr_areas, CONFIG_TODO_NODES);
	}
	arena_reset(mark);
	return err;
}

const struct state_kind kind_vma = {
	.id = KIND_VMA,
	.name = "mapping",
	.fields = baton_Vma_fields,
	.size = sizeof(baton_Vma),
	.probe = vma_probe,
	.dump = vma_dump,
	.restore = vma_restore,
	.finish = vma_finish,
};
