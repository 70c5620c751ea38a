/* SPDX-License-Identifier: MIT */
/* Who else has something open: the other processes' descriptors are looked through. */
#include "engine/state/fd.h"

#include "lib/io.h"
#include "lib/text.h"

#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

static bool process_holds(int proc_fd, const char *pid, const char *wanted)
{
	struct dir_reader dir;
	char path[32], link[PATH_MAX];
	const char *name;
	bool found = false;

	snprintf(path, sizeof(path), "%.16s/fd", pid);
	if (dir_reader_open(&dir, proc_fd, path))
		return false;
	while (!found && dir_reader_next(&dir, &name, NULL) > 0)
		found = io_read_link(dir.fd, name, link, sizeof(link)) > 0 &&
			strcmp(link, wanted) == 0;
	dir_reader_close(&dir);
	return found;
}

bool fd_has_holder(const struct fd_look *look)
{
	struct dir_reader dir;
	const char *name;
	uint64_t pid;
	bool found = false;

	if (dir_reader_open(&dir, AT_FDCWD, "/proc"))
		return true; /* cannot tell: the careful answer */
	while (!found && dir_reader_next(&dir, &name, NULL) > 0) {
		if (text_parse_u64(name, 10, &pid) || pid == (uint64_t)look->table->pid ||
		    pid == (uint64_t)getpid())
			continue;
		found = process_holds(dir.fd, name, look->link);
	}
	dir_reader_close(&dir);
	return found;
}
