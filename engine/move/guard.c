/* SPDX-License-Identifier: MIT */
/*
 * A small process that has the reading ends of two pipes whose writing ends are ours alone. The reading ends
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
#include "lib/clock.h"
#include "lib/fault.h"
#include "lib/io.h"
#include "lib/kernel.h"
#include "lib/log.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/sched.h>
#include <poll.h>
#include <signal.h>
#include <stdint.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#define HIGH_FD 512
#define END_TIMEOUT_MS 1000
#define AGAIN_MS 1000

/* The kernel has ended the process; children that it forked while it was filled are as lost. */
static void end_all(pid_t pid, int proc_fd)
{
	if (proc_fd >= 0)
		(void)proc_each_child(proc_fd, proc_kill_tree, NULL);
	log_error("pid %d was ended: all processes that filled its memory were killed at once, so "
		  "that "
		  "it would have read zeros; what it came from, a device or a file, has all of it; "
		  "see: "
		  "baton status",
		  pid);
}

static _Noreturn void be_guard(pid_t pid, const struct guard *guard)
{
	int ends[] = {guard->low.read_fd, guard->high.read_fd}, proc_fd;
	struct rlimit limit;
	char nothing;

	prctl(PR_SET_NAME, "baton-guard");
	signal(SIGINT, SIG_IGN);
	signal(SIGTERM, SIG_IGN);
	signal(SIGHUP, SIG_IGN);
	/* It has a copy of all that we have open: where that is all it may have, it needs a little more. */
	if (!getrlimit(RLIMIT_NOFILE, &limit)) {
		limit.rlim_cur = limit.rlim_max;
		prlimit(0, RLIMIT_NOFILE, &limit, NULL);
	}
	/* Only standard error stays, for what there is to say, and the reading ends. */
	for (int i = 0; i < 2; i++)
		ends[i] = fcntl(ends[i], F_DUPFD, 5);
	for (int i = 0; i < 2; i++) {
		if (ends[i] < 0 || dup2(ends[i], 3 + i) < 0)
			_exit(1);
	}
	syscall(SYS_close_range, 5, ~0U, 0);
	proc_fd = proc_open(pid);
	while (read(3, &nothing, 1) < 0 && errno == EINTR)
		;
	end_all(pid, proc_fd);
	_exit(0);
}

/*
 * The kernel notes its pidfd before it lives: a guard that nobody knows of would take the end of the move for
 * the death of us all.
 */
static int start_process(struct guard *guard, pid_t pid)
{
	long child = syscall(SYS_clone, CLONE_PIDFD | SIGCHLD, 0, &guard->pidfd, 0, 0);

	if (child == 0)
		be_guard(pid, guard);
	(void)fault_point(FAULT_TARGET_GUARDED);
	return child < 0 ? -errno : 0;
}

/*
 * A pipe whose last writer's end is the end of `pid`. The number of the writing end is the one that is kept for
 * it, or `least` or above.
 */
static int make_pipe(struct guard_pipe *p, pid_t pid, int least)
{
	int ends[2], err;

	if (pipe2(ends, O_CLOEXEC))
		return -errno;
	p->read_fd = ends[0];
	p->write_fd = p->write_fd ? dup3(ends[1], p->write_fd, O_CLOEXEC)
				  : fcntl(ends[1], F_DUPFD_CLOEXEC, least);
	/* The limit of descriptors is lower: as high as it gets. */
	if (p->write_fd < 0)
		p->write_fd = fcntl(ends[1], F_DUPFD_CLOEXEC, 3);
	err = p->write_fd < 0 ? -errno : 0;
	close(ends[1]);
	if (err) {
		p->write_fd = 0;
		return err;
	}
	return fcntl(p->read_fd, F_SETSIG, SIGKILL) || fcntl(p->read_fd, F_SETOWN, pid) ||
			       fcntl(p->read_fd, F_SETFL, O_ASYNC)
		       ? -errno
		       : 0;
}

static void drop_fd(int *fd)
{
	int dropped = *fd;

	/* Nobody who goes on in our place closes what has the number by then. */
	*fd = 0;
	if (dropped > 0)
		close(dropped);
}

/* From here on its end is nobody's. */
static void drop_pipe(struct guard_pipe *p)
{
	if (p->read_fd > 0)
		fcntl(p->read_fd, F_SETFL, 0);
	drop_fd(&p->read_fd);
	drop_fd(&p->write_fd);
}

void guard_reserve(struct guard *guard)
{
	int fd = open("/dev/null", O_WRONLY | O_CLOEXEC), high;

	guard->low.write_fd = fd > 0 ? fd : 0;
	high = fcntl(fd, F_DUPFD_CLOEXEC, HIGH_FD);
	if (high >= 0)
		close(high);
}

int guard_start(struct guard *guard, pid_t pid)
{
	int err = make_pipe(&guard->low, pid, 3);

	if (!err)
		err = make_pipe(&guard->high, pid, HIGH_FD);
	if (!err)
		err = start_process(guard, pid);
	return err ? log_fail(-err, "pid %d: no process can watch over it: %m", pid) : 0;
}

static bool is_dead(const struct guard *guard)
{
	struct pollfd watch = {guard->pidfd, POLLIN, 0};

	return guard->pidfd <= 0 || io_poll(&watch, 1, 0) > 0;
}

void guard_check(struct guard *guard, pid_t pid)
{
	int err;

	/* Without a process, somebody was killed who was about to make it. */
	if (!guard->high.read_fd || !is_dead(guard))
		return;
	/* One that dies at once is not made over and over. */
	if (clock_now_ms() < guard->again_ms)
		return;
	guard->again_ms = clock_now_ms() + AGAIN_MS;
	/* A child of ours or of a worker that died. */
	if (guard->pidfd > 0)
		waitid(P_PIDFD, (id_t)guard->pidfd, NULL, WEXITED | WNOHANG);
	drop_fd(&guard->pidfd);
	err = start_process(guard, pid);
	if (!err) {
		log_warn("the guard of pid %d died; there is a new one", pid);
		guard->warned = false;
		return;
	}
	if (!guard->warned)
		log_warn("pid %d: no process can watch over it: %s; nothing would end it if all "
			 "processes of the move died at once",
			 pid, strerror(-err));
	guard->warned = true;
}

void guard_end(struct guard *guard)
{
	/* Its process has the reading ends as well, and says what their end means. */
	if (guard->pidfd > 0)
		syscall(SYS_pidfd_send_signal, guard->pidfd, SIGKILL, NULL, 0);
	drop_pipe(&guard->low);
	drop_pipe(&guard->high);
	if (guard->pidfd > 0) {
		struct pollfd watch = {guard->pidfd, POLLIN, 0};

		io_poll(&watch, 1, END_TIMEOUT_MS);
		waitid(P_PIDFD, (id_t)guard->pidfd, NULL, WEXITED | WNOHANG);
	}
	drop_fd(&guard->pidfd);
}
