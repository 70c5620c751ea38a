/* SPDX-License-Identifier: MIT */
/*
 * System calls run by a stopped thread, and those that a stop interrupted.
 *
 *   number x8; arguments x0 to x5; result x0; nothing else is clobbered
 *   call, first: see regs.c
 */
#include "arch/arch.h"
#include "arch/arm64/regsets.h"

#include <sys/syscall.h>

#define ERESTARTSYS 512
#define ERESTARTNOINTR 513
#define ERESTARTNOHAND 514
#define ERESTART_RESTARTBLOCK 516
#define EINTR_ 4
/* The kind of the last branch: a call that we inject is not the target of one. */
#define PSTATE_BTYPE 0xc00ULL
#define NR_CALL 8

const uint8_t arch_syscall_insn[] = {0x01, 0x00, 0x00, 0xd4}; /* svc #0 */
const size_t arch_syscall_insn_len = sizeof(arch_syscall_insn);

void arch_inject_load(struct arch_regs *regs, uint64_t insn, long nr, const uint64_t args[static 6])
{
	regs->pc = insn;
	regs->pstate &= ~PSTATE_BTYPE;
	regs->x[NR_CALL] = (uint64_t)nr;
	for (int i = 0; i < 6; i++)
		regs->x[i] = args[i];
	regs->call = -1;
}

/*
 * Where the instruction is the one at which a call with a restart block was interrupted, the kernel has
 * just made restart_syscall(2) of it.
 */
int arch_inject_entered(pid_t tid, long nr)
{
	const int32_t number = (int32_t)nr;

	return regset_set(tid, REGSET_SYSTEM_CALL, &number, sizeof(number));
}

int64_t arch_inject_result(const struct arch_regs *regs)
{
	return (int64_t)regs->x[0];
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
	if (regs->call < 0)
		return ARCH_RESTART_NONE;
	switch (-(int64_t)regs->x[0]) {
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
	args[0] = regs->first;
	for (int i = 1; i < 6; i++)
		args[i] = regs->x[i];
	return regs->call < 0 ? -1 : (long)regs->call;
}

void arch_restart_set_call(struct arch_regs *regs, long nr)
{
	regs->x[NR_CALL] = (uint64_t)nr;
	regs->call = nr;
}

void arch_restart_set_arg(struct arch_regs *regs, int index, uint64_t value)
{
	if (index == 0)
		regs->first = value;
	else
		regs->x[index] = value;
}

void arch_restart_rewind(struct arch_regs *regs)
{
	regs->x[0] = regs->first;
	regs->pc -= sizeof(arch_syscall_insn);
	regs->call = -1;
}

/* What the kernel itself does: the block is the thread's, whatever instruction it was made by. */
void arch_restart_through_block(struct arch_regs *regs)
{
	arch_restart_rewind(regs);
	regs->x[NR_CALL] = SYS_restart_syscall;
}

void arch_restart_finish(struct arch_regs *regs, int64_t result)
{
	regs->x[0] = (uint64_t)result;
	regs->call = -1;
}

/* When the thread leaves a call, and not when it is continued, the kernel decides on a restart. */
bool arch_restart_replays(const struct arch_regs *regs, uint64_t *first)
{
	enum arch_restart kind = arch_restart_kind(regs);

	*first = regs->first;
	return kind == ARCH_RESTART_REWIND || kind == ARCH_RESTART_BLOCK;
}
