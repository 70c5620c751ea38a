/* SPDX-License-Identifier: MIT */
/* The processes that matter: a folder of small files. */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "board/protect.h"
#include "engine/process/proc.h"
#include "lib/clock.h"
#include "lib/io.h"
#include "lib/log.h"
#include "lib/text.h"
#include "transport/keys.h"

#define FOLDER "protect"
#define FILE_BYTES 1400
#define ASK_MS 5000

static const struct {
	const char *key;
	size_t offset, size;
} fields[] = {
	{"pidfile ", offsetof(struct protect, pidfile), PROTECT_HOW_BYTES},
	{"unit ", offsetof(struct protect, unit), PROTECT_HOW_BYTES},
	{"command ", offsetof(struct protect, command), PROTECT_HOW_BYTES},
	{"exe ", offsetof(struct protect, exe), PROTECT_HOW_BYTES},
	{"after ", offsetof(struct protect, after), PROTECT_NAME_BYTES},
};
#define NR_FIELDS (sizeof(fields) / sizeof(fields[0]))

bool protect_name_is_good(const char *name)
{
	size_t len = strlen(name);

	return len && len < PROTECT_NAME_BYTES && name[0] != '.' &&
	       strspn(name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-") ==
		       len;
}

/* The folder, as safe as the keys: what stands there is run. -ENOENT: there is none. */
static int open_folder(const char *keys_dir, bool make)
{
	int keys = keys_open(keys_dir), fd, err = 0;
	struct stat st;

	if (keys < 0)
		return keys;
	if (make && mkdirat(keys, FOLDER, 0700) && errno != EEXIST)
		err = log_fail(errno, "%s/" FOLDER ": %s", keys_dir, strerror(errno));
	fd = err ? err : openat(keys, FOLDER, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd == -1)
		fd = -errno;
	io_close(&keys);
	if (fd >= 0 && (fstat(fd, &st) || st.st_mode & 022)) {
		io_close(&fd);
		return log_fail(EACCES,
				"%s/" FOLDER
				" can be written by others; run: chmod go-w %s/" FOLDER,
				keys_dir, keys_dir);
	}
	return fd;
}

int protect_add(const char *keys_dir, const struct protect *protect)
{
	char text[FILE_BYTES];
	int folder = open_folder(keys_dir, true), len, err;

	if (folder < 0)
		return folder;
	len = snprintf(text, sizeof(text), "priority %d\n", protect->priority);
	for (size_t i = 0; i < NR_FIELDS; i++) {
		const char *value = (const char *)protect + fields[i].offset;

		if (value[0])
			len += snprintf(text + len, sizeof(text) - (size_t)len, "%s%s\n",
					fields[i].key, value);
	}
	err = io_replace_file(folder, protect->name, 0600, text, (size_t)len);
	io_close(&folder);
	return err ? log_fail(-err, "%s/" FOLDER "/%s: %s", keys_dir, protect->name, strerror(-err))
		   : 0;
}

int protect_remove(const char *keys_dir, const char *name)
{
	int folder = open_folder(keys_dir, false), err = folder;

	if (folder >= 0)
		err = unlinkat(folder, name, 0) ? -errno : 0;
	io_close(&folder);
	return err ? log_fail(-err, "%s/" FOLDER "/%s: %s", keys_dir, name, strerror(-err)) : 0;
}

static int take_line(struct protect *protect, const char *line)
{
	const char *value = text_after(line, "priority ");

	if (value)
		return text_parse_int(value, -PROTECT_PRIORITY_MOST, PROTECT_PRIORITY_MOST,
				      &protect->priority);
	for (size_t i = 0; i < NR_FIELDS; i++) {
		value = text_after(line, fields[i].key);
		if (value)
			return text_copy((char *)protect + fields[i].offset, fields[i].size, value)
				       ? 0
				       : -EINVAL;
	}
	return line[0] && line[0] != '#' ? -EINVAL : 0;
}

static int read_one(int folder, const char *name, struct protect *protect)
{
	char buf[FILE_BYTES], *line;
	struct line_reader reader;
	int got = 0, err;

	*protect = (struct protect){0};
	if (!text_copy(protect->name, sizeof(protect->name), name))
		return -EINVAL;
	err = line_reader_open(&reader, folder, name, buf, sizeof(buf));
	while (!err && (got = line_reader_next(&reader, &line)) > 0)
		err = take_line(protect, line);
	line_reader_close(&reader);
	return err ? err : got;
}

int protect_each(const char *keys_dir, int (*fn)(void *data, const struct protect *protect),
		 void *data)
{
	int folder = open_folder(keys_dir, false), err;
	struct protect protect;
	struct dir_reader reader;
	const char *name;

	if (folder == -ENOENT)
		log_reason_clear();
	if (folder < 0)
		return folder == -ENOENT ? 0 : folder;
	err = dir_reader_open(&reader, folder, ".");
	while (!err && dir_reader_next(&reader, &name, NULL) > 0) {
		/* Leftovers of one that was being written. */
		if (!protect_name_is_good(name))
			continue;
		if (read_one(folder, name, &protect))
			log_warn("%s/" FOLDER "/%s makes no sense; it is left out", keys_dir, name);
		else
			err = fn(data, &protect);
	}
	dir_reader_close(&reader);
	io_close(&folder);
	return err;
}

bool protect_exe(pid_t pid, char out[static PROTECT_HOW_BYTES])
{
	char path[32];

	snprintf(path, sizeof(path), "/proc/%d/exe", pid);
	return io_read_link(AT_FDCWD, path, out, PROTECT_HOW_BYTES) > 0;
}

/* What a program says first, in time. */
static ssize_t ask(char *const argv[], char *answer, size_t cap)
{
	int64_t deadline = clock_deadline_ms(ASK_MS);
	struct pollfd out = {.events = POLLIN};
	ssize_t got = -1;
	int ends[2];
	pid_t pid;

	if (pipe2(ends, O_CLOEXEC))
		return -errno;
	pid = fork();
	if (pid == 0) {
		setpgid(0, 0);
		if (dup2(ends[1], STDOUT_FILENO) == STDOUT_FILENO)
			execvp(argv[0], argv);
		_exit(127);
	}
	close(ends[1]);
	out.fd = ends[0];
	if (pid > 0 && io_poll(&out, 1, clock_left_ms(deadline)) > 0)
		got = read(ends[0], answer, cap - 1);
	close(ends[0]);
	if (pid > 0) {
		kill(-pid, SIGKILL);
		waitpid(pid, NULL, 0);
	}
	answer[got > 0 ? got : 0] = '\0';
	return got > 0 ? got : -ENODATA;
}

pid_t protect_find(const struct protect *protect)
{
	char *shell[] = {"sh", "-c", (char *)protect->command, NULL};
	char *systemctl[] = {"systemctl",           "show", "-p", "MainPID", "--value",
			     (char *)protect->unit, NULL};
	char text[32] = "", exe[PROTECT_HOW_BYTES];
	const char *at = text;
	struct proc_status status;
	ssize_t got = protect->pidfile[0]
			      ? io_read_file(AT_FDCWD, protect->pidfile, text, sizeof(text))
		      : protect->unit[0] ? ask(systemctl, text, sizeof(text))
					 : ask(shell, text, sizeof(text));
	uint64_t pid;

	if (got < 0 || !text_take_u64(&at, 10, &pid) || !pid || pid > INT_MAX) {
		log_fail(ESRCH, "nothing tells its pid");
		return 0;
	}
	if (proc_status_of((pid_t)pid, &status) || status.state == 'Z') {
		log_fail(ESRCH, "there is no pid %d", (pid_t)pid);
		return 0;
	}
	if (protect->exe[0] && (!protect_exe((pid_t)pid, exe) || strcmp(exe, protect->exe) != 0)) {
		log_fail(ESRCH, "pid %d is another program now", (pid_t)pid);
		return 0;
	}
	return (pid_t)pid;
}
