/* SPDX-License-Identifier: MIT */
/* /proc/PID/smaps, one mapping at a time. */
#include "engine/process/smaps.h"

#include "lib/text.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

/*
 * A read(2) of a seq_file ends with the first mapping that fills it, and begins with the next one when it takes
 * the last byte of one. The text of a mapping is 600 bytes at least: so this much reaches into the next one and
 * no further.
 */
#define STEP_BYTES 256

int smaps_open(struct smaps *s, int proc_fd)
{
	s->at = s->len = 0;
	s->fd = openat(proc_fd, "smaps", O_RDONLY | O_CLOEXEC);
	if (s->fd < 0)
		return errno == ENOENT ? -ESRCH : -errno;
	return 0;
}

void smaps_close(struct smaps *s)
{
	io_close(&s->fd);
}

/* 1; 0: there is no more; -errno. */
static int read_more(struct smaps *s)
{
	ssize_t n;

	if (s->at) {
		s->len -= s->at;
		memmove(s->text, s->text + s->at, s->len);
		s->at = 0;
	}
	if (s->len + STEP_BYTES > sizeof(s->text))
		return -EFBIG;
	n = read(s->fd, s->text + s->len, STEP_BYTES);
	if (n <= 0)
		return n < 0 ? -errno : 0;
	s->len += (uint32_t)n;
	return 1;
}

/* A line without its end. 1; 0: there is none; -errno. */
static int next_line(struct smaps *s, char **line)
{
	int got = 1;
	char *end;

	while (!(end = memchr(s->text + s->at, '\n', s->len - s->at)) && got > 0)
		got = read_more(s);
	if (!end)
		return got;
	*end = '\0';
	*line = s->text + s->at;
	s->at = (uint32_t)(end + 1 - s->text);
	return 1;
}

static void begin_mapping(struct smaps *s, const struct proc_map *map)
{
	s->map = *map;
	text_copy(s->name, sizeof(s->name), map->name);
	s->map.name = s->name;
	s->has_pages = false;
	s->key = s->kib = 0;
}

int smaps_next(struct smaps *s)
{
	char *line = NULL;
	int got;

	while ((got = next_line(s, &line)) > 0) {
		struct proc_map map;
		const char *v;
		uint64_t kib = 0;

		if ((v = text_after(line, "Rss:"))) {
			if (text_take_u64(&v, 10, &kib))
				s->kib += kib;
		} else if ((v = text_after(line, "Swap:"))) {
			if (text_take_u64(&v, 10, &kib))
				s->kib += kib;
			s->has_pages |= kib != 0;
		} else if ((v = text_after(line, "Anonymous:"))) {
			s->has_pages |= text_take_u64(&v, 10, &kib) && kib;
		} else if ((v = text_after(line, "ProtectionKey:"))) {
			text_take_u64(&v, 10, &s->key);
		} else if ((v = text_after(line, "VmFlags:"))) {
			s->flags = v;
			return 1;
		} else if (proc_map_parse(line, &map)) {
			begin_mapping(s, &map);
		}
	}
	return got;
}

int smaps_seek(struct smaps *s, uint64_t start)
{
	char *line = NULL;
	int got;

	while ((got = next_line(s, &line)) > 0 &&
	       (!proc_map_parse(line, &s->map) || s->map.start < start))
		;
	return got;
}

static bool is_loaded(const struct smaps *s, unsigned int nr)
{
	static const char flags[] = "\nVmFlags:"; /* the last line of each */
	const char *at = s->text + s->at, *end = s->text + s->len;

	for (; nr && at; nr--) {
		at = memmem(at, (size_t)(end - at), flags, sizeof(flags) - 1);
		if (at)
			at = memchr(at + 1, '\n', (size_t)(end - at - 1));
	}
	return at;
}

int smaps_load(struct smaps *s, unsigned int nr)
{
	int got = 1;

	while (!is_loaded(s, nr) && got > 0)
		got = read_more(s);
	return got > 0 ? 0 : got < 0 ? got : -ENODATA;
}

bool smaps_has(const struct smaps *s, uint64_t start, uint64_t end)
{
	char head[40];
	int len = snprintf(head, sizeof(head), "%08llx-%08llx ", (unsigned long long)start,
			   (unsigned long long)end);

	return memmem(s->text + s->at, s->len - s->at, head, (size_t)len);
}
