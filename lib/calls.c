/* SPDX-License-Identifier: MIT */
/*
 * System calls that musl's functions of these names wrap in other ways to go, for kernels that lack the call or its flags,
 * and for programs with threads. No kernel that baton can work on lacks them (Linux 5.13), and there are no threads: without
 * that it is 3 KiB less. Tests of parts are linked without this file.
 */
#include <fcntl.h>
#include <stdarg.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#ifndef SYS_faccessat2
#define SYS_faccessat2 439
#endif

pid_t fork(void)
{
	return _Fork();
}

/* F_GETOWN is not among what it is asked: its result can look like an error. */
int fcntl(int fd, int command, ...)
{
	va_list args;
	unsigned long arg;

	va_start(args, command);
	arg = va_arg(args, unsigned long);
	va_end(args);
	return (int)syscall(SYS_fcntl, fd, command, arg);
}

/* The kernel's struct is the same on all architectures of 64 bits that have this call. */
int fstatat(int fd, const char *restrict path, struct stat *restrict st, int flags)
{
	return (int)syscall(SYS_newfstatat, fd, path, st, flags);
}

int faccessat(int fd, const char *path, int mode, int flags)
{
	return (int)syscall(SYS_faccessat2, fd, path, mode, flags);
}

int fchmod(int fd, mode_t mode)
{
	return (int)syscall(SYS_fchmod, fd, mode);
}

int fchown(int fd, uid_t uid, gid_t gid)
{
	return (int)syscall(SYS_fchown, fd, uid, gid);
}

void *mmap(void *at, size_t len, int protection, int flags, int fd, off_t offset)
{
	return (void *)syscall(SYS_mmap, at, len, protection, flags, fd, offset);
}

int pipe2(int fds[2], int flags)
{
	return (int)syscall(SYS_pipe2, fds, flags);
}

int dup3(int from, int to, int flags)
{
	return (int)syscall(SYS_dup3, from, to, flags);
}

int socket(int domain, int type, int protocol)
{
	return (int)syscall(SYS_socket, domain, type, protocol);
}

int socketpair(int domain, int type, int protocol, int fds[2])
{
	return (int)syscall(SYS_socketpair, domain, type, protocol, fds);
}
