/* SPDX-License-Identifier: MIT */
/* Options of sockets: those that differ from a new socket's are carried. */
#include "engine/state/sockopt.h"

#include "lib/kernel.h"
#include "lib/log.h"

#include <arpa/inet.h>
#include <errno.h>
#include <net/if.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <netinet/udp.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>

/* For which sockets an option is looked at. */
#define ON_V4 1
#define ON_V6 2
#define ON_TCP 4
#define ON_UDP 8
#define ON_UNIX 16
#define ON_INET (ON_V4 | ON_V6)
#define ON_ALL (ON_INET | ON_UNIX)

/* How an option is treated. */
#define SOFT 1             /* the target may not have it: then it goes without, and says so */
#define DOUBLED 2          /* the kernel reports twice of what was set */
#define DEVICE 4           /* the index of an interface, which travels as its name */
#define BIG_ENDIAN_INDEX 8 /* that index is in network order */

struct option {
	uint16_t level, name;
	uint8_t size, on, how;
};

#define INT(level, name, on)                                                                       \
	{                                                                                          \
		level, name, 4, on, 0                                                              \
	}

/* Those that have an effect on bind(2) come before it, as all do. Source: socket(7), ip(7), ipv6(7), tcp(7),
 * udp(7), unix(7). */
static const struct option table[] = {
	INT(SOL_SOCKET, SO_DEBUG, ON_ALL),
	INT(SOL_SOCKET, SO_REUSEADDR, ON_ALL),
	INT(SOL_SOCKET, SO_REUSEPORT, ON_ALL),
	INT(SOL_SOCKET, SO_KEEPALIVE, ON_ALL),
	INT(SOL_SOCKET, SO_BROADCAST, ON_ALL),
	INT(SOL_SOCKET, SO_OOBINLINE, ON_ALL),
	INT(SOL_SOCKET, SO_DONTROUTE, ON_ALL),
	INT(SOL_SOCKET, SO_MARK, ON_ALL),
	INT(SOL_SOCKET, SO_RCVLOWAT, ON_ALL),
	INT(SOL_SOCKET, SO_TIMESTAMP, ON_ALL),
	INT(SOL_SOCKET, SO_TIMESTAMPNS, ON_ALL),
	{SOL_SOCKET, SO_TIMESTAMPING, 8, ON_ALL, 0},
	INT(SOL_SOCKET, SO_RXQ_OVFL, ON_ALL),
	INT(SOL_SOCKET, SO_NO_CHECK, ON_ALL),
	INT(SOL_SOCKET, SO_ZEROCOPY, ON_ALL),
	INT(SOL_SOCKET, SO_PASSCRED, ON_UNIX),
	INT(SOL_SOCKET, SO_PASSSEC, ON_UNIX),
	INT(SOL_SOCKET, SO_PEEK_OFF, ON_ALL),
	{SOL_SOCKET, SO_SNDBUF, 4, ON_ALL, DOUBLED},
	{SOL_SOCKET, SO_RCVBUF, 4, ON_ALL, DOUBLED},
	{SOL_SOCKET, SO_LINGER, 8, ON_ALL, 0},
	{SOL_SOCKET, SO_RCVTIMEO, 16, ON_ALL, 0},
	{SOL_SOCKET, SO_SNDTIMEO, 16, ON_ALL, 0},
	{SOL_SOCKET, SO_BINDTODEVICE, 16, ON_ALL, 0},
	/* Behind those of the buffers, which set it, too. */
	INT(SOL_SOCKET, SO_BUF_LOCK, ON_ALL),
	/* Rarely used: on sockets of every kind, since the kernel lets them be set there. */
	INT(SOL_SOCKET, SO_WIFI_STATUS, ON_ALL),
	INT(SOL_SOCKET, SO_NOFCS, ON_ALL),
	INT(SOL_SOCKET, SO_LOCK_FILTER, ON_ALL),
	INT(SOL_SOCKET, SO_SELECT_ERR_QUEUE, ON_ALL),
	INT(SOL_SOCKET, SO_BUSY_POLL, ON_ALL),
	INT(SOL_SOCKET, SO_PREFER_BUSY_POLL, ON_ALL),
	INT(SOL_SOCKET, SO_BUSY_POLL_BUDGET, ON_ALL),
	{SOL_SOCKET, SO_MAX_PACING_RATE, 8, ON_ALL, 0},
	{SOL_SOCKET, SO_INCOMING_CPU, 4, ON_ALL, SOFT},
	{SOL_SOCKET, SO_TXTIME, 8, ON_ALL, 0},
	INT(SOL_SOCKET, SO_TXREHASH, ON_TCP),
	INT(SOL_SOCKET, SO_RCVMARK, ON_ALL),
	INT(SOL_SOCKET, SO_RCVPRIORITY, ON_ALL),
	INT(SOL_SOCKET, SO_PASSPIDFD, ON_UNIX),
	INT(SOL_SOCKET, SO_PASSRIGHTS, ON_UNIX),
	/* The same time stamps in the form for 64-bit seconds of 32-bit programs (linux/socket.h). */
	INT(SOL_SOCKET, 63 /* SO_TIMESTAMP_NEW */, ON_ALL),
	INT(SOL_SOCKET, 64 /* SO_TIMESTAMPNS_NEW */, ON_ALL),
	{SOL_SOCKET, 65 /* SO_TIMESTAMPING_NEW */, 8, ON_ALL, 0},

	INT(IPPROTO_IP, IP_TOS, ON_INET),
	INT(IPPROTO_IP, IP_TTL, ON_INET),
	INT(IPPROTO_IP, IP_MTU_DISCOVER, ON_INET),
	INT(IPPROTO_IP, IP_RECVERR, ON_INET),
	INT(IPPROTO_IP, IP_FREEBIND, ON_INET),
	INT(IPPROTO_IP, IP_TRANSPARENT, ON_INET),
	INT(IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, ON_INET),
	INT(IPPROTO_IP, IP_MINTTL, ON_INET),
	INT(IPPROTO_IP, IP_PKTINFO, ON_INET),
	INT(IPPROTO_IP, IP_RECVTTL, ON_INET),
	INT(IPPROTO_IP, IP_RECVTOS, ON_INET),
	INT(IPPROTO_IP, IP_RECVORIGDSTADDR, ON_INET),
	INT(IPPROTO_IP, IP_MULTICAST_TTL, ON_INET),
	INT(IPPROTO_IP, IP_MULTICAST_LOOP, ON_INET),
	INT(IPPROTO_IP, IP_MULTICAST_IF, ON_V4),
	INT(IPPROTO_IP, IP_MULTICAST_ALL, ON_INET),
	{IPPROTO_IP, IP_UNICAST_IF, 4, ON_INET, DEVICE | BIG_ENDIAN_INDEX},
	INT(IPPROTO_IP, IP_RECVOPTS, ON_INET),
	INT(IPPROTO_IP, IP_RETOPTS, ON_INET),
	INT(IPPROTO_IP, IP_PASSSEC, ON_INET),
	INT(IPPROTO_IP, IP_CHECKSUM, ON_INET),
	INT(IPPROTO_IP, 25 /* IP_RECVFRAGSIZE */, ON_INET),
	INT(IPPROTO_IP, 26 /* IP_RECVERR_RFC4884 */, ON_INET),
	INT(IPPROTO_IP, 51 /* IP_LOCAL_PORT_RANGE */, ON_INET),

	/* Behind IP_TOS, which sets it, too. */
	INT(SOL_SOCKET, SO_PRIORITY, ON_ALL),

	INT(IPPROTO_IPV6, IPV6_V6ONLY, ON_V6),
	INT(IPPROTO_IPV6, IPV6_UNICAST_HOPS, ON_V6),
	INT(IPPROTO_IPV6, IPV6_TCLASS, ON_V6),
	INT(IPPROTO_IPV6, IPV6_MTU_DISCOVER, ON_V6),
	INT(IPPROTO_IPV6, IPV6_DONTFRAG, ON_V6),
	INT(IPPROTO_IPV6, IPV6_RECVERR, ON_V6),
	INT(IPPROTO_IPV6, IPV6_TRANSPARENT, ON_V6),
	INT(IPPROTO_IPV6, 78 /* IPV6_FREEBIND */, ON_V6),
	INT(IPPROTO_IPV6, IPV6_RECVPKTINFO, ON_V6),
	INT(IPPROTO_IPV6, IPV6_RECVHOPLIMIT, ON_V6),
	INT(IPPROTO_IPV6, IPV6_RECVTCLASS, ON_V6),
	INT(IPPROTO_IPV6, IPV6_MULTICAST_HOPS, ON_V6),
	INT(IPPROTO_IPV6, IPV6_MULTICAST_LOOP, ON_V6),
	INT(IPPROTO_IPV6, 29 /* IPV6_MULTICAST_ALL */, ON_V6),
	{IPPROTO_IPV6, IPV6_MULTICAST_IF, 4, ON_V6, DEVICE},
	{IPPROTO_IPV6, 76 /* IPV6_UNICAST_IF */, 4, ON_V6, DEVICE | BIG_ENDIAN_INDEX},
	INT(IPPROTO_IPV6, 2 /* IPV6_2292PKTINFO, and so on */, ON_V6),
	INT(IPPROTO_IPV6, 3, ON_V6),
	INT(IPPROTO_IPV6, 4, ON_V6),
	INT(IPPROTO_IPV6, 5, ON_V6),
	INT(IPPROTO_IPV6, 8, ON_V6),
	INT(IPPROTO_IPV6, 11 /* IPV6_FLOWINFO */, ON_V6),
	INT(IPPROTO_IPV6, 30 /* IPV6_ROUTER_ALERT_ISOLATE */, ON_V6),
	INT(IPPROTO_IPV6, 31 /* IPV6_RECVERR_RFC4884 */, ON_V6),
	INT(IPPROTO_IPV6, 33 /* IPV6_FLOWINFO_SEND */, ON_V6),
	INT(IPPROTO_IPV6, IPV6_RECVHOPOPTS, ON_V6),
	INT(IPPROTO_IPV6, IPV6_RECVRTHDR, ON_V6),
	INT(IPPROTO_IPV6, IPV6_RECVDSTOPTS, ON_V6),
	INT(IPPROTO_IPV6, IPV6_RECVPATHMTU, ON_V6),
	INT(IPPROTO_IPV6, IPV6_AUTOFLOWLABEL, ON_V6),
	INT(IPPROTO_IPV6, IPV6_ADDR_PREFERENCES, ON_V6),
	INT(IPPROTO_IPV6, IPV6_MINHOPCOUNT, ON_V6),
	INT(IPPROTO_IPV6, 74 /* IPV6_RECVORIGDSTADDR */, ON_V6),
	INT(IPPROTO_IPV6, 77 /* IPV6_RECVFRAGSIZE */, ON_V6),

	INT(IPPROTO_TCP, TCP_NODELAY, ON_TCP),
	INT(IPPROTO_TCP, TCP_CORK, ON_TCP),
	INT(IPPROTO_TCP, TCP_MAXSEG, ON_TCP),
	INT(IPPROTO_TCP, TCP_KEEPIDLE, ON_TCP),
	INT(IPPROTO_TCP, TCP_KEEPINTVL, ON_TCP),
	INT(IPPROTO_TCP, TCP_KEEPCNT, ON_TCP),
	INT(IPPROTO_TCP, TCP_SYNCNT, ON_TCP),
	INT(IPPROTO_TCP, TCP_LINGER2, ON_TCP),
	INT(IPPROTO_TCP, TCP_DEFER_ACCEPT, ON_TCP),
	INT(IPPROTO_TCP, TCP_WINDOW_CLAMP, ON_TCP),
	INT(IPPROTO_TCP, TCP_USER_TIMEOUT, ON_TCP),
	INT(IPPROTO_TCP, TCP_NOTSENT_LOWAT, ON_TCP),
	INT(IPPROTO_TCP, TCP_SAVE_SYN, ON_TCP),
	INT(IPPROTO_TCP, TCP_FASTOPEN, ON_TCP),
	INT(IPPROTO_TCP, TCP_THIN_LINEAR_TIMEOUTS, ON_TCP),
	INT(IPPROTO_TCP, TCP_FASTOPEN_CONNECT, ON_TCP),
	INT(IPPROTO_TCP, TCP_FASTOPEN_NO_COOKIE, ON_TCP),
	INT(IPPROTO_TCP, TCP_INQ, ON_TCP),
	INT(IPPROTO_TCP, TCP_TX_DELAY, ON_TCP),
	INT(IPPROTO_TCP, 44 /* TCP_RTO_MAX_MS */, ON_TCP),
	INT(IPPROTO_TCP, 45 /* TCP_RTO_MIN_US */, ON_TCP),
	INT(IPPROTO_TCP, 46 /* TCP_DELACK_MAX_US */, ON_TCP),
	{IPPROTO_TCP, TCP_CONGESTION, 16, ON_TCP, SOFT},

	INT(IPPROTO_UDP, UDP_CORK, ON_UDP),
	INT(IPPROTO_UDP, UDP_SEGMENT, ON_UDP),
	INT(IPPROTO_UDP, UDP_GRO, ON_UDP),
	INT(IPPROTO_UDP, UDP_ENCAP, ON_UDP),
	INT(IPPROTO_UDP, UDP_NO_CHECK6_TX, ON_UDP),
	INT(IPPROTO_UDP, UDP_NO_CHECK6_RX, ON_UDP),
};
#define NR_OPTIONS (sizeof(table) / sizeof(table[0]))

