/* SPDX-License-Identifier: MIT */
/* A control group that holds a process still. */
#include "engine/process/freezer.h"

#include "lib/arena.h"
#include "lib/clock.h"
#include "lib/io.h"
#include "lib/log.h"
#include "lib/text.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define FREEZE_TIMEOUT_MS 1000
#define REMOVE_TIMEOUT_MS 1000
#define LINE_BYTES 4096 /* not a page */

/* Path of the process' group in a hierarchy: "0::/path", or "N:...freezer...:/path". */
static bool group_of(pid_t pid, bool v1, char *out, size_t cap)
{
	char file[40], buf[1024], *line;
	struct line_reader reader;
	bool found = false;

	snprintf(file, sizeof(file), "/proc/%d/cgroup", pid);
	if (line_reader_open(&reader, AT_FDCWD, file, buf, sizeof(buf)))
		return false;
	while (!found && line_reader_next(&reader, &line) > 0) {
		char *names = strchr(line, ':'), *path = names ? strchr(names + 1, ':') : NULL;

		if (!path)
			continue;
		*path++ = '\0';
		found = (v1 ? strstr(names + 1, "freezer") != NULL : !strcmp(line, "0:")) &&
			text_copy(out, cap, !strcmp(path, "/") ? "" : path);
	}
	line_reader_close(&reader);
	return found;
}

/* Where the hierarchy is mounted, whole. Fields: id parent dev root mountpoint ... - type source options. */
static bool mount_of(bool v1, char *out, size_t cap)
{
	size_t mark = arena_mark();
	char *buf = arena_alloc(ARENA_SCRATCH, LINE_BYTES, 16), *line;
	struct line_reader reader;
	bool found = false;

	if (buf && !line_reader_open(&reader, AT_FDCWD, "/proc/self/mountinfo", buf, LINE_BYTES)) {
		while (!found && line_reader_next(&reader, &line) > 0) {
			char *kind = strstr(line, " - "), *root = line, *point, *end;

			for (int i = 0; i < 3 && root; i++)
				root = strchr(root, ' ') ? strchr(root, ' ') + 1 : NULL;
			point = root ? strchr(root, ' ') : NULL;
			end = point ? strchr(point + 1, ' ') : NULL;
			if (!kind || !end || strncmp(root, "/ ", 2) != 0)
				continue;
			*end = '\0';
			found = (v1 ? !strncmp(kind, " - cgroup ", 10) && strstr(kind, "freezer")
				    : !strncmp(kind, " - cgroup2 ", 11)) &&
				text_copy(out, cap, point + 1);
		}
		line_reader_close(&reader);
	}
	arena_reset(mark);
	return found;
}

static bool is_v1(const char *dir)
{
	char path[300];

	snprintf(path, sizeof(path), "%s/freezer.state", dir);
	return access(path, F_OK) == 0;
}

int freezer_find(pid_t pid, const char *id, char *dir, size_t cap)
{
	char mount[128], group[128];

	for (int v1 = 1; v1 >= 0; v1--) {
		int len;

		if (!mount_of(v1, mount, sizeof(mount)) || !group_of(pid, v1, group, sizeof(group)))
			continue;
		len = snprintf(dir, cap, "%s%s/baton-%s", mount, group, id);
		if (len > 0 && (size_t)len < cap)
			return 0;
	}
	dir[0] = '\0';
	return -EOPNOTSUPP;
}

static int put(const char *dir, const char *file, const char *text)
{
	char path[300];

	snprintf(path, sizeof(path), "%s/%s", dir, file);
	return io_write_existing(AT_FDCWD, path, text, strlen(text));
}

static int move_to(const char *dir, pid_t pid)
{
	char text[16];

	snprintf(text, sizeof(text), "%d", pid);
	return put(dir, "cgroup.procs", text);
}

int freezer_enter(const char *dir, pid_t pid)
{
	char path[300];
	int err;

	if (mkdir(dir, 0755) && errno != EEXIST)
		return -errno;
	/* A version 2 group of a kernel before 5.2 has none. */
	snprintf(path, sizeof(path), "%s/cgroup.freeze", dir);
	err = is_v1(dir) || access(path, F_OK) == 0 ? move_to(dir, pid) : -EOPNOTSUPP;
	if (err)
		rmdir(dir);
	return err;
}

static bool is_frozen(const char *dir)
{
	bool v1 = is_v1(dir);
	char path[300], text[128];

	snprintf(path, sizeof(path), "%s/%s", dir, v1 ? "freezer.state" : "cgroup.events");
	return io_read_file(AT_FDCWD, path, text, sizeof(text)) > 0 &&
	       strstr(text, v1 ? "FROZEN" : "frozen 1");
}

int freezer_freeze(const char *dir)
{
	int64_t deadline = clock_deadline_ms(FREEZE_TIMEOUT_MS);
	int err = is_v1(dir) ? put(dir, "freezer.state", "FROZEN") : put(dir, "cgroup.freeze", "1");

	while (!err && !is_frozen(dir)) {
		if (!clock_left_ms(deadline))
			err = -ETIMEDOUT;
		io_sleep_ms(1);
	}
	return err;
}

bool freezer_is_on(const char *dir)
{
	bool v1 = is_v1(dir);
	char path[300], text[32];

	snprintf(path, sizeof(path), "%s/%s", dir, v1 ? "freezer.state" : "cgroup.freeze");
	return io_read_file(AT_FDCWD, path, text, sizeof(text)) > 0 &&
	       (v1 ? !strstr(text, "THAWED") : text[0] == '1');
}

int freezer_thaw(const char *dir)
{
	return is_v1(dir) ? put(dir, "freezer.state", "THAWED") : put(dir, "cgroup.freeze", "0");
}

void freezer_leave(const char *dir, pid_t pid)
{
	int64_t deadline = clock_deadline_ms(REMOVE_TIMEOUT_MS);
	char parent[300];
	char *slash;

	if (!dir[0] || access(dir, F_OK))
		return;
	text_copy(parent, sizeof(parent), dir);
	slash = strrchr(parent, '/');
	if (slash)
		*slash = '\0';
	freezer_thaw(dir);
	if (pid)
		move_to(parent, pid);
	/* A process that was killed leaves it a moment later. */
	while (rmdir(dir) && errno == EBUSY && clock_left_ms(deadline))
		io_sleep_ms(1);
}
