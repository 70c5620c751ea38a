/* SPDX-License-Identifier: MIT */
/* Pipes and FIFOs inside the process, with what they hold. */
#include "engine/state/fd_check.h"

#include "engine/state/pipe.pb.h"
#include "lib/arena.h"
#include "lib/kernel.h"
#include "lib/log.h"
#include "lib/text.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

/* More than any sane /proc/sys/fs/pipe-max-size. */
#define CAPACITY_MAX (64u << 20)
#define END_FLAGS ((uint32_t)(O_ACCMODE | O_NONBLOCK | O_DIRECT))

/* ---- what it is ---- */

static bool can_read(const struct fd_entry *entry)
{
	return (entry->flags & O_ACCMODE) != O_WRONLY;
}

static bool can_write(const struct fd_entry *entry)
{
	return (entry->flags & O_ACCMODE) != O_RDONLY;
}

/* The lowest descriptor of the same pipe that can be read (or written), or NULL. */
static const struct fd_entry *find_end(const struct fd_table *table, const struct fd_entry *pipe,
				       bool (*can)(const struct fd_entry *))
{
	for (unsigned int i = 0; i < table->nr; i++) {
		const struct fd_entry *entry = &table->fds[i];

		if ((entry->type == FD_PIPE || entry->type == FD_STDIO) &&
		    entry->dev == pipe->dev && entry->ino == pipe->ino && can(entry))
			return entry;
	}
	return NULL;
}

/* Nobody holds the other end. */
static bool is_alone(const struct fd_entry *entry, int copy)
{
	struct pollfd p = {.fd = copy, .events = 0};

	return poll(&p, 1, 0) == 1 && (p.revents & (can_read(entry) ? POLLHUP : POLLERR));
}

bool pipe_is_outside(const struct fd_table *table, const struct fd_entry *entry, int copy)
{
	return !(find_end(table, entry, can_read) && find_end(table, entry, can_write)) &&
	       !is_alone(entry, copy);
}

bool pipe_check(struct fd_look *look)
{
	const char *what = look->link[0] == '/' ? look->link : "a pipe";

	if (!pipe_is_outside(look->table, look->entry, look->copy)) {
		/* Looking through all processes takes its time, and one end of a pipe is enough. */
		if (look->running && can_read(look->entry) && look->entry->of == look->entry->fd &&
		    fd_has_holder(look)) {
			fd_say(look,
			       "%.200s that another process has open, too, and that one stays "
			       "behind; "
			       "close it there",
			       what);
			return false;
		}
		fd_say(look, "%.200s, %s", what,
		       is_alone(look->entry, look->copy) ? "whose other end is closed"
							 : "both ends inside the process");
		return true;
	}
	/* Who opened a FIFO to read may be waiting for a writer that has not come. */
	if (look->link[0] == '/' && can_read(look->entry) && !fd_has_holder(look)) {
		fd_say(look, "%.200s, a FIFO without a writer", what);
		return true;
	}
	fd_say(look,
	       "%.200s (%s end) to another process, which stays behind; close it, or make it a "
	       "standard stream",
	       what, can_read(look->entry) ? "read" : "write");
	return false;
}

/* ---- dump ---- */

static int list_ends(const struct fd_table *table, const struct fd_entry *first, baton_Pipe *msg)
{
	for (unsigned int i = 0; i < table->nr; i++) {
		const struct fd_entry *entry = &table->fds[i];

		if (entry->type != FD_PIPE || entry->dev != first->dev ||
		    entry->ino != first->ino || entry->of != entry->fd)
			continue;
		if (msg->ends_count == sizeof(msg->ends) / sizeof(msg->ends[0]))
			return log_fail(E2BIG, "fd %d: the pipe was opened more than %d times",
					first->fd, (int)msg->ends_count);
		msg->ends[msg->ends_count++] =
			(baton_PipeEnd){.fd = entry->fd, .flags = entry->flags & END_FLAGS};
		msg->packets |= can_write(entry) && (entry->flags & O_DIRECT);
	}
	return 0;
}

