/* SPDX-License-Identifier: MIT */
/* HOST:PORT as people write it, to socket addresses and back; names from /etc/hosts. */
#include "transport/socket.h"

#include "lib/io.h"
#include "lib/log.h"
#include "lib/text.h"
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <net/if.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#define HOST_MAX 256

/* Splits the text; `port` keeps its value when there is none. */
static int split(const char *text, char *host, uint16_t *port)
{
	const char *colon = strrchr(text, ':');
	const char *host_end = text + strlen(text);
	const char *port_text = NULL;
	int number;

	if (text[0] == '[') {
		const char *close = strchr(text, ']');

		if (!close || (close[1] != '\0' && close[1] != ':'))
			return log_fail(EINVAL, "'%s' is no address: [V6] or [V6]:PORT", text);
		port_text = close[1] == ':' ? close + 2 : NULL;
		host_end = close;
		text++;
	} else if (colon && colon == strchr(text, ':')) {
		port_text = colon + 1;
		host_end = colon;
	}
	if ((size_t)(host_end - text) >= HOST_MAX)
		return log_fail(EINVAL, "'%s' is too long for an address", text);
	memcpy(host, text, (size_t)(host_end - text));
	host[host_end - text] = '\0';
	if (!port_text)
		return 0;
	if (text_parse_int(port_text, 0, 65535, &number))
		return log_fail(EINVAL, "'%s' is no port: 0 to 65535", port_text);
	*port = (uint16_t)number;
	return 0;
}

/* A numeric address, with %interface for link-local ones. */
static int parse_numeric(const char *host, struct sockaddr_storage *addr)
{
	struct sockaddr_in *v4 = (struct sockaddr_in *)addr;
	struct sockaddr_in6 *v6 = (struct sockaddr_in6 *)addr;
	char bare[HOST_MAX];
	char *percent;

	memset(addr, 0, sizeof(*addr));
	if (inet_pton(AF_INET, host, &v4->sin_addr) == 1) {
		addr->ss_family = AF_INET;
		return 0;
	}
	if (!text_copy(bare, sizeof(bare), host))
		return -EINVAL;
	percent = strchr(bare, '%');
	if (percent)
		*percent = '\0';
	if (inet_pton(AF_INET6, bare, &v6->sin6_addr) != 1)
		return -ENOENT;
	addr->ss_family = AF_INET6;
	if (!percent)
		return 0;
	v6->sin6_scope_id = if_nametoindex(percent + 1);
	if (v6->sin6_scope_id == 0)
		return log_fail(EINVAL, "there is no network interface '%s'", percent + 1);
	return 0;
}

/* Looks a name up in /etc/hosts; IPv4 first, since such files often name ::1 for the device. */
static int find_name(const char *host, struct sockaddr_storage *addr)
{
	struct sockaddr_storage candidate;
	struct line_reader reader;
	char buf[1024], word[HOST_MAX];
	bool found = false;
	char *line;

	if (line_reader_open(&reader, AT_FDCWD, "/etc/hosts", buf, sizeof(buf)))
		return -ENOENT;
	while (line_reader_next(&reader, &line) == 1) {
		const char *at = line;

		line[strcspn(line, "#")] = '\0';
		if (!text_take_word(&at, word, sizeof(word)) || parse_numeric(word, &candidate))
			continue;
		while (text_take_word(&at, word, sizeof(word))) {
			if (strcasecmp(word, host) != 0)
				continue;
			if (!found ||
			    (candidate.ss_family == AF_INET && addr->ss_family != AF_INET))
				*addr = candidate;
			found = true;
		}
	}
	line_reader_close(&reader);
	return found ? 0 : -ENOENT;
}

int socket_parse(const char *text, uint16_t port, int listening, struct sockaddr_storage *addr)
{
	char host[HOST_MAX] = "";
	int err = split(text, host, &port);

	if (err)
		return err;
	if (host[0] == '\0' && listening)
		text_copy(host, sizeof(host), "0.0.0.0");
	if (host[0] == '\0')
		return log_fail(EINVAL, "'%s' names no host", text);
	err = parse_numeric(host, addr);
	if (err == -ENOENT)
		err = find_name(host, addr);
	if (err == -ENOENT)
		return log_fail(ENOENT,
				"nobody is known as '%s': give a numeric address, or put the name "
				"into /etc/hosts (DNS is not asked)",
				host);
	if (err)
		return err;
	/* The port is at the same place in both families. */
	((struct sockaddr_in *)addr)->sin_port = htons(port);
	return 0;
}

void socket_name(const struct sockaddr_storage *addr, char out[static SOCKET_NAME_MAX])
{
	const struct sockaddr_in *v4 = (const struct sockaddr_in *)addr;
	const struct sockaddr_in6 *v6 = (const struct sockaddr_in6 *)addr;
	char host[INET6_ADDRSTRLEN];

	text_copy(out, SOCKET_NAME_MAX, "?");
	if (addr->ss_family == AF_INET && inet_ntop(AF_INET, &v4->sin_addr, host, sizeof(host)))
		snprintf(out, SOCKET_NAME_MAX, "%s:%u", host, ntohs(v4->sin_port));
	if (addr->ss_family == AF_INET6 && inet_ntop(AF_INET6, &v6->sin6_addr, host, sizeof(host)))
		snprintf(out, SOCKET_NAME_MAX, "[%s]:%u", host, ntohs(v6->sin6_port));
}
