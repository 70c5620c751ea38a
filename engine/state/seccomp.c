/* SPDX-License-Identifier: MIT */
/* Seccomp filters of a thread, oldest first. Source: ptrace(2) PTRACE_SECCOMP_GET_FILTER. */
#include "engine/process/proc.h"
#include "engine/state/seccomp.pb.h"
#include "engine/state/state.h"
#include "lib/arena.h"
#include "lib/kernel.h"
#include "lib/log.h"

#include <errno.h>
#include <linux/filter.h>
#include <linux/ptrace.h>
#include <linux/seccomp.h>
#include <string.h>
#include <unistd.h>

#define MAX_FILTERS 64

static long get_filter(pid_t tid, long index, void *program)
{
	long n = syscall(SYS_ptrace, PTRACE_SECCOMP_GET_FILTER, tid, index, program);

	return n < 0 ? -errno : n;
}

/* Whoever listens to the filter's notifications stays behind. */
static bool asks_listener(const baton_Seccomp *msg)
{
	struct sock_filter insn;

	for (size_t at = 0; at + sizeof(insn) <= msg->program.size; at += sizeof(insn)) {
		memcpy(&insn, msg->program.bytes + at, sizeof(insn));
		if (insn.code == (BPF_RET | BPF_K) &&
		    (insn.k & SECCOMP_RET_ACTION_FULL) == SECCOMP_RET_USER_NOTIF)
			return true;
	}
	return false;
}

static int emit(struct dump *d, const struct state_kind *kind, pid_t tid, long index,
		baton_Seccomp *msg)
{
	struct seccomp_metadata meta = {.filter_off = (uint64_t)index};
	long n = get_filter(tid, index, NULL);

	if (n < 0 || (size_t)n * sizeof(struct sock_filter) > sizeof(msg->program.bytes))
		return n < 0 ? (int)n : -E2BIG;
	n = get_filter(tid, index, msg->program.bytes);
	if (n < 0)
		return (int)n;
	msg->program.size = (pb_size_t)((size_t)n * sizeof(struct sock_filter));
	if (asks_listener(msg))
		return log_fail(EOPNOTSUPP,
				"thread %d: its seccomp filter asks another process "
				"(SECCOMP_RET_USER_NOTIF), which is not carried",
				tid);
	if (syscall(SYS_ptrace, PTRACE_SECCOMP_GET_METADATA, tid, sizeof(meta), &meta) >= 0)
		msg->flags = meta.flags;
	return dump_emit(d, kind, msg);
}

/* Number of filters, or -errno: one that cannot be seen must not be lost. */
static int count_filters(pid_t tid)
{
	int nr = 0;
	long n;

	while ((n = get_filter(tid, nr, NULL)) >= 0)
		if (++nr > MAX_FILTERS)
			return -E2BIG;
	/* EINVAL: no filter at all; ENOENT: none of that number. */
	return n == -EINVAL || n == -ENOENT ? nr : (int)n;
}

static int seccomp_dump_thread(struct dump *d, const struct state_kind *kind,
			       const struct freeze_thread *thread)
{
	size_t mark;
	baton_Seccomp *msg;
	int err = 0, nr = count_filters(thread->tid);

	if (nr == 0)
		return 0;
	if (nr < 0)
		return log_fail(-nr, "thread %d: its seccomp filters cannot be read: %m",
				thread->tid);
	mark = arena_mark();
	msg = arena_alloc(ARENA_SCRATCH, sizeof(*msg), 16);
	if (!msg)
		err = -ENOMEM;
	while (!err && nr-- > 0)
		err = emit(d, kind, thread->tid, nr, msg);
	if (err)
		log_fail(-err, "thread %d: its seccomp filter cannot be read: %m", thread->tid);
	arena_reset(mark);
	return err;
}

/* In force at once, but suspended for as long as we trace (PTRACE_O_SUSPEND_SECCOMP). */
static int seccomp_restore(struct restore *r, const void *data)
{
	const baton_Seccomp *msg = data;
	struct sock_fprog prog;
	int64_t ret;

	if (!r->thread.tid || msg->program.size % sizeof(struct sock_filter) ||
	    msg->flags & ~(uint64_t)(SECCOMP_FILTER_FLAG_LOG | SECCOMP_FILTER_FLAG_SPEC_ALLOW))
		return -EPROTO;
	prog.len = (unsigned short)(msg->program.size / sizeof(struct sock_filter));
	prog.filter =
		(void *)(uintptr_t)remote_push(&r->thread, msg->program.bytes, msg->program.size);
	/* What it allows of speculation is carried by itself (setting.c); the kernel does not tell
	 * whether the filter was made with this flag. */
	ret = remote_call(&r->thread, SYS_seccomp, SECCOMP_SET_MODE_FILTER,
			  msg->flags | SECCOMP_FILTER_FLAG_SPEC_ALLOW,
			  remote_push(&r->thread, &prog, sizeof(prog)));
	return ret < 0 ? log_fail((int)-ret, "seccomp filter: %m") : 0;
}

const struct state_kind kind_seccomp = {
	.id = KIND_SECCOMP,
	.name = "seccomp filter",
	.fields = baton_Seccomp_fields,
	.size = sizeof(baton_Seccomp),
	.dump_thread = seccomp_dump_thread,
	.restore = seccomp_restore,
};
