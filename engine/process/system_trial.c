/* SPDX-License-Identifier: MIT */
/* What is tried in a child of ours, so that nothing of it stays. */
#include "engine/process/system_trial.h"

#include "engine/process/proc.h"
#include "engine/process/remote.h"
#include "engine/state/unix_sock.h"
#include "lib/kernel.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/sched.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#define STOP_TIMEOUT_MS 2000
/* Somebody else may take the pid that was free a moment ago. */
#define PID_ATTEMPTS 8
/* Fields of /proc/PID/stat, counted from 1 as in proc(5). */
#define STAT_STARTCODE 26
#define STAT_START_DATA 45

int trial_run(int (*fn)(void))
{
	int status = 0;
	pid_t pid = fork();

	if (pid < 0)
		return -errno;
	if (pid == 0)
		_exit(-fn() & 0xff);
	if (waitpid(pid, &status, 0) != pid || !WIFEXITED(status))
		return -EIO;
	return -WEXITSTATUS(status);
}

int trial_tid_address(void)
{
	void *address;

	return prctl(PR_GET_TID_ADDRESS, &address) < 0 ? -errno : 0;
}

/*
 * Our own layout and our own program's file. While that is mapped the kernel says EBUSY to the
 * file, after it has checked the right and the layout.
 */
int trial_mm_map(void)
{
	struct prctl_mm_map map = {0};
	uint64_t code[3], data[7];
	int dir_fd = proc_open(getpid()), err;

	if (dir_fd < 0)
		return dir_fd;
	err = proc_stat_fields(dir_fd, STAT_STARTCODE, 3, code);
	if (!err)
		err = proc_stat_fields(dir_fd, STAT_START_DATA, 7, data);
	if (err)
		return err;
	map.start_code = code[0];
	map.end_code = code[1];
	map.start_stack = code[2];
	map.start_data = data[0];
	map.end_data = data[1];
	map.start_brk = data[2];
	map.brk = (uint64_t)syscall(SYS_brk, 0);
	map.arg_start = data[3];
	map.arg_end = data[4];
	map.env_start = data[5];
	map.env_end = data[6];
	map.exe_fd = (uint32_t)open("/proc/self/exe", O_RDONLY | O_CLOEXEC);
	if (!prctl(PR_SET_MM, PR_SET_MM_MAP, &map, sizeof(map), 0) || errno == EBUSY)
		return 0;
	return -errno;
}

int trial_pidns(void)
{
	return unshare(CLONE_NEWPID) < 0 ? -errno : 0;
}

int trial_timer_ids(void)
{
	return prctl(PR_TIMER_CREATE_RESTORE_IDS, PR_TIMER_CREATE_RESTORE_IDS_ON, 0, 0, 0) < 0
		       ? -errno
		       : 0;
}

int trial_unix_diag(void)
{
	struct unix_look look;
	int pair[2];

	if (socketpair(AF_UNIX, SOCK_STREAM, 0, pair) < 0)
		return -errno;
	return unix_look_at(pair[0], &look);
}

/* A number that was free a moment ago: that of a child which has ended. */
static pid_t free_pid(void)
{
	pid_t pid = fork();

	if (pid == 0)
		_exit(0);
	if (pid < 0)
		return -errno;
	waitpid(pid, NULL, 0);
	return pid;
}

pid_t trial_make_subject(void)
{
	struct clone_args args = {.exit_signal = SIGCHLD, .set_tid_size = 1};
	long pid = -EEXIST;

	for (int i = 0; i < PID_ATTEMPTS && pid == -EEXIST; i++) {
		pid_t want = free_pid();

		if (want < 0)
			return want;
		args.set_tid = (uint64_t)(uintptr_t)&want;
		pid = syscall(SYS_clone3, &args, sizeof(args));
		if (pid < 0)
			pid = -errno;
	}
	return (pid_t)pid;
}

_Noreturn void trial_sleep(void)
{
	pid_t parent = getppid();

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	while (getppid() == parent)
		pause();
	_exit(0);
}

int trial_wait_stop(pid_t pid)
{
	int status;

	return remote_wait_stop(pid, &status, STOP_TIMEOUT_MS);
}
