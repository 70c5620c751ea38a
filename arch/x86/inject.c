/* SPDX-License-Identifier: MIT */
/*
 * System calls run by a stopped thread, and those that a stop interrupted.
 *
 *   number rax; arguments rdi rsi rdx r10 r8 r9; result rax; clobbered rcx r11
 *   orig_rax: number of the call the thread is in, -1 outside of one
 *
 * The kernel's restart codes never reach user space; a tracer sees them in rax
 * (include/linux/errno.h, arch/x86/kernel/signal.c).
 */
#include "arch/arch.h"

#define ERESTARTSYS 512
#define ERESTARTNOINTR 513
#define ERESTARTNOHAND 514
#define ERESTART_RESTARTBLOCK 516
#define EINTR_ 4

const uint8_t arch_syscall_insn[] = {0x0f, 0x05};
const size_t arch_syscall_insn_len = sizeof(arch_syscall_insn);

void arch_inject_load(struct arch_regs *regs, uint64_t insn, long nr, const uint64_t args[static 6])
{
	struct user_regs_struct *r = &regs->user;

	r->rip = insn;
	r->rax = (uint64_t)nr;
	r->orig_rax = (uint64_t)-1;
	r->rdi = args[0];
	r->rsi = args[1];
	r->rdx = args[2];
	r->r10 = args[3];
	r->r8 = args[4];
	r->r9 = args[5];
}

int arch_inject_entered(pid_t tid, long nr)
{
	(void)tid, (void)nr;
	return 0;
}

int64_t arch_inject_result(const struct arch_regs *regs)
{
	return (int64_t)regs->user.rax;
}

uint64_t arch_sigaction_restorer(const struct arch_sigaction *act)
{
	return act->restorer;
}

void arch_sigaction_set_restorer(struct arch_sigaction *act, uint64_t restorer)
{
	act->restorer = restorer;
}

enum arch_restart arch_restart_kind(const struct arch_regs *regs)
{
	if ((int64_t)regs->user.orig_rax < 0)
		return ARCH_RESTART_NONE;
	switch (-(int64_t)regs->user.rax) {
	case ERESTARTSYS:
	case ERESTARTNOINTR:
	case ERESTARTNOHAND:
		return ARCH_RESTART_REWIND;
	case ERESTART_RESTARTBLOCK:
		return ARCH_RESTART_BLOCK;
	case EINTR_:
		return ARCH_RESTART_EINTR;
	default:
		return ARCH_RESTART_NONE;
	}
}

long arch_restart_call(const struct arch_regs *regs, uint64_t args[static 6])
{
	const struct user_regs_struct *r = &regs->user;

	args[0] = r->rdi;
	args[1] = r->rsi;
	args[2] = r->rdx;
	args[3] = r->r10;
	args[4] = r->r8;
	args[5] = r->r9;
	return (int64_t)r->orig_rax < 0 ? -1 : (long)r->orig_rax;
}

void arch_restart_set_call(struct arch_regs *regs, long nr)
{
	regs->user.orig_rax = (uint64_t)nr;
}

void arch_restart_set_arg(struct arch_regs *regs, int index, uint64_t value)
{
	struct user_regs_struct *r = &regs->user;
	unsigned long long *const args[6] = {(void *)&r->rdi, (void *)&r->rsi, (void *)&r->rdx,
					     (void *)&r->r10, (void *)&r->r8,  (void *)&r->r9};

	*args[index] = value;
}

void arch_restart_rewind(struct arch_regs *regs)
{
	regs->user.rax = regs->user.orig_rax;
	regs->user.orig_rax = (uint64_t)-1;
	regs->user.rip -= sizeof(arch_syscall_insn);
}

void arch_restart_through_block(struct arch_regs *regs)
{
	regs->user.rax = (uint64_t)-ERESTART_RESTARTBLOCK;
}

void arch_restart_finish(struct arch_regs *regs, int64_t result)
{
	regs->user.rax = (uint64_t)result;
	regs->user.orig_rax = (uint64_t)-1;
}

bool arch_restart_replays(const struct arch_regs *regs, uint64_t *first)
{
	(void)regs;
	*first = 0;
	return false;
}
