/* SPDX-License-Identifier: MIT */
/* Flags of mappings that are too large for smaps to look through. */
#include "engine/state/vma_skip.h"

#include "engine/state/state.h"
#include "engine/state/vma_class.h"
#include "lib/arena.h"
#include "lib/config.h"
#include "lib/fault.h"
#include "lib/kernel.h"
#include "lib/log.h"

#include <errno.h>
#include <string.h>

#include <sys/mman.h>
#include <unistd.h>

/* From here on: what smaps looks at in 0.2 ms. */
#define LARGE_KIB 16384
/* So much of it is parted: a huge page, which stays whole (4 KiB pages), and a multiple of a page of any size. */
#define PART_BYTES (2ULL << 20)
/* Field of /proc/PID/stat: pages in memory. */
#define STAT_RSS 24
/* No mapping starts there. */
#define NONE UINT64_MAX

/* ---- before the freeze ---- */

static void forget(struct vma_skip *skip, unsigned int i)
{
	struct vma_skip_point *p = skip->points;

	io_close(&p[i].smaps_fd);
	memmove(&p[i], &p[i + 1], (skip->nr - i - 1) * sizeof(*p));
	skip->nr--;
}

/*
 * Memory, whose parts become one again. Files can be otherwise: the kernel never joins mappings of which a file
 * system is told when they go, and does not undo MADV_DONTDUMP on some (mm/madvise.c, VM_SPECIAL).
 */
static bool is_memory(const struct proc_map *map)
{
	return !map->inode || !strncmp(map->name, "/memfd:", sizeof("/memfd:") - 1) ||
	       !strcmp(map->name, "/dev/zero (deleted)");
}

/* Keeps the largest, in the order of their addresses. */
static void consider(struct vma_skip *skip, const struct smaps *s, uint64_t kib[VMA_SKIPS])
{
	unsigned int least = 0, i;

	if (s->kib < LARGE_KIB || !is_memory(&s->map))
		return;
	for (i = 1; i < skip->nr; i++)
		if (kib[i] < kib[least])
			least = i;
	if (skip->nr == VMA_SKIPS) {
		if (kib[least] >= s->kib)
			return;
		memmove(&kib[least], &kib[least + 1], (VMA_SKIPS - least - 1) * sizeof(kib[0]));
		forget(skip, least);
	}
	kib[skip->nr] = s->kib;
	skip->points[skip->nr++] =
		(struct vma_skip_point){.start = s->map.start,
					.end = s->map.end,
					.smaps_fd = -1,
					.not_dumped = vma_has(vma_flags_parse(s->flags), "dd")};
}

static void choose(struct vma_skip *skip, struct smaps *s, int proc_fd)
{
	uint64_t kib[VMA_SKIPS] = {0};

	if (!smaps_open(s, proc_fd)) {
		while (smaps_next(s) > 0)
			consider(skip, s, kib);
	}
	smaps_close(s);
}

/* Reads into its text, and no further. */
static int read_up_to(struct vma_skip_point *p, struct smaps *s, int proc_fd)
{
	int got = smaps_open(s, proc_fd);

	if (!got)
		got = smaps_seek(s, p->start);
	if (got > 0 && s->map.start == p->start && s->map.end >= p->end) {
		p->smaps_fd = s->fd;
		return 0;
	}
	smaps_close(s);
	return got < 0 ? got : -ESTALE;
}

void vma_skip_prepare(struct vma_skip *skip, int proc_fd)
{
	size_t mark = arena_mark();
	struct smaps *s = arena_alloc(ARENA_SCRATCH, sizeof(*s), 16);
	int64_t pages = 0;

	vma_skip_close(skip);
	*skip = (struct vma_skip){0};
	if (IS_ENABLED(CONFIG_SKIP_LARGE) && s && !proc_stat_field(proc_fd, STAT_RSS, &pages) &&
	    (uint64_t)pages << arch_page_shift() >= LARGE_KIB * 1024ULL) {
		choose(skip, s, proc_fd);
		for (unsigned int i = 0; i < skip->nr;)
			if (read_up_to(&skip->points[i], s, proc_fd))
				forget(skip, i);
			else
				i++;
	}
	arena_reset(mark);
}

void vma_skip_close(struct vma_skip *skip)
{
	while (IS_ENABLED(CONFIG_SKIP_LARGE) && skip->nr)
		forget(skip, skip->nr - 1);
}

/* ---- frozen ---- */

static bool is_in(const struct vma_skip_point *p, const struct proc_map *map)
{
	return map->start <= p->start && map->end >= p->end && is_memory(map);
}

/* Looks where the mappings lie now. One that grew is the same; one that shrank is none any more. */
static int place(struct vma_skip *skip, int proc_fd, char *buf, size_t cap)
{
	struct vma_skip_point *p = skip->points, *behind = NULL;
	struct line_reader reader;
	struct proc_map map;
	uint64_t before = NONE, second = NONE;
	char *line;
	int got = line_reader_open(&reader, proc_fd, "maps", buf, cap);

	if (got)
		return got;
	while ((got = line_reader_next(&reader, &line)) > 0) {
		if (!proc_map_parse(line, &map))
			continue;
		if (behind)
			behind->after = map.start;
		behind = NULL;
		while (skip->at < skip->nr && p->start < map.end &&
		       (!is_in(p, &map) || (skip->at + 1 < skip->nr && is_in(p + 1, &map))))
			forget(skip, skip->at);
		if (skip->at < skip->nr && is_in(p, &map)) {
			*p = (struct vma_skip_point){.start = map.start,
						     .end = map.end,
						     .second = second,
						     .before = before,
						     .after = NONE,
						     .smaps_fd = p->smaps_fd,
						     .not_dumped = p->not_dumped};
			behind = p++;
			skip->at++;
		}
		second = before;
		before = map.start;
	}
	line_reader_close(&reader);
	return got;
}

