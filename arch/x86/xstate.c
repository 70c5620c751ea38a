/* SPDX-License-Identifier: MIT */
/* Extended state of a stopped thread: the kernel's one regset, an XSAVE area. */
#include "arch/arch.h"

#include <errno.h>
#include <sys/ptrace.h>
#include <sys/uio.h>

#ifndef NT_X86_XSTATE
#define NT_X86_XSTATE 0x202
#endif

ssize_t arch_xstate_get(pid_t tid, void *buf, size_t cap)
{
	struct iovec iov = {buf, cap};

	if (ptrace(PTRACE_GETREGSET, tid, (void *)NT_X86_XSTATE, &iov) < 0)
		return -errno;
	/* The kernel cuts what does not fit without a word. */
	return iov.iov_len == cap ? -E2BIG : (ssize_t)iov.iov_len;
}

int arch_xstate_set(pid_t tid, const void *buf, size_t len)
{
	struct iovec iov = {(void *)buf, len};

	return ptrace(PTRACE_SETREGSET, tid, (void *)NT_X86_XSTATE, &iov) < 0 ? -errno : 0;
}

int arch_live_keep(pid_t tid, struct arch_live *live)
{
	(void)tid, (void)live;
	return 0;
}

int arch_live_put_back(pid_t tid, const struct arch_live *live)
{
	(void)tid, (void)live;
	return 0;
}
