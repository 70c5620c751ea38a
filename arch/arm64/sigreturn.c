/* SPDX-License-Identifier: MIT */
/*
 * The way back of a thread that works for us, should its tracer die: rt_sigreturn(2) with a frame that
 * holds what it was. Stack pointer and link register lead there, over pieces of code that the program has:
 *
 *     x30  address of `mov x8, #139; svc #0` (rt_sigreturn): the vdso's way out of signal handlers
 *     sp   the frame (arch/arm64/kernel/signal.c, struct rt_sigframe):
 *            siginfo, struct ucontext with the registers, and records: FP, SVE when it is live
 *
 * A system call of ours runs at an `svc #0; ret`.
 *
 * A step before it is such a frame, too, with FP only and the registers of a call of ours, whose link register leads
 * to code that stores x0. That takes its own link register, `back` again, from the stack, and leaves the stack pointer at
 * the next step, which lies right behind.
 */
#include "arch/arch.h"
#include "arch/arm64/regsets.h"

#include <string.h>

#define CODE_BYTES 8
#define CODE_CALL "\x01\x00\x00\xd4\xc0\x03\x5f\xd6"
#define CODE_BACK "\x68\x11\x80\xd2\x01\x00\x00\xd4"
#define LINK 30
#define NR_CALL 8
/* Registers that a call leaves alone and that are none of its arguments. */
#define BASE_FIRST 19
#define BASE_LAST 28
#define POPPED_MAX 128
#define RET 0xd65f03c0u
/* The kind of the last branch: a call of ours is not the target of one. */
#define PSTATE_BTYPE 0xc00ULL
/* Not a mode that sigaltstack(2) knows: the kernel then leaves the alternate stack alone. */
#define SS_FLAGS_NONE 0x7fffffff

#define FPSIMD_MAGIC 0x46508001u
#define SVE_MAGIC 0x53564501u
#define EXTRA_MAGIC 0x45585401u
#define RECORDS_BYTES 4096
#define END_BYTES 16 /* of a list of records: zeros */
#define NR_VECTORS 32
#define SVE_BYTES_MAX 8752 /* vectors of 256 bytes */

struct record {
	uint32_t magic, size;
};

/* Bodies of the regset of FP and of its record differ: v0 to v31 are last in the one, first in the other. */
struct fp_regset {
	uint8_t v[NR_VECTORS][16];
	uint32_t fpsr, fpcr, pad[2];
};
struct fp_record {
	struct record head;
	uint32_t fpsr, fpcr;
	uint8_t v[NR_VECTORS][16];
};
struct sve_record {
	struct record head;
	uint16_t vl, flags, reserved[2];
};
struct extra_record {
	struct record head;
	uint64_t data;
	uint32_t size, reserved[3];
};

struct frame_head {
	uint8_t siginfo[128];
	uint64_t flags, link, ss_sp;
	uint32_t ss_flags, pad;
	uint64_t ss_size, mask, unused[15], pad_context;
	uint64_t fault, x[31], sp, pc, pstate, pad_records;
};
struct frame {
	struct frame_head head;
	uint8_t records[RECORDS_BYTES];
};

_Static_assert(offsetof(struct frame_head, fault) == 304,
	       "the context lies where the kernel has it");
_Static_assert(offsetof(struct frame, records) == 592, "so do the records");
_Static_assert(offsetof(struct frame, records) + sizeof(struct fp_record) +
			       sizeof(struct extra_record) + 2 * END_BYTES + SVE_BYTES_MAX <=
		       ARCH_SIGRETURN_MAX,
	       "long vectors have room");

#define STEP_BYTES                                                                                 \
	((offsetof(struct frame, records) + sizeof(struct fp_record) + END_BYTES + 15) & ~15UL)
_Static_assert(STEP_BYTES + POPPED_MAX <= ARCH_STEP_MAX, "a step has room");

static uint64_t find(const uint8_t *text, size_t len, uint64_t base, const char *code)
{
	for (size_t i = 0; i + CODE_BYTES <= len; i += 4)
		if (memcmp(text + i, code, CODE_BYTES) == 0)
			return base + i;
	return 0;
}

