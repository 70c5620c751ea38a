/* SPDX-License-Identifier: MIT */
/*
 * The first process of a test device: network, pid and mount namespaces of its own, a fresh /proc,
 * loopback up. Prints its pid, and ends when its standard input does: then everything in the device
 * ends with it, also when the harness was killed.
 *
 *	device_init FIRST_PID [SECONDS]	pids in the device start there, so that two devices do not collide;
 *					and it was started so long before the machine: its
 *					CLOCK_MONOTONIC and CLOCK_BOOTTIME are ahead, or behind
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <net/if.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#ifndef CLONE_NEWTIME
#define CLONE_NEWTIME 0x80
#endif

static void die(const char *what)
{
	perror(what);
	_exit(1);
}

static void loopback_up(void)
{
	struct ifreq ifr = {.ifr_flags = IFF_UP | IFF_RUNNING};
	int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);

	strcpy(ifr.ifr_name, "lo");
	if (fd < 0 || ioctl(fd, SIOCSIFFLAGS, &ifr))
		die("loopback");
	close(fd);
}

static void pids_from(const char *first)
{
	int fd = open("/proc/sys/kernel/ns_last_pid", O_WRONLY | O_CLOEXEC);

	if (fd < 0 || write(fd, first, strlen(first)) < 0)
		die("/proc/sys/kernel/ns_last_pid");
	close(fd);
}

static void shift_clocks(const char *seconds)
{
	int fd = unshare(CLONE_NEWTIME) ? -1 : open("/proc/self/timens_offsets", O_WRONLY);

	/* Not the same number for both: on a device that has slept they differ. */
	if (fd < 0 || dprintf(fd, "1 %ld 0\n7 %ld 500000000\n", atol(seconds), atol(seconds)) < 0)
		die("/proc/self/timens_offsets");
	close(fd);
}

int main(int argc, char **argv)
{
	int status = 0;
	pid_t pid;
	char c;

	if (argc != 2 && argc != 3)
		return 2;
	if (argc == 3)
		shift_clocks(argv[2]);
	if (unshare(CLONE_NEWNET | CLONE_NEWPID | CLONE_NEWNS))
		die("unshare");
	if (mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL))
		die("mount / private");
	pid = fork();
	if (pid < 0)
		die("fork");
	if (pid) {
		waitpid(pid, &status, 0);
		return 0;
	}
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	prctl(PR_SET_NAME, "device-init");
	if (mount("proc", "/proc", "proc", MS_NOSUID | MS_NODEV | MS_NOEXEC, NULL))
		die("mount /proc");
	loopback_up();
	pids_from(argv[1]);
	signal(SIGCHLD, SIG_IGN); /* orphans leave no zombies */
	signal(SIGHUP, SIG_IGN);
	signal(SIGINT, SIG_IGN);
	printf("ready\n");
	fflush(stdout);
	while (read(0, &c, 1) > 0)
		;
	return 0;
}
