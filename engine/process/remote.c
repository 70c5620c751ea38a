/* SPDX-License-Identifier: MIT */
/* System calls run by a stopped thread, through two PTRACE_SYSCALL stops each. */
#include "engine/process/remote.h"

#include "engine/process/batch.h"
#include "engine/process/restart.h"
#include "lib/arena.h"
#include "lib/clock.h"
#include "lib/log.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define SYSCALL_STOP (SIGTRAP | 0x80)
#define EVENT_OF(status) ((status) >> 16)
#define SCRATCH_ALIGN 16
/* A stop comes within microseconds; spinning that long saves two context switches. */
#define WAIT_SPINS 200
/* rseq_cs in struct rseq (linux/rseq.h) */
#define RSEQ_CS_OFFSET 8

#ifndef PTRACE_GET_SYSCALL_USER_DISPATCH_CONFIG
#define PTRACE_SET_SYSCALL_USER_DISPATCH_CONFIG 0x4210
#define PTRACE_GET_SYSCALL_USER_DISPATCH_CONFIG 0x4211
#endif

static struct {
	cpu_set_t own;
	bool active;
} pin;

void remote_pin(pid_t tid)
{
	cpu_set_t one;
	int cpu = sched_getcpu();

	if (pin.active || cpu < 0 || sched_getaffinity(0, sizeof(pin.own), &pin.own))
		return;
	CPU_ZERO(&one);
	CPU_SET(cpu, &one);
	if (sched_setaffinity(0, sizeof(one), &one))
		return;
	pin.active = true;
	sched_setaffinity(tid, sizeof(one), &one);
}

void remote_unpin_thread(pid_t tid)
{
	if (pin.active)
		sched_setaffinity(tid, sizeof(pin.own), &pin.own);
}

void remote_unpin(void)
{
	if (pin.active)
		sched_setaffinity(0, sizeof(pin.own), &pin.own);
	pin.active = false;
}

/*
 * Sleeps until something happens to a process of ours. The end of a group's leader is told only when
 * the ends of all its other threads were heard: those are, here.
 */
static void sleep_for_leader(pid_t tid)
{
	siginfo_t info = {0};

	if (waitid(P_ALL, 0, &info, WEXITED | WSTOPPED | WNOWAIT | __WALL) < 0 ||
	    info.si_pid == tid)
		return;
	if (info.si_code == CLD_EXITED || info.si_code == CLD_KILLED || info.si_code == CLD_DUMPED)
		waitpid(info.si_pid, NULL, __WALL | WNOHANG);
	else
		sched_yield(); /* another thread's stop, which its own wait takes */
}

static int wait_stop(pid_t tid, bool leader, int *status, int timeout_ms)
{
	int64_t deadline = clock_deadline_ms(timeout_ms);
	unsigned int tries;
	pid_t got;

	/* On the same CPU it cannot stop before we sleep. */
	for (tries = pin.active ? WAIT_SPINS : 0;; tries++) {
		bool block = timeout_ms < 0 && tries >= WAIT_SPINS;

		if (block && leader) {
			sleep_for_leader(tid);
			block = false;
		}
		got = waitpid(tid, status, __WALL | (block ? 0 : WNOHANG));
		if (got == tid)
			return WIFSTOPPED(*status) ? 0 : -ESRCH;
		if (got < 0 && errno != EINTR)
			return -ESRCH;
		/* The thread may need the very CPU that we spin on. */
		if (!block && tries < WAIT_SPINS)
			sched_yield();
		if (timeout_ms >= 0 && tries >= WAIT_SPINS) {
			const struct timespec pause = {0, 50000};

			if (!clock_left_ms(deadline))
				return -ETIMEDOUT;
			nanosleep(&pause, NULL);
		}
	}
}

int remote_wait_stop(pid_t tid, int *status, int timeout_ms)
{
	return wait_stop(tid, true, status, timeout_ms);
}

