/* SPDX-License-Identifier: MIT */
/*
 * Unix sockets, source side: listening and bound ones, datagram sockets connected to a name, and
 * pairs whose both ends are inside the process, with what waits in them.
 */
#include "engine/state/fd_check.h"

#include "engine/state/sockopt.h"
#include "engine/state/unix.pb.h"
#include "engine/state/unix_sock.h"
#include "lib/arena.h"
#include "lib/io.h"
#include "lib/kernel.h"
#include "lib/log.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define OPTIONS_MAX (sizeof(((baton_Unix *)0)->options) / sizeof(baton_SockOption))
/* Most descriptors one message can carry: SCM_MAX_FD. */
#define RIGHTS_MAX 253

enum role {
	ROLE_ALONE,   /* bound, listening, or neither */
	ROLE_NAMED,   /* a datagram socket connected to a name */
	ROLE_PAIR,    /* the other end is inside, too */
	ROLE_HALF,    /* the other end is closed */
	ROLE_OUTSIDE, /* the other end is in another process */
};

static const struct fd_entry *find_socket(const struct fd_table *table, uint64_t ino)
{
	for (unsigned int i = 0; i < table->nr; i++)
		if (table->fds[i].type == FD_UNIX && table->fds[i].ino == ino)
			return &table->fds[i];
	return NULL;
}

/* Does the peer speak to this socket and to no other? */
static bool is_mutual(const struct fd_table *table, const struct fd_entry *peer, uint64_t ino)
{
	struct unix_look look;
	int fd = fd_take(table->pidfd, peer->fd);
	bool mutual;

	if (fd < 0)
		return false;
	mutual = unix_look_at(fd, &look) == 0 && look.peer == ino;
	close(fd);
	return mutual;
}

static enum role role_of(const struct fd_table *table, const struct fd_entry *entry,
			 const struct unix_look *look)
{
	const struct fd_entry *peer;

	if (look->listening || !look->connected)
		return ROLE_ALONE;
	if (!look->peer)
		return ROLE_HALF;
	peer = find_socket(table, look->peer);
	if (peer && is_mutual(table, peer, entry->ino))
		return ROLE_PAIR;
	return look->type == SOCK_DGRAM && look->peer_len ? ROLE_NAMED : ROLE_OUTSIDE;
}

bool unix_is_outside(const struct fd_table *table, const struct fd_entry *entry, int copy)
{
	struct unix_look look;
	int err = unix_look_at(copy, &look);

	return err ? err == -EOPNOTSUPP : role_of(table, entry, &look) == ROLE_OUTSIDE;
}

/* A name for messages: abstract ones begin with '@', as in ss(8). */
static const char *name_text(const struct sockaddr_un *name, socklen_t len, char out[static 112])
{
	snprintf(out, 112, "%s", "no name");
	if (len && name->sun_path[0])
		snprintf(out, 112, "%.*s", (int)len, name->sun_path);
	else if (len)
		snprintf(out, 112, "@%.*s", (int)len - 1, name->sun_path + 1);
	return out;
}

static bool say_connected(struct fd_look *look, const struct unix_look *socket, enum role role)
{
	char text[112];

	if (role == ROLE_OUTSIDE) {
		fd_say(look,
		       "a connection to another process (unix socket, %s), which cannot be moved; "
		       "close it "
		       "first",
		       name_text(&socket->peer_name, socket->peer_len, text));
		return false;
	}
	if (role == ROLE_PAIR && (socket->name_len || socket->peer_len)) {
		fd_say(look,
		       "a connection of the process to its own unix socket (%s), which cannot be "
		       "moved; "
		       "close it first",
		       name_text(&socket->name, socket->name_len, text));
		return false;
	}
	if (role == ROLE_NAMED)
		fd_say(look, "a unix datagram socket connected to %s",
		       name_text(&socket->peer_name, socket->peer_len, text));
	else
		fd_say(look, role == ROLE_PAIR ? "a socket pair inside the process"
					       : "a unix connection whose other end is closed");
	return true;
}

