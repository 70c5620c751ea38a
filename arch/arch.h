/* SPDX-License-Identifier: MIT */
/*
 * The whole contract of an architecture. Each architecture defines all of it, in files of the same
 * names; nothing outside arch/ names an architecture. struct arch_regs comes from the
 * architecture's own arch_types.h (found by include path).
 * A tid is a thread seized by the caller and in a ptrace-stop, unless said otherwise.
 */
#ifndef BATON_ARCH_H
#define BATON_ARCH_H

#include "arch_types.h" /* struct arch_regs, struct arch_sigaction, ARCH_XSTATE_MAX, ... */
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

/* ---- regs.c: general registers ---- */

/* Reads or writes all general registers. -errno of ptrace(2); -ENOEXEC: a 32-bit task. */
int arch_regs_get(pid_t tid, struct arch_regs *regs);
int arch_regs_set(pid_t tid, const struct arch_regs *regs);
/*
 * As arch_regs_get for a thread in a signal stop (PTRACE_EVENT_STOP), with the system call that the stop
 * interrupted: what arch_restart_kind and its like ask for.
 */
int arch_regs_get_call(pid_t tid, struct arch_regs *regs);
/* Before a seized thread is told to stop: notes of the call that it sleeps in what will be lost by that. */
void arch_call_note(pid_t tid);
uint64_t arch_regs_pc(const struct arch_regs *regs);
uint64_t arch_regs_sp(const struct arch_regs *regs);
void arch_regs_set_pc(struct arch_regs *regs, uint64_t pc);

/* ---- xstate.c ---- */

/*
 * Extended state: the TLS base, where it is none of the general registers, FP, SIMD, keys, ... in the
 * architecture's own form. get: bytes written, or -errno. set: -EPROTO for a form that is none.
 */
ssize_t arch_xstate_get(pid_t tid, void *buf, size_t cap);
int arch_xstate_set(pid_t tid, const void *buf, size_t len);
/* What a system call destroys of it: kept before the first, put back after the last. 0 or -errno. */
int arch_live_keep(pid_t tid, struct arch_live *live);
int arch_live_put_back(pid_t tid, const struct arch_live *live);

/* ---- inject.c: system calls run by a stopped thread ---- */

/* The bytes of the system call instruction. */
extern const uint8_t arch_syscall_insn[];
extern const size_t arch_syscall_insn_len;

/* Makes `regs` run system call `nr` at `insn`, an address of the system call instruction. */
void arch_inject_load(struct arch_regs *regs, uint64_t insn, long nr,
		      const uint64_t args[static 6]);
/* In the stop at its entry: sees to it that it is `nr` that the kernel runs. 0 or -errno. */
int arch_inject_entered(pid_t tid, long nr);
int64_t arch_inject_result(const struct arch_regs *regs);

/* ---- batch.c: many system calls of a stopped thread in one go ---- */

struct arch_batch_call {
	uint32_t nr, flags;
	uint64_t args[6];
	int64_t result;
};
#define ARCH_BATCH_KEEP 1U  /* its result is kept */
#define ARCH_BATCH_FIRST 2U /* its first argument is what was kept */
#define ARCH_BATCH_FIFTH 4U /* its fifth is */
#define ARCH_BATCH_ANY 8U   /* whatever its result, the next one follows */
#define ARCH_BATCH_END 16U  /* it stops the thread; nothing follows */

/*
 * Code that runs calls which lie one behind the other, wherever it lies itself, with no other memory: up to
 * the first one that fails, or to one with ARCH_BATCH_END, which is made in both cases.
 */
extern const uint8_t arch_batch_code[], arch_batch_code_end[];
/* Makes `regs` run it: it lies at `code`, the calls at `first`, the one with ARCH_BATCH_END at `end`. */
void arch_batch_load(struct arch_regs *regs, uint64_t code, uint64_t first, uint64_t end);
/*
 * True when it is at that call. *failed: the address of the one that failed, 0: none; *kept: what was
 * kept last.
 */
bool arch_batch_ended(const struct arch_regs *regs, uint64_t end, uint64_t *failed, int64_t *kept);

/* The signal trampoline in struct arch_sigaction: 0 and nothing where the kernel has none. */
uint64_t arch_sigaction_restorer(const struct arch_sigaction *act);
void arch_sigaction_set_restorer(struct arch_sigaction *act, uint64_t restorer);

