/* SPDX-License-Identifier: MIT */
/* Stopping and releasing all threads of a process: PTRACE_SEIZE and PTRACE_INTERRUPT in sweeps. */
#include "engine/process/freeze.h"

#include "engine/process/proc.h"
#include "engine/process/remote.h"
#include "engine/process/restart.h"
#include "lib/arena.h"
#include "lib/clock.h"
#include "lib/io.h"
#include "lib/kernel.h"
#include "lib/log.h"
#include "lib/text.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/wait.h>
#include <unistd.h>

#define STOP_TIMEOUT_MS 3000
/* CPUs whose clocks are compared; threads that slept on others begin their timeouts anew. */
#define CLOCKS_MAX 64
/* Field of /proc/PID/stat: the CPU it last ran on. */
#define STAT_PROCESSOR 39
/* New threads may appear while the others are being stopped; each sweep stops those it finds. */
#define MAX_SWEEPS 64
/* A thread that is to leave a range runs for so long, so often. */
#define LEAVE_NS 20000
#define LEAVE_TRIES 2000
#define SEIZE_OPTIONS (PTRACE_O_TRACESYSGOOD | PTRACE_O_SUSPEND_SECCOMP)

int freeze_init(struct freeze *f)
{
	memset(f, 0, sizeof(*f));
	f->max = CONFIG_MAX_THREADS;
	f->threads = arena_alloc(ARENA_TABLES, f->max * sizeof(*f->threads), 16);
	return f->threads ? 0 : -ENOMEM;
}

/* A number of a file of lines "name : value" in /proc/.../sched, in milliseconds with a fraction. */
static int64_t sched_exec_start_ns(int dir_fd, const char *path)
{
	char buf[512], *line;
	struct line_reader reader;
	int64_t ns = -1;

	if (line_reader_open(&reader, dir_fd, path, buf, sizeof(buf)))
		return -1;
	while (line_reader_next(&reader, &line) > 0) {
		const char *v = text_after(line, "se.exec_start");
		uint64_t ms, fraction;

		if (!v)
			continue;
		v = strchr(v, ':');
		if (v && (v++, text_take_u64(&v, 10, &ms)) && text_take_char(&v, '.') &&
		    text_take_u64(&v, 10, &fraction))
			ns = (int64_t)(ms * 1000000 + fraction);
		break;
	}
	line_reader_close(&reader);
	return ns;
}

/*
 * The scheduler notes when a thread last ran, on a clock of the CPU that it ran on: what interrupts took
 * there is not in it (kernel/sched/core.c, rq_clock_task), so two CPUs differ, and one falls behind the
 * time of day. What we read on the same CPU is the clock's present value.
 */
static struct {
	int64_t behind_ns[CLOCKS_MAX]; /* monotonic time less that CPU's clock; 0: not known */
} clocks;

void freeze_prepare(void)
{
	cpu_set_t own, one;

	memset(&clocks, 0, sizeof(clocks));
	if (sched_getaffinity(0, sizeof(own), &own))
		return;
	for (int cpu = 0; cpu < CLOCKS_MAX; cpu++) {
		int64_t now;

		CPU_ZERO(&one);
		CPU_SET(cpu, &one);
		if (!CPU_ISSET(cpu, &own) || sched_setaffinity(0, sizeof(one), &one))
			continue;
		/* The note is brought up to date when we are put on a CPU again. */
		sched_yield();
		now = sched_exec_start_ns(AT_FDCWD, "/proc/self/sched");
		if (now > 0)
			clocks.behind_ns[cpu] = clock_now_ns() - now;
	}
	sched_setaffinity(0, sizeof(own), &own);
}

/* How long a thread has been asleep, rather less than more; -1: unknown. */
static int64_t waited_ns(int thread_fd)
{
	int64_t theirs, cpu = -1, waited;

	theirs = sched_exec_start_ns(thread_fd, "sched");
	if (proc_stat_field(thread_fd, STAT_PROCESSOR, &cpu))
		cpu = -1;
	if (theirs < 0 || cpu < 0 || cpu >= CLOCKS_MAX || !clocks.behind_ns[cpu])
		return -1;
	waited = clock_now_ns() - clocks.behind_ns[cpu] - theirs;
	return waited > 0 ? waited : 0;
}

/* What only a thread that still sleeps tells. */
static void look_at_sleeper(int proc_fd, struct freeze_thread *t)
{
	char path[48], wchan[64];
	int fd;

	t->waited_ns = -1;
	t->sleeps_in = 0;
	snprintf(path, sizeof(path), "task/%d", t->tid);
	fd = openat(proc_fd, path, O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0)
		return;
	t->waited_ns = waited_ns(fd);
	if (io_read_file(fd, "wchan", wchan, sizeof(wchan)) > 0)
		t->sleeps_in = restart_call_of(wchan);
	close(fd);
}

struct sweep {
	struct freeze *f;
	int proc_fd;
	unsigned int nr_new;
};