static bool is_chrooted(const struct fd_table *table)
{
	char root[8];

	return io_read_link(table->proc_fd, "root", root, sizeof(root)) != 1;
}

bool unix_check(struct fd_look *look)
{
	struct unix_look socket;
	char text[112];
	const char *unfit;
	enum role role;
	int err = unix_look_at(look->copy, &socket);

	if (err) {
		fd_say(look,
		       err == -EOPNOTSUPP
			       ? "a connected unix socket, and this kernel cannot tell its peer "
				 "(CONFIG_UNIX_DIAG); close it first"
			       : "a unix socket that cannot be looked at");
		return false;
	}
	unfit = sockopt_unfit(look->copy);
	if (unfit) {
		fd_say(look, "%s", unfit);
		return false;
	}
	if (socket.name.sun_path[0] == '/' && is_chrooted(look->table)) {
		fd_say(look, "a unix socket with a path below another root folder (chroot), which "
			     "cannot be "
			     "moved; close it first");
		return false;
	}
	role = role_of(look->table, look->entry, &socket);
	if (role != ROLE_ALONE)
		return say_connected(look, &socket, role);
	name_text(&socket.name, socket.name_len, text);
	fd_say(look,
	       socket.listening  ? "a unix socket listening on %s"
	       : socket.name_len ? "a unix socket bound to %s"
				 : "a unix socket",
	       text);
	return true;
}

/* ---- dump ---- */

static int put_common(const struct fd_entry *entry, int fd, const struct unix_look *look,
		      baton_Unix *msg)
{
	struct stat st;

	if (fstat(fd, &st) < 0)
		return -errno;
	*msg = (baton_Unix){.fd = entry->fd,
			    .type = look->type,
			    .other = -1,
			    .uid = st.st_uid,
			    .gid = st.st_gid};
	return sockopt_collect(fd, msg->options, OPTIONS_MAX, &msg->options_count);
}

static void put_name(baton_Unix *msg, const struct sockaddr_un *name, socklen_t len)
{
	msg->name.size = (pb_size_t)len;
	memcpy(msg->name.bytes, name->sun_path, len);
}

/* Where a relative path starts, and the file of the socket if it is still there. */
static int put_file(struct dump *d, const struct unix_look *look, baton_Unix *msg)
{
	char path[sizeof(look->name.sun_path) + 1] = "";
	struct stat st;
	ssize_t len;
	int dir, err = 0;

	memcpy(path, look->name.sun_path, look->name_len);
	if (!path[0])
		return 0;
	if (path[0] != '/') {
		len = io_read_link(d->proc_fd, "cwd", msg->folder, sizeof(msg->folder));
		if (len < 0)
			return (int)len;
	}
	dir = openat(d->proc_fd, path[0] == '/' ? "root" : "cwd", O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (dir < 0)
		return -errno;
	/* unix_diag has the inode of the file, so another socket of this name is told apart. */
	if (fstatat(dir, path[0] == '/' ? path + strspn(path, "/") : path, &st,
		    AT_SYMLINK_NOFOLLOW) == 0 &&
	    S_ISSOCK(st.st_mode) && (!look->file_ino || (uint32_t)st.st_ino == look->file_ino)) {
		msg->has_file = true;
		msg->file_mode = st.st_mode & 07777;
		msg->file_uid = st.st_uid;
		msg->file_gid = st.st_gid;
	}
	close(dir);
	return err;
}

static int dump_alone(struct dump *d, const struct unix_look *look, baton_Unix *msg)
{
	int err;

	put_name(msg, &look->name, look->name_len);
	err = put_file(d, look, msg);
	if (err)
		return err;
	if (!look->listening && look->queued)
		return log_fail(
			EAGAIN,
			"fd %d (a unix socket) has %u bytes that the program has not read; try "
			"again when it has",
			msg->fd, look->queued);
	msg->listening = look->listening;
	msg->backlog = look->listening ? look->backlog : 0;
	if (look->listening && look->queued)
		log_warn("fd %d: %u connections that the program has not accepted will be closed",
			 msg->fd, look->queued);
	return dump_emit(d, &kind_unix, msg);
}

/* Descriptors that travel in a message come out in our own table. True when there were any. */
static bool close_rights(struct msghdr *header)
{
	bool any = false;

	for (struct cmsghdr *c = CMSG_FIRSTHDR(header); c; c = CMSG_NXTHDR(header, c)) {
		size_t nr = (c->cmsg_len - CMSG_LEN(0)) / sizeof(int);
		int fd;

		if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS)
			continue;
		for (size_t i = 0; i < nr; i++) {
			memcpy(&fd, CMSG_DATA(c) + i * sizeof(fd), sizeof(fd));
			close(fd);
		}
		any = true;
	}
	return any;
}

