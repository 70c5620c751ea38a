/* SPDX-License-Identifier: MIT */
/*
 * A new, empty process with a given pid, in a session of a given id.
 *
 *   we ──fork──> [init, with pidns] ──fork──> maker ──fork──> process
 *
 * The maker takes the session's number as its pid where it is free, leads that session, and ends.
 * The process reports by a message with credentials, in which the kernel puts its pid as we see it.
 */
#include "engine/process/spawn.h"

#include "lib/fault.h"
#include "lib/kernel.h"
#include "lib/log.h"

#include <errno.h>
#include <linux/sched.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

/* Whoever made it attaches at once. If it died instead, nobody knows of the new process, and it ends. */
#define UNWANTED_S 2

/* What the new process, or one on the way to it, tells us. */
struct report {
	int32_t err; /* of making it; 0: this is the process */
	int32_t in_session;
};

static pid_t fork_into(pid_t want, uint64_t flags)
{
	struct clone_args args = {
		.flags = flags,
		.exit_signal = SIGCHLD,
		.set_tid = want ? (uint64_t)(uintptr_t)&want : 0,
		.set_tid_size = want ? 1 : 0,
	};
	long pid = syscall(SYS_clone3, &args, sizeof(args));

	return pid < 0 ? -errno : (pid_t)pid;
}

static pid_t fork_with_pid(pid_t want)
{
	return fork_into(want, 0);
}

static void tell(int sock, int err, bool in_session)
{
	struct report report = {err, in_session};

	send(sock, &report, sizeof(report), MSG_NOSIGNAL);
}

/*
 * Its memory is soon another program's, and nobody may put a page of zeros where one is missing: nothing in it is
 * shown in /proc/PID, and no huge page is made around one that is there (engine/state/mm.c).
 */
static void keep_memory_empty(void)
{
	uint64_t here = (uintptr_t)&here;
	struct prctl_mm_map map = {
		.start_code = here,
		.end_code = here + 1,
		.start_data = here,
		.end_data = here,
		.start_brk = here,
		.brk = here,
		.start_stack = here,
		.arg_start = here,
		.arg_end = here,
		.env_start = here,
		.env_end = here,
		.exe_fd = (uint32_t)-1,
	};

	/* Where it is not known, the new program's layout is what fails. */
	prctl(PR_SET_MM, PR_SET_MM_MAP, &map, sizeof(map), 0);
	prctl(PR_SET_THP_DISABLE, 1, 0, 0, 0);
}

static _Noreturn void be_process(int sock, bool in_session)
{
	struct timespec wait = {.tv_sec = UNWANTED_S};

	keep_memory_empty();
	/* Nobody must wait for the end of a connection for as long as we are here. */
	if (sock > STDERR_FILENO + 1)
		syscall(SYS_close_range, STDERR_FILENO + 1, sock - 1, 0);
	syscall(SYS_close_range, sock + 1, ~0U, 0);
	tell(sock, 0, in_session);
	syscall(SYS_ppoll, NULL, 0, &wait, NULL, 0);
	_exit(1);
}

/*
 * Makes the process, in the session where that is possible, and ends: the process then belongs to
 * init (or ours), so that no end of baton is the end of its parent. And it alone changes what clocks its
 * children see.
 */
static _Noreturn void be_maker(const struct spawn *s, int sock, bool leads)
{
	bool in_session = leads && setsid() > 0;
	pid_t pid = s->ahead ? clocks_shift_children(s->ahead) : 0;

	if (pid == 0)
		pid = fork_with_pid(s->want);
	if (pid == 0)
		be_process(sock, in_session);
	if (pid < 0)
		tell(sock, pid, false);
	_exit(0);
}

static int make(const struct spawn *s, int sock)
{
	bool leads = s->sid != 0 && s->sid != s->want;
	pid_t maker = leads ? fork_with_pid(s->sid) : -EEXIST;

	if (maker == 0)
		be_maker(s, sock, true);
	if (maker < 0)
		maker = fork_with_pid(0);
	if (maker == 0)
		be_maker(s, sock, false);
	if (maker < 0)
		return maker;
	waitpid(maker, NULL, 0);
	return 0;
}

/* The init of a pid namespace: reaps, and ends with its last child. */
static _Noreturn void be_init(const struct spawn *s, int sock)
{
	int err, sig;

	prctl(PR_SET_NAME, "baton-init");
	err = make(s, sock);
	if (err)
		tell(sock, err, false);
	/* Not before: the process would begin with it. */
	for (sig = 1; sig < 32; sig++)
		signal(sig, sig == SIGCHLD ? SIG_DFL : SIG_IGN);
	syscall(SYS_close_range, 0, ~0U, 0);
	while (waitpid(-1, NULL, __WALL) > 0 || errno == EINTR)
		;
	_exit(0);
}

/* Receives the report and the sender's pid as we see it. */
static int receive_report(int sock, struct report *report, pid_t *pid)
{
	union {
		char space[CMSG_SPACE(sizeof(struct ucred))];
		struct cmsghdr align;
	} control;
	struct iovec iov = {report, sizeof(*report)};
	struct msghdr msg = {
		.msg_iov = &iov,
		.msg_iovlen = 1,
		.msg_control = &control,
		.msg_controllen = sizeof(control),
	};
	struct cmsghdr *c;
	struct ucred cred;
	ssize_t n;

	do
		n = recvmsg(sock, &msg, 0);
	while (n < 0 && errno == EINTR);
	if (n != (ssize_t)sizeof(*report))
		return n < 0 ? -errno : -ECHILD;
	c = CMSG_FIRSTHDR(&msg);
	if (!c || c->cmsg_type != SCM_CREDENTIALS)
		return -EPROTO;
	memcpy(&cred, CMSG_DATA(c), sizeof(cred));
	*pid = cred.pid;
	return 0;
}

static int spawn_with(struct spawn *s, int sock)
{
	pid_t init;

	if (!s->pidns)
		return make(s, sock);
	init = fork_into(0, CLONE_NEWPID);
	if (init == 0)
		be_init(s, sock);
	if (init < 0)
		return init;
	s->init = init;
	return 0;
}

int spawn_process(struct spawn *s)
{
	struct report report = {0};
	int socks[2], err, on = 1;

	s->pid = s->init = 0;
	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, socks) < 0)
		return log_fail(errno, "socketpair: %m");
	setsockopt(socks[0], SOL_SOCKET, SO_PASSCRED, &on, sizeof(on));
	err = spawn_with(s, socks[1]);
	/* Without our own copy the end of the others is the end of the stream. */
	close(socks[1]);
	if (!err)
		err = receive_report(socks[0], &report, &s->pid);
	close(socks[0]);
	if (!err)
		err = report.err;
	if (!err)
		err = fault_point(FAULT_RESTORE_SPAWN);
	if (err && s->pid)
		kill(s->pid, SIGKILL);
	s->in_session = report.in_session;
	if (err && s->init) {
		kill(s->init, SIGKILL);
		waitpid(s->init, NULL, 0);
		s->init = 0;
	}
	if (err == -EEXIST)
		return log_fail(EEXIST, "pid %d is taken on this device; use receive --pidns",
				s->want);
	if (err)
		return log_fail(-err, "a process with pid %d%s cannot be made: %m", s->want,
				s->ahead ? " in a time namespace" : "");
	return 0;
}
