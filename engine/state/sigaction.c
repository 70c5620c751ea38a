/* SPDX-License-Identifier: MIT */
/* What the process does on each signal: rt_sigaction(2), by remote calls. */
#include "engine/state/sigaction.pb.h"
#include "engine/process/batch.h"
#include "engine/process/proc.h"
#include "engine/state/state.h"
#include "lib/arena.h"
#include "lib/kernel.h"
#include "lib/log.h"

#include <errno.h>
#include <signal.h>
#include <string.h>

#define NR_SIGNALS 64

static bool is_fixed(int number)
{
	return number == SIGKILL || number == SIGSTOP;
}

/* Not what it was born with. SIGCHLD has flags that matter even without a handler. */
static bool is_set(const struct proc_status *status, int number)
{
	uint64_t set = status->sig_caught | status->sig_ignored;

	return !is_fixed(number) && (number == SIGCHLD || ((set >> (number - 1)) & 1));
}

static struct question action_of(int number)
{
	return (struct question){
		.nr = SYS_rt_sigaction,
		.args = {(uint64_t)number, 0, 0, sizeof(uint64_t)},
		.rooms = 1 << 2,
		.len = sizeof(struct arch_sigaction),
	};
}

static void sigaction_ask(struct dump *d)
{
	for (int number = 1; number <= NR_SIGNALS; number++) {
		const struct question q = action_of(number);

		if (is_set(&d->status, number))
			ask_ahead(&d->leader, &q);
	}
}

static int read_one(struct dump *d, int number, baton_Action *out)
{
	const struct question q = action_of(number);
	struct arch_sigaction act;
	int64_t ret = ask_for(&d->leader, &q, &act);

	if (ret < 0)
		return (int)ret;
	out->number = (uint32_t)number;
	out->handler = act.handler;
	out->flags = act.flags;
	out->restorer = arch_sigaction_restorer(&act);
	out->mask = act.mask;
	return 0;
}

static int sigaction_dump(struct dump *d, const struct state_kind *kind)
{
	size_t mark = arena_mark();
	baton_Sigaction *msg = arena_alloc(ARENA_SCRATCH, sizeof(*msg), 16);
	int number, err = 0;

	if (!msg)
		return -ENOMEM;
	for (number = 1; number <= NR_SIGNALS && !err; number++) {
		baton_Action *action = &msg->actions[msg->actions_count];

		if (!is_set(&d->status, number))
			continue;
		remote_reset(&d->leader);
		err = read_one(d, number, action);
		if (!err && (action->handler || action->flags || action->mask))
			msg->actions_count++;
		else if (!err)
			*action = (baton_Action){0};
	}
	err = err ? log_fail(-err, "pid %d: its signal actions cannot be read: %m", d->pid)
		  : dump_emit(d, kind, msg);
	arena_reset(mark);
	return err;
}

static int fail_set(const struct batch *b, const struct arch_batch_call *call, int err)
{
	(void)b;
	return log_fail(-err, "the action on signal %d: %m", (int)call->args[0]);
}

static int set_one(struct restore *r, const baton_Action *action)
{
	struct arch_sigaction act = {
		.handler = action->handler, .flags = action->flags, .mask = action->mask};
	int err;

	if (action->number < 1 || action->number > NR_SIGNALS || is_fixed((int)action->number))
		return -EPROTO;
	arch_sigaction_set_restorer(&act, action->restorer);
	err = batch_room(&r->leader, 1, sizeof(act));
	if (!err)
		batch_call(&r->leader, fail_set, SYS_rt_sigaction, action->number,
			   batch_push(&r->leader, &act, sizeof(act)), 0, sizeof(uint64_t));
	return err;
}

/* The new process has our actions, which are the default ones but for a few: those are reset. */
static int reset_ours(struct restore *r)
{
	static const int ours[] = {SIGHUP,  SIGINT,  SIGTERM, SIGPIPE, SIGCHLD,
				   SIGALRM, SIGUSR1, SIGUSR2, SIGQUIT, SIGWINCH};
	unsigned int i;
	int err = 0;

	for (i = 0; i < sizeof(ours) / sizeof(ours[0]) && !err; i++)
		err = set_one(r, &(baton_Action){.number = (uint32_t)ours[i]});
	return err;
}

static int sigaction_restore(struct restore *r, const void *data)
{
	const baton_Sigaction *msg = data;
	unsigned int i;
	int err = reset_ours(r);

	for (i = 0; i < msg->actions_count && !err; i++)
		err = set_one(r, &msg->actions[i]);
	return err;
}

const struct state_kind kind_sigaction = {
	.id = KIND_SIGACTION,
	.name = "signal actions",
	.fields = baton_Sigaction_fields,
	.size = sizeof(baton_Sigaction),
	.ask = ASKS(sigaction_ask),
	.dump = sigaction_dump,
	.restore = sigaction_restore,
};
