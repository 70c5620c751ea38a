/* SPDX-License-Identifier: MIT */
/*
 * Many system calls in one go.
 *
 *   rbx the call; rbp the one at the end; r12 what was kept; r13 flags; r14 the call that failed, or 0
 *   clobbered by a call: rax rcx r11
 */
#include "arch/arch.h"

/* Flags are tested in the lowest byte; a failure is -4095 to -1. */
__asm__(".pushsection .rodata.arch_batch, \"a\"\n"
	".globl arch_batch_code, arch_batch_code_end\n"
	"arch_batch_code:\n"
	"1:	mov (%rbx), %eax\n"
	"	mov 4(%rbx), %r13d\n"
	"	mov 8(%rbx), %rdi\n"
	"	mov 16(%rbx), %rsi\n"
	"	mov 24(%rbx), %rdx\n"
	"	mov 32(%rbx), %r10\n"
	"	mov 40(%rbx), %r8\n"
	"	mov 48(%rbx), %r9\n"
	"	test $2, %r13b\n"
	"	cmovnz %r12, %rdi\n"
	"	test $4, %r13b\n"
	"	cmovnz %r12, %r8\n"
	"	syscall\n"
	"	mov %rax, 56(%rbx)\n"
	"	test $1, %r13b\n"
	"	cmovnz %rax, %r12\n"
	"	test $16, %r13b\n"
	"	jnz 4f\n"
	"	test $8, %r13b\n"
	"	jnz 2f\n"
	"	cmp $-4095, %rax\n"
	"	jae 3f\n"
	"2:	add $64, %rbx\n"
	"	jmp 1b\n"
	"3:	mov %rbx, %r14\n"
	"	mov %rbp, %rbx\n"
	"	jmp 1b\n"
	"4:	ud2\n" /* it was to stop there */
	"arch_batch_code_end:\n"
	".popsection\n");

_Static_assert(sizeof(struct arch_batch_call) == 64, "as the code has it");

void arch_batch_load(struct arch_regs *regs, uint64_t code, uint64_t first, uint64_t end)
{
	struct user_regs_struct *r = &regs->user;

	r->rip = code;
	r->rax = 0;
	r->orig_rax = (uint64_t)-1;
	r->rbx = first;
	r->rbp = end;
	r->r12 = r->r14 = 0;
}

bool arch_batch_ended(const struct arch_regs *regs, uint64_t end, uint64_t *failed, int64_t *kept)
{
	*failed = regs->user.r14;
	*kept = (int64_t)regs->user.r12;
	return regs->user.rbx == end;
}
