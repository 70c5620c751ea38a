/* SPDX-License-Identifier: MIT */
/*
 * Runs a command inside a test device, and ends as it ends.
 *
 *	device_enter INIT_PID FOLDER COMMAND...
 *
 * With DEVICE_COST=FILE in the environment what the command and all its waited for children took goes
 * there in the end: microseconds of the processor, KiB of the largest of them.
 *
 * nsenter(1) will not do: it stops itself when the command is stopped, as every process is that is
 * handed over, and then reaps it no more.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

static const char *const spaces[] = {"mnt", "net", "pid", "time"};
#define NR_SPACES (sizeof(spaces) / sizeof(spaces[0]))

static void die(const char *what)
{
	fprintf(stderr, "device_enter: %s: %s\n", what, strerror(errno));
	_exit(127);
}

static void enter(const char *init)
{
	char path[64];
	int fds[NR_SPACES];

	for (size_t i = 0; i < NR_SPACES; i++) {
		snprintf(path, sizeof(path), "/proc/%s/ns/%s", init, spaces[i]);
		fds[i] = open(path, O_RDONLY | O_CLOEXEC);
		/* Not every kernel has time namespaces. */
		if (fds[i] < 0 && strcmp(spaces[i], "time") != 0)
			die(path);
	}
	for (size_t i = 0; i < NR_SPACES; i++)
		if (fds[i] >= 0 && (setns(fds[i], 0) || close(fds[i])))
			die(spaces[i]);
}

static void write_cost(const char *path)
{
	struct rusage all;
	FILE *f = fopen(path, "we");

	if (!f || getrusage(RUSAGE_CHILDREN, &all))
		return;
	fprintf(f, "%ld %ld\n",
		(all.ru_utime.tv_sec + all.ru_stime.tv_sec) * 1000000L + all.ru_utime.tv_usec +
			all.ru_stime.tv_usec,
		all.ru_maxrss);
	fclose(f);
}

/* The same signal, but without another core. */
static void die_of(int signal_nr)
{
	const struct rlimit none = {0, 0};

	setrlimit(RLIMIT_CORE, &none);
	signal(signal_nr, SIG_DFL);
	kill(getpid(), signal_nr);
}

int main(int argc, char **argv)
{
	int status;
	pid_t pid;

	if (argc < 4)
		return 127;
	enter(argv[1]);
	if (chdir(argv[2]))
		die(argv[2]);
	pid = fork();
	if (pid < 0)
		die("fork");
	if (pid == 0) {
		execvp(argv[3], argv + 3);
		die(argv[3]);
	}
	while (waitpid(pid, &status, 0) < 0)
		if (errno != EINTR)
			die("waitpid");
	if (getenv("DEVICE_COST"))
		write_cost(getenv("DEVICE_COST"));
	if (WIFSIGNALED(status))
		die_of(WTERMSIG(status));
	return WIFEXITED(status) ? WEXITSTATUS(status) : 127;
}
