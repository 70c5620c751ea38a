/* SPDX-License-Identifier: MIT */
/*
 * Standard streams that were a terminal, or a pipe or socket to the outside: on the target they
 * are the receiver's own stream of that number, or a file.
 */
#include "engine/state/fd_check.h"

#include "engine/state/stdio.pb.h"
#include "lib/io.h"
#include "lib/kernel.h"
#include "lib/log.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

bool tty_is_outside(const struct fd_table *table, const struct fd_entry *entry, int copy)
{
	(void)table;
	(void)entry;
	(void)copy;
	return true;
}

bool tty_check(struct fd_look *look)
{
	fd_say(look, "a terminal (%.150s) that is no standard stream; close it first", look->link);
	return false;
}

bool stdio_check(struct fd_look *look)
{
	fd_say(look, "a standard stream to the outside (%.150s): becomes the receiver's",
	       look->link);
	return true;
}

static int dump_one(struct dump *d, const struct fd_table *table, const struct fd_entry *entry,
		    int copy)
{
	baton_Stdio msg = {
		.fd = entry->fd,
		.flags = entry->flags & (uint32_t)(O_ACCMODE | O_NONBLOCK | O_APPEND),
	};

	(void)table;
	(void)copy;
	return dump_emit(d, &kind_stdio, &msg);
}

static int stdio_dump(struct dump *d, const struct state_kind *kind)
{
	(void)kind;
	return fd_dump_type(d, FD_STDIO, dump_one);
}

/* The log file given by the operator; for reading there is nothing in it. */
static int64_t open_file(struct restore *r, const baton_Stdio *msg)
{
	char path[2 * PATH_MAX] = "/dev/null";
	ssize_t len = 0;
	int64_t fd;
	int ours;

	if (msg->fd == 0)
		return fd_remote_open(r, path, O_RDONLY);
	/* The process may have another current folder by now. */
	if (r->stdio[0] != '/')
		len = io_read_link(AT_FDCWD, "/proc/self/cwd", path, PATH_MAX);
	if (len < 0)
		return len;
	snprintf(path + len, PATH_MAX, "%s%s", r->stdio[0] != '/' ? "/" : "", r->stdio);
	/* Made by us, so that it is there with the usual rights whatever umask the program has. */
	ours = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC | O_NOCTTY, 0640);
	if (ours < 0)
		return -errno;
	close(ours);
	fd = fd_remote_open(r, path, O_RDWR | O_APPEND | O_NOCTTY);
	return fd == -EACCES ? fd_remote_open(r, path, O_WRONLY | O_APPEND | O_NOCTTY) : fd;
}

/*
 * The receiver's own stream. Flags of an open file are shared with everyone who has it, so a
 * program that wants O_NONBLOCK gets an open file of its own where that can be had.
 */
static int64_t take_receivers(struct restore *r, const baton_Stdio *msg)
{
	int stream = r->stdio_fd[msg->fd];
	char link[32];
	int64_t fd;

	if (stream < 0)
		return fd_remote_open(r, "/dev/null", msg->fd ? O_WRONLY : O_RDONLY);
	if (msg->flags & O_NONBLOCK) {
		snprintf(link, sizeof(link), "/proc/self/fd/%d", stream);
		fd = fd_remote_open(r, link, msg->flags | O_NOCTTY);
		if (fd >= 0)
			return fd;
	}
	return remote_call(&r->leader, SYS_fcntl, (uint64_t)stream, F_DUPFD, 0);
}

/* What the operator of the receiver has chosen, the process need not be able to open. */
static int64_t open_stream(struct restore *r, const baton_Stdio *msg)
{
	int64_t fd = rights_limited(r->rights) ? rights_lend(&r->leader, NULL) : 0;
	int err;

	if (fd < 0)
		return fd;
	fd = r->stdio ? open_file(r, msg) : take_receivers(r, msg);
	err = rights_lend(&r->leader, r->rights);
	return err ? err : fd;
}

static int stdio_restore(struct restore *r, const void *data)
{
	const baton_Stdio *msg = data;
	int err;

	if (msg->fd < 0 || msg->fd > 2 ||
	    (msg->flags & ~(uint32_t)(O_ACCMODE | O_NONBLOCK | O_APPEND)))
		return log_fail(EPROTO, "fd %d cannot be a standard stream", msg->fd);
	err = fd_place_begin(r);
	if (!err)
		err = fd_place(r, open_stream(r, msg), msg->fd);
	if (err)
		return log_fail(err, "cannot give the process its standard stream %d (%s): %m",
				msg->fd, r->stdio ? r->stdio : "the receiver's own");
	return 0;
}

const struct state_kind kind_stdio = {
	.id = KIND_STDIO,
	.name = "standard stream",
	.fields = &baton_Stdio_msg,
	.size = sizeof(baton_Stdio),
	.dump = stdio_dump,
	.restore = stdio_restore,
};