/* Sends what was copied into our own pipe, and empties it. */
static int emit_contents(struct dump *d, baton_Pipe *msg, int fd)
{
	int err = 0;

	while (!err && !msg->last) {
		ssize_t len = read(fd, msg->data.bytes, sizeof(msg->data.bytes));

		if (len < 0 && errno == EINTR)
			continue;
		if (len < 0 && errno != EAGAIN)
			return -errno;
		msg->last = len <= 0;
		msg->data.size = len > 0 ? (pb_size_t)len : 0;
		err = dump_emit(d, &kind_pipe, msg);
		/* The ends are said once; later messages are about the same pipe. */
		msg->ends_count = 0;
		msg->path[0] = '\0';
	}
	return err;
}

/*
 * tee(2) copies what a pipe holds and leaves it there. It stops when the source is empty or our
 * own pipe is full, which is as large as the source.
 */
static int dump_contents(struct dump *d, baton_Pipe *msg, int from)
{
	int ours[2], err = 0, held = 0;
	ssize_t n;

	if (pipe2(ours, O_CLOEXEC | O_NONBLOCK | (msg->packets ? O_DIRECT : 0)) < 0)
		return -errno;
	if (from >= 0 && ioctl(from, FIONREAD, &held) < 0)
		err = -errno;
	if (!err && held > 0) {
		fcntl(ours[1], F_SETPIPE_SZ, msg->capacity);
		n = tee(from, ours[1], CAPACITY_MAX, SPLICE_F_NONBLOCK);
		if (n < 0)
			err = -errno;
		else if (n != held)
			err = -ENOBUFS;
	}
	if (!err)
		err = emit_contents(d, msg, ours[0]);
	close(ours[0]);
	close(ours[1]);
	return err;
}

static int describe(struct dump *d, const struct fd_table *table, const struct fd_entry *entry,
		    int copy, baton_Pipe *msg)
{
	const struct fd_entry *reader = find_end(table, entry, can_read);
	char link[PATH_MAX];
	struct stat st;
	int from = -1, capacity = fcntl(copy, F_GETPIPE_SZ), err;

	if (capacity < 0 || fstat(copy, &st) < 0)
		return -errno;
	msg->capacity = (uint32_t)capacity;
	err = list_ends(table, entry, msg);
	if (!err && fd_link(table, entry->fd, link, sizeof(link)) > 0 && link[0] == '/') {
		text_copy(msg->path, sizeof(msg->path), link);
		msg->mode = st.st_mode & 07777;
		msg->uid = st.st_uid;
		msg->gid = st.st_gid;
	}
	if (!err && reader) {
		from = fd_take(d->pidfd, reader->fd);
		err = from < 0 ? from : 0;
	}
	if (!err)
		err = dump_contents(d, msg, from);
	if (from >= 0)
		close(from);
	return err;
}

static int dump_one(struct dump *d, const struct fd_table *table, const struct fd_entry *entry,
		    int copy)
{
	size_t mark = arena_mark();
	baton_Pipe *msg;
	int err;

	/* The pipe is described with the lowest of its open files. */
	for (unsigned int i = 0; &table->fds[i] != entry; i++)
		if (table->fds[i].type == FD_PIPE && table->fds[i].dev == entry->dev &&
		    table->fds[i].ino == entry->ino)
			return 0;
	msg = arena_alloc(ARENA_SCRATCH, sizeof(*msg), 16);
	err = msg ? describe(d, table, entry, copy, msg) : -ENOMEM;
	arena_reset(mark);
	return err ? log_fail(err, "cannot read fd %d (a pipe): %m", entry->fd) : 0;
}

static int pipe_dump(struct dump *d, const struct state_kind *kind)
{
	(void)kind;
	return fd_dump_type(d, FD_PIPE, dump_one);
}

/* ---- restore ---- */

/* Our own ends of the pipe that is being filled: hold both until its last message. */
static int held_read = -1, held_write = -1;

static void let_go(void)
{
	if (held_read >= 0)
		close(held_read);
	if (held_write >= 0)
		close(held_write);
	held_read = held_write = -1;
}

