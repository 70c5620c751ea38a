/* SPDX-License-Identifier: MIT */
/* Open files with a path: regular files, folders, and devices that keep no state. */
#include "engine/state/fd_check.h"

#include "engine/state/file.pb.h"
#include "lib/arena.h"
#include "lib/io.h"
#include "lib/kernel.h"
#include "lib/log.h"
#include "lib/text.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <stdio.h>
#include <string.h>
#include <sys/sysmacros.h>
#include <sys/vfs.h>
#include <unistd.h>

/* open(2) flags that make sense for a file that is there. */
#define OPEN_FLAGS                                                                                 \
	((uint32_t)(O_ACCMODE | O_APPEND | O_NONBLOCK | O_SYNC | O_DSYNC | O_DIRECT |              \
		    O_LARGEFILE | O_DIRECTORY | O_NOFOLLOW | O_NOATIME | O_PATH))
#define DELETED " (deleted)"

/* Major 1 of character devices: memory devices without state of their own. Source: devices.txt. */
static bool is_plain_device(const struct fd_look *look)
{
	static const unsigned char minors[] = {3, 5, 7, 8, 9}; /* null zero full random urandom */
	unsigned int minor_nr = minor(look->st.st_rdev);

	if (!S_ISCHR(look->st.st_mode) || major(look->st.st_rdev) != 1)
		return false;
	if (minor_nr == 11) /* kmsg: the position in the log is the machine's own */
		return (look->entry->flags & O_ACCMODE) == O_WRONLY;
	return memchr(minors, (int)minor_nr, sizeof(minors)) != NULL;
}

static bool ends_with(const char *text, const char *end)
{
	size_t len = strlen(text), end_len = strlen(end);

	return len >= end_len && strcmp(text + len - end_len, end) == 0;
}

/* The path must lead to the very file, for us as for the process. */
static bool path_is_right(struct fd_look *look)
{
	struct stat st;

	if (lstat(look->link, &st) == 0 && st.st_dev == look->st.st_dev &&
	    st.st_ino == look->st.st_ino)
		return true;
	if (look->st.st_nlink == 0 || ends_with(look->link, DELETED))
		fd_say(look,
		       "a deleted file (%.150s), which cannot be found on another device; "
		       "close it, or keep its name while it is open",
		       look->link);
	else
		fd_say(look,
		       "a file (%.150s) that is not found under its path, on another mount or "
		       "below one; close it first",
		       look->link);
	return false;
}

#ifndef MQUEUE_MAGIC /* ipc/mqueue.c */
#define MQUEUE_MAGIC 0x19800202
#endif

static bool is_message_queue(int fd)
{
	struct statfs fs;

	return fstatfs(fd, &fs) == 0 && fs.f_type == MQUEUE_MAGIC;
}

bool file_check(struct fd_look *look)
{
	mode_t mode = look->st.st_mode;

	if (S_ISREG(mode) && is_message_queue(look->copy)) {
		fd_say(look, "a POSIX message queue (%.80s), which cannot be moved; close it first",
		       look->link);
		return false;
	}

	if (look->link[0] != '/') {
		fd_say(look, "a file outside of this mount namespace (%.120s); close it first",
		       look->link);
		return false;
	}
	if (look->entry->flags & O_PATH) {
		fd_say(look, "%.200s (O_PATH)", look->link);
	} else if (S_ISCHR(mode) || S_ISBLK(mode)) {
		fd_say(look, "%.200s", look->link);
		if (!is_plain_device(look)) {
			fd_say(look,
			       "a device (%.150s), whose state cannot be moved; close it first",
			       look->link);
			return false;
		}
	} else if (S_ISREG(mode) || S_ISDIR(mode)) {
		fd_say(look, "%.200s", look->link);
	} else {
		fd_say(look, "a file of an unknown type (%.150s); close it first", look->link);
		return false;
	}
	return path_is_right(look);
}

static int dump_one(struct dump *d, const struct fd_table *table, const struct fd_entry *entry,
		    int copy)
{
	size_t mark = arena_mark();
	baton_File *msg = arena_alloc(ARENA_SCRATCH, sizeof(*msg), 16);
	struct stat st;
	off_t offset;
	int err;

	if (!msg)
		return log_fail(ENOMEM, "no room to describe fd %d; raise the memory budget",
				entry->fd);
	err = fd_link(table, entry->fd, msg->path, sizeof(msg->path)) < 0 || fstat(copy, &st) < 0;
	if (!err) {
		msg->fd = entry->fd;
		msg->flags = entry->flags & OPEN_FLAGS;
		msg->type = st.st_mode & S_IFMT;
		msg->rdev = S_ISCHR(st.st_mode) ? st.st_rdev : 0;
		/* What cannot seek (devices) has no offset. */
		offset = entry->flags & O_PATH ? 0 : lseek(copy, 0, SEEK_CUR);
		msg->offset = offset > 0 ? (uint64_t)offset : 0;
		err = dump_emit(d, &kind_file, msg);
	} else {
		err = log_fail(EIO, "cannot describe fd %d", entry->fd);
	}
	arena_reset(mark);
	return err;
}

