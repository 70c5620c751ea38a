/* SPDX-License-Identifier: MIT */
/* What x86-64 lets a thread or a process switch on for itself. Source: arch_prctl(2), modify_ldt(2). */
#include "arch/arch.h"

#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/uio.h>

#define ARCH_GET_CPUID 0x1011
#define ARCH_SET_CPUID 0x1012
#define ARCH_GET_XCOMP_PERM 0x1022
#define ARCH_REQ_XCOMP_PERM 0x1023
#define XFEATURE_AMX_TILE 18
#define NT_386_IOPERM 0x201 /* linux/elf.h */

const struct arch_setting arch_settings[] = {
	{
		.id = 32,
		.name = "faulting of CPUID (ARCH_SET_CPUID)",
		.call = SYS_arch_prctl,
		.get = ARCH_GET_CPUID,
		.set = ARCH_SET_CPUID,
		.usual = 1,
	},
	{
		.id = 33,
		.name = "use of AMX (ARCH_REQ_XCOMP_PERM)",
		.call = SYS_arch_prctl,
		.get = ARCH_GET_XCOMP_PERM,
		.by_pointer = true,
		.mask = 1ull << XFEATURE_AMX_TILE,
		.set = ARCH_REQ_XCOMP_PERM,
		.set_value = XFEATURE_AMX_TILE,
		.process = true,
	},
	{
		/* The call says how many bytes of the table there are. */
		.id = 34,
		.name = "segment descriptors (modify_ldt)",
		.call = SYS_modify_ldt,
		.get_room = true,
		.process = true,
	},
};
const unsigned int arch_nr_settings = sizeof(arch_settings) / sizeof(arch_settings[0]);

/* Of the two ways to them ioperm(2) has a register set; iopl(2) leaves nothing that could be read. */
const char *arch_thread_unfit(pid_t tid)
{
	uint64_t ports[65536 / 64];
	struct iovec room = {ports, sizeof(ports)};

	if (ptrace(PTRACE_GETREGSET, tid, NT_386_IOPERM, &room) == 0 && room.iov_len)
		return "access to ports of devices (ioperm)";
	return NULL;
}
