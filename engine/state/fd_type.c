/* SPDX-License-Identifier: MIT */
/* What a descriptor is, and the names of what cannot be carried at all. */
#include "engine/state/fd.h"

#include "engine/state/fd_check.h"
#include "lib/kernel.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <termios.h>

const struct fd_type_ops fd_types[] = {
	[FD_FILE] = {.check = file_check},
	[FD_PIPE] = {.check = pipe_check, .is_outside = pipe_is_outside},
	[FD_EVENTFD] = {.check = eventfd_check},
	[FD_EPOLL] = {.check = epoll_check},
	[FD_TIMERFD] = {.check = timerfd_check},
	[FD_SIGNALFD] = {.check = signalfd_check},
	[FD_INOTIFY] = {.check = inotify_check},
	[FD_MEMFD] = {.check = memfd_check},
	[FD_INET] = {.check = inet_check},
	[FD_UNIX] = {.check = unix_check, .is_outside = unix_is_outside},
	[FD_STDIO] = {.check = stdio_check},
	[FD_TTY] = {.check = tty_check, .is_outside = tty_is_outside},
	[FD_OTHER] = {.check = fd_other_check},
};

/* How /proc/PID/fd/N begins for what has no path. Source: the callers of anon_inode_getfile. */
static const struct anon {
	const char *link;
	enum fd_type type;
	const char *text; /* for FD_OTHER: what it is */
} anons[] = {
	{"anon_inode:[eventfd]", FD_EVENTFD, NULL},
	{"anon_inode:[eventpoll]", FD_EPOLL, NULL},
	{"anon_inode:[timerfd]", FD_TIMERFD, NULL},
	{"anon_inode:[signalfd]", FD_SIGNALFD, NULL},
	{"anon_inode:inotify", FD_INOTIFY, NULL},
	{"anon_inode:[inotify]", FD_INOTIFY, NULL},
	{"/memfd:", FD_MEMFD, NULL},
	{"anon_inode:[io_uring]", FD_OTHER, "an io_uring ring"},
	{"anon_inode:[userfaultfd]", FD_OTHER, "a userfaultfd of its own"},
	{"anon_inode:[fanotify]", FD_OTHER, "a fanotify group"},
	{"anon_inode:[perf_event]", FD_OTHER, "a performance counter (perf_event_open)"},
	{"anon_inode:[pidfd]", FD_OTHER, "a pidfd"},
	{"pidfd:", FD_OTHER, "a pidfd"},
	{"anon_inode:bpf", FD_OTHER, "a BPF object"},
	{"anon_inode:btf", FD_OTHER, "a BPF object"},
	{"anon_inode:[landlock-ruleset]", FD_OTHER, "a Landlock ruleset"},
	{"anon_inode:landlock-ruleset", FD_OTHER, "a Landlock ruleset"},
	{"anon_inode:seccomp notify", FD_OTHER, "a seccomp supervisor's descriptor"},
	{"anon_inode:kvm", FD_OTHER, "a virtual machine (KVM)"},
	{"anon_inode:[fscontext]", FD_OTHER, "a file system being mounted (fsopen)"},
	{"anon_inode:sync_file", FD_OTHER, "a fence of a graphics device"},
	{"anon_inode:gpio", FD_OTHER, "lines of a GPIO chip"},
	{"anon_inode:iio", FD_OTHER, "events or a buffer of an IIO device"},
	{"anon_inode:secretmem", FD_OTHER, "secret memory (memfd_secret)"},
	{"/secretmem", FD_OTHER, "secret memory (memfd_secret)"},
	{"/dmabuf:", FD_OTHER, "a buffer shared with a device (dma-buf)"},
	{"mnt:[", FD_OTHER, "a mount namespace"},
	{"net:[", FD_OTHER, "a network namespace"},
	{"pid:[", FD_OTHER, "a pid namespace"},
	{"user:[", FD_OTHER, "a user namespace"},
	{"uts:[", FD_OTHER, "a UTS namespace"},
	{"ipc:[", FD_OTHER, "an IPC namespace"},
	{"time:[", FD_OTHER, "a time namespace"},
	{"cgroup:[", FD_OTHER, "a cgroup namespace"},
};

static const struct {
	int domain;
	const char *text;
} domains[] = {
	{AF_PACKET, "a raw packet socket (AF_PACKET)"},
	{AF_NETLINK, "a netlink socket"},
	{AF_VSOCK, "a socket to a virtual machine or its host (AF_VSOCK)"},
	{AF_CAN, "a CAN bus socket"},
	{AF_BLUETOOTH, "a Bluetooth socket"},
	{AF_ALG, "a socket of the kernel's ciphers (AF_ALG)"},
	{AF_KEY, "an IPsec key socket (AF_KEY)"},
	{AF_TIPC, "a TIPC socket"},
	{AF_IEEE802154, "an IEEE 802.15.4 socket"},
	{AF_NFC, "an NFC socket"},
	{44 /* AF_XDP */, "an XDP socket"},
	{AF_QIPCRTR, "a socket of the Qualcomm IPC router"},
	{AF_RDS, "an RDS socket"},
	{AF_PPPOX, "a PPP session"},
};

static const struct anon *find_anon(const char *link)
{
	for (size_t i = 0; i < sizeof(anons) / sizeof(anons[0]); i++)
		if (strncmp(link, anons[i].link, strlen(anons[i].link)) == 0)
			return &anons[i];
	return NULL;
}

static int socket_option(int fd, int name)
{
	int value = -1;
	socklen_t len = sizeof(value);

	return getsockopt(fd, SOL_SOCKET, name, &value, &len) < 0 ? -1 : value;
}

static enum fd_type socket_type(int fd)
{
	switch (socket_option(fd, SO_DOMAIN)) {
	case AF_UNIX:
		return FD_UNIX;
	case AF_INET:
	case AF_INET6:
		return FD_INET;
	default:
		return FD_OTHER;
	}
}

enum fd_type fd_type_find(const struct fd_look *look)
{
	const struct anon *anon = find_anon(look->link);
	struct termios tio;

	if (anon)
		return anon->type;
	if (look->entry->flags & O_PATH)
		return FD_FILE;
	switch (look->st.st_mode & S_IFMT) {
	case S_IFIFO:
		return FD_PIPE;
	case S_IFSOCK:
		return socket_type(look->copy);
	case S_IFCHR:
		return tcgetattr(look->copy, &tio) == 0 ? FD_TTY : FD_FILE;
	default:
		return look->link[0] == '/' ? FD_FILE : FD_OTHER;
	}
}

bool fd_other_check(struct fd_look *look)
{
	const struct anon *anon = find_anon(look->link);
	int domain;

	if (anon) {
		fd_say(look, "%s, which cannot be moved; close it first", anon->text);
		return false;
	}
	if (S_ISSOCK(look->st.st_mode)) {
		domain = socket_option(look->copy, SO_DOMAIN);
		for (size_t i = 0; i < sizeof(domains) / sizeof(domains[0]); i++) {
			if (domains[i].domain != domain)
				continue;
			fd_say(look, "%s, which cannot be moved; close it first", domains[i].text);
			return false;
		}
		fd_say(look, "a socket of address family %d, which cannot be moved; close it first",
		       domain);
		return false;
	}
	fd_say(look, "an object of the kernel (%.80s) that baton does not know; close it first",
	       look->link);
	return false;
}
