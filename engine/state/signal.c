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
#include <time.h>

#define PER_CALL 8

enum which { OWN, TIMERS, SHARED };

/* A stop is the freeze's affair, see struct restore `stopped`. */
static bool is_wanted(const siginfo_t *info, enum which which)
{
	if (info->si_signo == SIGSTOP || info->si_signo == SIGKILL)
		return false;
	return which == SHARED || (info->si_code == SI_TIMER) == (which == TIMERS);
}

/* By somebody with kill(2) and the like; the others come from timers and the kernel. */
static bool is_sent(const siginfo_t *info)
{
	return info->si_code == SI_USER || info->si_code == SI_TKILL || info->si_code == SI_QUEUE;
}

static int dump_queue(struct dump *d, const struct state_kind *kind,
		      const struct freeze_thread *thread, enum which which)
{
	struct __ptrace_peeksiginfo_args args = {.nr = PER_CALL};
	siginfo_t infos[PER_CALL];
	long i, got;
	int err = 0;

	args.flags = which == SHARED ? PTRACE_PEEKSIGINFO_SHARED : 0;
	do {
		got = ptrace(PTRACE_PEEKSIGINFO, thread->tid, &args, infos);
		if (got < 0)
			return log_fail(errno, "thread %d: its pending signals cannot be read: %m",
					thread->tid);
		for (i = 0; i < got && !err; i++) {
			baton_Signal msg = {.tid = which == SHARED ? 0 : thread->tid_inside};

			msg.siginfo.size = sizeof(infos[i]);
			memcpy(msg.siginfo.bytes, &infos[i], sizeof(infos[i]));
			if (!is_wanted(&infos[i], which))
				continue;
			d->nr_sent += is_sent(&infos[i]);
			err = dump_emit(d, kind, &msg);
		}
		args.off += (uint64_t)got;
	} while (!err && got == PER_CALL);
	return err;
}

/* Those of timers with the last thread: they need the timers, which come there. */
static int signal_dump_thread(struct dump *d, const struct state_kind *kind,
			      const struct freeze_thread *thread)
{
	const struct freeze *f = d->freeze;
	unsigned int i;
	int err = dump_queue(d, kind, thread, OWN);

	if (err || thread->tid != d->pid)
		return err;
	err = dump_queue(d, kind, thread, SHARED);
	for (i = 0; i < f->nr && !err; i++)
		err = dump_queue(d, kind, &f->threads[i], TIMERS);
	return err;
}

/* For a process that was stopped already one more stop means nothing. */
static unsigned int count_sent(pid_t tid, uint32_t flags, bool stopped)
{
	struct __ptrace_peeksiginfo_args args = {.nr = PER_CALL, .flags = flags};
	siginfo_t infos[PER_CALL];
	unsigned int nr = 0;
	long i, got;

	do {
		got = ptrace(PTRACE_PEEKSIGINFO, tid, &args, infos);
		for (i = 0; i < got; i++)
			nr += is_sent(&infos[i]) && !(stopped && infos[i].si_signo == SIGSTOP);
		args.off += got > 0 ? (uint64_t)got : 0;
	} while (got == PER_CALL);
	return nr;
}

bool signal_came(const struct dump *d)
{
	const struct freeze *f = d->freeze;
	bool stopped = freeze_is_stopped(f);
	unsigned int i, nr = count_sent(d->pid, PTRACE_PEEKSIGINFO_SHARED, stopped);

	for (i = 0; i < f->nr; i++)
		nr += count_sent(f->threads[i].tid, 0, stopped);
	return nr != d->nr_sent;
}

/*
 * The signal of a POSIX timer belongs to the timer, which counts overruns while it is pending: the
 * timer fires again, at once. True when there is such a timer.
 */
static bool fire_timer(struct remote *leader, int id)
{
	struct itimerspec it;
	uint64_t where = remote_room(leader, sizeof(it));

	if (remote_call(leader, SYS_timer_gettime, (uint64_t)id, where) < 0 ||
	    remote_read(leader, where, &it, sizeof(it)))
		return false;
	it.it_value = (struct timespec){0, 1};
	return remote_write(leader, where, &it, sizeof(it)) == 0 &&
	       remote_call(leader, SYS_timer_settime, (uint64_t)id, 0, where, 0) >= 0;
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
	if (info.si_code == SI_TIMER && fire_timer(&r->leader, info.si_timerid))
		return 0;
	where = remote_push(&r->thread, &info, sizeof(info));
	if (!msg->tid)
		ret = remote_call(&r->thread, SYS_rt_sigqueueinfo, (uint64_t)r->pid_inside,
				  (uint64_t)info.si_signo, where);
	else
		ret = remote_call(&r->thread, SYS_rt_tgsigqueueinfo, (uint64_t)r->pid_inside,
				  (uint64_t)msg->tid, (uint64_t)info.si_signo, where);
	return ret < 0 ? log_fail((int)-ret, "pending signal %d: %m", info.si_signo) : 0;
}

const struct state_kind kind_signal = {
	.id = KIND_SIGNAL,
	.name = "pending signal",
	.fields = baton_Signal_fields,
	.size = sizeof(baton_Signal),
	.dump_thread = signal_dump_thread,
	.restore = signal_restore,
};
