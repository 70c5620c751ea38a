/* SPDX-License-Identifier: MIT */
/*
 * Questions to a stopped thread, many in one go.
 *
 *     r->steps   results ── rooms ── step ── step ── ... ── last step: tgkill(2) of a signal to itself ── (way back)
 *
 * The thread runs from the first step on, on no code but the program's own. The signal is the only one that is
 * not blocked meanwhile; its tracer sees it, and keeps it. If there is none any more the kernel drops it, and the way
 * goes on.
 */
#include "engine/process/ask.h"

#include "lib/arena.h"
#include "lib/config.h"
#include "lib/fault.h"
#include "lib/log.h"

#include <errno.h>
#include <signal.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>

#define ASK_MAX 48
#define ROOM_BYTES 1536
/* Where results and rooms are, before the steps. */
#define HEAD_BYTES (ASK_MAX * sizeof(int64_t) + ROOM_BYTES)
#define BIT(signal) (1ULL << ((signal)-1))
/* Ignored by who has not said otherwise. */
#define SILENT (BIT(SIGURG) | BIT(SIGWINCH) | BIT(SIGCHLD))
/* Those that mean something else to the kernel, or tell of what the thread itself does. */
#define UNFIT                                                                                      \
	(BIT(SIGKILL) | BIT(SIGSTOP) | BIT(SIGCONT) | BIT(SIGTSTP) | BIT(SIGTTIN) | BIT(SIGTTOU) | \
	 BIT(SIGSEGV) | BIT(SIGBUS) | BIT(SIGILL) | BIT(SIGFPE) | BIT(SIGTRAP) | BIT(SIGSYS))
#define NR_STANDARD 31

_Static_assert(HEAD_BYTES % 16 == 0, "steps are aligned");

static struct {
	pid_t tid;
	unsigned int nr, answered;
	struct {
		struct question q;
		uint32_t room;
		bool taken;
	} asked[ASK_MAX];
	uint32_t used; /* of rooms */
	struct head {
		int64_t result[ASK_MAX];
		uint8_t rooms[ROOM_BYTES];
	} head;
} table;
_Static_assert(sizeof(struct head) == HEAD_BYTES, "nothing between them");

void ask_begin(struct remote *r, const struct proc_status *leader, uint64_t mask)
{
	uint64_t fit = SILENT & ~leader->sig_caught;

	fit |= leader->sig_ignored;
	fit &= ~(UNFIT | mask | leader->shared_pending) & (BIT(NR_STANDARD + 1) - 1);
	r->silent = fit ? __builtin_ctzll(fit) + 1 : 0;
}

void ask_forget(void)
{
	table.nr = table.answered = 0;
	table.used = 0;
}

/* One that is pending for it alone would be taken for ours, or ours for it. */
static bool has_pending(pid_t tid)
{
	struct __ptrace_peeksiginfo_args first = {.nr = 1};
	siginfo_t info;

	return ptrace(PTRACE_PEEKSIGINFO, tid, &first, &info) != 0;
}

static bool can_run_steps(const struct remote *r)
{
	return r->steps && r->steps_len >= HEAD_BYTES + 2 * ARCH_STEP_MAX && r->silent &&
	       r->way_at && arch_sigreturn_has_steps(&r->way) && !has_pending(r->tid);
}

void ask_ahead(struct remote *r, const struct question *q)
{
	const uint32_t len = (uint32_t)((q->len + 7) & ~(size_t)7);

	if (!IS_ENABLED(CONFIG_ASK_AHEAD))
		return;
	if (table.tid != r->tid)
		ask_forget();
	if (table.nr == ASK_MAX || len > ROOM_BYTES - table.used)
		return;
	table.tid = r->tid;
	table.asked[table.nr].q = *q;
	table.asked[table.nr].room = table.used;
	table.asked[table.nr].taken = false;
	memset(table.head.rooms + table.used, 0, len);
	table.used += len;
	table.nr++;
}

static ssize_t put_step(const struct remote *r, uint64_t at, const struct arch_step *step,
			uint8_t *out)
{
	return arch_sigreturn_step(&r->way, r->tid, &r->saved, ~BIT(r->silent), at, r->way_at, step,
				   out);
}

