/* SPDX-License-Identifier: MIT */
/*
 * Sockets: listening, bound, connected datagram sockets, pairs with what waits in them.
 * build: musl-static
 * args: tcp | tcp6 | options | udp | unix | relative | abstract | pair | halfpair | seqpacket | datagram
 * modes: lazy
 */
#include "fd_common.h"
#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stddef.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/un.h>

static int fd[8];
static char buf[70000];

static int get(int which, int level, int option)
{
	int value = -1;
	socklen_t len = sizeof(value);

	CHECK(!getsockopt(which, level, option, &value, &len), "option %d/%d", level, option);
	return value;
}

static void set(int which, int level, int option, int value)
{
	CHECK(!setsockopt(which, level, option, &value, sizeof(value)), "option %d/%d", level,
	      option);
}

/* ---- tcp ---- */

static struct sockaddr_in v4(uint16_t port)
{
	return (struct sockaddr_in){.sin_family = AF_INET,
				    .sin_port = htons(port),
				    .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
}

static void tcp_prepare(void)
{
	struct sockaddr_in a = v4(8080), b = v4(8081);

	for (int i = 0; i < 3; i++)
		CHECK((fd[i] = socket(AF_INET, SOCK_STREAM | (i ? SOCK_CLOEXEC : SOCK_NONBLOCK),
				      0)) >= 0);
	set(fd[0], SOL_SOCKET, SO_REUSEADDR, 1);
	CHECK(!bind(fd[0], (struct sockaddr *)&a, sizeof(a)) && !listen(fd[0], 17));
	CHECK(!bind(fd[1], (struct sockaddr *)&b, sizeof(b)));
}

static int client_of(const struct sockaddr *address, socklen_t len)
{
	int client = socket(address->sa_family, SOCK_STREAM, 0);

	CHECK(!connect(client, address, len), "connect");
	return client;
}

/* connect(2) may return before the listener has seen its end of it. */
static int accepted(int listener)
{
	struct pollfd p = {.fd = listener, .events = POLLIN};

	CHECK(poll(&p, 1, 10000) == 1, "nobody to accept");
	return accept(listener, NULL, NULL);
}

static void tcp_check(void)
{
	struct sockaddr_in a = v4(8080), name;
	struct tcp_info info;
	socklen_t len = sizeof(name), info_len = sizeof(info);
	int client, server;

	CHECK(accept(fd[0], NULL, NULL) < 0 && errno == EAGAIN);
	CHECK(!getsockopt(fd[0], IPPROTO_TCP, TCP_INFO, &info, &info_len) &&
	      info.tcpi_sacked == 17);
	CHECK(get(fd[0], SOL_SOCKET, SO_REUSEADDR) == 1 &&
	      get(fd[1], SOL_SOCKET, SO_REUSEADDR) == 0);
	client = client_of((struct sockaddr *)&a, sizeof(a));
	server = accepted(fd[0]);
	CHECK(server >= 0 && write(client, "hello", 5) == 5 && read(server, buf, 100) == 5);
	CHECK(!getsockname(fd[1], (struct sockaddr *)&name, &len) && ntohs(name.sin_port) == 8081);
	CHECK(!listen(fd[1], 1) && fcntl(fd[1], F_GETFD) == FD_CLOEXEC);
	CHECK(!connect(fd[2], (struct sockaddr *)&a, sizeof(a)));
}

static void tcp_sabotage(void)
{
	shutdown(fd[0], SHUT_RDWR);
}

/* ---- tcp6 ---- */

static void tcp6_prepare(void)
{
	struct sockaddr_in6 a = {
		.sin6_family = AF_INET6, .sin6_port = htons(8086), .sin6_addr = IN6ADDR_ANY_INIT};

	fd[0] = socket(AF_INET6, SOCK_STREAM, 0);
	fd[1] = socket(AF_INET6, SOCK_STREAM, 0);
	set(fd[1], IPPROTO_IPV6, IPV6_V6ONLY, 1);
	CHECK(!bind(fd[0], (struct sockaddr *)&a, sizeof(a)) && !listen(fd[0], 5));
	a.sin6_port = htons(8087);
	CHECK(!bind(fd[1], (struct sockaddr *)&a, sizeof(a)) && !listen(fd[1], 5));
}

static void tcp6_check(void)
{
	struct sockaddr_in both = v4(8086), only = v4(8087);
	struct sockaddr_in6 six = {.sin6_family = AF_INET6,
				   .sin6_port = htons(8087),
				   .sin6_addr = IN6ADDR_LOOPBACK_INIT};
	int client = socket(AF_INET, SOCK_STREAM, 0);

	client_of((struct sockaddr *)&both, sizeof(both));
	client_of((struct sockaddr *)&six, sizeof(six));
	CHECK(connect(client, (struct sockaddr *)&only, sizeof(only)) < 0 && errno == ECONNREFUSED);
	CHECK(accepted(fd[0]) >= 0 && accepted(fd[1]) >= 0);
}

static void tcp6_sabotage(void)
{
	shutdown(fd[1], SHUT_RDWR);
}

/* ---- options ---- */

static void options_prepare(void)
{
	struct linger linger = {1, 7};
	struct timeval timeout = {3, 500000};

	fd[0] = socket(AF_INET, SOCK_STREAM, 0);
	fd[1] = socket(AF_INET6, SOCK_DGRAM, 0);
	fd[2] = socket(AF_INET, SOCK_STREAM, 0);
	fd[3] = socket(AF_UNIX, SOCK_DGRAM, 0);
	set(fd[0], SOL_SOCKET, SO_REUSEPORT, 1);
	set(fd[0], SOL_SOCKET, SO_KEEPALIVE, 1);
	set(fd[0], SOL_SOCKET, SO_OOBINLINE, 1);
	set(fd[0], SOL_SOCKET, SO_RCVBUF, 30000);
	set(fd[0], SOL_SOCKET, SO_SNDBUFFORCE, 20000000);
	CHECK(!setsockopt(fd[0], SOL_SOCKET, SO_LINGER, &linger, sizeof(linger)));
	CHECK(!setsockopt(fd[0], SOL_SOCKET, SO_RCVTIMEO, &timeout, sizeof(timeout)));
	CHECK(!setsockopt(fd[0], SOL_SOCKET, SO_BINDTODEVICE, "lo", 3));
	set(fd[0], IPPROTO_TCP, TCP_NODELAY, 1);
	set(fd[0], IPPROTO_TCP, TCP_KEEPIDLE, 33);
	set(fd[0], IPPROTO_TCP, TCP_USER_TIMEOUT, 4444);
	set(fd[0], IPPROTO_TCP, TCP_FASTOPEN, 5);
	set(fd[0], IPPROTO_TCP, TCP_DEFER_ACCEPT, 3);
	set(fd[0], IPPROTO_IP, IP_TOS, 0x10);
	set(fd[0], IPPROTO_IP, IP_TTL, 9);
	set(fd[0], SOL_SOCKET, SO_PRIORITY, 3);
	set(fd[1], SOL_SOCKET, SO_BROADCAST, 1);
	set(fd[1], IPPROTO_IPV6, IPV6_MULTICAST_HOPS, 5);
	set(fd[1], IPPROTO_IPV6, IPV6_MULTICAST_IF, 1);
	set(fd[1], IPPROTO_IPV6, IPV6_RECVPKTINFO, 1);
	set(fd[3], SOL_SOCKET, SO_PASSCRED, 1);
	snprintf(buf, sizeof(buf), "%d", get(fd[0], IPPROTO_TCP, TCP_DEFER_ACCEPT));
}

static void options_check(void)
{
	struct linger linger;
	struct timeval timeout;
	socklen_t len = sizeof(linger);
	char device[16];

	CHECK(get(fd[0], SOL_SOCKET, SO_REUSEPORT) == 1 &&
	      get(fd[0], SOL_SOCKET, SO_KEEPALIVE) == 1);
	CHECK(get(fd[0], SOL_SOCKET, SO_OOBINLINE) == 1 &&
	      get(fd[0], SOL_SOCKET, SO_RCVBUF) == 60000);
	CHECK(get(fd[0], SOL_SOCKET, SO_SNDBUF) == 40000000 &&
	      get(fd[0], SOL_SOCKET, SO_PRIORITY) == 3);
	CHECK(!getsockopt(fd[0], SOL_SOCKET, SO_LINGER, &linger, &len) && linger.l_onoff &&
	      linger.l_linger == 7);
	len = sizeof(timeout);
	CHECK(!getsockopt(fd[0], SOL_SOCKET, SO_RCVTIMEO, &timeout, &len) && timeout.tv_sec == 3 &&
	      timeout.tv_usec == 500000);
	len = sizeof(device);
	CHECK(!getsockopt(fd[0], SOL_SOCKET, SO_BINDTODEVICE, device, &len) &&
	      !strcmp(device, "lo"));
	CHECK(get(fd[0], IPPROTO_TCP, TCP_NODELAY) == 1 &&
	      get(fd[0], IPPROTO_TCP, TCP_KEEPIDLE) == 33);
	CHECK(get(fd[0], IPPROTO_TCP, TCP_USER_TIMEOUT) == 4444 &&
	      get(fd[0], IPPROTO_TCP, TCP_FASTOPEN) == 5);
	CHECK(get(fd[0], IPPROTO_TCP, TCP_DEFER_ACCEPT) == atoi(buf));
	CHECK(get(fd[0], IPPROTO_IP, IP_TOS) == 0x10 && get(fd[0], IPPROTO_IP, IP_TTL) == 9);
	CHECK(get(fd[1], SOL_SOCKET, SO_BROADCAST) == 1 &&
	      get(fd[1], IPPROTO_IPV6, IPV6_MULTICAST_HOPS) == 5);
	CHECK(get(fd[1], IPPROTO_IPV6, IPV6_MULTICAST_IF) == 1 &&
	      get(fd[1], IPPROTO_IPV6, IPV6_RECVPKTINFO) == 1);
	CHECK(get(fd[2], SOL_SOCKET, SO_KEEPALIVE) == 0 &&
	      get(fd[2], IPPROTO_TCP, TCP_NODELAY) == 0);
	CHECK(get(fd[3], SOL_SOCKET, SO_PASSCRED) == 1);
}

static void options_sabotage(void)
{
	set(fd[0], IPPROTO_TCP, TCP_NODELAY, 0);
}

/* ---- udp ---- */

static void udp_prepare(void)
{
	struct sockaddr_in a = v4(5353), b = v4(5354), group = v4(5353);
	struct ip_mreqn join = {.imr_multiaddr.s_addr = htonl(0xe00000fb), .imr_ifindex = 1};

	for (int i = 0; i < 4; i++)
		CHECK((fd[i] = socket(AF_INET, SOCK_DGRAM | SOCK_NONBLOCK, 0)) >= 0);
	CHECK(!bind(fd[0], (struct sockaddr *)&a, sizeof(a)));
	CHECK(!bind(fd[1], (struct sockaddr *)&b, sizeof(b)) &&
	      !connect(fd[1], (struct sockaddr *)&a, sizeof(a)));
	CHECK(!connect(fd[2], (struct sockaddr *)&group, sizeof(group)));
	CHECK(!setsockopt(fd[0], IPPROTO_IP, IP_ADD_MEMBERSHIP, &join, sizeof(join)));
}

static void udp_check(void)
{
	struct sockaddr_in from, a = v4(5353);
	socklen_t len = sizeof(from);
	struct ip_mreqn join = {.imr_multiaddr.s_addr = htonl(0xe00000fb), .imr_ifindex = 1};

	CHECK(send(fd[1], "ask", 3, 0) == 3);
	CHECK(recvfrom(fd[0], buf, 100, 0, (struct sockaddr *)&from, &len) == 3 &&
	      ntohs(from.sin_port) == 5354);
	CHECK(sendto(fd[0], "answer", 6, 0, (struct sockaddr *)&from, len) == 6 &&
	      recv(fd[1], buf, 100, 0) == 6);
	CHECK(send(fd[2], "x", 1, 0) == 1 && recv(fd[0], buf, 100, 0) == 1);
	CHECK(sendto(fd[3], "yy", 2, 0, (struct sockaddr *)&a, sizeof(a)) == 2 &&
	      recv(fd[0], buf, 100, 0) == 2);
	CHECK(setsockopt(fd[0], IPPROTO_IP, IP_ADD_MEMBERSHIP, &join, sizeof(join)) < 0 &&
		      errno == EADDRINUSE,
	      "a member of the group");
}

static void udp_sabotage(void)
{
	close(fd[0]);
	fd[0] = socket(AF_INET, SOCK_DGRAM | SOCK_NONBLOCK, 0);
}

/* ---- unix: sockets with a path, a name relative to the folder, an abstract name ---- */

static struct sockaddr_un address;
static socklen_t address_len;

static void name_it(const char *name, size_t len)
{
	memset(&address, 0, sizeof(address));
	address.sun_family = AF_UNIX;
	CHECK(len <= sizeof(address.sun_path), "%s is too long", name);
	memcpy(address.sun_path, name, len);
	address_len = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + len);
}

