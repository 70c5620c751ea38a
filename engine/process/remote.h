/* SPDX-License-Identifier: MIT */
/*
 * Remote system calls: a stopped thread is made to run a system call in its own context, and the
 * result is read. Nothing else of it changes: remote_close puts the registers back.
 * The thread must be seized (PTRACE_O_TRACESYSGOOD) by the caller, have every signal blocked, and
 * be in a ptrace-stop throughout. Source: ptrace(2).
 */
#ifndef BATON_REMOTE_H
#define BATON_REMOTE_H

#include "arch/arch.h"
#include "lib/kernel.h"
#include <stdbool.h>

/* Dispatch of a thread's system calls to itself, as the kernel has it (linux/ptrace.h, 6.4). */
struct user_dispatch {
	uint64_t mode, selector, offset, len; /* mode 0: there is none */
};

struct batch;

struct remote {
	pid_t pid;                    /* process, as seen from here */
	pid_t tid;                    /* the thread that runs the calls, as seen from here */
	pid_t pid_inside, tid_inside; /* with `batch` or `steps`: as it knows itself */
	struct batch
		*batch; /* its calls are queued and run by a loop in its memory; NULL: one by one */
	int mem_fd;     /* /proc/PID/mem, read and write */
	uint64_t insn;  /* a system call instruction in its memory */
	uint64_t scratch; /* scratch area in its memory, for arguments; 0 when there is none */
	uint32_t scratch_len, scratch_used;
	struct arch_regs saved; /* registers to put back */
	struct arch_live live;  /* and what calls destroy beside them */
	pid_t cloned;  /* the thread that the last call created, as seen from here; 0: none */
	uint64_t rseq; /* its restartable sequences area; 0: none registered */
	uint32_t rseq_len, rseq_signature;
	uint64_t rseq_cs; /* what the area announced before our first call, which clears it */
	struct user_dispatch dispatch; /* switched off for our calls, put back */
	bool dead;                     /* the thread is gone; every call says -ESRCH */
	struct arch_sigreturn way;     /* with `way_at`: how it finds back by itself if we die */
	uint64_t way_at;               /* frame of the way back; 0: it has none */
	uint64_t steps;                /* unused memory for steps on it; 0: none */
	uint32_t steps_len;
	int silent; /* a signal that the process ignores, see ask_begin; 0: none */
};

/* Room for arguments: CONFIG_RUN_KIB has no part in it; seccomp filters are the largest. */
#define REMOTE_SCRATCH_BYTES (64 * 1024)

/*
 * Takes a stopped thread into service: keeps its registers and opens its memory; switches off what
 * would keep it from our calls. insn and scratch are the caller's to set. 0 or -errno.
 */
int remote_open(struct remote *r, pid_t pid, pid_t tid);

/* Another stopped thread of the same process: same memory, same scratch area. */
int remote_open_sibling(struct remote *r, const struct remote *leader, pid_t tid);

/*
 * From here until remote_close a thread that is let go by our death goes on as the program that it was,
 * with signal mask `mask`; an interrupted system call is run again. `way` is known to be in its code,
 * `at` is unused memory of ARCH_SIGRETURN_MAX bytes. insn becomes that of the way. 0 or -errno.
 */
int remote_set_way_back(struct remote *r, const struct arch_sigreturn *way, uint64_t at,
			uint64_t mask);

/*
 * Puts the registers back and leaves the thread in a signal stop (PTRACE_EVENT_STOP), from which
 * the kernel's own restart of an interrupted system call works; from the stop of a remote call it
 * would hand the restart code to the program. Closes nothing of a sibling.
 */
int remote_close(struct remote *r);

/*
 * Runs system call `nr` in the thread, behind what is queued for it (engine/process/batch.h). Returns what
 * the kernel returned (0 or more, or a negative errno), -ESRCH when the thread died (r->dead is then set), or
 * the error of a queued call, whose reason is said.
 * Use remote_call(r, SYS_close, fd): missing arguments are 0; each is converted to uint64_t.
 */
int64_t remote_run(struct remote *r, long nr, const uint64_t args[static 6]);
#define remote_call(r, nr, ...) remote_run((r), (nr), (const uint64_t[6]){__VA_ARGS__})

/* True for a negative errno, where the result is an address (which may be negative, too). */
static inline bool remote_failed(int64_t result)
{
	return result < 0 && result >= -KERNEL_MAX_ERRNO;
}

/*
 * Continues the thread with `regs` until `signal` stops it, which it does not get, and reads them again. 0,
 * -ESRCH.
 */
int remote_go(struct remote *r, struct arch_regs *regs, int signal);

/*
 * As remote_run for a call that blocks: interrupts it once it sleeps and leaves the thread in a
 * signal stop with the kernel's restart block armed. Returns the raw result (a restart code, or a
 * final result when the call did not block).
 */
int64_t remote_run_interrupted(struct remote *r, long nr, const uint64_t args[static 6]);

/*
 * Copies `len` bytes into the scratch area; returns their address in the process, 0 when there is
 * no room or the copy failed. 16-byte aligned. remote_reset gives all of it back.
 */
uint64_t remote_push(struct remote *r, const void *data, size_t len);
uint64_t remote_push_str(struct remote *r, const char *text);
/* Room in the scratch area for a result; what it holds is undefined. */
uint64_t remote_room(struct remote *r, size_t len);
void remote_reset(struct remote *r);

/* Memory of the process, any mapping and protection (via /proc/PID/mem). 0 or -errno; short is
 * -EFAULT. */
int remote_read(const struct remote *r, uint64_t addr, void *buf, size_t len);
int remote_write(const struct remote *r, uint64_t addr, const void *buf, size_t len);

/* Waits for the next ptrace-stop of `tid`, at most timeout_ms (-1: for ever). 0 and the status of
 * waitpid(2), -ESRCH when the thread is gone, -ETIMEDOUT. */
int remote_wait_stop(pid_t tid, int *status, int timeout_ms);

/*
 * Puts us and the stopped thread `tid` on one CPU: a remote call then is two switches there instead
 * of two wake-ups across CPUs, a fifth of the time. Threads that it makes inherit that. Nothing
 * happens when the kernel does not allow it.
 */
void remote_pin(pid_t tid);
/* Lets a thread run on every CPU that we could use before remote_pin. */
void remote_unpin_thread(pid_t tid);
/* Ends it for ourselves; idempotent. */
void remote_unpin(void);

/* True for a stop that PTRACE_INTERRUPT or a group-stop made. */
bool remote_is_signal_stop(int status);

#endif
