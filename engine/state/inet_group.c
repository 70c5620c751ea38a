/* SPDX-License-Identifier: MIT */
/*
 * Multicast groups of a socket. No call lists them; but the device's groups are in /proc/net, and
 * a socket tells of a given group and interface whether it is a member.
 */
#include "engine/state/inet_group.h"

#include "lib/io.h"
#include "lib/log.h"
#include "lib/text.h"

#include <arpa/inet.h>
#include <errno.h>
#include <net/if.h>
#include <netinet/in.h>
#include <string.h>
#include <sys/socket.h>

struct collect {
	int fd;
	baton_InetGroup *groups;
	unsigned int max;
	pb_size_t *nr;
};

static int level_of(const struct sockaddr_storage *group)
{
	return group->ss_family == AF_INET6 ? IPPROTO_IPV6 : IPPROTO_IP;
}

/* Adds the group when the socket is a member of it on this interface. */
static int try_group(struct collect *c, unsigned int index, const char *device,
		     const struct sockaddr_storage *group)
{
	struct group_filter filter = {.gf_interface = index, .gf_group = *group};
	socklen_t len = GROUP_FILTER_SIZE(0);
	baton_InetGroup *out;

	if (getsockopt(c->fd, level_of(group), MCAST_MSFILTER, &filter, &len) < 0)
		return 0;
	if (filter.gf_numsrc || filter.gf_fmode != MCAST_EXCLUDE)
		return -EOPNOTSUPP;
	if (*c->nr == c->max)
		return -E2BIG;
	out = c->groups ? &c->groups[*c->nr] : NULL;
	++*c->nr;
	if (!out)
		return 0;
	*out = (baton_InetGroup){.ip.size = group->ss_family == AF_INET6 ? 16 : 4};
	memcpy(out->ip.bytes,
	       group->ss_family == AF_INET6
		       ? (const void *)&((const struct sockaddr_in6 *)group)->sin6_addr
		       : (const void *)&((const struct sockaddr_in *)group)->sin_addr,
	       out->ip.size);
	return text_copy(out->device, sizeof(out->device), device) ? 0 : -ENAMETOOLONG;
}

/*
 * "2	eth0      :     1      V3" is an interface, and "				FB0000E0     1 0:0	0" a
 * group on it: the address as a number of this machine.
 */
static int take_v4(struct collect *c, const char *line, unsigned int *index, char *device)
{
	struct sockaddr_storage group = {.ss_family = AF_INET};
	uint64_t number;

	if (line[0] != '\t') {
		*index = 0;
		if (text_take_u64(&line, 10, &number) && text_take_word(&line, device, IF_NAMESIZE))
			*index = (unsigned int)number;
		return 0;
	}
	if (!*index || !text_take_u64(&line, 16, &number))
		return 0;
	((struct sockaddr_in *)&group)->sin_addr.s_addr = (uint32_t)number;
	return try_group(c, *index, device, &group);
}

/* "2    eth0            ff020000000000000000000000000001     1 0000000C 0" */
static int take_v6(struct collect *c, const char *line, unsigned int *index, char *device)
{
	struct sockaddr_storage group = {.ss_family = AF_INET6};
	char digits[40];
	uint64_t number;

	if (!text_take_u64(&line, 10, &number) || !text_take_word(&line, device, IF_NAMESIZE) ||
	    !text_take_word(&line, digits, sizeof(digits)) ||
	    text_parse_hex(digits, (uint8_t *)&((struct sockaddr_in6 *)&group)->sin6_addr, 16))
		return 0;
	*index = (unsigned int)number;
	return try_group(c, *index, device, &group);
}

static int each_line(struct collect *c, int proc_fd, const char *path,
		     int (*take)(struct collect *, const char *, unsigned int *, char *))
{
	struct line_reader reader;
	char buf[512], device[IF_NAMESIZE] = "", *line;
	unsigned int index = 0;
	int err = line_reader_open(&reader, proc_fd, path, buf, sizeof(buf));

	if (err == -ENOENT) /* a kernel without this protocol, or without multicast */
		return 0;
	while (!err && (err = line_reader_next(&reader, &line)) > 0)
		err = take(c, line, &index, device);
	line_reader_close(&reader);
	return err;
}

int inet_group_collect(int proc_fd, int fd, baton_InetGroup *groups, unsigned int max,
		       pb_size_t *nr)
{
	struct collect c = {fd, groups, max, nr};
	int err;

	*nr = 0;
	err = each_line(&c, proc_fd, "net/igmp", take_v4);
	return err ? err : each_line(&c, proc_fd, "net/igmp6", take_v6);
}

static int join(int fd, const baton_InetGroup *group)
{
	struct group_req request = {.gr_interface = if_nametoindex(group->device)};
	struct sockaddr_in6 *v6 = (struct sockaddr_in6 *)&request.gr_group;
	struct sockaddr_in *v4 = (struct sockaddr_in *)&request.gr_group;

	if (group->ip.size != 4 && group->ip.size != 16)
		return -EPROTO;
	if (!request.gr_interface)
		return -ENODEV;
	request.gr_group.ss_family = group->ip.size == 16 ? AF_INET6 : AF_INET;
	memcpy(group->ip.size == 16 ? (void *)&v6->sin6_addr : (void *)&v4->sin_addr,
	       group->ip.bytes, group->ip.size);
	return setsockopt(fd, level_of(&request.gr_group), MCAST_JOIN_GROUP, &request,
			  sizeof(request)) < 0
		       ? -errno
		       : 0;
}

int inet_group_join(int fd, const baton_InetGroup *groups, unsigned int nr)
{
	char text[INET6_ADDRSTRLEN] = "?";

	for (unsigned int i = 0; i < nr; i++) {
		int err = join(fd, &groups[i]);

		if (!err)
			continue;
		inet_ntop(groups[i].ip.size == 16 ? AF_INET6 : AF_INET, groups[i].ip.bytes, text,
			  sizeof(text));
		return log_fail(err,
				"cannot join multicast group %s on interface %s of this device: %m",
				text, groups[i].device);
	}
	return 0;
}
