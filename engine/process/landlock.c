/* SPDX-License-Identifier: MIT */
/* A process that a thread may look into unless Landlock forbids it. */
#include "engine/process/landlock.h"

#include "engine/process/ask.h"
#include "engine/process/proc.h"
#include "lib/kernel.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

static struct {
	pid_t pid; /* as seen from here; 0: there is none */
	pid_t pid_inside;
	uint32_t uid, gid;
	pid_t asks;  /* the thread that it is right for */
	pid_t ended; /* the one before, not waited for yet; 0: none */
} helper;

static bool kernel_has_landlock(void)
{
	return syscall(SYS_landlock_create_ruleset, NULL, 0, LANDLOCK_CREATE_RULESET_VERSION) > 0;
}

/* What a process must be for the kernel to let one with these ids look into it (ptrace(2)). Stops
 * itself when it is. */
static _Noreturn void help(pid_t parent, uint32_t uid, uint32_t gid)
{
	struct __user_cap_header_struct head = {_LINUX_CAPABILITY_VERSION_3, 0};
	const struct __user_cap_data_struct none[2] = {{0}};

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	syscall(SYS_close_range, 0, ~0U, 0);
	/* Not libc's, which would look for threads. */
	if (syscall(SYS_setgroups, 0, NULL) || syscall(SYS_setresgid, gid, gid, gid) ||
	    syscall(SYS_setresuid, uid, uid, uid) || syscall(SYS_capset, &head, none) ||
	    prctl(PR_SET_DUMPABLE, 1) || prctl(PR_SET_PDEATHSIG, SIGKILL))
		_exit(1);
	/* Killed before that was asked for, it would never hear of it. 0: it is of another namespace. */
	if (getppid() && getppid() != parent)
		_exit(1);
	raise(SIGSTOP);
	for (;;)
		pause();
}

/* Forks into the pid namespace of a process, where its threads can name the child. */
static pid_t fork_beside(pid_t pid)
{
	char path[32];
	int own = open("/proc/self/ns/pid", O_RDONLY | O_CLOEXEC), theirs;
	pid_t child = -1;
	int err;

	snprintf(path, sizeof(path), "/proc/%d/ns/pid", pid);
	theirs = open(path, O_RDONLY | O_CLOEXEC);
	if (own >= 0 && theirs >= 0 && !setns(theirs, CLONE_NEWPID)) {
		child = fork();
		err = errno;
		if (child && setns(own, CLONE_NEWPID))
			err = errno;
	} else {
		err = errno;
	}
	close(own);
	close(theirs);
	return child < 0 ? -err : child;
}

static int start(pid_t pid, uint32_t uid, uint32_t gid)
{
	struct proc_status status;
	pid_t parent = getpid(), child = fork_beside(pid);
	int wait_status, err = child < 0 ? child : -EIO;

	if (child == 0)
		help(parent, uid, gid);
	if (child < 0)
		return err;
	helper.pid = child;
	helper.uid = uid;
	helper.gid = gid;
	if (waitpid(child, &wait_status, WUNTRACED) != child || !WIFSTOPPED(wait_status)) {
		helper.pid = 0;
		return err;
	}
	err = proc_status_of(child, &status);
	helper.pid_inside = err ? 0 : status.pid_inside;
	return err;
}

void landlock_end(void)
{
	if (!helper.pid)
		return;
	kill(helper.pid, SIGKILL);
	helper.ended = helper.pid;
	helper.pid = helper.asks = 0;
}

void landlock_reap(void)
{
	if (helper.ended)
		waitpid(helper.ended, NULL, 0);
	helper.ended = 0;
}

/* The real ids of a thread, which count when it looks. */
static int read_ids(pid_t tid, uint32_t *uid, uint32_t *gid)
{
	struct proc_status status;
	char path[32];
	int fd, err;

	snprintf(path, sizeof(path), "/proc/%d", tid);
	fd = open(path, O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	err = proc_status(fd, &status);
	close(fd);
	if (err)
		return err;
	*uid = status.uid[0];
	*gid = status.gid[0];
	return 0;
}

/* Has a helper with the ids of this thread. */
static int begin(pid_t pid, pid_t tid)
{
	uint32_t uid = 0, gid = 0;
	int err = helper.pid && helper.asks == tid ? 0 : read_ids(tid, &uid, &gid);

	if (err || (helper.pid && helper.asks == tid))
		return err;
	if (!helper.pid || helper.uid != uid || helper.gid != gid) {
		landlock_end();
		landlock_reap();
		err = start(pid, uid, gid);
	}
	helper.asks = err ? 0 : tid;
	return err;
}

void landlock_begin(pid_t pid)
{
	if (kernel_has_landlock())
		begin(pid, pid);
	helper.asks = 0; /* until it stands still its ids may change */
}

static struct question robust_list_of_helper(void)
{
	return (struct question){
		.nr = SYS_get_robust_list,
		.args = {(uint64_t)helper.pid_inside, 0, sizeof(uint64_t)},
		.rooms = 1 << 1 | 1 << 2,
		.len = 2 * sizeof(uint64_t),
	};
}

void landlock_ask(struct remote *thread)
{
	struct question q;

	if (!kernel_has_landlock() || begin(thread->pid, thread->tid))
		return;
	q = robust_list_of_helper();
	ask_ahead(thread, &q);
}

int landlock_restricts(struct remote *thread)
{
	uint64_t list[2];
	struct question q;
	int64_t ret;
	int err;

	if (!kernel_has_landlock())
		return 0;
	err = begin(thread->pid, thread->tid);
	if (err)
		return err;
	q = robust_list_of_helper();
	ret = ask_for(thread, &q, list);
	return ret == -EPERM ? 1 : (int)ret;
}