/* Looks at what waits, from the place where the last look ended (SO_PEEK_OFF). */
static int emit_queue(struct dump *d, baton_Unix *msg, int fd)
{
	_Alignas(8) char control[CMSG_SPACE(RIGHTS_MAX * sizeof(int))];

	for (;;) {
		struct iovec iov = {msg->data.bytes, sizeof(msg->data.bytes)};
		struct msghdr header = {.msg_iov = &iov,
					.msg_iovlen = 1,
					.msg_control = control,
					.msg_controllen = sizeof(control)};
		ssize_t len = recvmsg(fd, &header, MSG_PEEK | MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
		int err;

		if (len <= 0)
			return len < 0 && errno != EAGAIN ? -errno : 0;
		if (close_rights(&header))
			return log_fail(
				EOPNOTSUPP,
				"fd %d (a socket pair) has a message with descriptors "
				"(SCM_RIGHTS) that nobody has received; try again when it has",
				msg->fd);
		if (header.msg_flags & MSG_TRUNC)
			return log_fail(
				EOPNOTSUPP,
				"fd %d (a socket pair) has a message of more than %d bytes; "
				"try again when it was received",
				msg->fd, (int)sizeof(msg->data.bytes));
		msg->data.size = (pb_size_t)len;
		err = dump_emit(d, &kind_unix, msg);
		if (err)
			return err;
	}
}

/* The offset belongs to the socket, not to our descriptor: it is put back. */
static int dump_queue(struct dump *d, baton_Unix *msg, int fd)
{
	int before = -1, start = 0, err;

	sockopt_get_int(fd, SOL_SOCKET, SO_PEEK_OFF, &before);
	if (setsockopt(fd, SOL_SOCKET, SO_PEEK_OFF, &start, sizeof(start)) < 0)
		return -errno;
	msg->step = baton_UnixStep_UNIX_STEP_DATA;
	err = emit_queue(d, msg, fd);
	msg->data.size = 0;
	setsockopt(fd, SOL_SOCKET, SO_PEEK_OFF, &before, sizeof(before));
	return err;
}

/* What waits at one end, and what was shut down. */
static int dump_end(struct dump *d, const struct fd_entry *entry, const struct fd_entry *peer,
		    int fd, baton_Unix *msg)
{
	struct unix_look look;
	int err = unix_look_at(fd, &look);

	if (!err)
		err = put_common(entry, fd, &look, msg);
	if (err)
		return err;
	msg->step = baton_UnixStep_UNIX_STEP_OPTIONS;
	err = dump_emit(d, &kind_unix, msg);
	msg->options_count = 0;
	msg->other = peer ? peer->fd : -1;
	return err ? err : dump_queue(d, msg, fd);
}

static int dump_finish(struct dump *d, const struct fd_entry *entry, int fd, baton_Unix *msg)
{
	struct unix_look look;
	int err = unix_look_at(fd, &look);

	if (err)
		return err;
	*msg = (baton_Unix){.fd = entry->fd,
			    .step = baton_UnixStep_UNIX_STEP_END,
			    .other = -1,
			    .shutdown = look.shutdown};
	return dump_emit(d, &kind_unix, msg);
}

static int dump_pair(struct dump *d, const struct fd_table *table, const struct fd_entry *entry,
		     int fd, const struct unix_look *look, baton_Unix *msg)
{
	const struct fd_entry *peer = look->peer ? find_socket(table, look->peer) : NULL;
	int other = -1, err;

	if (peer && peer->fd < entry->fd) /* described with the lower one */
		return 0;
	if (peer) {
		other = fd_take(d->pidfd, peer->fd);
		if (other < 0)
			return other;
		msg->other = peer->fd;
	}
	msg->options_count = 0;
	msg->step = baton_UnixStep_UNIX_STEP_PAIR;
	err = dump_emit(d, &kind_unix, msg);
	if (!err)
		err = dump_end(d, entry, peer, fd, msg);
	if (!err && peer)
		err = dump_end(d, peer, entry, other, msg);
	/* Only now: what is shut down takes no data any more. */
	if (!err)
		err = dump_finish(d, entry, fd, msg);
	if (!err && peer)
		err = dump_finish(d, peer, other, msg);
	if (other >= 0)
		close(other);
	return err;
}

static int describe(struct dump *d, const struct fd_table *table, const struct fd_entry *entry,
		    int fd, baton_Unix *msg)
{
	struct unix_look look;
	enum role role;
	int err = unix_look_at(fd, &look);

	if (!err)
		err = put_common(entry, fd, &look, msg);
	if (err)
		return err;
	role = role_of(table, entry, &look);
	return role == ROLE_ALONE || role == ROLE_NAMED
		       ? dump_alone(d, &look, msg)
		       : dump_pair(d, table, entry, fd, &look, msg);
}

/* Datagram sockets are connected when every name is bound. */
static int describe_peer(struct dump *d, const struct fd_table *table, const struct fd_entry *entry,
			 int fd, baton_Unix *msg)
{
	struct unix_look look;
	int err = unix_look_at(fd, &look);

	if (err || role_of(table, entry, &look) != ROLE_NAMED)
		return err;
	*msg = (baton_Unix){.fd = entry->fd, .step = baton_UnixStep_UNIX_STEP_CONNECT, .other = -1};
	put_name(msg, &look.peer_name, look.peer_len);
	if (look.peer_name.sun_path[0] && look.peer_name.sun_path[0] != '/' &&
	    (err = (int)io_read_link(d->proc_fd, "cwd", msg->folder, sizeof(msg->folder))) < 0)
		return err;
	return dump_emit(d, &kind_unix, msg);
}

static int with_message(struct dump *d, const struct fd_table *table, const struct fd_entry *entry,
			int fd,
			int (*fn)(struct dump *, const struct fd_table *, const struct fd_entry *,
				  int, baton_Unix *))
{
	size_t mark = arena_mark();
	baton_Unix *msg = arena_alloc(ARENA_SCRATCH, sizeof(*msg), 16);
	int err = msg ? fn(d, table, entry, fd, msg) : -ENOMEM;

	arena_reset(mark);
	return err ? log_fail(err, "cannot read fd %d (a unix socket): %m", entry->fd) : 0;
}

static int dump_one(struct dump *d, const struct fd_table *table, const struct fd_entry *entry,
		    int copy)
{
	return with_message(d, table, entry, copy, describe);
}

static int dump_connection(struct dump *d, const struct fd_table *table,
			   const struct fd_entry *entry, int copy)
{
	return with_message(d, table, entry, copy, describe_peer);
}

static int unix_dump(struct dump *d, const struct state_kind *kind)
{
	int err = fd_dump_type(d, FD_UNIX, dump_one);

	(void)kind;
	return err ? err : fd_dump_type(d, FD_UNIX, dump_connection);
}

const struct state_kind kind_unix = {
	.id = KIND_UNIX,
	.name = "unix socket",
	.fields = &baton_Unix_msg,
	.size = sizeof(baton_Unix),
	.dump = unix_dump,
	.restore = unix_restore,
};