/* An end that was opened a second time: an open file of its own on the same pipe. */
static int open_again(struct restore *r, const baton_Pipe *msg, const baton_PipeEnd *end,
		      int32_t known)
{
	char link[32];
	int64_t fd;

	snprintf(link, sizeof(link), "/proc/self/fd/%d", known);
	/* Never waits: we hold both ends, or it is not blocking. */
	fd = fd_remote_open(r, msg->path[0] ? msg->path : link,
			    (end->flags & O_ACCMODE) | O_NONBLOCK);
	return fd_place(r, fd, end->fd);
}

/* Moves a descriptor out of the way of the numbers that will be placed. */
static int move_above(struct restore *r, const baton_Pipe *msg, int32_t *fd)
{
	int32_t base = 0;
	int64_t got;

	for (pb_size_t i = 0; i < msg->ends_count; i++)
		if (msg->ends[i].fd >= base && msg->ends[i].fd < FD_NUMBER_MAX)
			base = msg->ends[i].fd + 1;
	got = remote_call(&r->leader, SYS_fcntl, (uint64_t)*fd, F_DUPFD, (uint64_t)base);
	if (got < 0)
		return (int)got;
	remote_call(&r->leader, SYS_close, (uint64_t)*fd);
	*fd = (int32_t)got;
	return 0;
}

/* Places the two ends of a new pipe where the first reader and the first writer were. */
static int create_pipe(struct restore *r, const baton_Pipe *msg)
{
	struct remote *p = &r->leader;
	int32_t fds[2];
	bool used[2] = {false, false};
	uint64_t addr = remote_room(p, sizeof(fds));
	int64_t ret = addr ? remote_call(p, SYS_pipe2, addr, 0) : -EFAULT;
	int err;

	if (ret < 0 || (err = remote_read(p, addr, fds, sizeof(fds))) != 0)
		return ret < 0 ? (int)ret : err;
	remote_reset(p);
	held_read = fd_take(r->pidfd, fds[0]);
	held_write = fd_take(r->pidfd, fds[1]);
	if (held_read < 0 || held_write < 0)
		return -EMFILE;
	for (int side = 0; side < 2; side++) {
		err = move_above(r, msg, &fds[side]);
		if (err)
			return err;
	}
	for (pb_size_t i = 0; i < msg->ends_count; i++) {
		const baton_PipeEnd *end = &msg->ends[i];
		int side = (end->flags & O_ACCMODE) == O_WRONLY;

		if ((end->flags & O_ACCMODE) == O_RDWR || used[side]) {
			err = open_again(r, msg, end, fds[side]);
		} else {
			err = fd_place_copy(r, fds[side], end->fd);
			used[side] = true;
		}
		if (err)
			return err;
	}
	remote_call(p, SYS_close, (uint64_t)fds[0]);
	remote_call(p, SYS_close, (uint64_t)fds[1]);
	return 0;
}

/* The FIFO itself is made when it is not there. */
static int make_fifo(const struct restore *r, const baton_Pipe *msg)
{
	struct stat st;
	int err;

	if (msg->path[0] != '/')
		return -EPROTO;
	if (lstat(msg->path, &st) == 0)
		return S_ISFIFO(st.st_mode)
			       ? 0
			       : log_fail(EEXIST, "%s is no FIFO on this device", msg->path);
	if (mkfifo(msg->path, msg->mode & 07777) < 0 || chmod(msg->path, msg->mode & 07777) < 0 ||
	    lchown(msg->path, msg->uid, msg->gid) < 0) {
		err = rights_denied(r->rights, -errno, msg->path);
		return log_fail(-err, "cannot make the FIFO %s: %m", msg->path);
	}
	return 0;
}

static int create_fifo(const struct restore *r, const baton_Pipe *msg)
{
	int err = rights_take(r->rights);

	if (err)
		return err;
	err = make_fifo(r, msg);
	rights_give_back(r->rights);
	return err;
}

