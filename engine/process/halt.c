/* SPDX-License-Identifier: MIT */
/* Stopping the moved process and its children for a moment. Source: ptrace(2), fs/userfaultfd.c. */
#include "engine/process/halt.h"

#include "engine/process/proc.h"
#include "engine/process/remote.h"
#include "engine/process/restart.h"
#include "lib/arena.h"
#include "lib/kernel.h"
#include "lib/text.h"

#include <errno.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/wait.h>
#include <unistd.h>

int halt_init(struct halt *h)
{
	memset(h, 0, sizeof(*h));
	h->max = CONFIG_MAX_THREADS;
	h->threads = arena_alloc(ARENA_TABLES, h->max * sizeof(*h->threads), 16);
	return h->threads ? 0 : -ENOMEM;
}

/* ---- threads that are attached ---- */

static struct halt_thread *find_thread(struct halt *h, pid_t tid)
{
	for (unsigned int i = 0; i < h->nr; i++) {
		if (h->threads[i].tid == tid)
			return &h->threads[i];
	}
	return NULL;
}

/* Whether a call makes a process with a memory of its own; clone3 keeps its flags in memory. */
static bool is_fork(int64_t nr, const uint64_t *args)
{
	switch (nr) {
#ifdef SYS_fork
	case SYS_fork:
		return true;
#endif
	case SYS_clone:
		return !(args[0] & CLONE_VM);
	case SYS_clone3:
		return true;
	default:
		return false;
	}
}

/* The child has the same registers, but for the result. */
static bool has_forked(pid_t tid)
{
	struct arch_regs regs;
	uint64_t args[6];

	if (arch_regs_get_call(tid, &regs) || arch_inject_result(&regs) <= 0)
		return false;
	return is_fork(arch_restart_call(&regs, args), args);
}

/* What a thread that was told to stop has to say. False when it is no more. */
static bool take_status(struct halt_thread *thread)
{
	pid_t tid = thread->tid;
	int status;

	while (!thread->stopped) {
		pid_t got = waitpid(tid, &status, __WALL | WNOHANG);

		if (got != tid)
			return got == 0;
		if (!WIFSTOPPED(status))
			return false;
		if (remote_is_signal_stop(status)) {
			thread->stopped = true;
			thread->forked = has_forked(tid);
			/* At once: should we die, it goes on by itself. */
			restart_undo(tid);
		} else {
			/* A signal on its way is delivered first, as in freeze.c. */
			ptrace(PTRACE_CONT, tid, 0, status >> 16 ? 0 : WSTOPSIG(status));
		}
	}
	return true;
}

/* A thread that runs another program takes over the number of its leader (execve(2)). */
static bool is_ours(pid_t pid)
{
	struct proc_status status;

	return !proc_status_of(pid, &status) && status.tracer == getpid();
}

static void take_all_status(struct halt *h)
{
	for (unsigned int i = 0; i < h->nr;) {
		struct halt_thread *thread = &h->threads[i];

		if (take_status(thread)) {
			i++;
		} else if (!find_thread(h, thread->pid) && is_ours(thread->pid)) {
			thread->tid = thread->pid;
			i++;
		} else {
			*thread = h->threads[--h->nr];
		}
	}
}

void halt_release(struct halt *h)
{
	unsigned int left = 0;

	take_all_status(h);
	for (unsigned int i = 0; i < h->nr; i++) {
		if (h->threads[i].stopped && !(h->no_forks && h->threads[i].forked))
			ptrace(PTRACE_DETACH, h->threads[i].tid, 0, 0);
		else
			h->threads[left++] = h->threads[i];
	}
	h->nr = left;
	h->nr_discards = 0;
}

/* ---- what threads are doing ---- */

static void note_discard(struct halt *h, uint64_t start, uint64_t len)
{
	struct halt_range range = {start, start + len < start ? UINT64_MAX : start + len}, *last;

	if (h->nr_discards < HALT_RANGES) {
		h->discards[h->nr_discards++] = range;
		return;
	}
	last = &h->discards[HALT_RANGES - 1];
	last->start = last->start < range.start ? last->start : range.start;
	last->end = last->end > range.end ? last->end : range.end;
}

bool halt_discards(const struct halt *h, uint64_t start, uint64_t end)
{
	for (unsigned int i = 0; i < h->nr_discards; i++) {
		if (h->discards[i].start < end && start < h->discards[i].end)
			return true;
	}
	return false;
}

/* The letter of proc(5); 0 when the thread is gone. */
static char thread_state(int proc_fd, pid_t tid)
{
	char path[32], text[512];
	const char *c;

	snprintf(path, sizeof(path), "task/%d/stat", tid);
	if (io_read_file(proc_fd, path, text, sizeof(text)) < 0)
		return 0;
	c = strrchr(text, ')');
	return c && c[1] == ' ' ? c[2] : 0;
}

