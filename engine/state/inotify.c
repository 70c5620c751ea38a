/* SPDX-License-Identifier: MIT */
/*
 * inotify(7): the watches, under their numbers. The kernel knows watched files by file handle; the
 * path is asked of it. Events that wait to be read cannot be put into a queue from outside, so an
 * instance that has some is not moved until the program has read them.
 */
#include "engine/state/fd_check.h"

#include "engine/state/inotify.pb.h"
#include "lib/arena.h"
#include "lib/io.h"
#include "lib/kernel.h"
#include "lib/log.h"
#include "lib/text.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/inotify.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

/* Numbers are given out in a circle; to reach one, those before it are taken and given back. */
#define WATCH_MAX 65536
#define HANDLE_MAX 128

struct watch {
	uint64_t number, ino, dev, mask;
	struct {
		uint32_t bytes;
		int32_t type;
		uint8_t data[HANDLE_MAX];
	} handle; /* struct file_handle of open_by_handle_at(2) */
};

static bool take_hex_field(const char *text, const char *key, uint64_t *value)
{
	const char *at = strstr(text, key);

	if (!at)
		return false;
	at += strlen(key);
	return text_take_u64(&at, 16, value);
}

/* "wd:1 ino:9e7e sdev:800013 mask:800afce ignored_mask:0 fhandle-bytes:8 fhandle-type:1 f_handle:7e..." */
static int parse(const char *text, struct watch *w)
{
	uint64_t bytes = 0, type = 0, sdev;
	const char *hex = strstr(text, "f_handle:");
	char digits[2 * HANDLE_MAX + 1];

	memset(w, 0, sizeof(*w));
	if (!text_take_u64(&text, 16, &w->number) || !take_hex_field(text, " ino:", &w->ino) ||
	    !take_hex_field(text, " sdev:", &sdev) || !take_hex_field(text, " mask:", &w->mask))
		return -EPROTO;
	/* The kernel's own form of a device number: major << 20 | minor. */
	w->dev = makedev((unsigned int)(sdev >> 20), (unsigned int)(sdev & 0xfffff));
	if (!hex || !take_hex_field(text, "fhandle-bytes:", &bytes) ||
	    !take_hex_field(text, "fhandle-type:", &type) || bytes > HANDLE_MAX)
		return 0; /* a file system without handles: bytes stays 0 */
	text_copy(digits, sizeof(digits), hex + strlen("f_handle:"));
	digits[2 * bytes] = '\0';
	if (text_parse_hex(digits, w->handle.data, (size_t)bytes) == 0) {
		w->handle.bytes = (uint32_t)bytes;
		w->handle.type = (int32_t)type;
	}
	return 0;
}

static bool is_watched(const struct watch *w, const char *path)
{
	struct stat st;

	return lstat(path, &st) == 0 && st.st_ino == w->ino;
}

/* Some place where the file system with this device number is mounted, opened for handles. */
static int open_mount(uint64_t dev)
{
	struct line_reader reader;
	char buf[PROC_LINE_MAX], *line;
	int fd = -1;

	if (line_reader_open(&reader, AT_FDCWD, "/proc/self/mountinfo", buf, sizeof(buf)))
		return -1;
	/* "36 35 98:0 /root /mnt/point rw - ext3 /dev/root rw" */
	while (fd < 0 && line_reader_next(&reader, &line) > 0) {
		const char *at = line;
		uint64_t id, parent, major_nr, minor_nr;
		char path[2048], root[1024];

		if (!text_take_u64(&at, 10, &id) || !text_take_u64(&at, 10, &parent) ||
		    !text_take_u64(&at, 10, &major_nr) || !text_take_char(&at, ':') ||
		    !text_take_u64(&at, 10, &minor_nr) ||
		    !text_take_word(&at, root, sizeof(root)) ||
		    !text_take_word(&at, path, sizeof(path)))
			continue;
		if (makedev((unsigned int)major_nr, (unsigned int)minor_nr) == dev)
			fd = open(path, O_RDONLY | O_NONBLOCK | O_CLOEXEC);
	}
	line_reader_close(&reader);
	return fd;
}

/* The path of a watched file. */
static int find_path(const struct watch *w, char *path, size_t cap)
{
	char link[32];
	long fd;
	int mount_fd, err;

	if (!w->handle.bytes)
		return -EOPNOTSUPP;
	mount_fd = open_mount(w->dev);
	if (mount_fd < 0)
		return -ENOENT;
	fd = syscall(SYS_open_by_handle_at, mount_fd, &w->handle, O_PATH | O_CLOEXEC);
	err = fd < 0 ? -errno : 0;
	close(mount_fd);
	if (err)
		return err;
	snprintf(link, sizeof(link), "/proc/self/fd/%ld", fd);
	err = io_read_link(AT_FDCWD, link, path, cap) < 0 ? -errno : 0;
	close((int)fd);
	return err ? err : is_watched(w, path) ? 0 : -ENOENT;
}

/* ---- what it is ---- */

struct trial {
	struct fd_look *look;
	unsigned int nr;
};

static int try_watch(void *data, const char *text)
{
	struct trial *trial = data;
	struct watch w;
	char path[PATH_MAX];
	int err = parse(text, &w);

	trial->nr++;
	if (!err)
		err = find_path(&w, path, sizeof(path));
	if (!err && w.number > WATCH_MAX)
		err = -E2BIG;
	if (err)
		fd_say(trial->look,
		       "an inotify instance whose watch %llu (inode %llu) cannot be traced to a "
		       "path (%s); remove that watch first",
		       (unsigned long long)w.number, (unsigned long long)w.ino, strerror(-err));
	return err;
}

