/* SPDX-License-Identifier: MIT */
/*
 * Remote system calls: a stopped thread is made to run a system call in its own context, and the
 * result is read. Nothing else of it changes: remote_close puts the registers back.
 * The thread must be seized by the caller and in a ptrace-stop throughout.
 */
#ifndef BATON_REMOTE_H
#define BATON_REMOTE_H

#include "arch/arch.h"
#include <stdbool.h>

struct remote {
	pid_t pid; /* process, as seen from here */
	pid_t tid; /* the thread that runs the calls, as seen from here */
	int mem_fd;                        /* /proc/PID/mem, read and write */
	uint64_t insn;                     /* a system call instruction in its memory */
	uint64_t scratch;                  /* scratch area in its memory, for arguments; 0 when there is none */
	uint32_t scratch_len, scratch_used;
	struct arch_regs saved;            /* registers to put back */
	bool dead;                         /* the thread is gone; every call says -ESRCH */
};

/*
 * Runs system call `nr` in the thread. Returns what the kernel returned (0 or more, or a negative
 * errno), or -ESRCH when the thread died (r->dead is then set).
 * Use remote_call(r, SYS_close, fd): missing arguments are 0; each is converted to uint64_t.
 */
int64_t remote_run(struct remote *r, long nr, const uint64_t args[static 6]);
#define remote_call(r, nr, ...) remote_run((r), (nr), (const uint64_t[6]){__VA_ARGS__})

/*
 * Copies `len` bytes into the scratch area; returns their address in the process, 0 when there is
 * no room or the copy failed. 16-byte aligned. remote_reset gives all of it back.
 */
uint64_t remote_push(struct remote *r, const void *data, size_t len);
uint64_t remote_push_str(struct remote *r, const char *text);
/* Room in the scratch area for a result, zeroed. */
uint64_t remote_room(struct remote *r, size_t len);
void remote_reset(struct remote *r);

/* Memory of the process, any mapping and protection (via /proc/PID/mem). 0 or -errno; short is -EFAULT. */
int remote_read(const struct remote *r, uint64_t addr, void *buf, size_t len);
int remote_write(const struct remote *r, uint64_t addr, const void *buf, size_t len);

#endif