static bool freeze_has(const struct freeze *f, pid_t tid)
{
	unsigned int i;

	for (i = 0; i < f->nr; i++)
		if (f->threads[i].tid == tid)
			return true;
	return false;
}

static int thread_status(int proc_fd, pid_t tid, struct proc_status *status)
{
	char path[32];
	int fd, err;

	snprintf(path, sizeof(path), "task/%d", tid);
	fd = openat(proc_fd, path, O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0)
		return -ESRCH;
	err = proc_status(fd, status);
	close(fd);
	return err;
}

static int sweep_thread(void *data, pid_t tid)
{
	struct sweep *s = data;
	struct freeze *f = s->f;
	struct freeze_thread *t;
	struct proc_status status;

	if (freeze_has(f, tid))
		return 0;
	if (f->nr == f->max)
		return log_fail(E2BIG,
				"pid %d has more than %u threads; build with a larger "
				"CONFIG_MAX_THREADS",
				f->pid, f->max);
	/* A thread that ended meanwhile is none. */
	if (thread_status(s->proc_fd, tid, &status) || status.state == 'Z' || status.state == 'X')
		return 0;
	t = &f->threads[f->nr];
	t->tid = tid;
	t->tid_inside = status.pid_inside;
	t->stopped = status.state == 'T';
	f->filtered |= status.seccomp != 0;
	look_at_sleeper(s->proc_fd, t);
	if (ptrace(PTRACE_SEIZE, tid, 0, SEIZE_OPTIONS) < 0) {
		if (errno == ESRCH)
			return 0;
		return log_fail(errno,
				"pid %d: cannot attach to thread %d: %m; run as root, and end a "
				"debugger that is attached",
				f->pid, tid);
	}
	f->nr++;
	s->nr_new++;
	/* One that is stopped already reports that by itself; a second stop would stay behind. */
	if (!t->stopped) {
		arch_call_note(tid);
		ptrace(PTRACE_INTERRUPT, tid, 0, 0);
	}
	return 0;
}

/* A leader that was killed with its threads is not told of before they are. */
static bool has_ended(pid_t tid)
{
	struct proc_status status;

	return proc_status_of(tid, &status) || status.state == 'Z';
}

static bool is_stop_signal(int signal)
{
	return signal == SIGSTOP || signal == SIGTSTP || signal == SIGTTIN || signal == SIGTTOU;
}

/*
 * Waits for the stop. A signal that was being delivered is delivered first: the handler's frame is
 * set up, and the interrupt then stops the thread before its first instruction.
 */
static int wait_stopped(struct freeze *f, struct freeze_thread *thread)
{
	pid_t tid = thread->tid;
	int status, err;

	for (;;) {
		err = remote_wait_stop(tid, &status, STOP_TIMEOUT_MS);
		if (err == -ETIMEDOUT && has_ended(tid))
			return -ESRCH;
		if (err == -ETIMEDOUT)
			return log_fail(ETIMEDOUT,
					"pid %d: thread %d does not stop (uninterruptible sleep, "
					"for instance in a file system that does not answer)",
					f->pid, tid);
		if (err)
			return err;
		if (remote_is_signal_stop(status)) {
			/* It may have been stopped since we looked: a stop of ours is a SIGTRAP. */
			if (is_stop_signal(WSTOPSIG(status)) && !thread->stopped) {
				thread->stopped = true;
				thread->waited_ns = 0;
			}
			return 0;
		}
		if (status >> 16)
			ptrace(PTRACE_CONT, tid, 0, 0);
		else
			ptrace(PTRACE_CONT, tid, 0, WSTOPSIG(status));
	}
}

static void forget_thread(struct freeze *f, unsigned int i)
{
	memmove(&f->threads[i], &f->threads[i + 1], (f->nr - i - 1) * sizeof(f->threads[0]));
	f->nr--;
}

static int sweep_all(struct freeze *f, int proc_fd)
{
	struct sweep s = {.f = f, .proc_fd = proc_fd};
	unsigned int sweeps, i, first;
	int err;

	for (sweeps = 0; sweeps < MAX_SWEEPS; sweeps++) {
		first = f->nr;
		s.nr_new = 0;
		err = proc_each_thread(proc_fd, sweep_thread, &s);
		if (err)
			return err;
		for (i = first; i < f->nr;) {
			err = wait_stopped(f, &f->threads[i]);
			if (err == -ESRCH)
				forget_thread(f, i);
			else if (err)
				return err;
			else
				i++;
		}
		if (s.nr_new == 0)
			return 0;
	}
	return log_fail(EAGAIN, "pid %d makes threads faster than they can be stopped", f->pid);
}

/* The leader comes first in the table: it runs the remote calls, and its state is sent last. */
static int put_leader_first(struct freeze *f)
{
	unsigned int i;

	for (i = 0; i < f->nr; i++) {
		struct freeze_thread t = f->threads[i];

		if (t.tid != f->pid)
			continue;
		f->threads[i] = f->threads[0];
		f->threads[0] = t;
		return 0;
	}
	return log_fail(ESRCH, "pid %d has ended, or its first thread has", f->pid);
}

