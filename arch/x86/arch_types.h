/* SPDX-License-Identifier: MIT */
/* x86-64's types for arch.h. */
#ifndef BATON_ARCH_TYPES_H
#define BATON_ARCH_TYPES_H

#include <stdint.h>
#include <sys/user.h>

struct arch_regs {
	struct user_regs_struct user;
};

/* What rt_sigaction(2) takes, as the kernel has it (not libc's struct sigaction). */
struct arch_sigaction {
	uint64_t handler, flags, restorer, mask;
};

/* Largest extended state taken: AVX-512, PKRU and AMX need 11,008 bytes. */
#define ARCH_XSTATE_MAX 12288
/* Where a thread finds its way back through rt_sigreturn(2): code of the program. 0: not found. */
struct arch_sigreturn {
	uint64_t call;  /* syscall; ret */
	uint64_t pop;   /* pop %rax; ret */
	uint64_t store; /* mov %rax, disp(%rbx or %rbp), ..., ret; for steps only */
	int32_t disp;
	uint32_t to_rbp; /* it is %rbp */
	uint32_t popped; /* bytes that it takes from the stack before it returns */
	uint32_t len;    /* of its code */
};
/* Largest frame of it, and the alignment of its address. */
#define ARCH_SIGRETURN_MAX 13056
#define ARCH_SIGRETURN_ALIGN 64
/* Most bytes at one of its places. */
#define ARCH_SIGRETURN_CODE 24
/* Largest step on the way. */
#define ARCH_STEP_MAX 400

/* What a system call destroys of extended state: nothing. */
struct arch_live {
};

/* Wire form of struct arch_regs: 27 registers of 8 bytes. */
#define ARCH_REGS_WIRE_MAX 216

/* Of that, the general registers in a core file; and what such a file is for. */
#define ARCH_CORE_REGS_BYTES 216
#define ARCH_ELF_MACHINE 62 /* EM_X86_64 */

/* Bits of an address that count, unless a process has asked for others ("untag_mask" in its status). */
#define ARCH_UNTAG_MASK 0xffffffffffffffffULL

/* A protection that mmap(2) has beside the usual ones: none. */
#define ARCH_PROT_GUARDED 0

#endif
