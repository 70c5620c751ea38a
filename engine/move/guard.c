/* SPDX-License-Identifier: MIT */
/*
 * A small process that holds the reading ends of two pipes whose writing ends are ours. The reading ends
 * are in asynchronous mode, with SIGSTOP as their signal and the moved process as their owner: when the last
 * writing end is closed, the kernel itself stops that process (fcntl(2), F_SETSIG).
 *
 * One writing end has a low number and one a high one: a process that ends closes its descriptors in
 * order, but what that sets off may come in the reverse (kernel/task_work.c), and the userfaultfds lie
 * between the two.
 */
#include "engine/move/guard.h"

#include "engine/process/proc.h"
#include "lib/io.h"
#include "lib/kernel.h"
#include "lib/log.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdint.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#define HIGH_FD 512
#define END_TIMEOUT_MS 1000

static int stop_child(void *data, pid_t child)
{
	(void)data;
	kill(child, SIGSTOP);
	return 0;
}

/* The kernel has stopped the process; children that it forked while it was filled are as lost. */
static void stop_all(pid_t pid)
{
	int proc_fd = proc_open(pid);

	kill(pid, SIGSTOP);
	if (proc_fd < 0)
		return;
	(void)proc_each_child(proc_fd, stop_child, NULL);
	close(proc_fd);
	log_error(
		"pid %d was stopped: all processes that filled its memory were killed at once, and "
		"what is missing of it cannot be brought any more; the device that it came from "
		"has "
		"its whole copy; see: baton status",
		pid);
}

static _Noreturn void be_guard(pid_t pid, const int ends[2])
{
	char nothing;

	prctl(PR_SET_NAME, "baton-guard");
	signal(SIGINT, SIG_IGN);
	signal(SIGTERM, SIG_IGN);
	signal(SIGHUP, SIG_IGN);
	/* Only standard error stays, for what there is to say, and the reading ends. */
	for (int i = 0; i < 2; i++) {
		if (ends[i] != 3 + i && dup2(ends[i], 3 + i) < 0)
			_exit(1);
	}
	syscall(SYS_close_range, 5, ~0U, 0);
	while (read(3, &nothing, 1) < 0 && errno == EINTR)
		;
	stop_all(pid);
	_exit(0);
}

/* A pipe whose last writer's end stops `pid`. */
static int make_pipe(pid_t pid, int ends[2])
{
	if (pipe2(ends, O_CLOEXEC))
		return -errno;
	return fcntl(ends[0], F_SETSIG, SIGSTOP) || fcntl(ends[0], F_SETOWN, pid) ||
			       fcntl(ends[0], F_SETFL, O_ASYNC)
		       ? -errno
		       : 0;
}

void guard_reserve(struct guard *guard)
{
	int fd = open("/dev/null", O_WRONLY | O_CLOEXEC);

	guard->low_fd = fd > 0 ? fd : 0;
}

/* Puts the writing ends where they belong. */
static int place(struct guard *guard, const int low, const int high)
{
	if (!guard->low_fd)
		guard->low_fd = fcntl(low, F_DUPFD_CLOEXEC, 3);
	else if (dup3(low, guard->low_fd, O_CLOEXEC) < 0)
		return -errno;
	if (!guard->high_fd)
		guard->high_fd = fcntl(high, F_DUPFD_CLOEXEC, HIGH_FD);
	else if (dup3(high, guard->high_fd, O_CLOEXEC) < 0)
		return -errno;
	/* A low limit of descriptors: as high as it gets. */
	if (guard->high_fd < 0)
		guard->high_fd = fcntl(high, F_DUPFD_CLOEXEC, 3);
	return guard->low_fd < 0 || guard->high_fd < 0 ? -EMFILE : 0;
}

int guard_start(struct guard *guard, pid_t pid)
{
	int low[2] = {-1, -1}, high[2] = {-1, -1}, err;
	pid_t child = -1;

	err = make_pipe(pid, low);
	if (!err)
		err = make_pipe(pid, high);
	if (!err)
		child = fork();
	if (child == 0)
		be_guard(pid, (int[2]){low[0], high[0]});
	if (!err)
		err = child < 0 ? -errno : place(guard, low[1], high[1]);
	if (child > 0)
		guard->pidfd = (int)syscall(SYS_pidfd_open, child, 0);
	for (int i = 0; i < 2; i++) {
		close(low[i]);
		close(high[i]);
	}
	return err;
}

/* Its process is a child of ours or of a worker that died. */
static bool is_dead(const struct guard *guard, int timeout_ms)
{
	struct pollfd watch = {guard->pidfd, POLLIN, 0};

	return io_poll(&watch, 1, timeout_ms) != 0;
}

void guard_check(struct guard *guard, pid_t pid)
{
	int err;

	if (guard->pidfd <= 0 || !is_dead(guard, 0))
		return;
	waitid(P_PIDFD, (id_t)guard->pidfd, NULL, WEXITED | WNOHANG);
	close(guard->pidfd);
	guard->pidfd = 0;
	err = guard_start(guard, pid);
	if (err)
		log_warn("pid %d: nothing would stop it if all processes of the move died at once "
			 "(%s)",
			 pid, strerror(-err));
}

void guard_end(struct guard *guard)
{
	/* First its process: the end of a writer would otherwise be what it waits for. */
	if (guard->pidfd > 0) {
		syscall(SYS_pidfd_send_signal, guard->pidfd, SIGKILL, NULL, 0);
		is_dead(guard, END_TIMEOUT_MS);
		waitid(P_PIDFD, (id_t)guard->pidfd, NULL, WEXITED | WNOHANG);
		close(guard->pidfd);
	}
	if (guard->low_fd > 0)
		close(guard->low_fd);
	if (guard->high_fd > 0)
		close(guard->high_fd);
	*guard = (struct guard){0};
}
