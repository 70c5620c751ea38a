/* SPDX-License-Identifier: MIT */
/* Unix sockets, target side. */
#include "engine/state/unix_sock.h"

#include "engine/state/fd.h"
#include "engine/state/sockopt.h"
#include "engine/state/unix.pb.h"
#include "lib/kernel.h"
#include "lib/log.h"

#include <errno.h>
#include <fcntl.h>
#include <stddef.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define SHUT_RECEIVE 1u
#define SHUT_SEND 2u

/* Something that is done to a socket through a descriptor of ours. */
typedef int socket_fn(const struct restore *r, const baton_Unix *msg, int fd);

/* The other end of the pair that is being filled, while the program has it closed. */
static int held = -1;

static void let_go(void)
{
	if (held >= 0)
		close(held);
	held = -1;
}

static bool is_type(int type)
{
	return type == SOCK_STREAM || type == SOCK_DGRAM || type == SOCK_SEQPACKET;
}

static socklen_t put_address(const baton_Unix *msg, struct sockaddr_un *address)
{
	memset(address, 0, sizeof(*address));
	address->sun_family = AF_UNIX;
	memcpy(address->sun_path, msg->name.bytes, msg->name.size);
	return (socklen_t)(offsetof(struct sockaddr_un, sun_path) + msg->name.size);
}

/* A path, as opposed to an abstract name. */
static bool is_path(const baton_Unix *msg)
{
	return msg->name.size && msg->name.bytes[0];
}

/* Goes to the folder that a relative path starts in. */
static int enter_folder(const baton_Unix *msg)
{
	int err = msg->folder[0] != '/' ? -EPROTO : chdir(msg->folder) < 0 ? -errno : 0;

	return err ? log_fail(-err, "cannot go to %s for a unix socket: %m", msg->folder) : 0;
}

static void leave_folder(int before)
{
	if (before < 0)
		return;
	if (fchdir(before) < 0)
		log_warn("cannot go back to the folder baton was started in: %s", strerror(errno));
	close(before);
}

/* A socket file that nobody listens to any more is out of the way. */
static int remove_stale(const baton_Unix *msg, const struct sockaddr_un *address, socklen_t len)
{
	struct stat st;
	int fd, err;

	if (lstat(address->sun_path, &st) < 0)
		return 0;
	if (!S_ISSOCK(st.st_mode))
		return log_fail(EEXIST, "fd %d: %s is no socket on this device", msg->fd,
				address->sun_path);
	fd = socket(AF_UNIX, msg->type | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0)
		return -errno;
	err = connect(fd, (const struct sockaddr *)address, len) < 0 ? errno : 0;
	close(fd);
	if (err != ECONNREFUSED)
		return log_fail(EADDRINUSE, "fd %d: %s is in use on this device; end what uses it",
				msg->fd, address->sun_path);
	return unlink(address->sun_path) < 0 ? -errno : 0;
}

static int bind_path(const struct restore *r, const baton_Unix *msg, int fd)
{
	/* One byte more, so that a path of full length ends. */
	union {
		struct sockaddr_un address;
		char bytes[sizeof(struct sockaddr_un) + 1];
	} u;
	socklen_t len;
	int err;

	memset(&u, 0, sizeof(u));
	len = put_address(msg, &u.address);
	err = remove_stale(msg, &u.address, len);
	if (err)
		return err;
	if (bind(fd, (struct sockaddr *)&u.address, len) < 0) {
		err = rights_denied(r->rights, -errno, u.address.sun_path);
		return log_fail(-err, "fd %d: cannot make the socket %s: %m", msg->fd,
				u.address.sun_path);
	}
	if (!msg->has_file) /* the program had unlinked it */
		return unlink(u.address.sun_path) < 0 ? -errno : 0;
	if (lchown(u.address.sun_path, msg->file_uid, msg->file_gid) < 0 ||
	    chmod(u.address.sun_path, msg->file_mode & 07777) < 0)
		return -errno;
	return 0;
}

/* Does something to a socket where its name is looked up from, and with the rights of the process. */
static int at_name(const struct restore *r, const baton_Unix *msg, int fd, socket_fn *fn)
{
	bool relative = is_path(msg) && msg->name.bytes[0] != '/';
	int before = relative ? open(".", O_PATH | O_DIRECTORY | O_CLOEXEC) : -1, err;

	if (relative && before < 0)
		return -errno;
	/* Where we were ourselves, the process need not be able to go. */
	err = rights_take(r->rights);
	if (!err) {
		err = relative ? enter_folder(msg) : 0;
		if (!err)
			err = fn(r, msg, fd);
		rights_give_back(r->rights);
	}
	leave_folder(before);
	return err;
}

static int bind_name(const struct restore *r, const baton_Unix *msg, int fd)
{
	struct sockaddr_un address;
	socklen_t len = put_address(msg, &address);

	if (!msg->name.size)
		return 0;
	if (!is_path(msg)) {
		if (bind(fd, (struct sockaddr *)&address, len) == 0)
			return 0;
		return log_fail(errno,
				"fd %d: cannot bind a unix socket to the abstract name @%.*s: %s",
				msg->fd, (int)msg->name.size - 1, (const char *)msg->name.bytes + 1,
				strerror(errno));
	}
	return at_name(r, msg, fd, bind_path);
}

static int set_common(const struct restore *r, const baton_Unix *msg, int fd)
{
	(void)r;
	if (fchown(fd, msg->uid, msg->gid) < 0)
		return -errno;
	return sockopt_apply(fd, msg->options, msg->options_count);
}