int sockopt_get_int(int fd, int level, int name, int *value)
{
	socklen_t len = sizeof(*value);

	return getsockopt(fd, level, name, value, &len) < 0 ? -errno : 0;
}

static unsigned int kind_of(int domain, int type, int protocol)
{
	unsigned int on;

	if (domain == AF_UNIX)
		return ON_UNIX;
	on = domain == AF_INET6 ? ON_V6 : ON_V4;
	if (type == SOCK_STREAM)
		return on | ON_TCP;
	return protocol == IPPROTO_UDP ? on | ON_UDP : on;
}

/* One option of one socket. Bytes, or -1 when it has none such. */
static int get(int fd, const struct option *option, uint8_t value[static 16])
{
	socklen_t len = option->size;

	memset(value, 0, 16);
	return getsockopt(fd, option->level, option->name, value, &len) < 0 ? -1 : (int)len;
}

/* Puts an option into its travelling form. */
static void put(const struct option *option, const uint8_t value[static 16], int len,
		baton_SockOption *out)
{
	char name[IF_NAMESIZE] = "";
	int index;

	*out = (baton_SockOption){.level = option->level, .name = option->name};
	if (option->how & DEVICE) {
		memcpy(&index, value, sizeof(index));
		if (option->how & BIG_ENDIAN_INDEX)
			index = (int)ntohl((uint32_t)index);
		if_indextoname((unsigned int)index, name);
		value = (const uint8_t *)name;
		len = (int)strlen(name);
	}
	out->value.size = (pb_size_t)len;
	memcpy(out->value.bytes, value, (size_t)len);
}

