/* SPDX-License-Identifier: MIT */
/*
 * The address space before there are mappings in it.
 *
 * The new process is a copy of us. Its vdso's system call instruction runs the two calls that
 * unmap all below and above the vdso; one page with an instruction of our own, in a gap of the
 * program's layout, then runs the ones that move the vdso to where the program expects it.
 */
#include "engine/process/space.h"

#include "engine/process/batch.h"
#include "engine/process/proc.h"
#include "engine/process/vdso.h"
#include "lib/arena.h"
#include "lib/config.h"
#include "lib/kernel.h"
#include "lib/log.h"
#include "lib/text.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>

#define MAX_PARTS 4
/* The gap: some distance to its neighbours, so that a growing stack does not meet the scratch area. */
#define GAP_WANTED (64ULL << 20)
#define GAP_MIN (4ULL << 20)
#define GAP_MARGIN (1ULL << 20)
#define LOWEST 0x10000ULL
/* In the code page, behind the instruction. */
#define BATCH_CODE_OFFSET 16

struct parts {
	baton_VdsoPart part[MAX_PARTS];
	unsigned int nr;
};

struct layout {
	struct parts parts;
	uint64_t gap_start, gap_len, last_end;
};

static void layout_add(struct layout *l, const struct proc_map *map)
{
	uint64_t gap = map->start > l->last_end ? map->start - l->last_end : 0;

	/* The first one large enough; else the largest. */
	if (l->gap_len < GAP_WANTED && gap > l->gap_len && map->start <= arch_user_top()) {
		l->gap_start = l->last_end;
		l->gap_len = gap;
	}
	l->last_end = map->end;
	if (arch_vdso_is_part(map->name) && l->parts.nr < MAX_PARTS) {
		baton_VdsoPart *part = &l->parts.part[l->parts.nr++];

		text_copy(part->name, sizeof(part->name), map->name);
		part->start = map->start;
		part->len = map->end - map->start;
	}
}

static int layout_read(int proc_fd, struct layout *l)
{
	size_t mark = arena_mark();
	char *buf = arena_alloc(ARENA_SCRATCH, PROC_LINE_MAX, 16), *line;
	struct line_reader reader;
	struct proc_map map;
	int err, got;

	memset(l, 0, sizeof(*l));
	l->last_end = LOWEST;
	if (!buf)
		return -ENOMEM;
	err = line_reader_open(&reader, proc_fd, "maps", buf, PROC_LINE_MAX);
	if (!err) {
		while ((got = line_reader_next(&reader, &line)) > 0)
			if (proc_map_parse(line, &map))
				layout_add(l, &map);
		line_reader_close(&reader);
		err = got;
	}
	arena_reset(mark);
	return err;
}

int space_describe(struct dump *d, baton_Process *msg)
{
	struct layout l;
	int err = layout_read(d->proc_fd, &l);

	if (err)
		return err;
	if (l.gap_len < GAP_MIN)
		return log_fail(ENOMEM, "pid %d leaves no gap of 4 MiB in its address space",
				d->pid);
	msg->gap_start = l.gap_start;
	msg->gap_len = l.gap_len;
	msg->vdso_count = (pb_size_t)l.parts.nr;
	memcpy(msg->vdso, l.parts.part, sizeof(l.parts.part));
	if (d->other_vdso) {
		msg->image_start = d->vdso.known.start;
		msg->image_len = d->vdso.known.len;
	}
	return 0;
}

/* ---- target ---- */

/* Finds a system call instruction in a part that lies at `start` in the new process. */
static int find_insn(struct restore *r, uint64_t start, uint64_t len, uint64_t *insn)
{
	size_t mark = arena_mark();
	uint8_t *image;
	ssize_t offset = -ENOMEM;

	len = len > 16384 ? 16384 : len;
	image = arena_alloc(ARENA_SCRATCH, len, 16);
	if (image) {
		offset = remote_read(&r->leader, start, image, len);
		if (!offset)
			offset = arch_vdso_find_syscall(image, len);
	}
	arena_reset(mark);
	if (offset < 0)
		return log_fail((int)-offset, "this kernel's vdso has no system call to use");
	*insn = start + (uint64_t)offset;
	return 0;
}

static const baton_VdsoPart *find_vdso(const struct parts *p)
{
	unsigned int i;

	for (i = 0; i < p->nr; i++)
		if (strcmp(p->part[i].name, "[vdso]") == 0)
			return &p->part[i];
	return NULL;
}

