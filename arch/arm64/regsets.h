/* SPDX-License-Identifier: MIT */
/* Register sets of arm64 that the headers of Linux 6.1 may lack. Source: linux/elf.h, asm/ptrace.h. */
#ifndef BATON_ARM64_REGSETS_H
#define BATON_ARM64_REGSETS_H

#include <errno.h>
#include <stdint.h>
#include <sys/ptrace.h>
#include <sys/types.h>
#include <sys/uio.h>

#define REGSET_GENERAL 1
#define REGSET_FP 2
#define REGSET_TLS 0x401
#define REGSET_SYSTEM_CALL 0x404
#define REGSET_SVE 0x405
#define REGSET_PACA_KEYS 0x407
#define REGSET_PACG_KEYS 0x408
#define REGSET_PAC_ENABLED_KEYS 0x40a
#define REGSET_SSVE 0x40b
#define REGSET_ZA 0x40c
#define REGSET_FPMR 0x40e
#define REGSET_POE 0x40f
#define REGSET_GCS 0x410

/* Begins the sets of SVE, streaming SVE and ZA; `size` tells of all of it. */
struct regset_vector {
	uint32_t size, max_size;
	uint16_t vl, max_vl, flags, reserved;
};
#define REGSET_VECTOR_IS_SVE 1 /* flags: SVE's registers follow, else those of FP */

/* Bytes read, at most `cap`; -errno: -EINVAL or -ENODEV where the kernel or the processor has it not. */
static inline ssize_t regset_get(pid_t tid, unsigned int set, void *buf, size_t cap)
{
	struct iovec iov = {buf, cap};

	return ptrace(PTRACE_GETREGSET, tid, (void *)(uintptr_t)set, &iov) < 0
		       ? -errno
		       : (ssize_t)iov.iov_len;
}

static inline int regset_set(pid_t tid, unsigned int set, const void *buf, size_t len)
{
	struct iovec iov = {(void *)buf, len};

	return ptrace(PTRACE_SETREGSET, tid, (void *)(uintptr_t)set, &iov) < 0 ? -errno : 0;
}

#endif
