/* SPDX-License-Identifier: MIT */
/* The state folder: one small file a move, synced before what it says is acted upon. */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "engine/move/movestate.h"
#include "engine/process/proc.h"
#include "lib/clock.h"
#include "lib/io.h"
#include "lib/log.h"
#include "lib/text.h"

#define COUNT_EVERY_MS 200
/* Field of /proc/PID/stat. */
#define PROC_STAT_STARTTIME 22

static int folder_fd = -EBADF;
static const char *folder_path = "";

int movestate_folder_open(const char *path)
{
	struct stat st;
	int err;

	folder_path = path;
	err = io_make_dirs(path, 0700);
	if (err)
		return log_fail(-err, "state folder %s: %s; use --state DIR", path, strerror(-err));
	folder_fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (folder_fd < 0) {
		err = errno;
		return log_fail(err, "state folder %s: %s; use --state DIR", path, strerror(err));
	}
	/* Whoever can write here could make a later start believe in moves that never were. */
	if (!fstat(folder_fd, &st) && (st.st_mode & 022 || st.st_uid != geteuid())) {
		close(folder_fd);
		folder_fd = -EBADF;
		return log_fail(EPERM,
				"state folder %s (mode %o) can be written by others; "
				"run: chmod 700 %s, or use --state DIR",
				path, st.st_mode & 07777u, path);
	}
	return 0;
}

int movestate_folder(void)
{
	return folder_fd;
}

/* A name that came from elsewhere must not make lines of its own. */
static void clean_text(char *text)
{
	for (; *text; text++)
		if ((unsigned char)*text < ' ' || *text == 0x7f)
			*text = '?';
}

int movestate_write(struct movestate *state, enum move_stage stage)
{
	enum move_stage before = state->stage;
	char text[MOVESTATE_FILE_MAX], name[64];
	int len, err;

	clean_text(state->comm);
	clean_text(state->peer);
	state->stage = stage;
	state->engine = getpid();
	state->changed_s = time(NULL);
	if (!state->begun_s)
		state->begun_s = state->changed_s;
	len = snprintf(
		text, sizeof(text),
		"baton-move 1\nid %s\nrole %s\nstage %s\npid %d\npid-start %llu\ncomm %s\n"
		"peer %s\nfingerprint %s\nmode %s\nengine %d\nbegun %lld\nchanged %lld\nend\n",
		state->id, state->source ? "source" : "target", movestate_stage_name(stage),
		state->pid, (unsigned long long)state->pid_start, state->comm, state->peer,
		state->fingerprint, state->mode, state->engine, (long long)state->begun_s,
		(long long)state->changed_s);
	movestate_file_name(state, "move", name, sizeof(name));
	err = io_replace_file(folder_fd, name, 0600, text, (size_t)len);
	if (err) {
		state->stage = before;
		return log_fail(
			-err, "state folder %s: writing %s: %s; make room there or use --state DIR",
			folder_path, name, strerror(-err));
	}
	state->written = true;
	return 0;
}

void movestate_remove(const struct movestate *state)
{
	char name[64];

	if (folder_fd < 0 || !state->written)
		return;
	movestate_file_name(state, "stat", name, sizeof(name));
	unlinkat(folder_fd, name, 0);
	movestate_file_name(state, "move", name, sizeof(name));
	if (!unlinkat(folder_fd, name, 0))
		fsync(folder_fd);
}