static int unmap_around(struct restore *r, const struct parts *own)
{
	const baton_VdsoPart *first = &own->part[0], *last = &own->part[own->nr - 1];
	uint64_t end = last->start + last->len;
	int64_t ret;

	ret = remote_call(&r->leader, SYS_munmap, 0, first->start);
	if (ret >= 0)
		ret = remote_call(&r->leader, SYS_munmap, end, arch_user_top() - end);
	return ret < 0 ? log_fail((int)-ret, "the new process cannot be emptied: %m") : 0;
}

/* One page with code: the instruction, and the loop of batches; then the data areas of both. */
static int map_scratch(struct restore *r, const baton_Process *msg)
{
	uint64_t page = 1ULL << arch_page_shift(), base = 0;
	uint64_t len = (page + REMOTE_SCRATCH_BYTES + BATCH_BYTES + page - 1) & ~(page - 1);
	const int flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE;
	uint64_t at = (msg->gap_start + GAP_MARGIN + page - 1) & ~(page - 1);
	int64_t ret = -ENOMEM;
	int err;

	/* Our own vdso may lie in that gap, until it is moved: then further up. */
	for (; at + len + GAP_MARGIN <= msg->gap_start + msg->gap_len && ret < 0;
	     at += GAP_MARGIN) {
		base = at;
		ret = remote_call(&r->leader, SYS_mmap, at, len, PROT_READ | PROT_WRITE, flags,
				  (uint64_t)-1);
	}
	if (ret >= 0)
		ret = remote_call(&r->leader, SYS_mprotect, base, page, PROT_READ | PROT_EXEC);
	if (ret < 0)
		return log_fail((int)-ret, "no scratch area in the new process: %m");
	r->batch->code = base + BATCH_CODE_OFFSET;
	r->batch->at = base + page + REMOTE_SCRATCH_BYTES;
	err = remote_write(&r->leader, base, arch_syscall_insn, arch_syscall_insn_len);
	if (!err)
		err = remote_write(&r->leader, r->batch->code, arch_batch_code,
				   (uintptr_t)arch_batch_code_end - (uintptr_t)arch_batch_code);
	if (err)
		return err;
	r->scratch = base;
	r->scratch_len = len;
	r->leader.insn = base;
	r->leader.scratch = base + page;
	r->leader.scratch_len = REMOTE_SCRATCH_BYTES;
	r->leader.tid_inside = r->batch->pid_inside = r->pid_inside;
	r->leader.batch = r->batch;
	return 0;
}

static int fail_move(const struct batch *b, const struct arch_batch_call *call, int err)
{
	(void)b, (void)call;
	return log_fail(-err, "the vdso cannot be moved: %m");
}

static int move_part(struct restore *r, uint64_t from, uint64_t len, uint64_t to)
{
	int err = batch_room(&r->leader, 1, 0);

	if (!err)
		batch_call(&r->leader, fail_move, SYS_mremap, from, len, len,
			   MREMAP_MAYMOVE | MREMAP_FIXED, to);
	return err;
}

/* Not over the instruction that moves it. */
static bool vdso_fits(const struct restore *r, uint64_t start, uint64_t len)
{
	return start < arch_user_top() && len <= arch_user_top() - start &&
	       !restore_is_scratch(r, start, len);
}

/* From the first part's start to the last one's end: their distances are part of the code. */
static uint64_t span(const struct parts *own)
{
	const baton_VdsoPart *last = &own->part[own->nr - 1];

	return last->start + last->len - own->part[0].start;
}

static int move_all(struct restore *r, struct parts *own, uint64_t to)
{
	uint64_t first = own->part[0].start;
	int err = 0;

	for (unsigned int i = 0; i < own->nr && !err; i++) {
		baton_VdsoPart *part = &own->part[i];
		uint64_t start = to + (part->start - first);

		err = move_part(r, part->start, part->len, start);
		part->start = start;
	}
	return err;
}

/* By way of the space behind the scratch area, since old and new place may overlap. */
static int move_vdso(struct restore *r, struct parts *own, const baton_Process *msg)
{
	uint64_t aside = r->scratch + r->scratch_len + (GAP_MARGIN / 2);
	unsigned int i;
	int err;

	aside &= ~((1ULL << arch_page_shift()) - 1);
	err = span(own) <= GAP_MARGIN ? move_all(r, own, aside) : -ENOEXEC;
	for (i = 0; i < own->nr && !err && !r->other_vdso; i++) {
		baton_VdsoPart *part = &own->part[i];

		err = vdso_fits(r, msg->vdso[i].start, part->len)
			      ? move_part(r, part->start, part->len, msg->vdso[i].start)
			      : -EPROTO;
		part->start = msg->vdso[i].start;
	}
	return err ? log_fail(-err, "the vdso cannot be moved: %m") : 0;
}

