/* SPDX-License-Identifier: MIT */
/*
 * One kind of state: its probe, dump, restore and message. A kind is a file in this folder and a
 * row in kinds.c; the order of the rows is the order in the stream.
 */
#ifndef BATON_STATE_H
#define BATON_STATE_H

#include "engine/process/ask.h"
#include "engine/process/clocks.h"
#include "engine/process/freeze.h"
#include "engine/process/proc.h"
#include "engine/paging/pagemap.h"
#include "engine/process/remote.h"
#include "engine/process/restart.h"
#include "engine/process/rights.h"
#include "engine/process/vdso.h"
#include "engine/state/creds.pb.h"
#include "engine/state/kinds.h"
#include "engine/state/process.pb.h"
#include "engine/state/setting.pb.h"
#include "engine/state/vma_skip.h"
#include "lib/config.h"
#include "transport/pack.h"
#include <pb.h>
#include <sys/prctl.h>
#include <sys/stat.h>

struct lane;
struct state_kind;

/* ---- before the freeze: the process runs, nothing is touched, /proc is read ---- */

struct probe {
	pid_t pid;
	int proc_fd; /* O_PATH of /proc/PID */
	int pidfd;
	/*
	 * Called for each thing the process holds. `item` names it ("fd 7", "7f12..-7f13.. /lib/x.so");
	 * carried false: it cannot be moved, `text` says what it is and what to do.
	 */
	void (*report)(struct probe *p, bool carried, const char *item, const char *text);
	unsigned int nr_refused;
	void *data; /* the caller's */
};
void probe_carried(struct probe *p, const char *item, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));
void probe_refused(struct probe *p, const char *item, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));

/* ---- source: every thread is stopped ---- */

/* More than so many are looked through where they are described. */
#define DUMP_UNGUARDED 32

struct dump {
	pid_t pid;
	int proc_fd, pidfd;
	struct pagemap pagemap;    /* which of its pages exist */
	struct remote leader;      /* runs remote calls in the process, with a scratch area */
	uint64_t leader_mask;      /* its signal mask; all are blocked while it works for us */
	bool leader_open;          /* there is something to put back */
	struct proc_status status; /* its, read when it stands still */
	struct remote thread; /* per-thread kinds: the same for the thread they are called for */
	uint64_t thread_mask; /* its signal mask */
	struct arch_sigreturn way; /* how a thread finds back if we die; see dump_prepare */
	uint64_t room;             /* unused part of its stack that is used meanwhile; 0: none */
	uint64_t below;         /* while mappings are looked through: the end of the one before */
	struct freeze *freeze;  /* the threads */
	struct lane *out;       /* where STATE and PAGES frames go */
	struct packer packer;   /* of those pages */
	uint64_t out_bytes_s;   /* how fast they go, with the cipher; 0: not known */
	uint64_t nr_state;      /* STATE frames so far */
	uint64_t nr_eager;      /* pages sent before the start */
	unsigned int nr_sent;   /* pending signals that somebody sent, as they were described */
	struct clocks clocks;   /* the moment from which on the description counts time, on ours */
	const char *kind;       /* being dumped, for messages */
	bool fds_known;         /* fd.c: its table is of this process, frozen */
	bool other_vdso;        /* the target's kernel has another one */
	struct vdso_place vdso; /* where the one here lies */
	struct vma_skip skip;   /* what smaps need not look through */
	/* Large mappings whose guard regions are still to be told. */
	struct dump_range {
		uint64_t start, end;
	} unguarded[DUMP_UNGUARDED];
	unsigned int nr_unguarded;
};

/* Sends one message of a kind. */
int dump_emit(struct dump *d, const struct state_kind *kind, const void *msg);

/* Sends the pages of [start, end) (page-aligned) now, so that they are there before the start. A
 * page that cannot be read is an error: -EFAULT. */
int dump_emit_pages(struct dump *d, uint64_t start, uint64_t end);

/* dump_emit_pages for each run of private pages that have content of their own. */
int dump_emit_existing(struct dump *d, uint64_t start, uint64_t end);

/* True when somebody sent a signal since the pending ones were described (engine/state/signal.c). */
bool signal_came(const struct dump *d);

/* ---- target: the new process exists, its leader is stopped ---- */

/* Who is told of memory that comes when the process runs. */
struct restore_lazy {
	/* Each private anonymous range that it will be filled with, in address order, as it is mapped. */
	int (*on_range)(void *data, uint64_t start, uint64_t end);
	/*
	 * Of each thread what it will touch at once: addresses around its stack pointer, its program counter,
	 * what its registers lead to, if they lead anywhere. False: it was not worth a note.
	 */
	bool (*on_touch)(void *data, uint64_t addr);
	void *data;
};

