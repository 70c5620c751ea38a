/* SPDX-License-Identifier: MIT */
/* arm64's types for arch.h. */
#ifndef BATON_ARCH_TYPES_H
#define BATON_ARCH_TYPES_H

#include <stdint.h>

struct arch_regs {
	/* As the kernel's struct user_pt_regs (asm/ptrace.h). */
	uint64_t x[31], sp, pc, pstate;
	/* The system call that a stop interrupted, -1: none, and its first argument; see regs.c. */
	int64_t call;
	uint64_t first;
};

/* What rt_sigaction(2) takes. The kernel looks at `restorer` only with SA_RESTORER. */
struct arch_sigaction {
	uint64_t handler, flags, restorer, mask;
};

/* Largest extended state taken: SVE with vectors of 256 bytes is 8,768 bytes, the rest 700. */
#define ARCH_XSTATE_MAX 12288
/* Where a thread finds its way back through rt_sigreturn(2): code of the program. 0: not found. */
struct arch_sigreturn {
	uint64_t call; /* svc #0; ret */
	uint64_t back; /* mov x8, #139; svc #0 */
	uint64_t
		store; /* str x0, [xN, #offset]; ...; ldp x29, x30, [sp], #popped; ret; for steps only */
	uint32_t base, offset; /* N */
	uint32_t popped, len;  /* its code: bytes */
};
/* Largest frame of it, and the alignment of its address. */
#define ARCH_SIGRETURN_MAX 9936
#define ARCH_SIGRETURN_ALIGN 16
/* Most bytes at one of its places. */
#define ARCH_SIGRETURN_CODE 36
/* Largest step on the way. */
#define ARCH_STEP_MAX 1264

/* What a system call destroys: SVE beyond the registers of FP. len 0: nothing. */
#define ARCH_LIVE_MAX 8784
struct arch_live {
	uint32_t len;
	uint8_t set[ARCH_LIVE_MAX];
};

/* Wire form of struct arch_regs: 36 words of 8 bytes. */
#define ARCH_REGS_WIRE_MAX 288

/* Of that, the general registers in a core file; and what such a file is for. */
#define ARCH_CORE_REGS_BYTES 272
#define ARCH_ELF_MACHINE 183 /* EM_AARCH64 */

/* Bits of an address that count; system calls ask for the others, too, unless PR_SET_TAGGED_ADDR_CTRL. */
#define ARCH_UNTAG_MASK 0x00ffffffffffffffULL

/* mmap(2)'s PROT_BTI: only branch targets may be jumped to. */
#define ARCH_PROT_GUARDED 0x10

#endif