static void listen_at(void)
{
	fd[0] = socket(AF_UNIX, SOCK_STREAM, 0);
	CHECK(!bind(fd[0], (struct sockaddr *)&address, address_len) && !listen(fd[0], 9));
}

static void unix_prepare(void)
{
	char path[320];

	snprintf(path, sizeof(path), "%s/sock", fd_own_folder());
	name_it(path, strlen(path) + 1);
	listen_at();
	CHECK(!chmod(path, 0624));
}

static void unix_check(void)
{
	struct sockaddr_un name;
	struct ucred peer;
	socklen_t len = sizeof(name), peer_len = sizeof(peer);
	struct stat st;
	int client, server;

	CHECK(!getsockname(fd[0], (struct sockaddr *)&name, &len));
	CHECK(!strcmp(name.sun_path, address.sun_path), "%s", name.sun_path);
	CHECK(!stat(address.sun_path, &st) && S_ISSOCK(st.st_mode) && (st.st_mode & 07777) == 0624);
	client = client_of((struct sockaddr *)&address, address_len);
	server = accepted(fd[0]);
	CHECK(server >= 0 && write(client, "abc", 3) == 3 && read(server, buf, 100) == 3);
	CHECK(!getsockopt(client, SOL_SOCKET, SO_PEERCRED, &peer, &peer_len) &&
	      peer.pid == getpid());
}