static int wait_own_stop(const struct remote *r, int *status)
{
	return wait_stop(r->tid, r->tid == r->pid, status, -1);
}

bool remote_is_signal_stop(int status)
{
	return EVENT_OF(status) == PTRACE_EVENT_STOP;
}

/* Calls of ours clear the announcement of a restartable sequence: it is kept (kernel/rseq.c). */
static int read_rseq(struct remote *r)
{
	struct __ptrace_rseq_configuration rseq = {0};

	r->rseq = r->rseq_cs = 0;
	if (ptrace(PTRACE_GET_RSEQ_CONFIGURATION, r->tid, sizeof(rseq), &rseq) < 0 ||
	    !rseq.rseq_abi_pointer)
		return 0;
	r->rseq = rseq.rseq_abi_pointer;
	r->rseq_len = rseq.rseq_abi_size;
	r->rseq_signature = rseq.signature;
	return remote_read(r, r->rseq + RSEQ_CS_OFFSET, &r->rseq_cs, sizeof(r->rseq_cs));
}

static int set_dispatch(pid_t tid, const struct user_dispatch *dispatch)
{
	return ptrace(PTRACE_SET_SYSCALL_USER_DISPATCH_CONFIG, tid, sizeof(*dispatch), dispatch) < 0
		       ? -errno
		       : 0;
}

/* Our calls would be handed to the program, too. A kernel before 6.4 does not tell, and says EIO. */
static int suspend_dispatch(struct remote *r)
{
	const struct user_dispatch off = {0};

	r->dispatch = off;
	if (ptrace(PTRACE_GET_SYSCALL_USER_DISPATCH_CONFIG, r->tid, sizeof(r->dispatch),
		   &r->dispatch) < 0)
		r->dispatch.mode = 0;
	return r->dispatch.mode ? set_dispatch(r->tid, &off) : 0;
}

int remote_open(struct remote *r, pid_t pid, pid_t tid)
{
	char path[40];
	int err;

	memset(r, 0, sizeof(*r));
	r->pid = pid;
	r->tid = tid;
	r->mem_fd = -1;
	err = arch_regs_get_call(tid, &r->saved);
	if (!err)
		err = arch_live_keep(tid, &r->live);
	if (err)
		return err;
	snprintf(path, sizeof(path), "/proc/%d/mem", pid);
	r->mem_fd = open(path, O_RDWR | O_CLOEXEC);
	err = r->mem_fd < 0 ? -errno : read_rseq(r);
	return err ? err : suspend_dispatch(r);
}

int remote_open_sibling(struct remote *r, const struct remote *leader, pid_t tid)
{
	int err;

	*r = *leader;
	r->tid = tid;
	r->dead = false;
	r->way_at = 0;
	err = arch_regs_get_call(tid, &r->saved);
	if (!err)
		err = arch_live_keep(tid, &r->live);
	if (!err)
		err = read_rseq(r);
	return err ? err : suspend_dispatch(r);
}

int remote_set_way_back(struct remote *r, const struct arch_sigreturn *way, uint64_t at,
			uint64_t mask)
{
	size_t mark = arena_mark();
	uint8_t *frame = arena_alloc(ARENA_SCRATCH, ARCH_SIGRETURN_MAX, 64);
	struct arch_regs regs = r->saved;
	ssize_t len = -ENOMEM;

	restart_rewind(r->tid, &regs, mask);
	if (frame)
		len = arch_sigreturn_frame(way, r->tid, &regs, mask, at, frame, ARCH_SIGRETURN_MAX);
	if (len > 0)
		len = remote_write(r, at, frame, (size_t)len);
	arena_reset(mark);
	if (len < 0)
		return (int)len;
	r->way = *way;
	r->way_at = at;
	r->insn = arch_sigreturn_call(way);
	arch_sigreturn_load(&regs, way, at);
	return arch_regs_set(r->tid, &regs);
}