int freeze_process(struct freeze *f, pid_t pid)
{
	int proc_fd = proc_open(pid);
	int err;

	f->pid = pid;
	f->nr = 0;
	f->held = f->filtered = false;
	if (proc_fd < 0)
		return log_fail(-proc_fd, "pid %d: no such process", pid);
	f->frozen = true;
	err = sweep_all(f, proc_fd);
	if (!err)
		err = put_leader_first(f);
	close(proc_fd);
	if (err)
		freeze_thaw(f);
	return err;
}

/* ---- threads where they cannot stay ---- */

static bool is_inside(pid_t tid, const struct vdso_range *ranges, unsigned int nr)
{
	struct arch_regs regs;

	if (arch_regs_get(tid, &regs))
		return false;
	for (unsigned int i = 0; i < nr; i++)
		if (arch_regs_pc(&regs) - ranges[i].start < ranges[i].len)
			return true;
	return false;
}

/* What it does meanwhile it does as itself: under its seccomp filters. */
static int run_a_moment(struct freeze *f, struct freeze_thread *thread)
{
	const struct timespec moment = {0, LEAVE_NS};
	int err;

	ptrace(PTRACE_SETOPTIONS, thread->tid, 0, PTRACE_O_TRACESYSGOOD);
	if (ptrace(PTRACE_CONT, thread->tid, 0, 0) < 0)
		return -ESRCH;
	nanosleep(&moment, NULL);
	ptrace(PTRACE_INTERRUPT, thread->tid, 0, 0);
	err = wait_stopped(f, thread);
	if (!err)
		ptrace(PTRACE_SETOPTIONS, thread->tid, 0, SEIZE_OPTIONS);
	thread->waited_ns = 0;
	thread->sleeps_in = 0;
	return err;
}

static int leave_one(struct freeze *f, struct freeze_thread *thread,
		     const struct vdso_range *ranges, unsigned int nr)
{
	int err = 0;

	for (unsigned int tries = 0; !err && is_inside(thread->tid, ranges, nr); tries++)
		err = tries < LEAVE_TRIES
			      ? run_a_moment(f, thread)
			      : log_fail(EAGAIN,
					 "pid %d: thread %d stays inside the vdso; try again",
					 f->pid, thread->tid);
	return err;
}

int freeze_leave(struct freeze *f, const struct vdso_range *ranges, unsigned int nr)
{
	int proc_fd = proc_open(f->pid), err = 0;
	unsigned int seen = 0, i;

	if (proc_fd < 0)
		return proc_fd;
	while (!err && seen < f->nr) {
		for (i = seen, seen = f->nr; i < seen && !err;) {
			err = leave_one(f, &f->threads[i], ranges, nr);
			if (err == -ESRCH) {
				forget_thread(f, i);
				seen--;
				err = 0;
			} else {
				i++;
			}
		}
		if (!err)
			err = sweep_all(f, proc_fd);
	}
	close(proc_fd);
	return err ? err : put_leader_first(f);
}

bool freeze_is_stopped(const struct freeze *f)
{
	unsigned int i;

	for (i = 0; i < f->nr; i++)
		if (f->threads[i].stopped)
			return true;
	return false;
}

bool freeze_signal_deliverable(pid_t tid, uint64_t blocked)
{
	struct proc_status status;

	return !proc_status_of(tid, &status) &&
	       ((status.sig_pending | status.shared_pending) & ~blocked);
}

int freeze_thaw(struct freeze *f)
{
	unsigned int i;

	if (!f->frozen)
		return 0;
	(void)freeze_unhold(f);
	for (i = 0; i < f->nr; i++) {
		restart_undo(f->threads[i].tid);
		ptrace(PTRACE_DETACH, f->threads[i].tid, 0, 0);
	}
	f->frozen = false;
	return 0;
}

int freeze_hold(struct freeze *f)
{
	if (freeze_is_stopped(f))
		return 0;
	if (kill(f->pid, SIGSTOP) < 0)
		return log_fail(errno, "pid %d: cannot be held: %m", f->pid);
	f->held = true;
	return 0;
}

bool freeze_unhold(struct freeze *f)
{
	bool held = f->held;

	f->held = false;
	/* SIGCONT takes a pending SIGSTOP away (signal(7)), and a traced process is told of it. */
	return held && !kill(f->pid, SIGCONT);
}

int freeze_take_over(struct freeze *f, pid_t pid)
{
	bool stopped = freeze_is_stopped(f);
	int err;

	/* It is stopped, so this finds it as it was left. */
	err = freeze_process(f, pid);
	for (unsigned int i = 0; i < f->nr; i++)
		f->threads[i].stopped = stopped;
	f->held = !err && !stopped;
	return err;
}