static void unix_sabotage(void)
{
	unlink(address.sun_path);
}

static void relative_prepare(void)
{
	CHECK(!chdir(fd_own_folder()));
	name_it("near", 5);
	listen_at();
	CHECK(!chmod("near", 0624));
}

static void relative_check(void)
{
	unix_check();
}

static void relative_sabotage(void)
{
	unlink("near");
}

static void abstract_prepare(void)
{
	name_it("\0some\0name", 10);
	listen_at();
}

static void abstract_check(void)
{
	struct sockaddr_un name;
	socklen_t len = sizeof(name);

	CHECK(!getsockname(fd[0], (struct sockaddr *)&name, &len) && len == address_len);
	CHECK(!memcmp(&name, &address, len));
	client_of((struct sockaddr *)&address, address_len);
	CHECK(accepted(fd[0]) >= 0);
}

static void abstract_sabotage(void)
{
	close(fd[0]);
	fd[0] = socket(AF_UNIX, SOCK_STREAM, 0);
}

/* ---- pair: data in both directions, one direction shut down ---- */

#define PAIR_BYTES 60000

static void pair_prepare(void)
{
	CHECK(!socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fd));
	set(fd[0], SOL_SOCKET, SO_SNDBUF, 100000);
	scenario_fill(buf, PAIR_BYTES, 3);
	for (int i = 0; i < PAIR_BYTES; i += 1000)
		CHECK(write(fd[0], buf + i, 1000) == 1000);
	CHECK(write(fd[1], "back", 4) == 4 && !shutdown(fd[0], SHUT_WR));
	fd[2] = dup(fd[1]);
}

