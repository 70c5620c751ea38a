/* SPDX-License-Identifier: MIT */
/* The table of all kinds of state; its order is the order of the stream. */
#include "engine/state/kinds.h"

#include "engine/state/state.h"
#include "lib/config.h"

/* A kind that can be left out: then a peer that sends it is told so. */
#define OPTIONAL(option, kind, number, text)                                                       \
	IS_ENABLED(option) ? &(kind) : &(const struct state_kind)                                  \
	{                                                                                          \
		.id = (number), .name = text ": not built in here (" #option ")"                   \
	}

const struct state_kind *const state_kinds[] = {
	&kind_process,
	&kind_ipc,
	&kind_confine,
	/* descriptors: what can be watched or locked first */
	&kind_file,
	&kind_pipe,
	&kind_eventfd,
	&kind_timerfd,
	&kind_signalfd,
	OPTIONAL(CONFIG_STATE_MEMFD, kind_memfd, KIND_MEMFD, "memfd"),
	&kind_inet,
	OPTIONAL(CONFIG_STATE_UNIX, kind_unix, KIND_UNIX, "unix socket"),
	&kind_stdio,
	OPTIONAL(CONFIG_STATE_INOTIFY, kind_inotify, KIND_INOTIFY, "inotify"),
	&kind_epoll,
	&kind_fd,
	&kind_epoll_watch,
	&kind_lock,
	&kind_async,
	/* memory, which may map descriptors */
	&kind_vma,
	&kind_guardpage,
	OPTIONAL(CONFIG_STATE_MEMFD, kind_memfd_seal, KIND_MEMFD_SEAL, "memfd seals"),
	&kind_mm,
	&kind_sigaction,
	/* of each thread */
	&kind_thread,
	&kind_setting,
	&kind_numa,
	&kind_timer,
	&kind_signal,
	&kind_seccomp,
	&kind_sched,
	&kind_creds,
	&kind_registers,
};
const unsigned int state_nr_kinds = sizeof(state_kinds) / sizeof(state_kinds[0]);

const struct state_kind *state_kind_find(uint16_t id)
{
	unsigned int i;

	for (i = 0; i < state_nr_kinds; i++)
		if (state_kinds[i]->id == id)
			return state_kinds[i];
	return NULL;
}