/* From any ptrace-stop to a signal stop, without a user instruction in between. */
static int to_signal_stop(const struct remote *r)
{
	pid_t tid = r->tid;
	int status, err;

	if (ptrace(PTRACE_INTERRUPT, tid, 0, 0) < 0 || ptrace(PTRACE_SYSCALL, tid, 0, 0) < 0)
		return -errno;
	for (;;) {
		err = wait_own_stop(r, &status);
		if (err)
			return err;
		if (remote_is_signal_stop(status))
			return 0;
		if (ptrace(PTRACE_SYSCALL, tid, 0, 0) < 0)
			return -errno;
	}
}

static int64_t lost(struct remote *r)
{
	r->dead = true;
	return log_fail(ESRCH, "pid %d: thread %d died while it was being worked on", r->pid,
			r->tid);
}

/* The instruction is not what it was: the thread would fault for ever. */
static bool is_fault(int status)
{
	int signal = WSTOPSIG(status);

	return !EVENT_OF(status) && (signal == SIGSEGV || signal == SIGBUS || signal == SIGILL);
}

/* Continues until a signal stops it, or SYSCALL_STOP; remembers a thread that was created on the way. */
static int next_stop(struct remote *r, int request, int signal)
{
	int status, err;
	unsigned long message;

	for (;;) {
		if (ptrace(request, r->tid, 0, 0) < 0)
			return -errno;
		err = wait_own_stop(r, &status);
		if (err)
			return err;
		if (WSTOPSIG(status) == signal && !EVENT_OF(status))
			return 0;
		if (is_fault(status))
			return -EFAULT;
		if (EVENT_OF(status) == PTRACE_EVENT_CLONE &&
		    ptrace(PTRACE_GETEVENTMSG, r->tid, 0, &message) == 0)
			r->cloned = (pid_t)message;
		/* Others: a group-stop or an interrupt that was already on its way. */
	}
}

static int next_syscall_stop(struct remote *r)
{
	return next_stop(r, PTRACE_SYSCALL, SYSCALL_STOP);
}

int remote_go(struct remote *r, struct arch_regs *regs, int signal)
{
	if (arch_regs_set(r->tid, regs) || next_stop(r, PTRACE_CONT, signal) ||
	    arch_regs_get(r->tid, regs))
		return (int)lost(r);
	return 0;
}

static int enter_call(struct remote *r, long nr, const uint64_t args[static 6])
{
	struct arch_regs regs = r->saved;
	int err;

	r->cloned = 0;
	arch_inject_load(&regs, r->insn, nr, args);
	if (r->way_at)
		arch_sigreturn_set_stack(&regs, &r->way, r->way_at);
	err = arch_regs_set(r->tid, &regs);
	if (!err)
		err = next_syscall_stop(r);
	return err ? err : arch_inject_entered(r->tid, nr);
}

/* Leaves it in the stop at the call's end. */
static int64_t run_by_stops(struct remote *r, long nr, const uint64_t args[static 6])
{
	struct arch_regs regs;

	if (enter_call(r, nr, args) || next_syscall_stop(r) || arch_regs_get(r->tid, &regs))
		return lost(r);
	return arch_inject_result(&regs);
}

int64_t remote_run(struct remote *r, long nr, const uint64_t args[static 6])
{
	if (r->dead)
		return -ESRCH;
	return r->batch ? batch_run(r, nr, args) : run_by_stops(r, nr, args);
}

/* In a signal stop with the registers to go on with. */
static int put_registers_back(struct remote *r)
{
	bool replays;
	uint64_t first;
	int err = to_signal_stop(r);

	if (err)
		return err;
	replays = arch_restart_replays(&r->saved, &first);
	if (replays)
		run_by_stops(r, SYS_getpid, (const uint64_t[6]){first});
	err = r->dead ? -ESRCH : arch_regs_set(r->tid, &r->saved);
	if (!err && replays)
		err = to_signal_stop(r);
	return err ? err : arch_live_put_back(r->tid, &r->live);
}