static void pair_check(void)
{
	ssize_t n;

	memset(buf, 0, sizeof(buf));
	for (size_t got = 0; got < PAIR_BYTES; got += (size_t)n)
		CHECK((n = read(fd[1], buf + got, PAIR_BYTES - got)) > 0);
	CHECK(scenario_differs(buf, PAIR_BYTES, 3, 0) < 0);
	CHECK(read(fd[1], buf, 100) == 0 && read(fd[0], buf, 100) == 4 && !memcmp(buf, "back", 4));
	CHECK(send(fd[0], "x", 1, MSG_NOSIGNAL) < 0 && errno == EPIPE);
	CHECK(write(fd[2], "more", 4) == 4 && read(fd[0], buf, 100) == 4);
	CHECK(get(fd[0], SOL_SOCKET, SO_SNDBUF) == 200000 &&
	      get(fd[1], SOL_SOCKET, SO_PEEK_OFF) == -1);
}

static void pair_sabotage(void)
{
	CHECK(read(fd[1], buf, 1) == 1);
}

/* ---- halfpair: the other end is closed ---- */

static void halfpair_prepare(void)
{
	CHECK(!socketpair(AF_UNIX, SOCK_STREAM, 0, fd) && write(fd[1], "rest", 4) == 4 &&
	      !close(fd[1]));
}

