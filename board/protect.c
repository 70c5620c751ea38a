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
#define LOOK_MS 5

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

	if (keys < 0)
		return keys;
	if (make && mkdirat(keys, FOLDER, 0700) && errno != EEXIST)
		err = log_fail(errno, "%s/" FOLDER ": %s", keys_dir, strerror(errno));
	fd = err ? err : openat(keys, FOLDER, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd == -1)
		fd = -errno;
	io_close(&keys);
	if (fd < 0)
		return fd;
	err = keys_check_owner(fd, keys_dir, "/" FOLDER);
	if (err)
		io_close(&fd);
	return err ? err : fd;
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

static int read_one(int folder, const char *keys_dir, const char *name, struct protect *protect)
{
	char buf[FILE_BYTES], *line;
	struct line_reader reader;
	int got = 0, err;

	*protect = (struct protect){0};
	if (!text_copy(protect->name, sizeof(protect->name), name))
		return -EINVAL;
	err = line_reader_open(&reader, folder, name, buf, sizeof(buf));
	if (err)
		return err;
	err = keys_check_owner(reader.fd, keys_dir, "/" FOLDER);
	while (!err && (got = line_reader_next(&reader, &line)) > 0)
		err = take_line(protect, line);
	line_reader_close(&reader);
	return err ? err : got;
}

int protect_read(const char *keys_dir, const char *name, struct protect *protect)
{
	int folder = open_folder(keys_dir, false);
	int err = folder < 0 ? folder : read_one(folder, keys_dir, name, protect);

	io_close(&folder);
	log_reason_clear();
	return err;
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
		if (!read_one(folder, keys_dir, name, &protect)) {
			err = fn(data, &protect);
			continue;
		}
		log_warn("%s/" FOLDER "/%s makes no sense%s%s; it is left out", keys_dir, name,
			 log_reason()[0] ? ": " : "", log_reason());
		log_reason_clear();
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

/* What a program says first, in time. 0; when it says nothing its exit code, or -errno. */
static int ask(char *const argv[], int ask_ms, char *answer, size_t cap)
{
	int64_t deadline = clock_deadline_ms(ask_ms);
	struct pollfd out = {.events = POLLIN};
	int ends[2], status = -1;
	ssize_t got = -1;
	pid_t pid, ended = 0;

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
	answer[got > 0 ? got : 0] = '\0';
	if (pid < 0)
		return -EAGAIN;
	/* Who says no word says it by how it ends. */
	while (got == 0 && !(ended = waitpid(pid, &status, WNOHANG)) && clock_left_ms(deadline))
		io_sleep_ms(LOOK_MS);
	if (ended != pid) {
		kill(-pid, SIGKILL);
		waitpid(pid, NULL, 0);
	}
	return got > 0 ? 0 : ended == pid && WIFEXITED(status) ? WEXITSTATUS(status) : -ETIMEDOUT;
}

/* ---- where its pid is told: 0 and the text that begins with it, else as protect_find ---- */

static int ask_pidfile(const char *path, char *text, size_t cap)
{
	ssize_t got = io_read_file(AT_FDCWD, path, text, cap);

	if (got == -ENOENT)
		return log_fail(ENOENT,
				"%s is not there; of what came here by a move it stayed on the "
				"other device: that is moved as a guest, and found with --command "
				"'pgrep -o NAME'",
				path);
	return got < 0 ? log_fail((int)-got, "%s: %s", path, strerror((int)-got)) : 0;
}

static int ask_command(const char *command, int ask_ms, char *text, size_t cap)
{
	char *argv[] = {"sh", "-c", (char *)command, NULL};
	int said = ask(argv, ask_ms, text, cap);

	/* As pgrep says that there is none. */
	if (said == 1)
		return log_fail(ESRCH, "its command says nothing");
	if (said < 0)
		return log_fail(-said, "its command does not answer: %s", strerror(-said));
	return said ? log_fail(EIO, "its command fails with %d", said) : 0;
}

static int ask_unit(const char *unit, int ask_ms, char *text, size_t cap)
{
	char answer[128], *argv[] = {"systemctl", "show", "-p",         "LoadState", "-p",
				     "MainPID",   "--",   (char *)unit, NULL};
	int said = ask(argv, ask_ms, answer, sizeof(answer));
	const char *pid = strstr(answer, "MainPID=");

	if (said < 0)
		return log_fail(-said, "systemctl does not answer: %s", strerror(-said));
	if (said || !pid)
		return log_fail(EIO, "systemctl does not tell of %s", unit);
	if (!strstr(answer, "LoadState=loaded"))
		return log_fail(EIO, "systemd knows no unit %s", unit);
	snprintf(text, cap, "%s", pid + strlen("MainPID="));
	return text[0] == '0' ? log_fail(ESRCH, "the unit %s does not run", unit) : 0;
}

int protect_find(const struct protect *protect, int ask_ms, pid_t *found)
{
	char text[32] = "", exe[PROTECT_HOW_BYTES];
	const char *at = text;
	struct proc_status status;
	uint64_t number;
	pid_t pid;
	int err = protect->pidfile[0] ? ask_pidfile(protect->pidfile, text, sizeof(text))
		  : protect->unit[0]  ? ask_unit(protect->unit, ask_ms, text, sizeof(text))
				      : ask_command(protect->command, ask_ms, text, sizeof(text));

	if (err)
		return err;
	if (!text_take_u64(&at, 10, &number) || !number || number > INT_MAX)
		return log_fail(ENODATA, "nothing tells its pid");
	pid = (pid_t)number;
	err = proc_status_of(pid, &status);
	if (err && err != -ESRCH)
		return log_fail(-err, "/proc/%d: %s", pid, strerror(-err));
	if (err || status.state == 'Z')
		return log_fail(ESRCH, "there is no pid %d", pid);
	if (protect->exe[0] && (!protect_exe(pid, exe) || strcmp(exe, protect->exe) != 0))
		return log_fail(ESRCH, "pid %d is another program now", pid);
	*found = pid;
	return 0;
}

bool protect_has_others(const char *exe, bool (*is_known)(pid_t pid))
{
	char its[PROTECT_HOW_BYTES];
	struct dir_reader reader;
	bool found = false;
	const char *name;
	int pid;

	if (dir_reader_open(&reader, AT_FDCWD, "/proc"))
		return true;
	while (!found && dir_reader_next(&reader, &name, NULL) > 0)
		found = !text_parse_int(name, 1, INT_MAX, &pid) && protect_exe(pid, its) &&
			!strcmp(its, exe) && !is_known(pid);
	dir_reader_close(&reader);
	return found;
}