int remote_close(struct remote *r)
{
	int err = r->batch ? batch_flush(r) : 0;

	if (!err)
		err = r->dead ? -ESRCH : put_registers_back(r);
	if (!err && r->rseq_cs)
		err = remote_write(r, r->rseq + RSEQ_CS_OFFSET, &r->rseq_cs, sizeof(r->rseq_cs));
	if (!err && r->dispatch.mode)
		err = set_dispatch(r->tid, &r->dispatch);
	return err;
}

/* Waits until the thread sleeps in its call or has left it. */
static int wait_asleep(struct remote *r, int *status)
{
	char path[48], text[128];
	int fd, tries;
	ssize_t n;

	snprintf(path, sizeof(path), "/proc/%d/task/%d/syscall", r->pid, r->tid);
	for (tries = 0; tries < 10000; tries++) {
		pid_t got = waitpid(r->tid, status, __WALL | WNOHANG);

		if (got == r->tid)
			return 1;
		/* "running" while it is on a CPU, the number of the call once it sleeps. */
		fd = open(path, O_RDONLY | O_CLOEXEC);
		n = fd < 0 ? -1 : read(fd, text, sizeof(text));
		if (fd >= 0)
			close(fd);
		if (n > 0 && text[0] != 'r')
			return 0;
		sched_yield();
	}
	return -ETIMEDOUT;
}

int64_t remote_run_interrupted(struct remote *r, long nr, const uint64_t args[static 6])
{
	struct arch_regs regs;
	int status, got = r->batch ? batch_flush(r) : 0;

	if (r->dead || got)
		return r->dead ? -ESRCH : got;
	if (enter_call(r, nr, args) || ptrace(PTRACE_SYSCALL, r->tid, 0, 0) < 0)
		return lost(r);
	got = wait_asleep(r, &status);
	if (got <= 0) {
		if (ptrace(PTRACE_INTERRUPT, r->tid, 0, 0) < 0 || wait_own_stop(r, &status))
			return lost(r);
	}
	/* Now in the call's exit stop; the result is final for us to read. */
	if (arch_regs_get(r->tid, &regs) || to_signal_stop(r))
		return lost(r);
	return arch_inject_result(&regs);
}

uint64_t remote_room(struct remote *r, size_t len)
{
	uint64_t addr;

	if (!r->scratch || len > r->scratch_len - r->scratch_used)
		return 0;
	addr = r->scratch + r->scratch_used;
	r->scratch_used += (uint32_t)((len + SCRATCH_ALIGN - 1) & ~(size_t)(SCRATCH_ALIGN - 1));
	if (r->scratch_used > r->scratch_len)
		r->scratch_used = r->scratch_len;
	return addr;
}

uint64_t remote_push(struct remote *r, const void *data, size_t len)
{
	uint64_t addr = remote_room(r, len);

	return addr && remote_write(r, addr, data, len) == 0 ? addr : 0;
}

uint64_t remote_push_str(struct remote *r, const char *text)
{
	return remote_push(r, text, strlen(text) + 1);
}

void remote_reset(struct remote *r)
{
	r->scratch_used = 0;
}

int remote_read(const struct remote *r, uint64_t addr, void *buf, size_t len)
{
	ssize_t n;

	while (len) {
		n = pread(r->mem_fd, buf, len, (off_t)addr);
		if (n <= 0)
			return n < 0 && errno != EIO ? -errno : -EFAULT;
		addr += (uint64_t)n;
		buf = (char *)buf + n;
		len -= (size_t)n;
	}
	return 0;
}

int remote_write(const struct remote *r, uint64_t addr, const void *buf, size_t len)
{
	ssize_t n;

	while (len) {
		n = pwrite(r->mem_fd, buf, len, (off_t)addr);
		if (n <= 0)
			return n < 0 && errno != EIO ? -errno : -EFAULT;
		addr += (uint64_t)n;
		buf = (const char *)buf + n;
		len -= (size_t)n;
	}
	return 0;
}
