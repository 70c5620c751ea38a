/* SPDX-License-Identifier: MIT */
/* TCP sockets that are not connected, and UDP sockets. */
#include "engine/state/fd_check.h"

#include "engine/state/inet.pb.h"
#include "engine/state/inet_group.h"
#include "engine/state/sockopt.h"
#include "lib/arena.h"
#include "lib/kernel.h"
#include "lib/log.h"
#include "lib/text.h"

#include <arpa/inet.h>
#include <errno.h>
#include <net/if.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#ifndef IPPROTO_MPTCP
#define IPPROTO_MPTCP 262
#endif
#define ADDRESS_TEXT (INET6_ADDRSTRLEN + 8)

struct inet_look {
	int domain, type, protocol;
	struct tcp_info info; /* of a TCP socket */
	bool has_peer;
	struct sockaddr_storage local, peer;
};

static const char *const tcp_states[] = {
	"",          "ESTABLISHED", "SYN_SENT",   "SYN_RECV", "FIN_WAIT1", "FIN_WAIT2",
	"TIME_WAIT", "CLOSE",       "CLOSE_WAIT", "LAST_ACK", "LISTEN",    "CLOSING",
};

static int look_at(int fd, struct inet_look *look)
{
	socklen_t len = sizeof(look->local), info_len = sizeof(look->info);
	int err;

	memset(look, 0, sizeof(*look));
	err = sockopt_get_int(fd, SOL_SOCKET, SO_DOMAIN, &look->domain);
	if (!err)
		err = sockopt_get_int(fd, SOL_SOCKET, SO_TYPE, &look->type);
	if (!err)
		err = sockopt_get_int(fd, SOL_SOCKET, SO_PROTOCOL, &look->protocol);
	if (err)
		return err;
	if (getsockname(fd, (struct sockaddr *)&look->local, &len) < 0)
		return -errno;
	len = sizeof(look->peer);
	look->has_peer = getpeername(fd, (struct sockaddr *)&look->peer, &len) == 0;
	if (look->type == SOCK_STREAM &&
	    getsockopt(fd, IPPROTO_TCP, TCP_INFO, &look->info, &info_len) < 0)
		return -errno;
	return 0;
}

static uint16_t port_of(const struct sockaddr_storage *address)
{
	return ntohs(address->ss_family == AF_INET6
			     ? ((const struct sockaddr_in6 *)address)->sin6_port
			     : ((const struct sockaddr_in *)address)->sin_port);
}

static const char *address_text(const struct sockaddr_storage *address,
				char out[static ADDRESS_TEXT])
{
	bool v6 = address->ss_family == AF_INET6;
	char ip[INET6_ADDRSTRLEN] = "?";

	if (v6)
		inet_ntop(AF_INET6, &((const struct sockaddr_in6 *)address)->sin6_addr, ip,
			  sizeof(ip));
	else
		inet_ntop(AF_INET, &((const struct sockaddr_in *)address)->sin_addr, ip,
			  sizeof(ip));
	snprintf(out, ADDRESS_TEXT, v6 ? "[%s]:%u" : "%s:%u", ip, port_of(address));
	return out;
}

/* ---- what it is ---- */

/*
 * A connection that has ended is in the same state as a socket that never had one, but reading it
 * gives an end of file or an error and not ENOTCONN. An error is not fetched: that would take it.
 */
static bool was_connected(int fd)
{
	struct pollfd p = {.fd = fd};
	char byte;

	if (poll(&p, 1, 0) > 0 && (p.revents & POLLERR))
		return true;
	return recv(fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT) >= 0 || errno != ENOTCONN;
}