struct sweep {
	struct halt *h;
	pid_t pid;
	int proc_fd;
	unsigned int nr_threads;
	bool calm;
};

/* 0 when it is told to stop, or has ended. */
static int stop_thread(struct sweep *s, pid_t tid)
{
	struct halt *h = s->h;

	if (find_thread(h, tid))
		return 0;
	if (h->nr == h->max)
		return -E2BIG;
	if (ptrace(PTRACE_SEIZE, tid, 0, 0) < 0)
		return errno == ESRCH || strchr("ZX", thread_state(s->proc_fd, tid)) ? 0 : -EPERM;
	h->threads[h->nr++] = (struct halt_thread){.pid = s->pid, .tid = tid};
	arch_call_note(tid);
	ptrace(PTRACE_INTERRUPT, tid, 0, 0);
	return 0;
}

struct call {
	int64_t nr;
	uint64_t args[6];
};

/* A number with 0x before it. */
static bool take_hex(const char **c, uint64_t *value)
{
	return text_take_u64(c, 10, value) && text_take_char(c, 'x') && text_take_u64(c, 16, value);
}

#define CALL_NONE (-1)
#define CALL_UNKNOWN (-2)

/* The system call that a thread sleeps in. False when it does not sleep any more. */
static bool thread_call(int proc_fd, pid_t tid, struct call *call)
{
	char path[40], text[256];
	const char *c = text;
	uint64_t sp, pc = 0;

	snprintf(path, sizeof(path), "task/%d/syscall", tid);
	if (io_read_file(proc_fd, path, text, sizeof(text)) < 0 ||
	    !text_take_i64(&c, 10, &call->nr))
		return false;
	for (int i = 0; i < 6 && call->nr >= 0; i++) {
		if (!take_hex(&c, &call->args[i]))
			return false;
	}
	/* The kernel's own workers for a process (io_uring) run no program. */
	if (!take_hex(&c, &sp) || !take_hex(&c, &pc) || !pc)
		call->nr = CALL_UNKNOWN;
	return true;
}

/* One that sleeps where it cannot be interrupted: perhaps until its event is read. */
static int sweep_sleeper(struct sweep *s, pid_t tid)
{
	struct call call;

	if (!thread_call(s->proc_fd, tid, &call)) {
		s->calm = false;
		return 0;
	}
	switch (call.nr) {
	case SYS_madvise:
		note_discard(s->h, call.args[0] & ARCH_UNTAG_MASK, call.args[1]);
		break;
	case SYS_process_madvise: /* its ranges are in its memory */
		note_discard(s->h, 0, UINT64_MAX);
		break;
	case SYS_munmap:
	case SYS_mremap:
	case SYS_mmap:
	case SYS_brk:
		break;
	case CALL_UNKNOWN:
		note_discard(s->h, 0, UINT64_MAX);
		return 0;
	default:
		/* A child that it waits for (vfork), a page, a disk. */
		if (!s->h->no_forks || !is_fork(call.nr, call.args))
			return 0;
	}
	return stop_thread(s, tid);
}

static int sweep_thread(void *data, pid_t tid)
{
	struct sweep *s = data;
	const struct halt_thread *thread;

	s->nr_threads++;
	switch (thread_state(s->proc_fd, tid)) {
	case 'R':
		thread = find_thread(s->h, tid);
		/* One that was stopped and runs was killed: it is past its last call. */
		if (thread && thread->stopped)
			return 0;
		s->calm = false;
		return stop_thread(s, tid);
	case 'D':
		return sweep_sleeper(s, tid);
	default:
		return 0;
	}
}

/* A thread that ends while the folder is read may hide another one. */
static bool has_threads(int proc_fd, unsigned int nr)
{
	int64_t threads = 0;

	return proc_stat_field(proc_fd, 20, &threads) == 0 && threads == (int64_t)nr;
}

static int sweep_process(struct halt *h, pid_t pid, bool *calm)
{
	struct sweep s = {.h = h, .pid = pid, .proc_fd = proc_open(pid), .calm = true};
	int64_t threads = 0;
	int err;

	if (s.proc_fd < 0)
		return 0;
	proc_stat_field(s.proc_fd, 20, &threads);
	err = proc_each_thread(s.proc_fd, sweep_thread, &s);
	if (err == -ESRCH)
		err = 0;
	*calm &= s.calm && s.nr_threads == threads && has_threads(s.proc_fd, s.nr_threads);
	close(s.proc_fd);
	return err;
}

int halt_sweep(struct halt *h)
{
	bool calm = true;

	take_all_status(h);
	h->nr_discards = 0;
	for (unsigned int i = 0; i < h->family.nr; i++) {
		int err = sweep_process(h, h->family.members[i].pid, &calm);

		if (err)
			return err;
	}
	return calm;
}
