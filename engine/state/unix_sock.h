/* SPDX-License-Identifier: MIT */
/* Unix sockets: what the kernel tells about one, between unix_diag.c, unix.c and unix_restore.c. */
#ifndef BATON_UNIX_SOCK_H
#define BATON_UNIX_SOCK_H

#include "engine/state/state.h"
#include <stdbool.h>
#include <stdint.h>
#include <sys/socket.h>
#include <sys/un.h>

struct unix_look {
	int type;
	bool listening;
	bool connected;  /* has or had a peer */
	uint64_t peer;   /* inode of the peer's socket; 0: it is closed */
	uint32_t queued; /* bytes to be read; of a listening socket connections to be accepted */
	uint32_t backlog;
	uint32_t shutdown; /* 1: nothing can be received, 2: nothing can be sent */
	uint32_t file_dev; /* of the path it is bound to, the kernel's form of a device number; */
	uint32_t file_ino; /* 0: none */
	struct sockaddr_un name, peer_name;
	socklen_t name_len, peer_len; /* bytes of sun_path; 0: none */
};

/* 0; -EOPNOTSUPP when the kernel cannot tell the peer of a connected socket; -errno. */
int unix_look_at(int fd, struct unix_look *look);

/* Restores from one message of kind_unix. */
int unix_restore(struct restore *r, const void *data);

#endif
