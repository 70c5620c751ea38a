/* SPDX-License-Identifier: MIT */
/* A thread's processor state, its signal mask, and the system call it was in. Last of each thread. */
#include "engine/process/restart.h"
#include "engine/state/registers.pb.h"
#include "engine/state/state.h"
#include "lib/arena.h"
#include "lib/log.h"
#include "transport/frame.h"

#include <errno.h>
#include <string.h>
#include <sys/ptrace.h>

/* So near below a stack pointer the next call writes; leaf functions do, too. */
#define BELOW_SP 1024
/* Most pages of one thread that are told of. */
#define TOLD_MAX 16

/* struct rseq_cs of linux/rseq.h */
struct critical_section {
	uint32_t version, flags;
	uint64_t start_ip, post_commit_offset, abort_ip;
};

/*
 * A thread that was stopped inside a restartable sequence continues at its abort handler, as after
 * any preemption. Outside of one, but with one announced, the announcement is kept.
 */
static int leave_sequence(const struct remote *thread, struct arch_regs *regs, uint64_t *rseq_cs)
{
	struct critical_section cs;
	uint64_t pc = arch_regs_pc(regs);
	int err;

	*rseq_cs = thread->rseq_cs;
	if (!thread->rseq || !thread->rseq_cs)
		return 0;
	err = remote_read(thread, thread->rseq_cs, &cs, sizeof(cs));
	if (err)
		return err;
	if (pc - cs.start_ip < cs.post_commit_offset) {
		arch_regs_set_pc(regs, cs.abort_ip);
		*rseq_cs = 0;
	}
	return 0;
}

/* What the continued call touches must be there when it is made again. */
static int dump_touched_pages(struct dump *d, const struct arch_regs *regs,
			      const struct restart_timed *timed)
{
	uint64_t page = 1ULL << arch_page_shift();
	struct restart_range range;

	if (!restart_touches(regs, timed, &range))
		return 0;
	return dump_emit_existing(d, range.addr & ~(page - 1),
				  (range.addr + range.len + page - 1) & ~(page - 1));
}

static int fill(struct dump *d, const struct freeze_thread *thread, baton_Registers *msg)
{
	struct arch_regs regs = d->thread.saved;
	struct restart_timed timed;
	ssize_t n;
	int err;

	err = leave_sequence(&d->thread, &regs, &msg->rseq_cs);
	if (!err)
		err = restart_plan(&d->thread, &regs, d->thread_mask, thread, &d->clocks, &timed);
	if (!err)
		err = dump_touched_pages(d, &regs, &timed);
	if (err)
		return err;
	msg->timed_call = timed.nr;
	msg->timed_left_ns = timed.left_ns;
	msg->mask = d->thread_mask;
	n = arch_regs_encode(&regs, msg->general.bytes, sizeof(msg->general.bytes));
	if (n < 0)
		return (int)n;
	msg->general.size = (pb_size_t)n;
	err = arch_live_put_back(thread->tid, &d->thread.live);
	if (err)
		return err;
	n = arch_xstate_get(thread->tid, msg->extended.bytes, sizeof(msg->extended.bytes));
	if (n < 0)
		return (int)n;
	msg->extended.size = (pb_size_t)n;
	return 0;
}

static int registers_dump(struct dump *d, const struct state_kind *kind,
			  const struct freeze_thread *thread)
{
	size_t mark = arena_mark();
	baton_Registers *msg = arena_alloc(ARENA_SCRATCH, sizeof(*msg), 16);
	int err = msg ? fill(d, thread, msg) : -ENOMEM;

	err = err ? log_fail(-err, "thread %d: its registers cannot be read: %m", thread->tid)
		  : dump_emit(d, kind, msg);
	arena_reset(mark);
	return err;
}

/*
 * What it touches first: its stack above its stack pointer, where the function that it is in returns to, and
 * below, for the next one; then its code, and what it has the address of.
 */
static void tell_touched(const struct restore *r, const struct arch_regs *regs,
			 const baton_Registers *msg)
{
	uint64_t page = 1ULL << arch_page_shift(), sp = arch_regs_sp(regs);
	const uint64_t first[] = {sp - BELOW_SP, sp, sp + page, arch_regs_pc(regs)};
	unsigned int nr_told = 0;
	size_t i;

	if (!r->lazy.on_touch)
		return;
	for (i = 0; i < sizeof(first) / sizeof(first[0]); i++)
		nr_told += r->lazy.on_touch(r->lazy.data, first[i]);
	for (i = 0; i + 8 <= msg->general.size && nr_told < TOLD_MAX; i += 8)
		nr_told += r->lazy.on_touch(r->lazy.data, frame_get_u64(msg->general.bytes + i));
}

static int finish_thread(struct restore *r, struct arch_regs *regs, const baton_Registers *msg,
			 const struct restart_timed *timed)
{
	int err = 0;

	if (timed->nr)
		err = restart_arm(&r->thread, regs, timed, &r->clocks);
	r->thread.saved = *regs;
	r->thread.rseq_cs = msg->rseq_cs;
	if (!err)
		err = remote_close(&r->thread);
	if (!err && ptrace(PTRACE_SETSIGMASK, r->thread.tid, sizeof(msg->mask), &msg->mask) < 0)
		err = -errno;
	return err;
}

static int registers_restore(struct restore *r, const void *data)
{
	const baton_Registers *msg = data;
	const struct restart_timed timed = {msg->timed_call, msg->timed_left_ns};
	struct arch_regs regs;
	int err;

	if (!r->thread.tid)
		return -EPROTO;
	err = arch_regs_decode(msg->general.bytes, msg->general.size, &regs);
	if (!err)
		err = arch_xstate_set(r->thread.tid, msg->extended.bytes, msg->extended.size);
	if (!err)
		err = arch_live_keep(r->thread.tid,
				     r->thread_is_leader ? &r->leader.live : &r->thread.live);
	if (err)
		return log_fail(-err, "registers: %m");
	tell_touched(r, &regs, msg);
	if (!r->thread_is_leader)
		return finish_thread(r, &regs, msg, &timed);
	/* The leader still has work to do for us. */
	r->leader_regs = regs;
	r->leader_mask = msg->mask;
	r->leader_timed = timed;
	r->leader_rseq_cs = msg->rseq_cs;
	r->leader.rseq = r->thread.rseq;
	r->leader.dispatch = r->thread.dispatch;
	r->leader_done = true;
	return 0;
}

const struct state_kind kind_registers = {
	.id = KIND_REGISTERS,
	.name = "registers",
	.fields = baton_Registers_fields,
	.size = sizeof(baton_Registers),
	.dump_thread = registers_dump,
	.restore = registers_restore,
};