int sockopt_collect(int fd, baton_SockOption *options, unsigned int max, pb_size_t *nr)
{
	int domain, type, protocol, fresh, err = 0;
	unsigned int on;

	*nr = 0;
	err = sockopt_get_int(fd, SOL_SOCKET, SO_DOMAIN, &domain);
	if (!err)
		err = sockopt_get_int(fd, SOL_SOCKET, SO_TYPE, &type);
	if (!err)
		err = sockopt_get_int(fd, SOL_SOCKET, SO_PROTOCOL, &protocol);
	if (err)
		return err;
	on = kind_of(domain, type, protocol);
	fresh = socket(domain, type | SOCK_CLOEXEC, protocol);
	if (fresh < 0)
		return -errno;
	for (size_t i = 0; i < NR_OPTIONS && !err; i++) {
		uint8_t has[16], usual[16];
		int len, usual_len;

		if (!(table[i].on & on))
			continue;
		len = get(fd, &table[i], has);
		usual_len = get(fresh, &table[i], usual);
		if (len < 0 || (len == usual_len && memcmp(has, usual, sizeof(has)) == 0))
			continue;
		if (*nr == max)
			err = -E2BIG;
		else
			put(&table[i], has, len, &options[(*nr)++]);
	}
	close(fresh);
	return err;
}