static bool check_tcp(struct fd_look *look, const struct inet_look *inet)
{
	char local[ADDRESS_TEXT], peer[ADDRESS_TEXT];
	unsigned int state = inet->info.tcpi_state;

	address_text(&inet->local, local);
	if (state == TCP_LISTEN) {
		fd_say(look, "a TCP socket listening on %s", local);
		return true;
	}
	if (state == TCP_CLOSE && !was_connected(look->copy)) {
		fd_say(look, port_of(&inet->local) ? "a TCP socket bound to %s" : "a TCP socket",
		       local);
		return true;
	}
	if (inet->has_peer)
		fd_say(look,
		       "a TCP connection from %s to %s (%s), which cannot be moved; close it first",
		       local, address_text(&inet->peer, peer),
		       state < sizeof(tcp_states) / sizeof(tcp_states[0]) ? tcp_states[state]
									  : "?");
	else
		fd_say(look, "a TCP connection from %s that has ended; the program should close it",
		       local);
	return false;
}

static bool check_udp(struct fd_look *look, const struct inet_look *inet)
{
	char local[ADDRESS_TEXT], peer[ADDRESS_TEXT];

	address_text(&inet->local, local);
	if (inet->has_peer)
		fd_say(look, "a UDP socket from %s to %s", local, address_text(&inet->peer, peer));
	else
		fd_say(look, port_of(&inet->local) ? "a UDP socket bound to %s" : "a UDP socket",
		       local);
	return true;
}

static bool check_groups(struct fd_look *look)
{
	pb_size_t nr;
	int err = inet_group_collect(look->table->proc_fd, look->copy, NULL, INET_GROUPS_MAX, &nr);

	if (err == -EOPNOTSUPP)
		fd_say(look,
		       "a UDP socket that takes a multicast group from chosen senders only "
		       "(IP_ADD_SOURCE_MEMBERSHIP), which cannot be moved; leave the group first");
	else if (err)
		fd_say(look,
		       "a UDP socket whose multicast groups cannot be listed (%s); leave them "
		       "first",
		       strerror(-err));
	return !err;
}

bool inet_check(struct fd_look *look)
{
	struct inet_look inet;
	const char *unfit;

	if (look_at(look->copy, &inet)) {
		fd_say(look, "a network socket that cannot be looked at; close it first");
		return false;
	}
	if (inet.type == SOCK_RAW) {
		fd_say(look, "a raw IP socket (SOCK_RAW), which cannot be moved; close it first");
		return false;
	}
	unfit = sockopt_unfit(look->copy);
	if (unfit) {
		fd_say(look, "%s", unfit);
		return false;
	}
	if (inet.type == SOCK_STREAM &&
	    (inet.protocol == IPPROTO_TCP || inet.protocol == IPPROTO_MPTCP))
		return check_tcp(look, &inet);
	if (inet.type == SOCK_DGRAM && inet.protocol == IPPROTO_UDP)
		return check_groups(look) && check_udp(look, &inet);
	fd_say(look, "a network socket of protocol %d, which cannot be moved; close it first",
	       inet.protocol);
	return false;
}

/* ---- dump ---- */

static void put_address(const struct sockaddr_storage *from, baton_InetAddress *to)
{
	const struct sockaddr_in6 *v6 = (const struct sockaddr_in6 *)from;
	const struct sockaddr_in *v4 = (const struct sockaddr_in *)from;
	char name[IF_NAMESIZE] = "";

	to->port = port_of(from);
	if (from->ss_family == AF_INET6) {
		to->ip.size = 16;
		memcpy(to->ip.bytes, &v6->sin6_addr, 16);
		to->flow = v6->sin6_flowinfo;
		if (v6->sin6_scope_id && if_indextoname(v6->sin6_scope_id, name))
			text_copy(to->scope, sizeof(to->scope), name);
	} else {
		to->ip.size = 4;
		memcpy(to->ip.bytes, &v4->sin_addr, 4);
	}
}