static uint32_t insn_at(const uint8_t *text)
{
	uint32_t insn;

	memcpy(&insn, text, sizeof(insn));
	return insn;
}

/* Behind a store: takes something from the stack, or sets a register to a number or another one. */
static bool is_harmless(uint32_t insn)
{
	uint32_t to = insn & 31;

	return (insn & 0xffc003e0) == 0xf94003e0 ||               /* ldr xN, [sp, #n] */
	       (insn & 0xffc003e0) == 0xa94003e0 ||               /* ldp xN, xM, [sp, #n] */
	       ((insn & 0xff800000) == 0x52800000 && to != 31) || /* mov wN, #n */
	       ((insn & 0xffe0ffe0) == 0xaa0003e0 && to != 31);   /* mov xN, xM */
}

/* str x0, [xN, #offset], up to `ldp x29, x30, [sp], #popped; ret`. */
static bool take_store(struct arch_sigreturn *way, const uint8_t *c, size_t len, uint64_t at)
{
	uint32_t insn = insn_at(c), base = insn >> 5 & 31, offset = (insn >> 10 & 0xfff) * 8;
	uint32_t popped;
	size_t i = 4;

	if ((insn & 0xffc0001f) != 0xf9000000 || base < BASE_FIRST || base > BASE_LAST)
		return false;
	len = len < ARCH_SIGRETURN_CODE ? len : ARCH_SIGRETURN_CODE;
	while (i + 8 <= len && is_harmless(insn_at(c + i)))
		i += 4;
	if (i + 8 > len || insn_at(c + i + 4) != RET)
		return false;
	insn = insn_at(c + i);
	popped = (insn >> 15 & 0x7f) * 8; /* more than POPPED_MAX if it is negative */
	if ((insn & 0xffc07fff) != 0xa8c07bfd || !popped || popped % 16 || popped > POPPED_MAX)
		return false;
	way->store = at;
	way->base = base;
	way->offset = offset;
	way->popped = popped;
	way->len = (uint32_t)i + 8;
	return true;
}

bool arch_sigreturn_scan(struct arch_sigreturn *way, const uint8_t *text, size_t len, uint64_t base)
{
	if (!way->call)
		way->call = find(text, len, base, CODE_CALL);
	if (!way->back)
		way->back = find(text, len, base, CODE_BACK);
	for (size_t i = 0; !way->store && i + 4 <= len; i += 4)
		take_store(way, text + i, len - i, base + i);
	return way->call && way->back && way->store;
}

unsigned int arch_sigreturn_places(const struct arch_sigreturn *way,
				   struct arch_place places[static 3])
{
	places[0] = (struct arch_place){way->call, CODE_BYTES};
	places[1] = (struct arch_place){way->back, CODE_BYTES};
	places[2] = (struct arch_place){way->store, way->len};
	return !way->call || !way->back ? 0 : way->store ? 3 : 2;
}

uint64_t arch_sigreturn_call(const struct arch_sigreturn *way)
{
	return way->call;
}

static void put_fp(uint8_t *at, const struct fp_regset *fp)
{
	struct fp_record record = {
		.head = {FPSIMD_MAGIC, sizeof(record)},
		.fpsr = fp->fpsr,
		.fpcr = fp->fpcr,
	};

	memcpy(record.v, fp->v, sizeof(record.v));
	memcpy(at, &record, sizeof(record));
}

/* What of a set of SVE is vectors, predicates and FFR: the same there and in a record, behind 16 bytes. */
static size_t sve_bytes(const struct regset_vector *head)
{
	return (size_t)head->vl * NR_VECTORS + (size_t)head->vl / 8 * 17;
}

/*
 * The record of SVE, when it is live: behind that of FP. Long vectors need another record, which says
 * that the list goes on behind its end. Bytes of the frame, or -errno.
 */
