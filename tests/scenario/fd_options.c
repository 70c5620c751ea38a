/* SPDX-License-Identifier: MIT */
/*
 * Every option of a socket that this kernel lets be set and read: for each there is a socket of each
 * kind on which it was changed, and which must be told by nothing else. What is found is kept.
 * build: musl-static
 * modes: lazy pull
 */
#include "scenario.h"
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>

#define NR_OPTIONS 128
#define MAX_SOCKETS 900
#define VALUE_MAX 64

static const struct kind {
	const char *name;
	int domain, type, levels[4];
} kinds[] = {
	{"tcp4", AF_INET, SOCK_STREAM, {SOL_SOCKET, IPPROTO_IP, IPPROTO_TCP, -1}},
	{"udp4", AF_INET, SOCK_DGRAM, {SOL_SOCKET, IPPROTO_IP, IPPROTO_UDP, -1}},
	{"tcp6", AF_INET6, SOCK_STREAM, {IPPROTO_IP, IPPROTO_IPV6, -1, -1}},
	{"udp6", AF_INET6, SOCK_DGRAM, {IPPROTO_IP, IPPROTO_IPV6, -1, -1}},
	{"stream", AF_UNIX, SOCK_STREAM, {SOL_SOCKET, -1, -1, -1}},
	{"datagram", AF_UNIX, SOCK_DGRAM, {SOL_SOCKET, -1, -1, -1}},
};

/* Not of the socket, or only of a connection. */
static const struct {
	int level, option;
} passing[] = {
	{IPPROTO_TCP, TCP_QUICKACK}, /* of the connection: off at the first answer */
	{IPPROTO_TCP, TCP_REPAIR},   /* a mode for such tools as ours */
	{IPPROTO_IP, IP_OPTIONS},    /* refused */
};

static struct changed {
	const struct kind *kind;
	int fd, level, option;
	uint8_t value[VALUE_MAX];
	socklen_t len;
} sockets[MAX_SOCKETS];
static unsigned int nr_sockets;

static bool get(int fd, int level, int option, uint8_t *value, socklen_t *len)
{
	*len = VALUE_MAX;
	memset(value, 0, VALUE_MAX);
	return !getsockopt(fd, level, option, value, len);
}

static bool is_passing(int level, int option)
{
	for (size_t i = 0; i < sizeof(passing) / sizeof(passing[0]); i++)
		if (passing[i].level == level && passing[i].option == option)
			return true;
	return false;
}

/* Makes the option something else than it is on a new socket. */
static bool change(struct changed *c)
{
	static const int values[] = {1, 0, 2, 3, 100, 1000, 70000};
	uint8_t usual[VALUE_MAX];
	socklen_t usual_len;

	if (!get(c->fd, c->level, c->option, usual, &usual_len))
		return false;
	for (size_t i = 0; i < sizeof(values) / sizeof(values[0]); i++) {
		socklen_t len = usual_len < 4 || usual_len > 16 ? 4 : usual_len;

		memcpy(c->value, usual, sizeof(usual));
		memcpy(c->value, &values[i], sizeof(values[i]));
		if (!setsockopt(c->fd, c->level, c->option, c->value, len) &&
		    get(c->fd, c->level, c->option, c->value, &c->len) &&
		    (c->len != usual_len || memcmp(c->value, usual, sizeof(usual)) != 0))
			return true;
	}
	return false;
}

static void try_option(const struct kind *kind, int level, int option)
{
	struct changed *c = &sockets[nr_sockets];

	CHECK(nr_sockets < MAX_SOCKETS);
	*c = (struct changed){kind, socket(kind->domain, kind->type, 0), level, option, {0}, 0};
	if (c->fd >= 0 && !is_passing(level, option) && change(c))
		nr_sockets++;
	else
		close(c->fd);
}

static void prepare(void)
{
	for (size_t i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++)
		for (const int *level = kinds[i].levels; *level >= 0; level++)
			for (int option = 1; option < NR_OPTIONS; option++)
				try_option(&kinds[i], *level, option);
	CHECK(nr_sockets > 100, "%u", nr_sockets);
}

static void sabotage(void)
{
	close(sockets[7].fd);
	CHECK(socket(sockets[7].kind->domain, sockets[7].kind->type, 0) == sockets[7].fd);
}

static void check(void)
{
	char lost[400] = "";

	for (unsigned int i = 0; i < nr_sockets; i++) {
		const struct changed *c = &sockets[i];
		uint8_t now[VALUE_MAX];
		socklen_t len;
		size_t used = strlen(lost);

		if (get(c->fd, c->level, c->option, now, &len) && len == c->len &&
		    memcmp(now, c->value, sizeof(now)) == 0)
			continue;
		snprintf(lost + used, sizeof(lost) - used, " %s:%d/%d", c->kind->name, c->level,
			 c->option);
	}
	CHECK(!lost[0], "%s", lost);
}

int main(int argc, char **argv)
{
	static const struct scenario s = {prepare, NULL, check, sabotage};

	return scenario_main(argc, argv, &s);
}
