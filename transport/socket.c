/* SPDX-License-Identifier: MIT */
/* TCP sockets: listening, accepting, dialing with a deadline. */
#include "transport/socket.h"

#include "lib/io.h"
#include "lib/log.h"
#include <errno.h>
#include <fcntl.h>
#include <linux/pkt_sched.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdbool.h>
#include <string.h>
#include <unistd.h>

#define DSCP_AF21 0x48 /* low latency data (RFC 4594), in the octet that has ECN, too */

static socklen_t addr_len(const struct sockaddr_storage *addr)
{
	return addr->ss_family == AF_INET ? sizeof(struct sockaddr_in)
					  : sizeof(struct sockaddr_in6);
}

static void set_option(int fd, int level, int option, int value)
{
	/* An option that is not to be had costs comfort, not correctness. */
	(void)setsockopt(fd, level, option, &value, sizeof(value));
}

static int patience_s = SOCKET_PATIENCE_S;

void socket_patience(unsigned int seconds)
{
	patience_s = seconds > SOCKET_PATIENCE_S ? (int)seconds : SOCKET_PATIENCE_S;
}

int socket_prepare(int fd)
{
	int flags = fcntl(fd, F_GETFL);

	if (flags < 0 || fcntl(fd, F_SETFL, flags | O_NONBLOCK) < 0)
		return -errno;
	if (fcntl(fd, F_SETFD, FD_CLOEXEC) < 0)
		return -errno;
	set_option(fd, IPPROTO_TCP, TCP_NODELAY, 1);
	set_option(fd, SOL_SOCKET, SO_KEEPALIVE, 1);
	set_option(fd, IPPROTO_TCP, TCP_KEEPIDLE, patience_s / 3);
	set_option(fd, IPPROTO_TCP, TCP_KEEPINTVL, patience_s / 6);
	set_option(fd, IPPROTO_TCP, TCP_KEEPCNT, 4);
	/* The same patience with data that nobody acknowledges. */
	set_option(fd, IPPROTO_TCP, TCP_USER_TIMEOUT, patience_s * 1000);
	return 0;
}

void socket_urgent(int fd)
{
	set_option(fd, IPPROTO_IP, IP_TOS, DSCP_AF21);
	set_option(fd, IPPROTO_IPV6, IPV6_TCLASS, DSCP_AF21);
	/* Last: IP_TOS chooses a priority of its own. */
	set_option(fd, SOL_SOCKET, SO_PRIORITY, TC_PRIO_INTERACTIVE);
}

/* The address a socket got from bind(2). */
static int own_address(int fd, char *name, uint16_t *port)
{
	struct sockaddr_storage addr = {0};
	struct sockaddr_in v4;
	socklen_t len = sizeof(addr);

	if (getsockname(fd, (struct sockaddr *)&addr, &len) < 0)
		return -errno;
	if (name)
		socket_name(&addr, name);
	memcpy(&v4, &addr, sizeof(v4)); /* the port is at the same place in both families */
	if (port)
		*port = ntohs(v4.sin_port);
	return 0;
}

int socket_listen(const char *text, uint16_t default_port, char *name, uint16_t *port)
{
	struct sockaddr_storage addr = {0};
	int err = socket_parse(text, default_port, true, &addr);
	int fd;

	if (err)
		return err;
	fd = socket(addr.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return log_fail(errno, "no socket to listen on %s: %m", text);
	/* A receiver started again must not wait for connections of the old one to expire. */
	set_option(fd, SOL_SOCKET, SO_REUSEADDR, 1);
	if (bind(fd, (struct sockaddr *)&addr, addr_len(&addr)) < 0 || listen(fd, 64) < 0)
		err = log_fail(errno, "cannot listen on %s (port %u if it names none): %m",
			       text[0] ? text : "any address", default_port);
	else
		err = own_address(fd, name, port);
	if (err) {
		close(fd);
		return err;
	}
	return fd;
}

int socket_accept(int listen_fd, char name[static SOCKET_NAME_MAX])
{
	struct sockaddr_storage addr = {0};
	socklen_t len = sizeof(addr);
	int fd = accept4(listen_fd, (struct sockaddr *)&addr, &len, SOCK_NONBLOCK | SOCK_CLOEXEC);
	int err;

	if (fd < 0) {
		/* Errors of a connection that died in the queue are none of ours (accept(2)). */
		bool passing = errno == ECONNABORTED || errno == EINTR || errno == EPROTO ||
			       errno == ENETDOWN || errno == EHOSTUNREACH || errno == ENETUNREACH;

		return passing ? -EAGAIN : -errno;
	}
	socket_name(&addr, name);
	err = socket_prepare(fd);
	if (err) {
		close(fd);
		return err;
	}
	return fd;
}

/* Waits for connect(2) to end. 0, or -errno. */
static int finish_connect(int fd, int timeout_ms)
{
	struct pollfd pfd = {.fd = fd, .events = POLLOUT};
	int err = 0, ready;
	socklen_t len = sizeof(err);

	/* Not poll(2): this may take long, and whoever waits may have to be told something. */
	ready = io_poll(&pfd, 1, timeout_ms);
	if (ready < 0)
		return ready;
	if (ready == 0)
		return -ETIMEDOUT;
	if (getsockopt(fd, SOL_SOCKET, SO_ERROR, &err, &len) < 0)
		return -errno;
	return -err;
}

int socket_dial(const char *text, uint16_t default_port, int timeout_ms,
		char name[static SOCKET_NAME_MAX])
{
	struct sockaddr_storage addr = {0};
	int err = socket_parse(text, default_port, false, &addr);
	int fd;

	if (err)
		return err;
	socket_name(&addr, name);
	fd = socket(addr.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return log_fail(errno, "no socket to reach %s: %m", name);
	err = socket_prepare(fd);
	if (!err && connect(fd, (struct sockaddr *)&addr, addr_len(&addr)) < 0)
		err = errno == EINPROGRESS ? finish_connect(fd, timeout_ms) : -errno;
	if (err) {
		close(fd);
		return log_fail(-err, "%s cannot be reached: %m%s", name,
				err == -ECONNREFUSED ? "; is baton receive running there?" : "");
	}
	return fd;
}
