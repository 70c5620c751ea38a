/* SPDX-License-Identifier: MIT */
/* Threads: their creation and what the kernel keeps for each, registers aside. */
#include "engine/process/batch.h"
#include "engine/state/thread.pb.h"
#include "engine/state/state.h"
#include "lib/arena.h"
#include "lib/io.h"
#include "lib/kernel.h"
#include "lib/log.h"
#include "lib/text.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/sched.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <unistd.h>

/* More than any kernel will know; what is beyond is no area of one. */
#define RSEQ_BYTES_MAX 4096 /* not a page */

#ifndef SS_AUTODISARM
#define SS_AUTODISARM (1U << 31)
#endif

/* ---- dump ---- */

static const struct question altstack = {
	.nr = SYS_sigaltstack,
	.rooms = 1 << 1,
	.len = sizeof(stack_t),
};
static const struct question clear_tid = {
	.nr = SYS_prctl,
	.args = {PR_GET_TID_ADDRESS},
	.rooms = 1 << 1,
	.len = sizeof(uint64_t),
};

static void ask_thread(struct dump *d)
{
	ask_ahead(&d->thread, &altstack);
	ask_ahead(&d->thread, &clear_tid);
}

static int dump_altstack(struct remote *thread, baton_Thread *msg)
{
	stack_t stack;
	int64_t ret = ask_for(thread, &altstack, &stack);

	if (ret < 0)
		return (int)ret;
	msg->altstack_sp = (uint64_t)(uintptr_t)stack.ss_sp;
	msg->altstack_size = stack.ss_size;
	msg->altstack_flags = stack.ss_flags;
	return 0;
}

static int dump_clear_tid(struct remote *thread, baton_Thread *msg)
{
	int64_t ret = ask_for(thread, &clear_tid, &msg->clear_child_tid);

	if (ret == -EINVAL) /* a kernel without CONFIG_CHECKPOINT_RESTORE */
		return log_fail(EOPNOTSUPP, "this kernel lacks CONFIG_CHECKPOINT_RESTORE");
	return ret < 0 ? (int)ret : 0;
}

static int dump_comm(struct dump *d, pid_t tid, baton_Thread *msg)
{
	char path[32], text[32];
	ssize_t n;

	snprintf(path, sizeof(path), "task/%d/comm", tid);
	n = io_read_file(d->proc_fd, path, text, sizeof(text));
	if (n < 1)
		return n < 0 ? (int)n : -EPROTO;
	text[n - 1] = '\0'; /* its newline */
	text_copy(msg->comm, sizeof(msg->comm), text);
	return 0;
}

static int dump_slack(struct dump *d, pid_t tid, baton_Thread *msg)
{
	char path[48], text[32];
	const char *c = text;

	(void)d;
	/* Only below the thread's own folder in /proc is it the thread's. */
	snprintf(path, sizeof(path), "/proc/%d/timerslack_ns", tid);
	if (io_read_file(AT_FDCWD, path, text, sizeof(text)) > 0)
		text_take_u64(&c, 10, &msg->timer_slack_ns);
	return 0;
}

static int dump_rseq(struct dump *d, baton_Thread *msg)
{
	const struct remote *thread = &d->thread;
	uint64_t page = 1ULL << arch_page_shift();
	uint64_t start = thread->rseq & ~(page - 1);

	msg->rseq = thread->rseq;
	msg->rseq_len = thread->rseq_len;
	msg->rseq_signature = thread->rseq_signature;
	if (!thread->rseq)
		return 0;
	/* Registering writes to it: a page that is missing then would be made of zeros. */
	return dump_emit_existing(d, start,
				  (thread->rseq + thread->rseq_len + page - 1) & ~(page - 1));
}

/* A thread that has left the others' descriptors or folders (unshare(2)) cannot be made by clone. */
static int check_shared(const struct dump *d, pid_t tid)
{
	if (syscall(SYS_kcmp, d->pid, tid, BATON_KCMP_FILES, 0, 0) == 0 &&
	    syscall(SYS_kcmp, d->pid, tid, BATON_KCMP_FS, 0, 0) == 0)
		return 0;
	return log_fail(EOPNOTSUPP,
			"pid %d: thread %d has descriptors or a working folder of its own "
			"(unshare), which is not carried",
			d->pid, tid);
}

static int thread_dump(struct dump *d, const struct state_kind *kind,
		       const struct freeze_thread *thread)
{
	baton_Thread msg = {.tid = thread->tid_inside, .leader = thread->tid == d->pid};
	uint64_t len = 0;
	void *head = NULL;
	const struct user_dispatch *dispatch = &d->thread.dispatch;
	int err = check_shared(d, thread->tid);

	if (err)
		return err;
	if (dispatch->mode) {
		msg.has_dispatch = true;
		msg.dispatch = (baton_UserDispatch){dispatch->mode, dispatch->selector,
						    dispatch->offset, dispatch->len};
	}
	if (syscall(SYS_get_robust_list, thread->tid, &head, &len) == 0) {
		msg.robust_list = (uint64_t)(uintptr_t)head;
		msg.robust_len = len;
	}
	err = dump_altstack(&d->thread, &msg);
	if (!err)
		err = dump_clear_tid(&d->thread, &msg);
	if (!err)
		err = dump_comm(d, thread->tid, &msg);
	if (!err)
		err = dump_slack(d, thread->tid, &msg);
	if (!err)
		err = dump_rseq(d, &msg);
	if (err)
		return log_fail(-err, "pid %d: thread %d cannot be read: %m", d->pid, thread->tid);
	return dump_emit(d, kind, &msg);
}