static ssize_t put_sve(struct frame *f, uint64_t at, pid_t tid)
{
	const size_t first = sizeof(struct fp_record);
	struct sve_record record = {.head.magic = SVE_MAGIC};
	struct extra_record extra = {.head = {EXTRA_MAGIC, sizeof(extra)}};
	struct regset_vector head = {0};
	uint8_t *place = f->records + first;
	size_t used = sizeof(record), size;

	if (regset_get(tid, REGSET_SVE, &head, sizeof(head)) != (ssize_t)sizeof(head) ||
	    !(head.flags & REGSET_VECTOR_IS_SVE))
		return sizeof(*f);
	used += sve_bytes(&head);
	size = (used + 15) & ~(size_t)15;
	if (size > SVE_BYTES_MAX)
		return -E2BIG;
	if (first + size + END_BYTES > RECORDS_BYTES) {
		const size_t behind = first + sizeof(extra) + END_BYTES;

		extra.data = at + offsetof(struct frame, records) + behind;
		extra.size = (uint32_t)(size + END_BYTES);
		memcpy(place, &extra, sizeof(extra));
		place = f->records + behind;
	}
	/* The kernel gives multiples of 16 bytes only. */
	if (regset_get(tid, REGSET_SVE, place, size) < 0)
		return -EIO;
	memset(place + used, 0, size - used);
	record.head.size = (uint32_t)size;
	record.vl = head.vl;
	memcpy(place, &record, sizeof(record));
	return place == f->records + first ? (ssize_t)sizeof(*f) : ARCH_SIGRETURN_MAX;
}

ssize_t arch_sigreturn_frame(const struct arch_sigreturn *way, pid_t tid,
			     const struct arch_regs *regs, uint64_t mask, uint64_t at, uint8_t *out,
			     size_t cap)
{
	struct frame *f = (struct frame *)out;
	struct fp_regset fp = {0};
	ssize_t len;

	(void)way;
	if (cap < ARCH_SIGRETURN_MAX || at % ARCH_SIGRETURN_ALIGN)
		return -EINVAL;
	memset(out, 0, ARCH_SIGRETURN_MAX);
	f->head.ss_flags = SS_FLAGS_NONE;
	f->head.mask = mask;
	memcpy(f->head.x, regs->x, sizeof(f->head.x));
	f->head.sp = regs->sp;
	f->head.pc = regs->pc;
	f->head.pstate = regs->pstate;
	len = regset_get(tid, REGSET_FP, &fp, sizeof(fp));
	if (len < 0)
		return len;
	put_fp(f->records, &fp);
	return put_sve(f, at, tid);
}

void arch_sigreturn_load(struct arch_regs *regs, const struct arch_sigreturn *way, uint64_t at)
{
	regs->pc = way->back;
	regs->sp = at;
	regs->pstate &= ~PSTATE_BTYPE;
	regs->call = -1;
}

void arch_sigreturn_set_stack(struct arch_regs *regs, const struct arch_sigreturn *way, uint64_t at)
{
	regs->sp = at;
	regs->x[LINK] = way->back;
}

bool arch_sigreturn_has_steps(const struct arch_sigreturn *way)
{
	return way->call && way->back && way->store;
}

ssize_t arch_sigreturn_step(const struct arch_sigreturn *way, pid_t tid,
			    const struct arch_regs *regs, uint64_t mask, uint64_t at, uint64_t back,
			    const struct arch_step *step, uint8_t out[static ARCH_STEP_MAX])
{
	struct frame_head *f = (struct frame_head *)out;
	struct fp_regset fp = {0};
	ssize_t len = regset_get(tid, REGSET_FP, &fp, sizeof(fp));

	if (len < 0)
		return len;
	memset(out, 0, STEP_BYTES + way->popped);
	f->ss_flags = SS_FLAGS_NONE;
	f->mask = mask;
	memcpy(f->x, regs->x, sizeof(f->x));
	memcpy(f->x, step->args, sizeof(step->args));
	f->x[NR_CALL] = (uint64_t)step->nr;
	f->x[way->base] = step->result_at - way->offset;
	f->x[LINK] = step->result_at ? way->store : way->back;
	f->sp = step->result_at ? at + STEP_BYTES : back;
	f->pc = way->call;
	f->pstate = regs->pstate & ~PSTATE_BTYPE;
	put_fp(out + offsetof(struct frame, records), &fp);
	/* What the code takes from the stack: x29 and x30 are the lowest of it. */
	memcpy(out + STEP_BYTES + 8, &way->back, sizeof(way->back));
	return (ssize_t)(STEP_BYTES + way->popped);
}
