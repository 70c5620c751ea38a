/* SPDX-License-Identifier: MIT */
/*
 * The way back of a thread that works for us, should its tracer die: rt_sigreturn(2) with a frame that
 * holds what it was. The thread's stack pointer leads there, over pieces of code that the program has:
 *
 *     at       address of `pop %rax; ret`   <- stack pointer while a system call of ours runs;
 *     at +  8  15 (rt_sigreturn)               its instruction has a `ret` behind it
 *     at + 16  address of `syscall; ret`
 *     at + 24  struct ucontext (arch/x86/include/uapi/asm/ucontext.h, sigcontext.h)
 *     aligned  xsave area, its size and magic words as in a signal frame (arch/x86/kernel/fpu/signal.c)
 */
#include "arch/arch.h"

#include <cpuid.h>
#include <errno.h>
#include <string.h>

#define NR_RT_SIGRETURN 15
#define CHAIN_BYTES 24
#define FPSTATE_OFFSET 512 /* behind chain and context, when `at` is a multiple of 64 */

/* ucontext.uc_flags */
#define UC_FP_XSTATE 0x1
#define UC_SIGCONTEXT_SS 0x2
#define UC_STRICT_RESTORE_SS 0x4
/* Not a mode that sigaltstack(2) knows: the kernel then leaves the alternate stack alone. */
#define SS_FLAGS_NONE 0x7fffffff

#define FXSAVE_BYTES 512
#define XSAVE_HEADER_BYTES 64
#define SW_RESERVED_OFFSET 464
#define FP_XSTATE_MAGIC1 0x46505853u
#define FP_XSTATE_MAGIC2 0x46505845u
/* XTILECFG and XTILEDATA: a process that has not asked for them has no room for them. */
#define XFEATURES_AMX (3ull << 17)

struct context {
	uint64_t flags, link, ss_sp;
	uint32_t ss_flags, pad;
	uint64_t ss_size;
	uint64_t r8, r9, r10, r11, r12, r13, r14, r15, rdi, rsi, rbp, rbx, rdx, rax, rcx, rsp, rip;
	uint64_t eflags;
	uint16_t cs, gs, fs, ss;
	uint64_t err, trapno, oldmask, cr2, fpstate, reserved[8];
	uint64_t sigmask;
};

struct sw_reserved {
	uint32_t magic1, extended_size;
	uint64_t xfeatures;
	uint32_t xstate_size, padding[7];
};

_Static_assert(CHAIN_BYTES + sizeof(struct context) <= FPSTATE_OFFSET, "the context has room");
_Static_assert(FPSTATE_OFFSET + ARCH_XSTATE_MAX + 4 <= ARCH_SIGRETURN_MAX, "so has all");

static uint64_t find(const uint8_t *text, size_t len, uint64_t base, const uint8_t *code, size_t n)
{
	const uint8_t *at = memmem(text, len, code, n);

	return at ? base + (uint64_t)(at - text) : 0;
}

bool arch_sigreturn_scan(struct arch_sigreturn *way, const uint8_t *text, size_t len, uint64_t base)
{
	static const uint8_t call[] = {0x0f, 0x05, 0xc3}, pop[] = {0x58, 0xc3};

	if (!way->call)
		way->call = find(text, len, base, call, sizeof(call));
	if (!way->pop)
		way->pop = find(text, len, base, pop, sizeof(pop));
	return way->call && way->pop;
}

unsigned int arch_sigreturn_places(const struct arch_sigreturn *way, uint64_t at[static 2])
{
	at[0] = way->call;
	at[1] = way->pop;
	return way->call && way->pop ? 2 : 0;
}

uint64_t arch_sigreturn_call(const struct arch_sigreturn *way)
{
	return way->call;
}