static int set(int fd, const struct option *option, const baton_SockOption *msg)
{
	int forced = option->name == SO_SNDBUF ? SO_SNDBUFFORCE : SO_RCVBUFFORCE;
	char name[IF_NAMESIZE + 1] = "";
	int value;

	if (option->how & DOUBLED) {
		if (msg->value.size != sizeof(value))
			return -EPROTO;
		memcpy(&value, msg->value.bytes, sizeof(value));
		value /= 2;
		/* Beyond the limit of unprivileged sockets only with CAP_NET_ADMIN. */
		if (setsockopt(fd, SOL_SOCKET, forced, &value, sizeof(value)) == 0)
			return 0;
		return setsockopt(fd, SOL_SOCKET, option->name, &value, sizeof(value)) < 0 ? -errno
											   : 0;
	}
	if (option->how & DEVICE) {
		memcpy(name, msg->value.bytes, msg->value.size);
		value = (int)if_nametoindex(name);
		if (!value && name[0])
			return -ENODEV;
		if (option->how & BIG_ENDIAN_INDEX)
			value = (int)htonl((uint32_t)value);
		return setsockopt(fd, option->level, option->name, &value, sizeof(value)) < 0
			       ? -errno
			       : 0;
	}
	return setsockopt(fd, option->level, option->name, msg->value.bytes, msg->value.size) < 0
		       ? -errno
		       : 0;
}

