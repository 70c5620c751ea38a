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
 *
 * A step before it is such a chain and context, too, with the registers of a call of ours, and behind it what
 * the call returns to:
 *
 *     at + 328 (or 336)  address of code that stores %rax and returns; what it pops; and then the next step
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

/* A step: its chain and context, and where the call returns to. */
#define STEP_TAIL (CHAIN_BYTES + sizeof(struct context))
#define STEP_BYTES(popped) ((STEP_TAIL + 8 + (popped) + 15) & ~(size_t)15)
#define POPPED_MAX 56
_Static_assert(STEP_BYTES(POPPED_MAX) <= ARCH_STEP_MAX, "a step has room");

static uint64_t find(const uint8_t *text, size_t len, uint64_t base, const uint8_t *code, size_t n)
{
	const uint8_t *at = memmem(text, len, code, n);

	return at ? base + (uint64_t)(at - text) : 0;
}

static const uint8_t call_code[] = {0x0f, 0x05, 0xc3}, pop_code[] = {0x58, 0xc3};

/* Behind a store: an instruction that does no harm, its length; 0: it is another one. */
static size_t is_harmless(const uint8_t *c, size_t len, uint32_t *popped)
{
	bool low = len > 0 && c[0] >= 0x58 && c[0] <= 0x5f && c[0] != 0x5c;
	bool high = len > 1 && c[0] == 0x41 && c[1] >= 0x58 && c[1] <= 0x5f;

	if (low || high) { /* pop, but not %rsp */
		*popped += 8;
		return low ? 1 : 2;
	}
	if (len > 3 && c[0] == 0x48 && c[1] == 0x83 && c[2] == 0xc4 && c[3] % 8 == 0) {
		*popped += c[3]; /* add $n, %rsp */
		return c[3] < 0x80 ? 4 : 0;
	}
	return len > 1 && c[0] == 0x31 && c[1] == 0xc0 ? 2 : 0; /* xor %eax, %eax */
}

/* mov %rax, (%rbx) or disp8(%rbx) or disp8(%rbp), up to a `ret`. */
static bool take_store(struct arch_sigreturn *way, const uint8_t *c, size_t len, uint64_t at)
{
	bool disp = len > 3 && (c[2] == 0x43 || c[2] == 0x45);
	size_t i = disp ? 4 : 3, step = 1;
	uint32_t popped = 0;

	if (len < 4 || c[0] != 0x48 || c[1] != 0x89 || (!disp && c[2] != 0x03))
		return false;
	len = len < ARCH_SIGRETURN_CODE ? len : ARCH_SIGRETURN_CODE;
	for (; i < len && c[i] != 0xc3 && step; i += step)
		step = is_harmless(c + i, len - i, &popped);
	if (i >= len || !step || popped > POPPED_MAX)
		return false;
	way->store = at;
	way->disp = disp ? (int8_t)c[3] : 0;
	way->to_rbp = c[2] == 0x45;
	way->popped = popped;
	way->len = (uint32_t)i + 1;
	return true;
}

bool arch_sigreturn_scan(struct arch_sigreturn *way, const uint8_t *text, size_t len, uint64_t base)
{
	static const uint8_t store[] = {0x48, 0x89};
	const uint8_t *c = text;

	if (!way->call)
		way->call = find(text, len, base, call_code, sizeof(call_code));
	if (!way->pop)
		way->pop = find(text, len, base, pop_code, sizeof(pop_code));
	while (!way->store && (c = memmem(c, len - (size_t)(c - text), store, sizeof(store)))) {
		take_store(way, c, len - (size_t)(c - text), base + (uint64_t)(c - text));
		c++;
	}
	return way->call && way->pop && way->store;
}

unsigned int arch_sigreturn_places(const struct arch_sigreturn *way,
				   struct arch_place places[static 3])
{
	places[0] = (struct arch_place){way->call, sizeof(call_code)};
	places[1] = (struct arch_place){way->pop, sizeof(pop_code)};
	places[2] = (struct arch_place){way->store, way->len};
	return !way->call || !way->pop ? 0 : way->store ? 3 : 2;
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

bool arch_sigreturn_has_steps(const struct arch_sigreturn *way)
{
	return way->call && way->pop && way->store;
}

ssize_t arch_sigreturn_step(const struct arch_sigreturn *way, pid_t tid,
			    const struct arch_regs *regs, uint64_t mask, uint64_t at, uint64_t back,
			    const struct arch_step *step, uint8_t out[static ARCH_STEP_MAX])
{
	const uint64_t chain[] = {way->pop, NR_RT_SIGRETURN, way->call};
	const size_t len = STEP_BYTES(way->popped);
	const uint64_t base = step->result_at - (uint64_t)(int64_t)way->disp;
	struct user_regs_struct r = regs->user;
	struct context context;

	(void)tid;
	r.rip = way->call;
	r.rax = (uint64_t)step->nr;
	r.rdi = step->args[0];
	r.rsi = step->args[1];
	r.rdx = step->args[2];
	r.r10 = step->args[3];
	r.r8 = step->args[4];
	r.r9 = step->args[5];
	*(way->to_rbp ? &r.rbp : &r.rbx) = base;
	/* What the code pops lies below the next step. */
	r.rsp = step->result_at ? at + len - way->popped - sizeof(way->store) : back;
	memset(out, 0, len);
	memcpy(out, chain, sizeof(chain));
	put_context(&context, &r, mask, back + FPSTATE_OFFSET);
	memcpy(out + CHAIN_BYTES, &context, sizeof(context));
	memcpy(out + len - way->popped - sizeof(way->store), &way->store, sizeof(way->store));
	return (ssize_t)len;
}