/* What is waiting in the kernel and stays behind. */
static void warn_of_loss(const struct fd_entry *entry, int fd, const struct inet_look *inet)
{
	int queued = 0;

	if (inet->type == SOCK_DGRAM && ioctl(fd, FIONREAD, &queued) == 0 && queued > 0)
		log_warn("fd %d: datagrams that the program has not read are lost, as UDP may",
			 entry->fd);
	if (inet->type == SOCK_STREAM && inet->info.tcpi_state == TCP_LISTEN &&
	    inet->info.tcpi_unacked)
		log_warn("fd %d: %u connections that the program has not accepted will be reset",
			 entry->fd, inet->info.tcpi_unacked);
}

static int describe(const struct fd_table *table, const struct fd_entry *entry, int fd,
		    baton_Inet *msg)
{
	struct inet_look inet;
	struct stat st;
	int err = look_at(fd, &inet);

	if (err)
		return err;
	if (fstat(fd, &st) < 0)
		return -errno;
	warn_of_loss(entry, fd, &inet);
	msg->fd = entry->fd;
	msg->domain = inet.domain;
	msg->type = inet.type;
	msg->protocol = inet.protocol;
	msg->uid = st.st_uid;
	msg->gid = st.st_gid;
	msg->bound = port_of(&inet.local) != 0;
	put_address(&inet.local, &msg->local);
	msg->has_local = msg->bound;
	msg->connected = inet.type == SOCK_DGRAM && inet.has_peer;
	if (msg->connected)
		put_address(&inet.peer, &msg->peer);
	msg->has_peer = msg->connected;
	if (inet.type == SOCK_STREAM && inet.info.tcpi_state == TCP_LISTEN) {
		msg->listening = true;
		/* Of a listening socket tcp_info has the queue there. Source: tcp_get_info. */
		msg->backlog = inet.info.tcpi_sacked;
	}
	if (inet.type == SOCK_DGRAM)
		err = inet_group_collect(table->proc_fd, fd, msg->groups, INET_GROUPS_MAX,
					 &msg->groups_count);
	return err ? err
		   : sockopt_collect(fd, msg->options,
				     sizeof(msg->options) / sizeof(msg->options[0]),
				     &msg->options_count);
}

static int dump_one(struct dump *d, const struct fd_table *table, const struct fd_entry *entry,
		    int copy)
{
	size_t mark = arena_mark();
	baton_Inet *msg = arena_alloc(ARENA_SCRATCH, sizeof(*msg), 16);
	int err = msg ? describe(table, entry, copy, msg) : -ENOMEM;

	if (!err)
		err = dump_emit(d, &kind_inet, msg);
	arena_reset(mark);
	return err ? log_fail(err, "cannot read fd %d (a network socket): %m", entry->fd) : 0;
}

static int inet_dump(struct dump *d, const struct state_kind *kind)
{
	(void)kind;
	return fd_dump_type(d, FD_INET, dump_one);
}

/* ---- restore ---- */

static socklen_t get_address(int domain, const baton_InetAddress *from, struct sockaddr_storage *to)
{
	struct sockaddr_in6 *v6 = (struct sockaddr_in6 *)to;
	struct sockaddr_in *v4 = (struct sockaddr_in *)to;

	memset(to, 0, sizeof(*to));
	if (from->port > UINT16_MAX || from->ip.size != (domain == AF_INET6 ? 16 : 4))
		return 0;
	to->ss_family = (sa_family_t)domain;
	if (domain == AF_INET) {
		v4->sin_port = htons((uint16_t)from->port);
		memcpy(&v4->sin_addr, from->ip.bytes, 4);
		return sizeof(*v4);
	}
	v6->sin6_port = htons((uint16_t)from->port);
	memcpy(&v6->sin6_addr, from->ip.bytes, 16);
	v6->sin6_flowinfo = from->flow;
	v6->sin6_scope_id = from->scope[0] ? if_nametoindex(from->scope) : 0;
	return sizeof(*v6);
}

