/* SPDX-License-Identifier: MIT */
/* Numbers of the kinds of state on the wire. Never reused. The order of the stream is in kinds.c. */
#ifndef BATON_KINDS_H
#define BATON_KINDS_H

enum {
	KIND_PROCESS = 1,

	/* Descriptors. */
	KIND_FD = 16,
	KIND_FILE,
	KIND_PIPE,
	KIND_EVENTFD,
	KIND_EPOLL,
	KIND_EPOLL_WATCH,
	KIND_TIMERFD,
	KIND_SIGNALFD,
	KIND_INOTIFY,
	KIND_MEMFD,
	KIND_MEMFD_SEAL,
	KIND_INET,
	KIND_UNIX,
	KIND_STDIO,
	KIND_LOCK,
	KIND_ASYNC,

	/* Memory, signals, threads. */
	KIND_VMA = 64,
	KIND_MM,
	KIND_SIGACTION,
	KIND_TIMER,
	KIND_SIGNAL,
	KIND_THREAD,
	KIND_SECCOMP,
	KIND_CREDS,
	KIND_SCHED,
	KIND_REGISTERS,
	KIND_SETTING,
	KIND_GUARDPAGE,
	KIND_NUMA,
};

struct state_kind;
extern const struct state_kind kind_fd, kind_file, kind_pipe, kind_eventfd, kind_epoll,
	kind_epoll_watch, kind_timerfd, kind_signalfd, kind_inotify, kind_memfd, kind_memfd_seal,
	kind_inet, kind_unix, kind_stdio, kind_lock, kind_async;
extern const struct state_kind kind_process, kind_vma, kind_mm, kind_sigaction, kind_timer,
	kind_signal, kind_thread, kind_seccomp, kind_creds, kind_sched, kind_registers,
	kind_setting, kind_guardpage, kind_numa;
/* These have no message: they only refuse. */
extern const struct state_kind kind_ipc, kind_confine;

#endif