static int check_parts(const struct restore *r, const struct parts *own, const baton_Process *msg)
{
	unsigned int i;

	if (msg->gap_len < GAP_MIN || msg->gap_start >= arch_user_top() ||
	    msg->gap_len > arch_user_top() - msg->gap_start)
		return log_fail(EPROTO, "the peer names a gap that is none");
	if (r->other_vdso && own->nr)
		return 0;
	if (own->nr != msg->vdso_count || own->nr == 0)
		return log_fail(ENOEXEC, "the peer's vdso has %u parts, this kernel's has %u",
				msg->vdso_count, own->nr);
	for (i = 0; i < own->nr; i++)
		if (strcmp(own->part[i].name, msg->vdso[i].name) != 0 ||
		    own->part[i].len != msg->vdso[i].len)
			return log_fail(ENOEXEC, "%s is another one on this kernel",
					own->part[i].name);
	return 0;
}

int space_empty(struct restore *r, const baton_Process *msg)
{
	struct layout l;
	const baton_VdsoPart *vdso;
	uint64_t insn = 0;
	int err = layout_read(r->proc_fd, &l);

	if (!err)
		err = check_parts(r, &l.parts, msg);
	vdso = err ? NULL : find_vdso(&l.parts);
	if (!vdso)
		return err ? err : log_fail(ENOEXEC, "this kernel has no vdso");
	err = find_insn(r, vdso->start, vdso->len, &insn);
	if (err)
		return err;
	r->leader.insn = insn;
	insn -= vdso->start;
	err = unmap_around(r, &l.parts);
	if (!err)
		err = map_scratch(r, msg);
	if (!err)
		err = move_vdso(r, &l.parts, msg);
	if (!err)
		r->vdso_insn = vdso->start + insn;
	return err;
}

static int read_image(const struct restore *r, uint64_t start, uint64_t *len, uint8_t **image)
{
	*len = *len < VDSO_IMAGE_MAX ? *len : VDSO_IMAGE_MAX;
	*image = arena_alloc(ARENA_SCRATCH, *len, 16);
	return *image ? remote_read(&r->leader, start, *image, *len) : -ENOMEM;
}

/* The program's calls go to this kernel's vdso from now on. */
static int redirect(struct restore *r, const baton_VdsoPart *vdso)
{
	uint64_t at = r->process.image_start, len = r->process.image_len, next_len = vdso->len;
	size_t mark = arena_mark();
	uint8_t *image, *next;
	int err = -EPROTO;

	if (len && at < arch_user_top() && len <= arch_user_top() - at &&
	    !restore_is_scratch(r, at, len))
		err = read_image(r, at, &len, &image);
	if (!err)
		err = read_image(r, vdso->start, &next_len, &next);
	if (!err)
		err = vdso_redirect(image, len, at, next, next_len, vdso->start);
	if (!err)
		err = remote_write(&r->leader, at, image, len);
	arena_reset(mark);
	return err ? log_fail(-err, "the vdso that the program knows cannot be redirected: %m") : 0;
}

int space_settle(struct restore *r)
{
	const baton_VdsoPart *vdso;
	uint64_t aside;
	struct layout l;
	int64_t to;
	int err;

	if (!IS_ENABLED(CONFIG_OTHER_VDSO) || !r->other_vdso)
		return 0;
	err = layout_read(r->proc_fd, &l);
	vdso = err ? NULL : find_vdso(&l.parts);
	if (!vdso)
		return err ? err : -ENOEXEC;
	aside = l.parts.part[0].start;
	/* Where the kernel would put the next mapping of the program: in nobody's way. */
	to = remote_call(&r->leader, SYS_mmap, 0, span(&l.parts), PROT_NONE,
			 MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, (uint64_t)-1);
	err = to < 0 ? (int)to : move_all(r, &l.parts, (uint64_t)to);
	if (!err)
		err = batch_flush(&r->leader);
	if (err)
		return log_fail(-err, "the vdso finds no place: %m");
	r->vdso_insn += (uint64_t)to - aside;
	return redirect(r, vdso);
}

const char *space_inside_root(const char *path, const char *root)
{
	size_t len = strlen(root);

	if (strcmp(root, "/") == 0)
		return path;
	if (strncmp(path, root, len) != 0)
		return "/";
	if (path[len] == '\0')
		return "/";
	return path[len] == '/' ? path + len : "/";
}