bool inotify_check(struct fd_look *look)
{
	struct trial trial = {.look = look};

	if (fd_info_each(look->table, look->entry->fd, "inotify wd:", try_watch, &trial))
		return false;
	fd_say(look, "an inotify instance with %u watches", trial.nr);
	return true;
}

/* ---- dump ---- */

/* So many watches are sorted at a time. */
#define BATCH_MAX 32

struct collect {
	struct dump *d;
	baton_Inotify *msg;
	struct watch *batch; /* the lowest numbers beyond `after`, ascending */
	unsigned int nr;
	uint64_t after; /* watches up to this number are sent */
};

static int take_watch(void *data, const char *text)
{
	struct collect *c = data;
	struct watch w;
	unsigned int at;
	int err = parse(text, &w);

	if (err || w.number <= c->after)
		return err;
	for (at = c->nr; at > 0 && c->batch[at - 1].number > w.number; at--)
		;
	if (at == BATCH_MAX)
		return 0;
	if (c->nr < BATCH_MAX)
		c->nr++;
	memmove(&c->batch[at + 1], &c->batch[at], (c->nr - 1 - at) * sizeof(w));
	c->batch[at] = w;
	return 0;
}

static int emit_watch(struct collect *c, const struct watch *w)
{
	int err = find_path(w, c->msg->path, sizeof(c->msg->path));

	c->msg->watch = (int32_t)w->number;
	c->msg->mask = (uint32_t)w->mask;
	return err ? err : dump_emit(c->d, &kind_inotify, c->msg);
}

/* Ascending, whatever order the kernel lists them in: that is how numbers can be reached again. */
static int emit_watches(struct collect *c, const struct fd_table *table, int fd)
{
	int err;

	do {
		c->nr = 0;
		err = fd_info_each(table, fd, "inotify wd:", take_watch, c);
		for (unsigned int i = 0; i < c->nr && !err; i++)
			err = emit_watch(c, &c->batch[i]);
		if (c->nr)
			c->after = c->batch[c->nr - 1].number;
	} while (!err && c->nr == BATCH_MAX);
	return err;
}

static int dump_one(struct dump *d, const struct fd_table *table, const struct fd_entry *entry,
		    int copy)
{
	size_t mark = arena_mark();
	struct collect c = {.d = d};
	int queued = 0, err;

	if (ioctl(copy, FIONREAD, &queued) == 0 && queued)
		return log_fail(
			EAGAIN,
			"fd %d (inotify) has %d bytes of events that the program has not read; "
			"try again when it has",
			entry->fd, queued);
	c.msg = arena_alloc(ARENA_SCRATCH, sizeof(*c.msg), 16);
	c.batch = arena_alloc(ARENA_SCRATCH, BATCH_MAX * sizeof(*c.batch), 16);
	if (!c.msg || !c.batch)
		return log_fail(ENOMEM, "no room to describe fd %d; raise the memory budget",
				entry->fd);
	c.msg->fd = entry->fd;
	err = dump_emit(d, &kind_inotify, c.msg);
	if (!err)
		err = emit_watches(&c, table, entry->fd);
	arena_reset(mark);
	return err ? log_fail(err, "cannot read the watches of fd %d (inotify): %m", entry->fd) : 0;
}

static int inotify_dump(struct dump *d, const struct state_kind *kind)
{
	(void)kind;
	return fd_dump_type(d, FD_INOTIFY, dump_one);
}

/* ---- restore ---- */

/* Events that our own adding and removing made. */
static void drain(int fd)
{
	char buf[2048];
	int queued;

	while (ioctl(fd, FIONREAD, &queued) == 0 && queued > 0)
		if (read(fd, buf, sizeof(buf)) <= 0)
			return;
}

static int add_watch(int fd, const baton_Inotify *msg)
{
	/* The path names the very file: a link at its end is itself what is watched. */
	uint32_t mask = msg->mask | IN_DONT_FOLLOW;
	int got;

	while ((got = inotify_add_watch(fd, msg->path, mask)) < msg->watch) {
		if (got < 0)
			return -errno;
		inotify_rm_watch(fd, got);
		drain(fd);
	}
	drain(fd);
	return got == msg->watch ? 0 : -EPROTO;
}

static int inotify_restore(struct restore *r, const void *data)
{
	const baton_Inotify *msg = data;
	int err = fd_place_begin(r), copy;

	if (!err && !msg->watch)
		err = fd_place(r, remote_call(&r->leader, SYS_inotify_init1, 0), msg->fd);
	if (err || !msg->watch)
		return err ? log_fail(err, "cannot restore fd %d (inotify): %m", msg->fd) : 0;
	if (msg->watch < 0 || msg->watch > WATCH_MAX || msg->path[0] != '/')
		return log_fail(EPROTO, "fd %d: a watch that no inotify instance can have",
				msg->fd);
	copy = fd_restore_take(r, msg->fd);
	if (copy < 0)
		return copy;
	err = rights_take(r->rights);
	if (!err) {
		err = rights_denied(r->rights, add_watch(copy, msg), msg->path);
		rights_give_back(r->rights);
	}
	close(copy);
	return err ? log_fail(err, "cannot watch %s for fd %d (inotify): %m", msg->path, msg->fd)
		   : 0;
}

const struct state_kind kind_inotify = {
	.id = KIND_INOTIFY,
	.name = "inotify",
	.fields = &baton_Inotify_msg,
	.size = sizeof(baton_Inotify),
	.dump = inotify_dump,
	.restore = inotify_restore,
};
