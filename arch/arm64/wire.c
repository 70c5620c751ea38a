/* SPDX-License-Identifier: MIT */
/* General registers as they travel: x0 to x30, sp, pc, pstate, the interrupted call and its first argument. */
#include "arch/arch.h"

#include <errno.h>
#include <string.h>

/* Of pstate user space owns N Z C V, TCO, DIT, SSBS and BTYPE; the kernel sets SS for itself. */
#define PSTATE_USER 0xf3001c00ULL
#define PSTATE_SINGLE_STEP 0x200000ULL
#define CALL_MAX 1023

_Static_assert(sizeof(struct arch_regs) == ARCH_REGS_WIRE_MAX, "36 words");

ssize_t arch_regs_encode(const struct arch_regs *regs, uint8_t *out, size_t cap)
{
	if (cap < ARCH_REGS_WIRE_MAX)
		return -ENOSPC;
	memcpy(out, regs, ARCH_REGS_WIRE_MAX);
	return ARCH_REGS_WIRE_MAX;
}

int arch_regs_decode(const uint8_t *in, size_t len, struct arch_regs *regs)
{
	if (len != ARCH_REGS_WIRE_MAX)
		return -EPROTO;
	memcpy(regs, in, len);
	if (regs->pstate & ~(PSTATE_USER | PSTATE_SINGLE_STEP) || regs->pc >= arch_user_top() ||
	    regs->call < -1 || regs->call > CALL_MAX)
		return -EPROTO;
	regs->pstate &= PSTATE_USER;
	return 0;
}