struct restore {
	pid_t pid;        /* as seen from here; 0: nothing exists yet */
	pid_t pid_inside; /* as the program knows it */
	pid_t init;       /* the init of a pid namespace made for it; 0: none */
	int proc_fd, pidfd;
	struct remote leader; /* runs remote calls, with a scratch area */
	struct batch *batch;  /* its queue, and that of the thread being built */
	struct remote thread; /* the thread being built: messages of one thread come together */
	pid_t tid_inside;     /* that thread, as the program knows it */
	bool thread_is_leader;
	uint64_t scratch; /* start of the whole scratch mapping, code page included */
	uint64_t scratch_len;
	uint64_t vdso_insn;           /* a system call instruction in its vdso; 0: it has none */
	bool other_vdso;              /* the program knows another one than this kernel's */
	bool stopped;                 /* it was in group-stop and shall be so again */
	struct arch_regs leader_regs; /* final registers of the leader */
	uint64_t leader_mask, leader_rseq_cs;
	struct restart_timed leader_timed;
	baton_Creds leader_creds; /* in force last: the rights are needed until then */
	struct proc_status own;   /* what it is until then; tgid 0: not looked at yet */
	bool leader_done;         /* they have been received */
	baton_Process process;    /* what it is as a whole */
	baton_Settings settings;  /* and has switched on */
	struct prctl_mm_map mm;   /* its final memory layout */
	bool in_session;          /* its session could be had */
	unsigned int nr_threads;
	pid_t *tids;                 /* as seen from here; [0] is the leader */
	const struct rights *rights; /* with which its files are opened */
	const char *stdio; /* --stdio FILE, or NULL: the receiver's own standard streams */
	int stdio_fd[3];   /* fds 0..2 in the new process are these until replaced: see fd.c */
	struct {
		bool begun;          /* stdio_fd are out of the way */
		uint64_t soft, hard; /* RLIMIT_NOFILE to put back */
	} fds;
	bool pidns;
	bool clocks_fit; /* ours are as good as its own: see CLOCKS_BOUND_NS */
	bool may_jump;   /* there are no time namespaces here: its clocks become ours */
	/* The moment from which on the description counts time, on our clocks and on its own. */
	struct clocks clocks, clocks_inside;
	int object_fd; /* shared memory being filled: PAGES of this range go into it; -1 */
	uint64_t object_start, object_end, object_offset, object_len;
	uint64_t nr_state;
	struct restore_lazy lazy;
};

/* True when a range of the new process meets the instruction and the arguments of remote calls: what a
 * peer could write there would run with our rights. */
bool restore_is_scratch(const struct restore *r, uint64_t addr, uint64_t len);

/* After the program's memory is watched, for others may read it from here on: its arguments and its
 * environment are in /proc/PID, and huge pages are made (engine/state/mm.c). */
int mm_show(struct restore *r);

/* Sets its resource limits; after mm_show, which its RLIMIT_DATA could forbid. */
int process_limit(struct restore *r);

/* ---- the table ---- */

/* What only notes questions is not there where they are asked one by one. */
#define ASKS(fn) (IS_ENABLED(CONFIG_ASK_AHEAD) ? (fn) : NULL)

struct state_kind {
	uint16_t id; /* enum state_kind_id */
	const char *name;
	const pb_msgdesc_t *fields; /* its message */
	size_t size;                /* sizeof the message's struct */
	/* Reports what of this kind the running process holds. NULL: always carried, nothing to
	 * say. 0 or -errno. */
	int (*probe)(struct probe *p);
	/* Notes what dump, or dump_thread, will ask (engine/process/ask.h) of d->leader, or d->thread: ASKS(function). */
	void (*ask)(struct dump *d);
	void (*ask_thread)(struct dump *d);
	/* Emits the messages of this kind. 0 or -errno with log_fail. */
	int (*dump)(struct dump *d, const struct state_kind *kind);
	/* The same for one thread (d->thread): called for every thread, the leader last, after all
	 * `dump` functions. */
	int (*dump_thread)(struct dump *d, const struct state_kind *kind,
			   const struct freeze_thread *thread);
	/* NULL: there is no message, the kind only refuses; it has no id then, fields and size neither. Or it
	 * is not built in, and has nothing but its id and a name that says so.
	 * Else it rebuilds from one message (already decoded and bounds-checked by nanopb; values are
	 * hostile). 0 or -errno with log_fail. */
	int (*restore)(struct restore *r, const void *msg);
	/* All messages of the stream were seen; last step, in reverse table order: the process as a
	 * whole comes last. NULL: nothing. */
	int (*finish)(struct restore *r);
};

extern const struct state_kind *const state_kinds[];
extern const unsigned int state_nr_kinds;
const struct state_kind *state_kind_find(uint16_t id); /* NULL when unknown */

#endif
