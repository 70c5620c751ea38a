/* SPDX-License-Identifier: MIT */
/*
 * Registers of a stopped thread, by ptrace regsets.
 *
 * What arm64 does with a system call that a stop interrupts (arch/arm64/kernel/signal.c, do_signal):
 * it puts the first argument, which the result has overwritten, back into x0 and the program counter
 * back over the instruction *before* the tracer sees the stop; the restart code is a local variable.
 * We turn that into what other architectures show: x0 is the restart code, the program counter behind
 * the instruction, `call` the number, `first` the argument.
 *
 *	program counter at an `svc #0`       interrupted there; its number tells the code.
 *	                                     (Or stopped in the one moment before: then it is as if
 *	                                     the call had begun and was interrupted at once.)
 *	behind an `svc #0`, x0 is a result   a final result. The argument is not to be had from
 *	                                     the kernel any more: it was noted while the thread
 *	                                     still slept, or the result stays what it is
 */
#include "arch/arch.h"
#include "arch/arm64/regsets.h"
#include "lib/io.h"
#include "lib/text.h"

#include <fcntl.h>
#include <linux/futex.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>

#define ERESTARTSYS 512
#define ERESTARTNOHAND 514
#define ERESTART_RESTARTBLOCK 516
#define SVC_0 0xd4000001u
#define GENERAL_BYTES offsetof(struct arch_regs, call)
#define NR_CALL 8 /* the register of the number */

_Static_assert(GENERAL_BYTES == 272, "struct user_pt_regs");

int arch_regs_get(pid_t tid, struct arch_regs *regs)
{
	ssize_t len = regset_get(tid, REGSET_GENERAL, regs, GENERAL_BYTES);

	regs->call = -1;
	regs->first = 0;
	if (len < 0)
		return (int)len;
	/* A 32-bit task answers with its own, shorter set. */
	return len == GENERAL_BYTES ? 0 : -ENOEXEC;
}

int arch_regs_set(pid_t tid, const struct arch_regs *regs)
{
	return regset_set(tid, REGSET_GENERAL, regs, GENERAL_BYTES);
}

/* The restart code of a call, by its number and arguments; 0 for one that no stop interrupts. */
static int64_t restart_code(int64_t nr, const uint64_t *x)
{
	const uint64_t futex = x[1] & FUTEX_CMD_MASK;

	switch (nr) {
	case SYS_restart_syscall:
	case SYS_nanosleep:
		return -ERESTART_RESTARTBLOCK;
	case SYS_clock_nanosleep:
		return x[1] & TIMER_ABSTIME ? -ERESTARTNOHAND : -ERESTART_RESTARTBLOCK;
	case SYS_futex:
		if (futex != FUTEX_WAIT && futex != FUTEX_WAIT_BITSET)
			return 0; /* those of priority inheritance begin anew */
		return x[3] ? -ERESTART_RESTARTBLOCK : -ERESTARTSYS;
	case SYS_msgrcv:
	case SYS_msgsnd:
	case SYS_ppoll:
	case SYS_pselect6:
	case SYS_rt_sigsuspend:
		return -ERESTARTNOHAND;
	/* They begin anew whatever the signal's handler asks for, and do when the registers stay. */
	case SYS_clone:
	case SYS_clone3:
	case SYS_rt_sigreturn:
	case SYS_execve:
	case SYS_execveat:
	case SYS_exit:
	case SYS_exit_group:
		return 0;
	default:
		return -ERESTARTSYS;
	}
}

static bool is_svc(pid_t tid, uint64_t at)
{
	long word;

	errno = 0;
	word = ptrace(PTRACE_PEEKTEXT, tid, (void *)(uintptr_t)(at & ~7ULL), 0);
	return !errno && !(at & 3) && (uint32_t)((uint64_t)word >> (at & 4 ? 32 : 0)) == SVC_0;
}

/* ---- calls whose first argument is gone ---- */

static struct note {
	int32_t tid, nr;
	uint64_t first, rest;
} notes[CONFIG_MAX_THREADS];

static struct note *find_note(pid_t tid)
{
	for (unsigned int i = 0; i < CONFIG_MAX_THREADS; i++)
		if (notes[i].tid == tid)
			return &notes[i];
	return NULL;
}

/* What else tells one call from another: the other arguments and where it is made. */
static uint64_t fold(const uint64_t *args, uint64_t sp, uint64_t pc)
{
	uint64_t sum = sp ^ pc << 20;

	for (int i = 1; i < 6; i++)
		sum = (sum ^ args[i]) * 0x9e3779b97f4a7c15ULL;
	return sum;
}

static bool take_hex(const char **c, uint64_t *value)
{
	return text_take_u64(c, 10, value) && text_take_char(c, 'x') && text_take_u64(c, 16, value);
}

/*
 * Its registers are those of the call, as long as the thread sleeps in it. Being seized, it begins no
 * handler of a signal without our knowing before it stops.
 */
void arch_call_note(pid_t tid)
{
	struct note *note = find_note(tid);
	uint64_t args[6], sp, pc;
	char path[40], text[256];
	const char *c = text;
	int64_t nr = -1;
	int taken = 0;

	if (!note)
		note = find_note(0);
	if (!note)
		note = &notes[0];
	*note = (struct note){.tid = tid, .nr = -1};
	snprintf(path, sizeof(path), "/proc/%d/syscall", tid);
	if (io_read_file(AT_FDCWD, path, text, sizeof(text)) < 0 || !text_take_i64(&c, 10, &nr))
		return;
	while (taken < 6 && take_hex(&c, &args[taken]))
		taken++;
	if (taken < 6 || !take_hex(&c, &sp) || !take_hex(&c, &pc))
		return;
	*note = (struct note){tid, (int32_t)nr, args[0], fold(args, sp, pc)};
}

/* A call that has its result: its first argument is known when it is the one that was noted. */
static void take_note(pid_t tid, struct arch_regs *regs)
{
	const struct note *note = find_note(tid);
	uint32_t nr = (uint32_t)regs->x[NR_CALL];

	if (note && note->nr == (int32_t)nr && note->rest == fold(regs->x, regs->sp, regs->pc)) {
		regs->call = nr;
		regs->first = note->first;
	} else if ((int64_t)regs->x[0] != -EINTR) {
		regs->call = nr;
	}
}

int arch_regs_get_call(pid_t tid, struct arch_regs *regs)
{
	int err = arch_regs_get(tid, regs);
	uint32_t nr = (uint32_t)regs->x[NR_CALL];
	int64_t code;

	if (err)
		return err;
	if (is_svc(tid, regs->pc)) {
		code = restart_code(nr, regs->x);
		if (code) {
			regs->call = nr;
			regs->first = regs->x[0];
			regs->x[0] = (uint64_t)code;
			regs->pc += arch_syscall_insn_len;
		}
	} else if (is_svc(tid, regs->pc - arch_syscall_insn_len)) {
		take_note(tid, regs);
	}
	return 0;
}

uint64_t arch_regs_pc(const struct arch_regs *regs)
{
	return regs->pc;
}

uint64_t arch_regs_sp(const struct arch_regs *regs)
{
	return regs->sp;
}

void arch_regs_set_pc(struct arch_regs *regs, uint64_t pc)
{
	regs->pc = pc;
}
