/* SPDX-License-Identifier: MIT */
/* General registers of a stopped thread, by ptrace regsets. */
#include "arch/arch.h"

#include <elf.h>
#include <errno.h>
#include <sys/ptrace.h>
#include <sys/uio.h>

int arch_regs_get(pid_t tid, struct arch_regs *regs)
{
	struct iovec iov = {&regs->user, sizeof(regs->user)};

	if (ptrace(PTRACE_GETREGSET, tid, (void *)NT_PRSTATUS, &iov) < 0)
		return -errno;
	/* A 32-bit task answers with its own, shorter set. */
	return iov.iov_len == sizeof(regs->user) ? 0 : -ENOEXEC;
}

int arch_regs_set(pid_t tid, const struct arch_regs *regs)
{
	struct iovec iov = {(void *)&regs->user, sizeof(regs->user)};

	return ptrace(PTRACE_SETREGSET, tid, (void *)NT_PRSTATUS, &iov) < 0 ? -errno : 0;
}

int arch_regs_get_call(pid_t tid, struct arch_regs *regs)
{
	return arch_regs_get(tid, regs);
}

void arch_call_note(pid_t tid)
{
	(void)tid;
}

uint64_t arch_regs_pc(const struct arch_regs *regs)
{
	return regs->user.rip;
}

uint64_t arch_regs_sp(const struct arch_regs *regs)
{
	return regs->user.rsp;
}

void arch_regs_set_pc(struct arch_regs *regs, uint64_t pc)
{
	regs->user.rip = pc;
}
