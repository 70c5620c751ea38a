/* SPDX-License-Identifier: MIT */
/* Extended state of a stopped thread: the kernel's one regset, an XSAVE area. */
#include "arch/arch.h"

#include <cpuid.h>
#include <errno.h>
#include <string.h>
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

/*
 * The area in its standard form (SDM 1, 13.4; the kernel's: Documentation/arch/x86/xstate.rst): components
 * lie where each CPU has them. Which ones its kernel knows is in the bytes that XSAVE leaves to software.
 */
#define XSAVE_KNOWN 464
#define XSAVE_USED 512
#define XSAVE_MIN 576
#define PKRU 9
#define PKRU_BIT (1ULL << PKRU)

static uint64_t word_at(const uint8_t *area, size_t offset)
{
	uint64_t word;

	memcpy(&word, area + offset, sizeof(word));
	return word;
}

/*
 * The kernel takes an area of its own size only, and this CPU may have more than the source's: of that the
 * program uses nothing. A thread's rights to keys of memory are the one thing that begins otherwise than as
 * zeros.
 */
static void widen(uint8_t *area, size_t size, const void *from, size_t len)
{
	uint64_t known = word_at(from, XSAVE_KNOWN), used = word_at(from, XSAVE_USED);
	uint64_t own = word_at(area, XSAVE_USED);
	unsigned int keys_len = 0, keys_at = 0, c, d;
	uint32_t keys = 0;

	if (!(known & PKRU_BIT) && (own & PKRU_BIT) &&
	    __get_cpuid_count(0xd, PKRU, &keys_len, &keys_at, &c, &d) &&
	    keys_at <= size - sizeof(keys))
		memcpy(&keys, area + keys_at, sizeof(keys));
	memset(area, 0, size);
	memcpy(area, from, len);
	if (!keys)
		return;
	used |= PKRU_BIT;
	memcpy(area + XSAVE_USED, &used, sizeof(used));
	memcpy(area + keys_at, &keys, sizeof(keys));
}

int arch_xstate_set(pid_t tid, const void *buf, size_t len)
{
	static uint8_t area[ARCH_XSTATE_MAX];
	struct iovec iov = {(void *)buf, len};
	ssize_t size = len < XSAVE_MIN ? 0 : arch_xstate_get(tid, area, sizeof(area));

	if (size > (ssize_t)len) {
		widen(area, (size_t)size, buf, len);
		iov = (struct iovec){area, (size_t)size};
	}
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
