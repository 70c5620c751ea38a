/* SPDX-License-Identifier: MIT */
/* What a descriptor is, and the names of what cannot be carried at all. */
#include "engine/state/fd.h"

#include "engine/state/fd_check.h"
#include "lib/config.h"
#include "lib/kernel.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <termios.h>

/* What can be left out is refused without its option. */
#define OPTIONAL(option, check) (IS_ENABLED(option) ? (check) : fd_left_out_check)

const struct fd_type_ops fd_types[] = {
	[FD_FILE] = {.check = file_check},
	[FD_PIPE] = {.check = pipe_check, .is_outside = pipe_is_outside},
	[FD_EVENTFD] = {.check = eventfd_check},
	[FD_EPOLL] = {.check = epoll_check},
	[FD_TIMERFD] = {.check = timerfd_check},
	[FD_SIGNALFD] = {.check = signalfd_check},
	[FD_INOTIFY] = {.check = OPTIONAL(CONFIG_STATE_INOTIFY, inotify_check)},
	[FD_MEMFD] = {.check = OPTIONAL(CONFIG_STATE_MEMFD, memfd_check)},
	[FD_INET] = {.check = inet_check},
	[FD_UNIX] = {.check = OPTIONAL(CONFIG_STATE_UNIX, unix_check),
		     .is_outside = IS_ENABLED(CONFIG_STATE_UNIX) ? unix_is_outside : NULL},
	[FD_STDIO] = {.check = stdio_check},
	[FD_TTY] = {.check = tty_check, .is_outside = tty_is_outside},
	[FD_OTHER] = {.check = fd_other_check},
};

/* How /proc/PID/fd/N begins for what has no path. Source: the callers of anon_inode_getfile. */
static const struct {
	const char *link;
	enum fd_type type;
} anons[] = {
	{"anon_inode:[eventfd]", FD_EVENTFD},
	{"anon_inode:[eventpoll]", FD_EPOLL},
	{"anon_inode:[timerfd]", FD_TIMERFD},
	{"anon_inode:[signalfd]", FD_SIGNALFD},
	{"anon_inode:inotify", FD_INOTIFY},
	{"anon_inode:[inotify]", FD_INOTIFY},
	{"/memfd:", FD_MEMFD},
	{"/secretmem", FD_OTHER},
	{"/dmabuf:", FD_OTHER},
};

/* Words for what cannot be moved. */
static const struct {
	const char *link, *text;
} others[] = {
	{"anon_inode:[io_uring]", "an io_uring ring"},
	{"anon_inode:[userfaultfd]", "a userfaultfd of its own"},
	{"anon_inode:[fanotify]", "a fanotify group"},
	{"anon_inode:[perf_event]", "a performance counter (perf_event_open)"},
	{"anon_inode:[pidfd]", "a pidfd"},
	{"pidfd:", "a pidfd"},
	{"anon_inode:bpf", "a BPF object"},
	{"anon_inode:btf", "a BPF object"},
	{"anon_inode:[landlock-ruleset]", "a Landlock ruleset"},
	{"anon_inode:landlock-ruleset", "a Landlock ruleset"},
	{"anon_inode:seccomp notify", "a seccomp supervisor's descriptor"},
	{"anon_inode:kvm", "a virtual machine (KVM)"},
	{"anon_inode:[fscontext]", "a file system being mounted (fsopen)"},
	{"anon_inode:sync_file", "a fence of a graphics device"},
	{"anon_inode:gpio", "lines of a GPIO chip"},
	{"anon_inode:iio", "events or a buffer of an IIO device"},
	{"anon_inode:secretmem", "secret memory (memfd_secret)"},
	{"/secretmem", "secret memory (memfd_secret)"},
	{"/dmabuf:", "a buffer shared with a device (dma-buf)"},
	{"mnt:[", "a mount namespace"},
	{"net:[", "a network namespace"},
	{"pid:[", "a pid namespace"},
	{"user:[", "a user namespace"},
	{"uts:[", "a UTS namespace"},
	{"ipc:[", "an IPC namespace"},
	{"time:[", "a time namespace"},
	{"cgroup:[", "a cgroup namespace"},
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

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

static bool begins_with(const char *text, const char *begin)
{
	return strncmp(text, begin, strlen(begin)) == 0;
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
	struct termios tio;

	for (size_t i = 0; i < COUNT(anons); i++)
		if (begins_with(look->link, anons[i].link))
			return anons[i].type;
	if (look->entry->flags & O_PATH)
		return look->link[0] == '/' ? FD_FILE : FD_OTHER;
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

bool fd_left_out_check(struct fd_look *look)
{
	static const char *const texts[] = {
		[FD_INOTIFY] = "an inotify instance: not built in here (CONFIG_STATE_INOTIFY)",
		[FD_MEMFD] = "a memfd: not built in here (CONFIG_STATE_MEMFD)",
		[FD_UNIX] = "a unix socket: not built in here (CONFIG_STATE_UNIX)",
	};

	fd_say(look, "%s; close it first", texts[look->entry->type]);
	return false;
}

/* What /proc does not name is a socket of this family. */
static const char *name_of_other(const char *link, int domain)
{
	for (size_t i = 0; domain < 0 && i < COUNT(others); i++)
		if (begins_with(link, others[i].link))
			return others[i].text;
	for (size_t i = 0; i < COUNT(domains); i++)
		if (domains[i].domain == domain)
			return domains[i].text;
	return NULL;
}

bool fd_other_check(struct fd_look *look)
{
	int domain = socket_option(look->copy, SO_DOMAIN);
	const char *name = IS_ENABLED(CONFIG_TERSE) ? NULL : name_of_other(look->link, domain);

	if (name)
		fd_say(look, "%s, which cannot be moved; close it first", name);
	else if (domain >= 0)
		fd_say(look, "a socket of address family %d, which cannot be moved; close it first",
		       domain);
	else
		fd_say(look,
		       "an object of the kernel (%.80s) that baton does not know; close it first",
		       look->link);
	return false;
}