/* An end of ours, which is the process' as far as rights go. */
static int hold_end(const struct restore *r, const baton_Pipe *msg, int flags, int *end)
{
	int err = rights_take(r->rights);

	if (err)
		return err;
	*end = open(msg->path, flags | O_NONBLOCK | O_CLOEXEC);
	err = *end < 0 ? rights_denied(r->rights, -errno, msg->path) : 0;
	rights_give_back(r->rights);
	return err;
}

/*
 * Readers first, without waiting for a writer: a reader that never had one must not see the end
 * of the file. Writers find a reader: the program's, or ours.
 */
static int open_fifo(struct restore *r, const baton_Pipe *msg)
{
	int err = create_fifo(r, msg);
	int readers = 0;

	for (int side = 0; side < 2 && !err; side++) {
		if (side == 1 && !readers)
			err = hold_end(r, msg, O_RDONLY, &held_read);
		for (pb_size_t i = 0; i < msg->ends_count && !err; i++) {
			bool writer = (msg->ends[i].flags & O_ACCMODE) == O_WRONLY;

			if (writer != side)
				continue;
			err = open_again(r, msg, &msg->ends[i], -1);
			readers += side == 0;
		}
	}
	if (!err && msg->data.size)
		err = hold_end(r, msg, O_WRONLY, &held_write);
	return err;
}

/* Flags of each end, and the capacity of the pipe. */
static int set_up(struct restore *r, const baton_Pipe *msg)
{
	for (pb_size_t i = 0; i < msg->ends_count; i++) {
		int copy = fd_restore_take(r, msg->ends[i].fd), err = 0;

		if (copy < 0)
			return copy;
		if (fcntl(copy, F_SETFL, (int)(msg->ends[i].flags & (O_NONBLOCK | O_DIRECT))) < 0)
			err = -errno;
		if (!err && i == 0 && fcntl(copy, F_GETPIPE_SZ) != (int)msg->capacity &&
		    fcntl(copy, F_SETPIPE_SZ, (int)msg->capacity) < 0)
			err = -errno;
		close(copy);
		if (err)
			return err;
	}
	return 0;
}

/* Through an open file of our own: what we set on it is not seen by the program. */
static int fill(const baton_Pipe *msg)
{
	char link[32];
	ssize_t n;
	int fd;

	if (!msg->data.size)
		return 0;
	if (held_write < 0)
		return -EPROTO;
	snprintf(link, sizeof(link), "/proc/self/fd/%d", held_write);
	fd = open(link, O_WRONLY | O_NONBLOCK | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	/* open(2) would refuse O_DIRECT of a pipe; fcntl(2) takes it. */
	n = !msg->packets || fcntl(fd, F_SETFL, O_NONBLOCK | O_DIRECT) == 0
		    ? write(fd, msg->data.bytes, msg->data.size)
		    : -1;
	close(fd);
	if (n < 0)
		return -errno;
	return n == (ssize_t)msg->data.size ? 0 : -ENOBUFS;
}

static int begin(struct restore *r, const baton_Pipe *msg)
{
	int err = fd_place_begin(r);

	let_go();
	if (!err && (msg->capacity > CAPACITY_MAX || msg->capacity == 0))
		err = -EPROTO;
	if (!err)
		err = msg->path[0] ? open_fifo(r, msg) : create_pipe(r, msg);
	return err ? err : set_up(r, msg);
}

static int pipe_restore(struct restore *r, const void *data)
{
	const baton_Pipe *msg = data;
	int32_t fd = msg->ends_count ? msg->ends[0].fd : -1;
	int err = msg->ends_count ? begin(r, msg) : 0;

	if (!err)
		err = fill(msg);
	if (err || msg->last)
		let_go();
	return err ? log_fail(err, "cannot restore a pipe (fd %d): %m", fd) : 0;
}

const struct state_kind kind_pipe = {
	.id = KIND_PIPE,
	.name = "pipe",
	.fields = &baton_Pipe_msg,
	.size = sizeof(baton_Pipe),
	.dump = pipe_dump,
	.restore = pipe_restore,
};
