/* SPDX-License-Identifier: MIT */
/*
 * A small process that holds the reading ends of two pipes whose writing ends are ours. The reading ends
 * are in asynchronous mode, with SIGKILL as their signal and the moved process as their owner: when the last
 * writing end is closed, the kernel itself ends that process (fcntl(2), F_SETSIG). SIGSTOP would do if it
 * had one thread: it is taken by one thread, and others run on for a moment; SIGKILL is for all at once.
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

static int end_child(void *data, pid_t child)
{
	(void)data;
	kill(child, SIGKILL);
	return 0;
}

/* The kernel has ended the process; children that it forked while it was filled are as lost. */
static void end_all(pid_t pid, int proc_fd)
{
	if (proc_fd >= 0)
		(void)proc_each_child(proc_fd, end_child, NULL);
	log_error("pid %d was ended: all processes that filled its memory were killed at once, so "
		  "that "
		  "it would have read zeros; the device that it came from has its whole copy; see: "
		  "baton status",
		  pid);
}

static _Noreturn void be_guard(pid_t pid, const int ends[2])
{
	int proc_fd;
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
	proc_fd = proc_open(pid);
	while (read(3, &nothing, 1) < 0 && errno == EINTR)
		;
	end_all(pid, proc_fd);
	_exit(0);
}

/* A pipe whose last writer's end is the end of `pid`. */
static int make_pipe(pid_t pid, int ends[2])
{
	if (pipe2(ends, O_CLOEXEC))
		return -errno;
	return fcntl(ends[0], F_SETSIG, SIGKILL) || fcntl(ends[0], F_SETOWN, pid) ||
			       fcntl(ends[0], F_SETFL, O_ASYNC)
		       ? -errno
		       : 0;
}

void guard_reserve(struct guard *guard)
{
	int fd = open("/dev/null", O_WRONLY | O_CLOEXEC);

	guard->low_fd = fd > 0 ? fd : 0;
}

/* A copy of `fd` at number *at, or, when there is none yet, from `from` on. */
static int place(int fd, int *at, int from)
{
	int got = *at ? dup3(fd, *at, O_CLOEXEC) : fcntl(fd, F_DUPFD_CLOEXEC, from);

	/* The limit of descriptors is lower: as high as it gets. */
	if (got < 0 && (errno == EINVAL || errno == EBADF || errno == EMFILE))
		got = fcntl(fd, F_DUPFD_CLOEXEC, 3);
	if (got < 0)
		return -errno;
	if (*at && *at != got)
		close(*at);
	*at = got;
	return 0;
}

int guard_start(struct guard *guard, pid_t pid)
{
	int low[2] = {-1, -1}, high[2] = {-1, -1}, pidfd = -1, err;
	pid_t child = -1;

	err = make_pipe(pid, low);
	if (!err)
		err = make_pipe(pid, high);
	if (!err)
		child = fork();
	if (child == 0)
		be_guard(pid, (int[2]){low[0], high[0]});
	if (!err && child < 0)
		err = -errno;
	if (!err) {
		pidfd = (int)syscall(SYS_pidfd_open, child, 0);
		err = pidfd < 0 ? -errno : place(low[1], &guard->low_fd, 3);
	}
	if (!err)
		err = place(high[1], &guard->high_fd, HIGH_FD);
	if (!err) {
		guard->pidfd = pidfd;
		guard->wanted = true;
	} else if (child > 0) {
		/* Before our writing ends are closed, which would be the end of the process. */
		kill(child, SIGKILL);
		waitpid(child, NULL, 0);
		close(pidfd);
	}
	for (int i = 0; i < 2; i++) {
		close(low[i]);
		close(high[i]);
	}
	return err ? log_fail(-err, "pid %d: no process can watch over it: %s", pid, strerror(-err))
		   : 0;
}

/* Its process is a child of ours or of a worker that died. */
static bool is_dead(const struct guard *guard, int timeout_ms)
{
	struct pollfd watch = {guard->pidfd, POLLIN, 0};

	return io_poll(&watch, 1, timeout_ms) != 0;
}

void guard_check(struct guard *guard, pid_t pid)
{
	if (!guard->wanted || (guard->pidfd > 0 && !is_dead(guard, 0)))
		return;
	if (guard->pidfd > 0) {
		waitid(P_PIDFD, (id_t)guard->pidfd, NULL, WEXITED | WNOHANG);
		close(guard->pidfd);
	}
	guard->pidfd = 0;
	if (!guard_start(guard, pid)) {
		guard->warned = false;
		return;
	}
	if (!guard->warned)
		log_warn("%s; nothing would end it if all processes of the move died at once",
			 log_reason());
	guard->warned = true;
	log_reason_clear();
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
