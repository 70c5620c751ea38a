/* SPDX-License-Identifier: MIT */
/*
 * Many system calls in one go.
 *
 *   x19 the call; x20 the one at the end; x21 what was kept; w22 flags; x23 the call that failed, or 0
 *   clobbered by a call: x0
 */
#include "arch/arch.h"

#define PSTATE_BTYPE 0xc00ULL

/* A failure is -4095 to -1. */
__asm__(".pushsection .rodata.arch_batch, \"a\"\n"
	".globl arch_batch_code, arch_batch_code_end\n"
	".balign 4\n"
	"arch_batch_code:\n"
	"1:	ldp w8, w22, [x19]\n"
	"	ldp x0, x1, [x19, #8]\n"
	"	ldp x2, x3, [x19, #24]\n"
	"	ldp x4, x5, [x19, #40]\n"
	"	tst w22, #2\n"
	"	csel x0, x21, x0, ne\n"
	"	tst w22, #4\n"
	"	csel x4, x21, x4, ne\n"
	"	svc #0\n"
	"	str x0, [x19, #56]\n"
	"	tst w22, #1\n"
	"	csel x21, x0, x21, ne\n"
	"	tbnz w22, #4, 4f\n"
	"	tbnz w22, #3, 2f\n"
	"	cmn x0, #4095\n"
	"	b.cs 3f\n"
	"2:	add x19, x19, #64\n"
	"	b 1b\n"
	"3:	mov x23, x19\n"
	"	mov x19, x20\n"
	"	b 1b\n"
	"4:	.inst 0\n" /* it was to stop there */
	"arch_batch_code_end:\n"
	".popsection\n");

_Static_assert(sizeof(struct arch_batch_call) == 64, "as the code has it");

void arch_batch_load(struct arch_regs *regs, uint64_t code, uint64_t first, uint64_t end)
{
	regs->pc = code;
	regs->pstate &= ~PSTATE_BTYPE;
	regs->call = -1;
	regs->x[19] = first;
	regs->x[20] = end;
	regs->x[21] = regs->x[23] = 0;
}

bool arch_batch_ended(const struct arch_regs *regs, uint64_t end, uint64_t *failed, int64_t *kept)
{
	*failed = regs->x[23];
	*kept = (int64_t)regs->x[21];
	return regs->x[19] == end;
}