/* What to do with a system call that the stop interrupted. */
enum arch_restart {
	ARCH_RESTART_NONE,   /* was not in a system call, or it is final */
	ARCH_RESTART_REWIND, /* run it again with the same arguments (ERESTARTSYS, NOINTR, NOHAND) */
	ARCH_RESTART_BLOCK,  /* the kernel keeps a restart block (ERESTART_RESTARTBLOCK) */
	ARCH_RESTART_EINTR, /* final EINTR, though only the stop caused it if no signal is deliverable */
};
enum arch_restart arch_restart_kind(const struct arch_regs *regs);
/* Number and arguments of the interrupted call; nr -1 when there is none. */
long arch_restart_call(const struct arch_regs *regs, uint64_t args[static 6]);
/* What the call really is, where the registers only have the number of restart_syscall(2). */
void arch_restart_set_call(struct arch_regs *regs, long nr);
/* Sets argument `index` of the call that will be run again. */
void arch_restart_set_arg(struct arch_regs *regs, int index, uint64_t value);
/* Makes the thread run the interrupted call again when it continues. */
void arch_restart_rewind(struct arch_regs *regs);
/* Makes the thread continue through the kernel's restart block; must be continued from a signal stop. */
void arch_restart_through_block(struct arch_regs *regs);
/* Makes the interrupted call return `result`. */
void arch_restart_finish(struct arch_regs *regs, int64_t result);
/*
 * True when the kernel must see the thread leave a system call with `regs` to restart it: a call with
 * first argument *first is run, then `regs` are set in its exit stop. False when it is enough to set them
 * in a signal stop.
 */
bool arch_restart_replays(const struct arch_regs *regs, uint64_t *first);

/* ---- sigreturn.c: the way back of a thread whose tracer dies while it works for us ---- */

/*
 * Looks in `len` bytes of the program's code, which lie at `base`, for what the way needs. `way`
 * begins zeroed and is filled over several calls. True when it has all, with the code for steps.
 */
bool arch_sigreturn_scan(struct arch_sigreturn *way, const uint8_t *text, size_t len,
			 uint64_t base);
/*
 * Its places in the program's code, in the order in which they can be found again one by one; their number, 0 when
 * it is not complete. The third is only there with arch_sigreturn_has_steps.
 */
struct arch_place {
	uint64_t at;
	size_t len; /* at most ARCH_SIGRETURN_CODE */
};
unsigned int arch_sigreturn_places(const struct arch_sigreturn *way,
				   struct arch_place places[static 3]);
/* Address of a system call instruction from which a thread that nobody stops goes the way back. */
uint64_t arch_sigreturn_call(const struct arch_sigreturn *way);
/*
 * Writes the frame that lies at `at` (a multiple of ARCH_SIGRETURN_ALIGN) of the program's memory: the
 * thread then continues with `regs`, signal mask `mask`, and its present extended state. Its alternate
 * stack stays. Bytes to be written there, or -errno. `cap` at least ARCH_SIGRETURN_MAX.
 */
ssize_t arch_sigreturn_frame(const struct arch_sigreturn *way, pid_t tid,
			     const struct arch_regs *regs, uint64_t mask, uint64_t at, uint8_t *out,
			     size_t cap);
/* Makes a thread go the way back as soon as it runs. */
void arch_sigreturn_load(struct arch_regs *regs, const struct arch_sigreturn *way, uint64_t at);
/* For a system call at arch_sigreturn_call: the way back lies behind it. */
void arch_sigreturn_set_stack(struct arch_regs *regs, const struct arch_sigreturn *way,
			      uint64_t at);

/*
 * A way can be longer: steps that lie one behind the other, each a system call whose result is stored, and behind
 * the last of them, which stores nothing, the way back. Gone with arch_sigreturn_load and the first of them.
 */
struct arch_step {
	long nr;
	uint64_t args[6];
	uint64_t result_at; /* 0: the last one */
};
/* True when the program has the code for that, too. */
bool arch_sigreturn_has_steps(const struct arch_sigreturn *way);
/*
 * Writes a step of `tid` that lies at `at` (a multiple of 16): `mask` is its signal mask while it makes the call,
 * `regs` what it has beside that. `back`: the frame that arch_sigreturn_frame has made. Bytes, always a multiple of
 * 16, the same for each but the last; or -errno.
 */