int vma_skip_begin(struct dump *d, struct smaps *s)
{
	struct vma_skip *skip = &d->skip;
	int err = 0;

	s->fd = -1;
	if (!IS_ENABLED(CONFIG_SKIP_LARGE))
		return smaps_open(s, d->proc_fd);
	skip->at = 0;
	skip->last = NONE;
	skip->expected = 0;
	if (skip->nr)
		err = place(skip, d->proc_fd, s->text, sizeof(s->text));
	while (skip->nr > skip->at)
		forget(skip, skip->nr - 1);
	skip->at = 0;
	return err ? err : smaps_open(s, d->proc_fd);
}

/* The next mapping, which has to be that behind the last large one. */
static int take(struct dump *d, struct smaps *s)
{
	uint64_t expected = d->skip.expected;
	int got = expected ? smaps_next(s) : 1; /* the rest of the large one's text */

	d->skip.expected = 0;
	if (got > 0)
		got = smaps_next(s);
	if (!expected || (got > 0 ? s->map.start == expected : got || expected == NONE))
		return got;
	log_debug("pid %d: its mappings have changed: smaps is read from its beginning", d->pid);
	smaps_close(s);
	got = smaps_open(s, d->proc_fd);
	if (!got)
		do
			got = smaps_next(s);
		while (got > 0 && s->map.start < expected);
	return got;
}

/*
 * Two MiB inside of a mapping get another advice than the rest, so that it is three. They are not at its
 * beginning, where they could become one with a neighbour. Of all advice this means least, should we die.
 */
static void part(struct dump *d, const struct vma_skip_point *p)
{
	uint64_t at = (p->start + PART_BYTES) & ~(PART_BYTES - 1);

	if (p->end - p->start < 4 * PART_BYTES)
		return;
	d->skip.part_back = p->not_dumped ? MADV_DONTDUMP : MADV_DODUMP;
	d->skip.part_start = at;
	remote_call(&d->leader, SYS_madvise, at, PART_BYTES,
		    p->not_dumped ? MADV_DODUMP : MADV_DONTDUMP);
}

static void join(struct dump *d, bool parted)
{
	if (parted)
		remote_call(&d->leader, SYS_madvise, d->skip.part_start, PART_BYTES,
			    (uint64_t)d->skip.part_back);
	d->skip.part_start = 0;
}

/*
 * Reads the first part of a large mapping, which has the flags of all of it, and what comes before. It is whole
 * if it has the other advice by now.
 */
static int look(struct dump *d, struct smaps *s, struct vma_skip_point *p)
{
	unsigned int nr = (d->skip.last == p->before ? 1 : 2) + (d->skip.expected ? 1 : 0);
	int err, failed;

	part(d, p);
	failed = fault_point(FAULT_DUMP_PART);
	err = smaps_load(s, nr);
	if (err)
		vma_skip_mend(d); /* what was read does not say how far it came */
	else
		join(d, smaps_has(s, p->start, d->skip.part_start));
	p->looked = true;
	if (failed)
		return failed;
	/* Names too long for all of it: it is read as it is. */
	return err == -EFBIG ? 0 : err;
}

static int take_large(struct dump *d, struct smaps *s, struct vma_skip_point *p)
{
	int got = take(d, s);

	if (got <= 0 || s->map.start != p->start)
		return got < 0 ? got : -EIO;
	s->map.end = p->end;
	s->has_pages = true;
	smaps_close(s);
	s->fd = p->smaps_fd;
	p->smaps_fd = -1;
	/* What `flags` leads to stays where it is until the next read. */
	s->at = s->len = 0;
	d->skip.expected = p->after;
	d->skip.at++;
	return 1;
}

int vma_skip_next(struct dump *d, struct smaps *s)
{
	struct vma_skip *skip = &d->skip;
	struct vma_skip_point *p = skip->at < skip->nr ? &skip->points[skip->at] : NULL;
	bool is_next = p && p->before == skip->last;
	int got = 0;

	if (!IS_ENABLED(CONFIG_SKIP_LARGE))
		return smaps_next(s);
	if (p && !p->looked && (is_next || p->second == skip->last))
		got = look(d, s, p);
	if (!got)
		got = is_next ? take_large(d, s, p) : take(d, s);
	skip->last = s->map.start;
	return got;
}

void vma_skip_mend(struct dump *d)
{
	const uint64_t start = d->skip.part_start;
	size_t mark = arena_mark();
	char *buf = arena_alloc(ARENA_SCRATCH, PROC_LINE_MAX, 16), *line;
	struct line_reader reader;
	struct proc_map map;
	bool parted = false;

	if (start && buf && !line_reader_open(&reader, d->proc_fd, "maps", buf, PROC_LINE_MAX)) {
		while (line_reader_next(&reader, &line) > 0)
			parted |= proc_map_parse(line, &map) && map.start == start &&
				  map.end == start + PART_BYTES;
		line_reader_close(&reader);
	}
	join(d, parted);
	arena_reset(mark);
}
