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
 */
#include "arch/arch.h"
#include "arch/arm64/regsets.h"

#include <string.h>

#define CODE_CALL "\x01\x00\x00\xd4\xc0\x03\x5f\xd6"
#define CODE_BACK "\x68\x11\x80\xd2\x01\x00\x00\xd4"
#define LINK 30
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

struct frame {
	uint8_t siginfo[128];
	uint64_t flags, link, ss_sp;
	uint32_t ss_flags, pad;
	uint64_t ss_size, mask, unused[15], pad_context;
	uint64_t fault, x[31], sp, pc, pstate, pad_records;
	uint8_t records[RECORDS_BYTES];
};

_Static_assert(offsetof(struct frame, fault) == 304, "the context lies where the kernel has it");
_Static_assert(offsetof(struct frame, records) == 592, "so do the records");
_Static_assert(offsetof(struct frame, records) + sizeof(struct fp_record) +
			       sizeof(struct extra_record) + 2 * END_BYTES + SVE_BYTES_MAX <=
		       ARCH_SIGRETURN_MAX,
	       "long vectors have room");

static uint64_t find(const uint8_t *text, size_t len, uint64_t base, const char *code)
{
	for (size_t i = 0; i + ARCH_SIGRETURN_CODE <= len; i += 4)
		if (memcmp(text + i, code, ARCH_SIGRETURN_CODE) == 0)
			return base + i;
	return 0;
}

bool arch_sigreturn_scan(struct arch_sigreturn *way, const uint8_t *text, size_t len, uint64_t base)
{
	if (!way->call)
		way->call = find(text, len, base, CODE_CALL);
	if (!way->back)
		way->back = find(text, len, base, CODE_BACK);
	return way->call && way->back;
}

unsigned int arch_sigreturn_places(const struct arch_sigreturn *way, uint64_t at[static 2])
{
	at[0] = way->call;
	at[1] = way->back;
	return way->call && way->back ? 2 : 0;
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
	f->ss_flags = SS_FLAGS_NONE;
	f->mask = mask;
	memcpy(f->x, regs->x, sizeof(f->x));
	f->sp = regs->sp;
	f->pc = regs->pc;
	f->pstate = regs->pstate;
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
	regs->pstate &= ~0xc00ULL; /* BTYPE, as in inject.c */
	regs->call = -1;
}

void arch_sigreturn_set_stack(struct arch_regs *regs, const struct arch_sigreturn *way, uint64_t at)
{
	regs->sp = at;
	regs->x[LINK] = way->back;
}
