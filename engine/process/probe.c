/* SPDX-License-Identifier: MIT */
/* What a running process holds, and whether it can be moved: every kind's probe, nothing stopped. */
#include "engine/process/dump.h"

#include "engine/process/proc.h"
#include "lib/kernel.h"
#include "lib/log.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define TEXT_MAX 384

static void report(struct probe *p, bool carried, const char *item, const char *fmt, va_list args)
{
	char text[TEXT_MAX];

	vsnprintf(text, sizeof(text), fmt, args);
	if (!carried)
		p->nr_refused++;
	p->report(p, carried, item, text);
}

void probe_carried(struct probe *p, const char *item, const char *fmt, ...)
{
	va_list args;

	va_start(args, fmt);
	report(p, true, item, fmt, args);
	va_end(args);
}

void probe_refused(struct probe *p, const char *item, const char *fmt, ...)
{
	va_list args;

	va_start(args, fmt);
	report(p, false, item, fmt, args);
	va_end(args);
}

int probe_process(struct probe *p, pid_t pid)
{
	unsigned int i;
	int err = 0;

	p->pid = pid;
	p->nr_refused = 0;
	p->proc_fd = proc_open(pid);
	if (p->proc_fd < 0)
		return log_fail(-p->proc_fd, "pid %d: no such process", pid);
	p->pidfd = (int)syscall(SYS_pidfd_open, pid, 0);
	if (p->pidfd < 0)
		err = errno == EINVAL ? log_fail(EINVAL, "pid %d is a thread, not a process", pid)
				      : log_fail(errno, "pid %d: pidfd_open: %m", pid);
	for (i = 0; i < state_nr_kinds && !err; i++)
		if (state_kinds[i]->probe)
			err = state_kinds[i]->probe(p);
	close(p->proc_fd);
	if (p->pidfd >= 0)
		close(p->pidfd);
	return err;
}