/* Writes steps for questions `first` to *end - 1, as many as there is room for, and the last one. */
static int put_steps(const struct remote *r, unsigned int first, unsigned int *end)
{
	const struct arch_step last = {
		SYS_tgkill,
		{(uint64_t)r->pid_inside, (uint64_t)r->tid_inside, (uint64_t)r->silent},
		0};
	const uint64_t base = r->steps + HEAD_BYTES;
	size_t room = r->steps_len - HEAD_BYTES, needed = (table.nr + 1 - first) * ARCH_STEP_MAX;
	uint8_t *out;
	size_t used = 0;
	ssize_t len;

	room = room < needed ? room : needed;
	out = arena_alloc(ARENA_SCRATCH, room, 16);
	len = out ? 0 : -ENOMEM;
	for (*end = first; len >= 0 && *end < table.nr && used + 2 * ARCH_STEP_MAX <= room;
	     ++*end) {
		const struct question *q = &table.asked[*end].q;
		struct arch_step step = {.nr = q->nr,
					 .result_at = r->steps + *end * sizeof(int64_t)};

		for (int i = 0; i < 6; i++)
			step.args[i] =
				q->args[i] + (q->rooms >> i & 1
						      ? r->steps + offsetof(struct head, rooms) +
								table.asked[*end].room
						      : 0);
		len = put_step(r, base + used, &step, out + used);
		used += len > 0 ? (size_t)len : 0;
	}
	if (len >= 0)
		len = put_step(r, base + used, &last, out + used);
	used += len > 0 ? (size_t)len : 0;
	return len < 0 ? (int)len : remote_write(r, base, out, used);
}

/* Behind the last call, with nothing but the way back before it. */
static bool is_done(const struct remote *r, const struct arch_regs *regs)
{
	return arch_regs_pc(regs) == arch_sigreturn_call(&r->way) + arch_syscall_insn_len &&
	       arch_regs_sp(regs) == r->way_at;
}

static int go(struct remote *r)
{
	const uint64_t all = ~0ULL;
	struct arch_regs regs = r->saved;
	int err;

	arch_sigreturn_load(&regs, &r->way, r->steps + HEAD_BYTES);
	err = arch_regs_set(r->tid, &regs);
	if (!err)
		err = fault_point(FAULT_DUMP_ASK);
	/* Somebody else may send the very signal. */
	while (!err && !is_done(r, &regs))
		err = remote_go(r, &regs, r->silent);
	if (!err && ptrace(PTRACE_SETSIGMASK, r->tid, sizeof(all), &all) < 0)
		err = -errno;
	return err;
}

static int run(struct remote *r)
{
	size_t mark = arena_mark();
	unsigned int first = table.answered, end;
	int err = remote_write(r, r->steps, &table.head, sizeof(table.head));

	while (!err && first < table.nr) {
		err = put_steps(r, first, &end);
		if (!err)
			err = go(r);
		first = end;
		arena_reset(mark);
	}
	arena_reset(mark);
	return err ? err : remote_read(r, r->steps, &table.head, sizeof(table.head));
}

int ask_run(struct remote *r)
{
	int err = 0;

	if (!IS_ENABLED(CONFIG_ASK_AHEAD) || table.tid != r->tid || table.nr == table.answered ||
	    r->dead)
		return 0;
	if (can_run_steps(r))
		err = run(r);
	else
		table.nr = table.answered;
	if (err == -ENOMEM)
		err = 0;
	else if (!err)
		table.answered = table.nr;
	table.nr = table.answered;
	return err;
}

static int64_t ask_now(struct remote *r, const struct question *q, void *out)
{
	static const uint8_t zeros[QUESTION_ROOM_MAX];
	uint64_t args[6], room = q->len ? remote_push(r, zeros, q->len) : 0;
	int64_t ret;
	int err;

	if (q->len && !room)
		return -ENOMEM;
	for (int i = 0; i < 6; i++)
		args[i] = q->args[i] + (q->rooms >> i & 1 ? room : 0);
	ret = remote_run(r, q->nr, args);
	err = q->len ? remote_read(r, room, out, q->len) : 0;
	return err ? err : ret;
}

static bool is_same(const struct question *a, const struct question *b)
{
	return a->nr == b->nr && a->rooms == b->rooms && a->len == b->len &&
	       !memcmp(a->args, b->args, sizeof(a->args));
}

int64_t ask_for(struct remote *r, const struct question *q, void *out)
{
	for (unsigned int i = 0;
	     IS_ENABLED(CONFIG_ASK_AHEAD) && table.tid == r->tid && i < table.answered; i++) {
		if (table.asked[i].taken || !is_same(&table.asked[i].q, q))
			continue;
		table.asked[i].taken = true;
		if (q->len)
			memcpy(out, table.head.rooms + table.asked[i].room, q->len);
		return table.head.result[i];
	}
	return ask_now(r, q, out);
}