static int file_dump(struct dump *d, const struct state_kind *kind)
{
	(void)kind;
	return fd_dump_type(d, FD_FILE, dump_one);
}

/* What was opened must be what the source had. */
static int check_opened(const baton_File *msg, int copy)
{
	struct stat st;

	if (fstat(copy, &st) < 0)
		return log_fail(errno, "cannot look at %s: %m", msg->path);
	if ((st.st_mode & S_IFMT) != msg->type || (S_ISCHR(st.st_mode) && st.st_rdev != msg->rdev))
		return log_fail(EEXIST,
				"%s is a different kind of file on this device than where the "
				"process comes from",
				msg->path);
	if (msg->offset && lseek(copy, (off_t)msg->offset, SEEK_SET) < 0)
		return log_fail(errno, "cannot set the position in %s: %m", msg->path);
	return 0;
}

static int file_restore(struct restore *r, const void *data)
{
	const baton_File *msg = data;
	uint32_t flags = msg->flags & OPEN_FLAGS;
	bool is_dev = msg->type == S_IFCHR || msg->type == S_IFBLK || msg->type == S_IFIFO;
	int64_t fd;
	int err, copy;

	if (msg->path[0] != '/' || (msg->offset >> 63))
		return log_fail(EPROTO, "fd %d: a path or position that no file can have", msg->fd);
	/* A device or FIFO in place of the file must not make the open block. */
	if (!(flags & O_PATH) && !is_dev)
		flags |= O_NONBLOCK;
	err = fd_place_begin(r);
	if (err)
		return err;
	fd = fd_remote_open(r, msg->path, flags | O_NOCTTY);
	if (fd < 0)
		return log_fail((int)fd, "cannot open %s for fd %d: %m", msg->path, msg->fd);
	err = fd_place(r, fd, msg->fd);
	if (err)
		return err;
	copy = fd_restore_take(r, msg->fd);
	if (copy < 0)
		return copy;
	err = check_opened(msg, copy);
	/* Of O_NONBLOCK only what the program had. */
	if (!err && flags != msg->flags && fcntl(copy, F_SETFL, (int)msg->flags) < 0)
		err = log_fail(errno, "cannot set the flags of %s: %m", msg->path);
	close(copy);
	return err;
}

const struct state_kind kind_file = {
	.id = KIND_FILE,
	.name = "file",
	.fields = &baton_File_msg,
	.size = sizeof(baton_File),
	.dump = file_dump,
	.restore = file_restore,
};

/* ---- for the check that both devices have the same files ---- */

static bool is_virtual(int dir_fd, const char *name)
{
	struct statfs fs;
	int fd = openat(dir_fd, name, O_PATH | O_CLOEXEC);
	bool is = false;

	if (fd < 0)
		return false;
	if (fstatfs(fd, &fs) == 0)
		is = fs.f_type == PROC_SUPER_MAGIC || fs.f_type == SYSFS_MAGIC ||
		     fs.f_type == CGROUP2_SUPER_MAGIC || fs.f_type == CGROUP_SUPER_MAGIC ||
		     fs.f_type == DEBUGFS_MAGIC || fs.f_type == TRACEFS_MAGIC;
	close(fd);
	return is;
}

int fd_each_file(int proc_fd, pid_t pid, fd_file_fn *fn, void *data)
{
	struct fd_table table = {.pid = pid, .proc_fd = proc_fd, .pidfd = -1};
	struct dir_reader dir;
	char path[PATH_MAX], sub[24];
	const char *name;
	struct stat st;
	uint64_t fd, flags;
	int err = dir_reader_open(&dir, proc_fd, "fd");

	if (err)
		return err;
	while ((err = dir_reader_next(&dir, &name, NULL)) > 0) {
		if (text_parse_u64(name, 10, &fd) || fd > INT32_MAX)
			continue;
		snprintf(sub, sizeof(sub), "fd/%d", (int)fd);
		if (fstatat(proc_fd, sub, &st, 0) < 0 || !S_ISREG(st.st_mode) || st.st_nlink == 0 ||
		    fd_link(&table, (int)fd, path, sizeof(path)) < 0 || path[0] != '/' ||
		    is_virtual(proc_fd, sub) || fd_info_u64(&table, (int)fd, "flags:", 8, &flags))
			continue;
		err = fn(data, path, (unsigned int)flags);
		if (err)
			break;
	}
	dir_reader_close(&dir);
	return err;
}