/* ---- restore ---- */

/* Made by the leader; the kernel attaches it to us, stopped, with all signals blocked like its maker. */
static int create(struct restore *r, const baton_Thread *msg)
{
	int32_t tid = msg->tid;
	struct clone_args args = {
		.flags = CLONE_VM | CLONE_FS | CLONE_FILES | CLONE_SIGHAND | CLONE_THREAD |
			 CLONE_SYSVSEM,
		.set_tid = remote_push(&r->leader, &tid, sizeof(tid)),
		.set_tid_size = 1,
	};
	int64_t ret;
	int status, err;

	if (r->nr_threads == CONFIG_MAX_THREADS)
		return log_fail(E2BIG, "more than %d threads (CONFIG_MAX_THREADS)",
				CONFIG_MAX_THREADS);
	ret = remote_call(&r->leader, SYS_clone3, remote_push(&r->leader, &args, sizeof(args)),
			  sizeof(args));
	if (ret == -EEXIST)
		return log_fail(EEXIST, "tid %d is taken on this device; use receive --pidns",
				msg->tid);
	if (ret < 0 || !r->leader.cloned)
		return ret < 0 ? (int)ret : -ECHILD;
	r->tids[r->nr_threads++] = r->leader.cloned;
	err = remote_wait_stop(r->leader.cloned, &status, -1);
	if (!err)
		err = remote_open_sibling(&r->thread, &r->leader, r->leader.cloned);
	r->thread.tid_inside = msg->tid;
	return err;
}

static int fail_rseq(const struct batch *b, const struct arch_batch_call *call, int err)
{
	(void)b, (void)call;
	return log_fail(-err, "restartable sequences (rseq): %m");
}

static int restore_rseq(struct restore *r, const baton_Thread *msg)
{
	if (!msg->rseq)
		return 0;
	if (msg->rseq >= arch_user_top() || msg->rseq_len > RSEQ_BYTES_MAX ||
	    restore_is_scratch(r, msg->rseq, msg->rseq_len + sizeof(uint64_t)))
		return log_fail(EPROTO, "the peer described an rseq area that cannot be");
	batch_call(&r->thread, fail_rseq, SYS_rseq, msg->rseq, msg->rseq_len, 0,
		   msg->rseq_signature);
	r->thread.rseq = msg->rseq;
	return 0;
}

static int fail_altstack(const struct batch *b, const struct arch_batch_call *call, int err)
{
	(void)b, (void)call;
	return log_fail(-err, "alternate signal stack: %m");
}

static void restore_altstack(struct restore *r, const baton_Thread *msg)
{
	stack_t stack = {.ss_sp = (void *)(uintptr_t)msg->altstack_sp,
			 .ss_size = msg->altstack_size,
			 .ss_flags = msg->altstack_flags & (int)SS_AUTODISARM};

	if (!(msg->altstack_flags & SS_DISABLE))
		batch_call(&r->thread, fail_altstack, SYS_sigaltstack,
			   batch_push(&r->thread, &stack, sizeof(stack)), 0);
}

static void restore_small(struct restore *r, const baton_Thread *msg)
{
	struct remote *thread = &r->thread;

	batch_try(thread, SYS_set_tid_address, msg->clear_child_tid);
	if (msg->robust_list)
		batch_try(thread, SYS_set_robust_list, msg->robust_list, msg->robust_len);
	batch_try(thread, SYS_prctl, PR_SET_NAME, batch_push_str(thread, msg->comm));
	if (msg->timer_slack_ns)
		batch_try(thread, SYS_prctl, PR_SET_TIMERSLACK, msg->timer_slack_ns);
}

static int thread_restore(struct restore *r, const void *data)
{
	const baton_Thread *msg = data;
	int err = 0;

	if (msg->leader != (msg->tid == r->pid_inside))
		return -EPROTO;
	if (msg->leader)
		r->thread = r->leader;
	else
		err = create(r, msg);
	if (err)
		return err;
	r->tid_inside = msg->tid;
	r->thread_is_leader = msg->leader;
	/* In force when its registers are its own. */
	r->thread.dispatch = (struct user_dispatch){msg->dispatch.mode, msg->dispatch.selector,
						    msg->dispatch.offset, msg->dispatch.len};
	err = batch_room(&r->thread, 6, sizeof(msg->comm) + sizeof(stack_t) + 16);
	if (err)
		return err;
	restore_small(r, msg);
	restore_altstack(r, msg);
	return restore_rseq(r, msg);
}

const struct state_kind kind_thread = {
	.id = KIND_THREAD,
	.name = "thread",
	.fields = baton_Thread_fields,
	.size = sizeof(baton_Thread),
	.ask_thread = ASKS(ask_thread),
	.dump_thread = thread_dump,
	.restore = thread_restore,
};