/* Replaces a file without sync. Readers see the old or the new one. Best effort. */
static void replace_unsynced(const char *name, const char *text, size_t len)
{
	char temp[80];
	bool good;
	int fd;

	snprintf(temp, sizeof(temp), "%s.new", name);
	fd = openat(folder_fd, temp, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	if (fd < 0)
		return;
	good = !io_write_full(fd, text, len);
	close(fd);
	if (!good || renameat(folder_fd, temp, folder_fd, name))
		unlinkat(folder_fd, temp, 0);
}

void movestate_count(const struct movestate *state, const struct movestate_counters *counters)
{
	static int64_t last_ms;
	int64_t now_ms = clock_now_ms();
	char text[MOVESTATE_FILE_MAX], name[64];
	int len;

	if (folder_fd < 0 || (last_ms && now_ms - last_ms < COUNT_EVERY_MS))
		return;
	last_ms = now_ms;
	len = snprintf(
		text, sizeof(text),
		"pages-done %llu\npages-left %llu\npages-zero %llu\nfaults %llu\n"
		"bytes-wire %llu\nfault-p50-us %u\nfault-p99-us %u\nrate-kib-s %llu\n"
		"peak-rss-kib %llu\n",
		(unsigned long long)counters->pages_done, (unsigned long long)counters->pages_left,
		(unsigned long long)counters->pages_zero, (unsigned long long)counters->faults,
		(unsigned long long)counters->bytes_wire, counters->fault_p50_us,
		counters->fault_p99_us, (unsigned long long)counters->rate_kib_s,
		(unsigned long long)counters->peak_rss_kib);
	movestate_file_name(state, "stat", name, sizeof(name));
	replace_unsynced(name, text, (size_t)len);
}

int movestate_find_pid(pid_t pid)
{
	struct dir_reader reader;
	struct movestate state;
	const char *name;
	int64_t start = -1;
	int fd, err;

	fd = proc_open(pid);
	if (fd >= 0) {
		proc_stat_field(fd, PROC_STAT_STARTTIME, &start);
		close(fd);
	}
	err = dir_reader_open(&reader, folder_fd, ".");
	if (err)
		return log_fail(-err, "state folder %s: %s", folder_path, strerror(-err));
	while (dir_reader_next(&reader, &name, NULL) > 0) {
		size_t len = strlen(name);

		if (len < 5 || strcmp(name + len - 5, ".move") ||
		    movestate_read(folder_fd, name, &state))
			continue;
		/* One that was only offered by a baton that died left nothing behind. */
		if (!state.source || state.pid != pid || (int64_t)state.pid_start != start ||
		    state.stage == STAGE_OFFERED)
			continue;
		err = log_fail(EBUSY,
			       "pid %d is already being moved (move %s, %s); see: baton status",
			       pid, state.id, movestate_stage_name(state.stage));
		break;
	}
	dir_reader_close(&reader);
	return err;
}

void movestate_sweep(void)
{
	struct dir_reader reader;
	struct movestate state;
	const char *name;

	if (dir_reader_open(&reader, folder_fd, "."))
		return;
	while (dir_reader_next(&reader, &name, NULL) > 0) {
		size_t len = strlen(name);

		if (len < 5 || strcmp(name + len - 5, ".move") ||
		    movestate_read(folder_fd, name, &state))
			continue;
		/* Before COMMITTED and STARTED the process runs on, and what was built died with its
		 * engine. */
		if (state.stage != STAGE_OFFERED && state.stage != STAGE_BUILDING)
			continue;
		if (state.engine <= 0 || !kill(state.engine, 0) || errno != ESRCH)
			continue;
		state.written = true;
		movestate_remove(&state);
	}
	dir_reader_close(&reader);
}

/* The lock of this process: a descriptor that is never closed, and its name. */
static char lock_name[32];

int movestate_lock_pid(pid_t pid)
{
	struct stat st;
	int fd, err;

	snprintf(lock_name, sizeof(lock_name), "pid-%d.lock", pid);
	do {
		fd = openat(folder_fd, lock_name, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
		if (fd < 0) {
			err = errno;
			return log_fail(err,
					"state folder %s: making %s: %s; make room there or use "
					"--state DIR",
					folder_path, lock_name, strerror(err));
		}
		if (flock(fd, LOCK_EX | LOCK_NB)) {
			err = errno == EWOULDBLOCK ? EBUSY : errno;
			close(fd);
			return log_fail(err, "pid %d is already being moved; see: baton status",
					pid);
		}
		/* The former holder may have removed the file between our open and our lock. */
		if (!fstat(fd, &st) && st.st_nlink)
			return 0;
		close(fd);
	} while (true);
}

void movestate_unlock_pid(void)
{
	if (lock_name[0])
		unlinkat(folder_fd, lock_name, 0);
	lock_name[0] = '\0';
}
