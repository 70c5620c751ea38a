/* SPDX-License-Identifier: MIT */
/* Pending signals with their siginfo, of the process and of each thread. Source: ptrace(2) PEEKSIGINFO. */
#include "engine/state/signal.pb.h"
#include "engine/state/state.h"
#include "lib/arena.h"
#include "lib/kernel.h"
#include "lib/log.h"

#include <errno.h>
#include <signal.h>
#include <string.h>
#include <sys/ptrace.h>

#define PER_CALL 8

static int dump_queue(struct dump *d, const struct state_kind *kind, pid_t tid, bool shared)
{
	struct __ptrace_peeksiginfo_args args = {.nr = PER_CALL};
	siginfo_t infos[PER_CALL];
	long i, got;
	int err = 0;

	args.flags = shared ? PTRACE_PEEKSIGINFO_SHARED : 0;
	do {
		got = ptrace(PTRACE_PEEKSIGINFO, tid, &args, infos);
		if (got < 0)
			return log_fail(errno, "thread %d: its pending signals cannot be read: %s",
					tid, strerror(errno));
		for (i = 0; i < got && !err; i++) {
			baton_Signal msg = {.shared = shared};

			msg.siginfo.size = sizeof(infos[i]);
			memcpy(msg.siginfo.bytes, &infos[i], sizeof(infos[i]));
			/* A stop is the freeze's affair, see struct restore `stopped`. */
			if (infos[i].si_signo != SIGSTOP && infos[i].si_signo != SIGKILL)
				err = dump_emit(d, kind, &msg);
		}
		args.off += (uint64_t)got;
	} while (!err && got == PER_CALL);
	return err;
}

static int signal_dump_thread(struct dump *d, const struct state_kind *kind,
			      const struct freeze_thread *thread)
{
	int err = dump_queue(d, kind, thread->tid, false);

	if (!err && thread->tid == d->pid)
		err = dump_queue(d, kind, thread->tid, true);
	return err;
}

/* By the thread itself: from outside the kernel allows no siginfo of its own making. */
static int signal_restore(struct restore *r, const void *data)
{
	const baton_Signal *msg = data;
	siginfo_t info;
	uint64_t where;
	int64_t ret;

	if (msg->siginfo.size != sizeof(info) || !r->thread.tid)
		return -EPROTO;
	memcpy(&info, msg->siginfo.bytes, sizeof(info));
	if (info.si_signo < 1 || info.si_signo > 64 || info.si_signo == SIGKILL ||
	    info.si_signo == SIGSTOP)
		return -EPROTO;
	where = remote_push(&r->thread, &info, sizeof(info));
	if (msg->shared)
		ret = remote_call(&r->thread, SYS_rt_sigqueueinfo, (uint64_t)r->pid_inside,
				  (uint64_t)info.si_signo, where);
	else
		ret = remote_call(&r->thread, SYS_rt_tgsigqueueinfo, (uint64_t)r->pid_inside,
				  (uint64_t)r->tid_inside, (uint64_t)info.si_signo, where);
	return ret < 0 ? log_fail((int)-ret, "pending signal %d: %s", info.si_signo,
				  strerror((int)-ret))
		       : 0;
}

const struct state_kind kind_signal = {
	.id = KIND_SIGNAL,
	.name = "pending signal",
	.fields = baton_Signal_fields,
	.size = sizeof(baton_Signal),
	.dump_thread = signal_dump_thread,
	.restore = signal_restore,
};
