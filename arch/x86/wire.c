/* SPDX-License-Identifier: MIT */
/* General registers as they travel: 27 little-endian 64-bit words in the kernel's order. */
#include "arch/arch.h"

#include <errno.h>
#include <string.h>

#define CS_USER 0x33
#define SS_USER 0x2b
/* Flags that user space may own: CF PF AF ZF SF TF DF OF NT RF AC ID; 0x202 is always there. */
#define EFLAGS_USER 0x254dd5ULL
#define EFLAGS_FIXED 0x202ULL

_Static_assert(sizeof(struct user_regs_struct) == ARCH_REGS_WIRE_MAX, "27 registers");

ssize_t arch_regs_encode(const struct arch_regs *regs, uint8_t *out, size_t cap)
{
	if (cap < ARCH_REGS_WIRE_MAX)
		return -ENOSPC;
	memcpy(out, &regs->user, ARCH_REGS_WIRE_MAX);
	return ARCH_REGS_WIRE_MAX;
}

int arch_regs_decode(const uint8_t *in, size_t len, struct arch_regs *regs)
{
	struct user_regs_struct *r = &regs->user;
	uint64_t top = arch_user_top();

	if (len != ARCH_REGS_WIRE_MAX)
		return -EPROTO;
	memcpy(r, in, len);
	if (r->cs != CS_USER || r->ss != SS_USER || r->rip >= top || r->fs_base >= top ||
	    r->gs_base >= top)
		return -EPROTO;
	r->eflags = (r->eflags & EFLAGS_USER) | EFLAGS_FIXED;
	return 0;
}
