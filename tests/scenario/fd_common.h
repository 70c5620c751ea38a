/* SPDX-License-Identifier: MIT */
/* Shared by the scenarios of descriptors: one case for each argument. */
#ifndef FD_COMMON_H
#define FD_COMMON_H

#include "scenario.h"
#include <sys/mount.h>

struct fd_case {
	const char *name;
	void (*prepare)(void);
	void (*check)(void);
	void (*sabotage)(void);
	void (*begin_wait)(void); /* what must happen after `ready` */
};

/*
 * A folder that is not the same on both devices: here something lies above it. What is bound or
 * locked in it does not collide with the frozen copy of the program on the other device.
 */
static __attribute__((unused)) const char *fd_own_folder(void)
{
	static char path[300];
	char above[320];

	scenario_path("own", path, sizeof(path));
	snprintf(above, sizeof(above), "%s.above", path);
	CHECK(!mkdir(path, 0777) && !mkdir(above, 0777));
	CHECK(!mount(above, path, NULL, MS_BIND, NULL));
	return path;
}

static __attribute__((unused)) void fd_make_file(const char *path, const char *text)
{
	int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0644);

	CHECK(fd >= 0 && write(fd, text, strlen(text)) == (ssize_t)strlen(text) && !close(fd), "%s",
	      path);
}

/* How many descriptors are open. */
static __attribute__((unused)) int fd_count(void)
{
	int nr = 0;

	for (int fd = 0; fd < 1024; fd++)
		nr += fcntl(fd, F_GETFD) >= 0;
	return nr;
}

static const struct fd_case *fd_the_case;
static int fd_count_before;

static void fd_prepare(void)
{
	fd_the_case->prepare();
	fd_count_before = fd_count();
}

static void fd_wait(void)
{
	if (fd_the_case->begin_wait)
		fd_the_case->begin_wait();
	scenario_wait();
}

static void fd_check(void)
{
	int nr = fd_count();

	if (fd_the_case->begin_wait)
		fd_the_case->begin_wait(); /* undoes itself */
	CHECK(nr == fd_count_before, "%d descriptors, not %d", nr, fd_count_before);
	fd_the_case->check();
}

static void fd_sabotage(void)
{
	fd_the_case->sabotage();
}

static int fd_main(int argc, char **argv, const struct fd_case *cases, size_t nr)
{
	static const struct scenario s = {fd_prepare, fd_wait, fd_check, fd_sabotage};

	for (size_t i = 0; i < nr; i++)
		if (!strcmp(cases[i].name, argv[argc - 1]))
			fd_the_case = &cases[i];
	if (!fd_the_case)
		return 2;
	return scenario_main(argc, argv, &s);
}

#endif