static int bind_local(const baton_Inet *msg, int fd)
{
	struct sockaddr_storage address;
	socklen_t len = get_address(msg->domain, &msg->local, &address);
	char text[ADDRESS_TEXT];
	int err;

	if (!len)
		return -EPROTO;
	if (bind(fd, (struct sockaddr *)&address, len) == 0)
		return 0;
	err = errno;
	address_text(&address, text);
	/* A connected socket may have its address from the route it took; it takes one again. */
	if (err == EADDRNOTAVAIL && msg->connected) {
		if (msg->domain == AF_INET6)
			((struct sockaddr_in6 *)&address)->sin6_addr = in6addr_any;
		else
			((struct sockaddr_in *)&address)->sin_addr.s_addr = INADDR_ANY;
		if (bind(fd, (struct sockaddr *)&address, len) == 0)
			return 0;
	}
	if (err == EADDRNOTAVAIL)
		return log_fail(
			err,
			"fd %d: this device has no address %s; give it one, or let the program "
			"bind to any address",
			msg->fd, text);
	if (err == EADDRINUSE)
		return log_fail(err, "fd %d: %s port %s is in use on this device; end what uses it",
				msg->fd, msg->type == SOCK_STREAM ? "TCP" : "UDP", text);
	return log_fail(err, "fd %d: cannot bind to %s: %m", msg->fd, text);
}

static int connect_peer(const baton_Inet *msg, int fd)
{
	struct sockaddr_storage address;
	socklen_t len = get_address(msg->domain, &msg->peer, &address);
	char text[ADDRESS_TEXT];

	if (!len)
		return -EPROTO;
	if (connect(fd, (struct sockaddr *)&address, len) < 0)
		return log_fail(errno, "fd %d: cannot connect the UDP socket to %s: %m", msg->fd,
				address_text(&address, text));
	return 0;
}

static int set_up(struct restore *r, const baton_Inet *msg, int fd)
{
	int err = 0;

	/* Whose socket it is, for SO_REUSEPORT and the firewall's owner match. */
	if (fchown(fd, msg->uid, msg->gid) < 0)
		err = -errno;
	if (!err)
		err = sockopt_apply(fd, msg->options, msg->options_count);
	if (!err && msg->bound)
		err = bind_local(msg, fd);
	if (!err && msg->connected)
		err = connect_peer(msg, fd);
	if (!err)
		err = inet_group_join(fd, msg->groups, msg->groups_count);
	if (!err && msg->listening)
		err = (int)remote_call(&r->leader, SYS_listen, (uint64_t)msg->fd, msg->backlog);
	return err;
}

static bool is_sound(const baton_Inet *msg)
{
	bool tcp = msg->type == SOCK_STREAM &&
		   (msg->protocol == IPPROTO_TCP || msg->protocol == IPPROTO_MPTCP);
	bool udp = msg->type == SOCK_DGRAM && msg->protocol == IPPROTO_UDP;

	return (msg->domain == AF_INET || msg->domain == AF_INET6) && (tcp || udp) &&
	       !(tcp && msg->connected) && !(udp && msg->listening) && msg->backlog <= INT32_MAX;
}

static int inet_restore(struct restore *r, const void *data)
{
	const baton_Inet *msg = data;
	int err, copy;

	if (!is_sound(msg))
		return log_fail(EPROTO, "fd %d: a network socket that cannot be", msg->fd);
	err = fd_place_begin(r);
	if (!err)
		err = fd_place(r,
			       remote_call(&r->leader, SYS_socket, (uint64_t)msg->domain,
					   (uint64_t)msg->type, (uint64_t)msg->protocol),
			       msg->fd);
	if (err)
		return log_fail(err, "cannot restore fd %d (a network socket): %m", msg->fd);
	copy = fd_restore_take(r, msg->fd);
	if (copy < 0)
		return copy;
	err = set_up(r, msg, copy);
	close(copy);
	return err ? log_fail(err, "cannot restore fd %d (a network socket): %m", msg->fd) : 0;
}

const struct state_kind kind_inet = {
	.id = KIND_INET,
	.name = "network socket",
	.fields = &baton_Inet_msg,
	.size = sizeof(baton_Inet),
	.dump = inet_dump,
	.restore = inet_restore,
};