ssize_t arch_sigreturn_step(const struct arch_sigreturn *way, pid_t tid,
			    const struct arch_regs *regs, uint64_t mask, uint64_t at, uint64_t back,
			    const struct arch_step *step, uint8_t out[static ARCH_STEP_MAX]);

/* ---- settings.c ---- */

/*
 * Something that a system call reads and another one switches on again. Both begin with an argument
 * that says what; the reading one fails where the kernel does not have it.
 */
struct arch_setting {
	const char *name;
	uint64_t mask; /* bits that count; 0: all */
	uint32_t id;   /* on the wire, never reused; an architecture's own from 32 on */
	uint32_t call;
	uint32_t get, get_value; /* its first two arguments */
	uint32_t needed;         /* bits without which the value says nothing */
	uint32_t usual;          /* the value of who has never set it: not told */
	uint32_t set;            /* 0: cannot be set, and is refused */
	uint32_t set_part,
		set_value; /* set_value: what is set instead of the value; 0: the value */
	bool get_room;     /* the second is the address of 8 bytes, the third 8 */
	bool by_pointer;   /* the same, and the value is put there; else it is the result */
	bool set_which;    /* set_part stands between `set` and the value */
	bool process;      /* of all threads at once */
	bool last;         /* stands in the way of the rest of the building */
};
extern const struct arch_setting arch_settings[];
extern const unsigned int arch_nr_settings;

/* What a stopped thread has that no call sets again, in words ("it has ..."), or NULL. */
const char *arch_thread_unfit(pid_t tid);

/* ---- wire.c ---- */

/* Host-independent form of the general registers: words of 8 bytes, little-endian. encode: bytes, or -ENOSPC. decode: -EPROTO for
 * a wrong size or values that user space cannot have. */
ssize_t arch_regs_encode(const struct arch_regs *regs, uint8_t *out, size_t cap);
int arch_regs_decode(const uint8_t *in, size_t len, struct arch_regs *regs);

/* ---- core.c: core files ---- */

/*
 * Calls `note` for each note of a core file that extended state becomes. The general registers of one are the first
 * ARCH_CORE_REGS_BYTES of their wire form. -EBADMSG: no such state; or what `note` says.
 */
typedef int arch_core_note_fn(void *data, const char *name, uint32_t type, const void *bytes,
			      size_t len);
int arch_core_notes(const uint8_t *xstate, size_t len, arch_core_note_fn *note, void *data);

/* ---- features.c ---- */

#define ARCH_FEATURES_MAX 512 /* bytes of the wire form */
const char *arch_name(void);  /* "x86_64", "arm64" */
/* This machine's features, in the architecture's own form. Bytes, or -ENOSPC. */
ssize_t arch_features_collect(uint8_t *out, size_t cap);
/* 0 when a process from a machine with `theirs` can run here; else -ENOEXEC and the reason in words. */
int arch_features_compare(const uint8_t *theirs, size_t len, char *reason, size_t reason_cap);

/* ---- pagetable.c ---- */

unsigned int arch_page_shift(void); /* at run time */
uint64_t arch_user_top(void);       /* first address above user space */

/* ---- vdso.c ---- */

/* Offset of a system call instruction in a vdso image, or -ENOENT. */
ssize_t arch_vdso_find_syscall(const uint8_t *image, size_t len);
/* True for the names in /proc/PID/maps that belong to the vdso: [vdso], [vvar], [vvar_vclock]. */
bool arch_vdso_is_part(const char *name);
/* True for mappings every process has at the same place and nobody can move, e.g. [vsyscall]. */
bool arch_vdso_is_fixed(const char *name);

/* ---- vdso_redirect.c: functions of a vdso whose kernel does not run any more ---- */

#define ARCH_VDSO_ENTRY_MAX 64
struct arch_vdso_function {
	const char *name; /* without the prefix that a vdso's names have */
	long call;        /* does the same; -1: its code needs no data of the kernel's, and stays */
};
extern const struct arch_vdso_function arch_vdso_functions[];
extern const unsigned int arch_nr_vdso_functions;

/*
 * Code for the entry of such a function, which lies at `at`: it goes on at `to`, or, when that is 0, makes
 * system call `call` and returns. Bytes, always the same number for one call. getrandom(2)'s question for
 * the size of its state is answered with -ENOSYS then.
 */
size_t arch_vdso_entry(uint8_t out[static ARCH_VDSO_ENTRY_MAX], long call, uint64_t at,
		       uint64_t to);

#endif