static int make_socket(struct restore *r, const baton_Unix *msg)
{
	int err, copy;

	if (!is_type(msg->type) || msg->backlog > INT32_MAX)
		return -EPROTO;
	err = fd_place(r, remote_call(&r->leader, SYS_socket, AF_UNIX, (uint64_t)msg->type, 0),
		       msg->fd);
	if (err)
		return err;
	copy = fd_restore_take(r, msg->fd);
	if (copy < 0)
		return copy;
	err = set_common(r, msg, copy);
	if (!err)
		err = bind_name(r, msg, copy);
	close(copy);
	/* By the process itself: it is the one whose credentials a client sees (SO_PEERCRED). */
	if (!err && msg->listening)
		err = (int)remote_call(&r->leader, SYS_listen, (uint64_t)msg->fd, msg->backlog);
	return err;
}

static int make_pair(struct restore *r, const baton_Unix *msg)
{
	struct remote *p = &r->leader;
	uint64_t addr = remote_room(p, 2 * sizeof(int32_t));
	int32_t fds[2], top = msg->fd > msg->other ? msg->fd : msg->other;
	int64_t ret;
	int err;

	if (!addr || !is_type(msg->type) || top < 0 || top >= FD_NUMBER_MAX)
		return addr ? -EPROTO : -EFAULT;
	ret = remote_call(p, SYS_socketpair, AF_UNIX, (uint64_t)msg->type, 0, addr);
	if (ret < 0 || (err = remote_read(p, addr, fds, sizeof(fds))) != 0)
		return ret < 0 ? (int)ret : err;
	remote_reset(p);
	/* The second one out of the way of the first one's number. */
	ret = remote_call(p, SYS_fcntl, (uint64_t)fds[1], F_DUPFD, (uint64_t)top + 1);
	if (ret < 0)
		return (int)ret;
	remote_call(p, SYS_close, (uint64_t)fds[1]);
	err = fd_place(r, fds[0], msg->fd);
	if (err)
		return err;
	if (msg->other >= 0)
		return fd_place(r, ret, msg->other);
	held = fd_take(r->pidfd, (int)ret);
	remote_call(p, SYS_close, (uint64_t)ret);
	return held < 0 ? held : 0;
}

/* What waits at `fd` is sent again from the other end. */
static int send_data(struct restore *r, const baton_Unix *msg)
{
	int fd = msg->other >= 0 ? fd_restore_take(r, msg->other) : held;
	ssize_t n;
	int err = 0;

	if (fd < 0)
		return msg->other >= 0 ? fd : -EPROTO;
	n = send(fd, msg->data.bytes, msg->data.size, MSG_DONTWAIT | MSG_NOSIGNAL);
	if (n < 0)
		err = -errno;
	else if ((size_t)n != msg->data.size)
		err = -ENOBUFS;
	if (msg->other >= 0)
		close(fd);
	return err;
}

static int end_socket(const struct restore *r, const baton_Unix *msg, int fd)
{
	(void)r;
	let_go();
	if ((msg->shutdown & SHUT_RECEIVE) && shutdown(fd, SHUT_RD) < 0 && errno != ENOTCONN)
		return -errno;
	if ((msg->shutdown & SHUT_SEND) && shutdown(fd, SHUT_WR) < 0 && errno != ENOTCONN)
		return -errno;
	return 0;
}

/* The peer of a datagram socket may start later here: the program connects again, as after a restart of it. */
static int connect_peer(const struct restore *r, const baton_Unix *msg, int fd)
{
	struct sockaddr_un address;
	socklen_t len = put_address(msg, &address);

	(void)r;
	if (connect(fd, (struct sockaddr *)&address, len) < 0)
		log_warn("fd %d: the unix socket it was connected to is not there on this device: "
			 "%s",
			 msg->fd, strerror(errno));
	return 0;
}

static int connect_name(const struct restore *r, const baton_Unix *msg, int fd)
{
	return at_name(r, msg, fd, connect_peer);
}

static int on_copy(struct restore *r, const baton_Unix *msg, socket_fn *fn)
{
	int copy = fd_restore_take(r, msg->fd), err;

	if (copy < 0)
		return copy;
	err = fn(r, msg, copy);
	close(copy);
	return err;
}

static int run_step(struct restore *r, const baton_Unix *msg)
{
	switch (msg->step) {
	case baton_UnixStep_UNIX_STEP_SOCKET:
		return make_socket(r, msg);
	case baton_UnixStep_UNIX_STEP_PAIR:
		let_go();
		return make_pair(r, msg);
	case baton_UnixStep_UNIX_STEP_OPTIONS:
		return on_copy(r, msg, set_common);
	case baton_UnixStep_UNIX_STEP_DATA:
		return send_data(r, msg);
	case baton_UnixStep_UNIX_STEP_END:
		return on_copy(r, msg, end_socket);
	case baton_UnixStep_UNIX_STEP_CONNECT:
		return on_copy(r, msg, connect_name);
	}
	return -EPROTO;
}

int unix_restore(struct restore *r, const void *data)
{
	const baton_Unix *msg = data;
	int err = fd_place_begin(r);

	if (!err)
		err = run_step(r, msg);
	if (err)
		let_go();
	return err ? log_fail(err, "cannot restore fd %d (a unix socket): %m", msg->fd) : 0;
}