/* How much of the extended state a process with these features has room for. */
static size_t xstate_size(const uint8_t *xstate, size_t len)
{
	size_t size = FXSAVE_BYTES + XSAVE_HEADER_BYTES;
	uint64_t used;
	uint32_t a, b, c, d, low, high;

	memcpy(&used, xstate + FXSAVE_BYTES, sizeof(used));
	if (used & XFEATURES_AMX || !__get_cpuid_count(0xd, 0, &low, &b, &c, &high))
		return len;
	for (unsigned int i = 2; i < 63; i++) {
		uint64_t all = low | (uint64_t)high << 32;

		if (!(all & ~XFEATURES_AMX & (1ull << i)) ||
		    !__get_cpuid_count(0xd, i, &a, &b, &c, &d))
			continue;
		if (b + a > size && b + a <= len)
			size = b + a;
	}
	return size;
}

static void put_context(struct context *c, const struct user_regs_struct *r, uint64_t mask,
			uint64_t fpstate)
{
	*c = (struct context){
		.flags = UC_FP_XSTATE | UC_SIGCONTEXT_SS | UC_STRICT_RESTORE_SS,
		.ss_flags = SS_FLAGS_NONE,
		.r8 = r->r8,
		.r9 = r->r9,
		.r10 = r->r10,
		.r11 = r->r11,
		.r12 = r->r12,
		.r13 = r->r13,
		.r14 = r->r14,
		.r15 = r->r15,
		.rdi = r->rdi,
		.rsi = r->rsi,
		.rbp = r->rbp,
		.rbx = r->rbx,
		.rdx = r->rdx,
		.rax = r->rax,
		.rcx = r->rcx,
		.rsp = r->rsp,
		.rip = r->rip,
		.eflags = r->eflags,
		.cs = (uint16_t)r->cs,
		.ss = (uint16_t)r->ss,
		.fpstate = fpstate,
		.sigmask = mask,
	};
}

ssize_t arch_sigreturn_frame(const struct arch_sigreturn *way, pid_t tid,
			     const struct arch_regs *regs, uint64_t mask, uint64_t at, uint8_t *out,
			     size_t cap)
{
	const uint64_t chain[] = {way->pop, NR_RT_SIGRETURN, way->call};
	const uint32_t magic2 = FP_XSTATE_MAGIC2;
	uint8_t *fpstate = out + FPSTATE_OFFSET;
	struct sw_reserved sw = {.magic1 = FP_XSTATE_MAGIC1};
	struct context context;
	ssize_t len;
	size_t size;

	if (cap < ARCH_SIGRETURN_MAX || at % ARCH_SIGRETURN_ALIGN)
		return -EINVAL;
	len = arch_xstate_get(tid, fpstate, ARCH_XSTATE_MAX);
	if (len < FXSAVE_BYTES + XSAVE_HEADER_BYTES)
		return len < 0 ? len : -EOPNOTSUPP;
	size = xstate_size(fpstate, (size_t)len);
	/* The first word of what software may use there is, in a regset, what the CPU has enabled. */
	memcpy(&sw.xfeatures, fpstate + SW_RESERVED_OFFSET, sizeof(sw.xfeatures));
	sw.xstate_size = (uint32_t)size;
	sw.extended_size = (uint32_t)(size + sizeof(magic2));
	memcpy(fpstate + SW_RESERVED_OFFSET, &sw, sizeof(sw));
	memcpy(fpstate + size, &magic2, sizeof(magic2));
	put_context(&context, &regs->user, mask, at + FPSTATE_OFFSET);
	memcpy(out, chain, sizeof(chain));
	memcpy(out + CHAIN_BYTES, &context, sizeof(context));
	return (ssize_t)(FPSTATE_OFFSET + size + sizeof(magic2));
}

void arch_sigreturn_load(struct arch_regs *regs, const struct arch_sigreturn *way, uint64_t at)
{
	regs->user.rip = way->pop;
	regs->user.rsp = at + sizeof(uint64_t);
	regs->user.orig_rax = (uint64_t)-1;
}

void arch_sigreturn_set_stack(struct arch_regs *regs, const struct arch_sigreturn *way, uint64_t at)
{
	(void)way;
	regs->user.rsp = at;
}
