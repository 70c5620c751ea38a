/* SPDX-License-Identifier: MIT */
/* The table of all kinds of state; its order is the order of the stream. */
#include "engine/state/kinds.h"

#include "engine/state/state.h"

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
	&kind_memfd,
	&kind_inet,
	&kind_unix,
	&kind_stdio,
	&kind_inotify,
	&kind_epoll,
	&kind_fd,
	&kind_epoll_watch,
	&kind_lock,
	&kind_async,
	/* memory, which may map descriptors */
	&kind_vma,
	&kind_guardpage,
	&kind_memfd_seal,
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