static void halfpair_check(void)
{
	CHECK(read(fd[0], buf, 100) == 4 && read(fd[0], buf, 100) == 0);
	CHECK(send(fd[0], "x", 1, MSG_NOSIGNAL) < 0 && errno == EPIPE);
}

static void halfpair_sabotage(void)
{
	CHECK(read(fd[0], buf, 1) == 1);
}

/* ---- seqpacket ---- */

static void seqpacket_prepare(void)
{
	CHECK(!socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_NONBLOCK, 0, fd));
	CHECK(write(fd[0], "one", 3) == 3 && write(fd[0], "three", 5) == 5 &&
	      write(fd[1], "z", 1) == 1);
}

static void seqpacket_check(void)
{
	CHECK(read(fd[1], buf, 100) == 3 && read(fd[1], buf, 100) == 5 &&
	      read(fd[0], buf, 100) == 1);
	CHECK(read(fd[1], buf, 100) < 0 && errno == EAGAIN);
	CHECK(!close(fd[0]) && read(fd[1], buf, 100) == 0);
}

static void seqpacket_sabotage(void)
{
	CHECK(read(fd[1], buf, 100) == 3);
}

/* ---- datagram: connected to a name of its own, and a pair ---- */

static void datagram_prepare(void)
{
	char path[320];

	snprintf(path, sizeof(path), "%s/log", fd_own_folder());
	name_it(path, strlen(path) + 1);
	fd[0] = socket(AF_UNIX, SOCK_DGRAM, 0);
	fd[1] = socket(AF_UNIX, SOCK_DGRAM | SOCK_NONBLOCK, 0);
	CHECK(!bind(fd[1], (struct sockaddr *)&address, address_len));
	CHECK(!connect(fd[0], (struct sockaddr *)&address, address_len));
	CHECK(!socketpair(AF_UNIX, SOCK_DGRAM, 0, fd + 2) && write(fd[2], "pair", 4) == 4);
}

static void datagram_check(void)
{
	CHECK(send(fd[0], "line", 4, 0) == 4 && recv(fd[1], buf, 100, 0) == 4);
	CHECK(recv(fd[3], buf, 100, 0) == 4 && send(fd[3], "b", 1, 0) == 1 &&
	      recv(fd[2], buf, 100, 0) == 1);
}

static void datagram_sabotage(void)
{
	CHECK(recv(fd[3], buf, 100, 0) == 4);
	CHECK(send(fd[2], "x", 1, 0) == 1);
}

static const struct fd_case cases[] = {
#define CASE(name)                                                                                 \
	{                                                                                          \
#name, name##_prepare, name##_check, name##_sabotage, NULL                         \
	}
	CASE(tcp),      CASE(tcp6), CASE(options),  CASE(udp),       CASE(unix),     CASE(relative),
	CASE(abstract), CASE(pair), CASE(halfpair), CASE(seqpacket), CASE(datagram),
};

int main(int argc, char **argv)
{
	return fd_main(argc, argv, cases, sizeof(cases) / sizeof(cases[0]));
}
