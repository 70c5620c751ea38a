/* SPDX-License-Identifier: MIT */
/* What the kernel tells about a unix socket through sock_diag(7). */
#include "engine/state/unix_sock.h"

#include "engine/state/sockopt.h"

#include <errno.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <linux/sock_diag.h>
#include <linux/unix_diag.h>
#include <stddef.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define STATE_LISTEN 10 /* TCP_LISTEN, which unix sockets use as well */
#define NO_COOKIE 0xffffffffu

struct request {
	struct nlmsghdr header;
	struct unix_diag_req body;
};

static void take_attribute(struct unix_look *look, const struct rtattr *attr)
{
	const struct unix_diag_vfs *vfs = RTA_DATA(attr);
	const struct unix_diag_rqlen *queue = RTA_DATA(attr);
	size_t len = RTA_PAYLOAD(attr);
	uint32_t peer;

	switch (attr->rta_type) {
	case UNIX_DIAG_VFS:
		if (len >= sizeof(*vfs)) {
			look->file_ino = vfs->udiag_vfs_ino;
			look->file_dev = vfs->udiag_vfs_dev;
		}
		break;
	case UNIX_DIAG_PEER:
		if (len >= sizeof(peer)) {
			memcpy(&peer, RTA_DATA(attr), sizeof(peer));
			look->peer = peer;
		}
		break;
	case UNIX_DIAG_RQLEN:
		if (len >= sizeof(*queue)) {
			look->queued = queue->udiag_rqueue;
			look->backlog = queue->udiag_wqueue;
		}
		break;
	case UNIX_DIAG_SHUTDOWN:
		if (len >= 1)
			look->shutdown = *(const uint8_t *)RTA_DATA(attr);
		break;
	}
}

static int parse(struct unix_look *look, void *buf, ssize_t len)
{
	struct nlmsghdr *header = buf;
	struct unix_diag_msg *msg;
	struct rtattr *attr;
	int left;

	if (!NLMSG_OK(header, (size_t)len))
		return -EPROTO;
	if (header->nlmsg_type == NLMSG_ERROR)
		return header->nlmsg_len >= NLMSG_LENGTH(sizeof(struct nlmsgerr))
			       ? ((struct nlmsgerr *)NLMSG_DATA(header))->error
			       : -EPROTO;
	if (header->nlmsg_len < NLMSG_LENGTH(sizeof(*msg)))
		return -EPROTO;
	msg = NLMSG_DATA(header);
	look->listening = msg->udiag_state == STATE_LISTEN;
	left = (int)(header->nlmsg_len - NLMSG_LENGTH(sizeof(*msg)));
	for (attr = (struct rtattr *)(msg + 1); RTA_OK(attr, left); attr = RTA_NEXT(attr, left))
		take_attribute(look, attr);
	return 0;
}

static int ask(struct unix_look *look, uint32_t ino)
{
	struct request request = {
		.header = {.nlmsg_len = sizeof(request),
			   .nlmsg_type = SOCK_DIAG_BY_FAMILY,
			   .nlmsg_flags = NLM_F_REQUEST},
		.body = {.sdiag_family = AF_UNIX,
			 .udiag_states = ~0u,
			 .udiag_ino = ino,
			 .udiag_show = UDIAG_SHOW_VFS | UDIAG_SHOW_PEER | UDIAG_SHOW_RQLEN,
			 .udiag_cookie = {NO_COOKIE, NO_COOKIE}},
	};
	_Alignas(8) char buf[2048];
	ssize_t len;
	int fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_SOCK_DIAG), err;

	if (fd < 0)
		return -errno;
	if (send(fd, &request, sizeof(request), 0) < 0 || (len = recv(fd, buf, sizeof(buf), 0)) < 0)
		err = -errno;
	else
		err = parse(look, buf, len);
	close(fd);
	return err;
}

int unix_look_at(int fd, struct unix_look *look)
{
	socklen_t len = sizeof(look->name), path = offsetof(struct sockaddr_un, sun_path);
	struct stat st;
	int err, accepting = 0;

	memset(look, 0, sizeof(*look));
	err = sockopt_get_int(fd, SOL_SOCKET, SO_TYPE, &look->type);
	if (!err)
		err = sockopt_get_int(fd, SOL_SOCKET, SO_ACCEPTCONN, &accepting);
	if (!err &&
	    (fstat(fd, &st) < 0 || getsockname(fd, (struct sockaddr *)&look->name, &len) < 0))
		err = -errno;
	if (err)
		return err;
	look->name_len = len > path ? len - path : 0;
	len = sizeof(look->peer_name);
	look->connected = getpeername(fd, (struct sockaddr *)&look->peer_name, &len) == 0;
	look->peer_len = look->connected && len > path ? len - path : 0;
	look->listening = accepting;
	err = ask(look, (uint32_t)st.st_ino);
	if (!err)
		return 0;
	/* A kernel without CONFIG_UNIX_DIAG: enough is known of a socket without a peer. */
	look->backlog = SOMAXCONN;
	return look->connected ? -EOPNOTSUPP : 0;
}