static const struct option *find(const baton_SockOption *msg)
{
	for (size_t i = 0; i < NR_OPTIONS; i++)
		if (table[i].level == msg->level && table[i].name == msg->name)
			return msg->value.size <= 16 ? &table[i] : NULL;
	return NULL;
}

int sockopt_apply(int fd, const baton_SockOption *options, unsigned int nr)
{
	for (unsigned int i = 0; i < nr; i++) {
		const struct option *option = find(&options[i]);
		int err = option ? set(fd, option, &options[i]) : -EPROTO;

		if (err && option && (option->how & SOFT))
			log_warn("socket option %d/%d is not available on this device",
				 options[i].level, options[i].name);
		else if (err)
			return log_fail(
				err, "cannot set socket option %d of level %d on this device: %m",
				options[i].name, options[i].level);
	}
	return 0;
}

const char *sockopt_unfit(int fd)
{
	uint8_t options[64];
	socklen_t filter_len = 0, options_len = sizeof(options);

	/* EACCES: a BPF program, which cannot be read back. */
	if (getsockopt(fd, SOL_SOCKET, SO_GET_FILTER, NULL, &filter_len) < 0 ? errno == EACCES
									     : filter_len > 0)
		return "a socket with a packet filter (SO_ATTACH_FILTER), which cannot be moved; "
		       "detach it first";
	if (getsockopt(fd, IPPROTO_IP, IP_OPTIONS, options, &options_len) == 0 && options_len)
		return "a socket with options in its packets (IP_OPTIONS), which cannot be moved; "
		       "take them out first";
	return NULL;
}
