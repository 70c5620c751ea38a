/* SPDX-License-Identifier: MIT */
/* The state folder: one small file a move, synced before what it says is acted upon. */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "engine/move/movestate.h"
#include "engine/process/proc.h"
#include "lib/config.h"
#include "lib/clock.h"
#include "lib/io.h"
#include "lib/kernel.h"
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
		return log_fail(-err, "state folder %s: %m; use --state DIR", path);
	folder_fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (folder_fd < 0) {
		err = errno;
		return log_fail(err, "state folder %s: %m; use --state DIR", path);
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

static void read_boot(char out[static MOVESTATE_BOOT_TEXT])
{
	char text[64];
	ssize_t n = io_read_file(AT_FDCWD, "/proc/sys/kernel/random/boot_id", text, sizeof(text));

	text[n > 0 ? strcspn(text, "\n") : 0] = '\0';
	text_copy(out, MOVESTATE_BOOT_TEXT, text);
}

/* What to do when nothing can be made in the folder. */
static const char *way_out(int err)
{
	return err == ENOENT ? "it was removed while baton ran; start baton again"
			     : "make room there or use --state DIR";
}

static int put_text(const struct movestate *state, enum move_stage stage, char *text, size_t cap)
{
	return snprintf(text, cap,
			"baton-move 2\nid %s\nrole %s\nstage %s\npid %d\npid-start %llu\ncomm %s\n"
			"peer %s\ntoken %s\ndial %s\nlisten %s\nboot %s\nfreezer %s\nreason %s\n"
			"keys %s\ndecide %d\nstopped %d\n"
			"fingerprint %s\nmode %s\nengine %d\nbegun %lld\nchanged %lld\nend\n",
			state->id, state->source ? "source" : "target", movestate_stage_name(stage),
			state->pid, (unsigned long long)state->pid_start, state->comm, state->peer,
			state->token, state->dial, state->listen, state->boot, state->freezer,
			state->reason, state->keys, state->decide, state->stopped,
			state->fingerprint, state->mode, state->engine, (long long)state->begun_s,
			(long long)state->changed_s);
}

/*
 * What failed may have been the last step, the sync of the folder: the file is then the new one, and after a
 * crash either. Where that cannot be ruled out the stages in memory hold for both.
 */
static void write_failed(struct movestate *state, enum move_stage before, enum move_stage stage,
			 const char *name)
{
	struct movestate disk;
	int err = movestate_read(folder_fd, name, &disk);

	if (err == -ENOENT || (!err && disk.stage != stage)) {
		state->stage = before;
		return;
	}
	state->written = true;
	state->stage = stage > before ? stage : before;
	if (stage < state->written_stage)
		state->written_stage = stage;
}

int movestate_write(struct movestate *state, enum move_stage stage)
{
	enum move_stage before = state->stage;
	char text[MOVESTATE_FILE_MAX], name[64];
	int len, err;

	err = state->lock_fd > 0 ? 0 : movestate_lock(state);
	if (err)
		return err;
	clean_text(state->comm);
	clean_text(state->peer);
	clean_text(state->reason);
	/* Should we die in here, whoever goes on must not take the move for less far than the disk does. */
	if (stage > before)
		state->stage = stage;
	state->engine = getpid();
	state->changed_s = time(NULL);
	if (!state->begun_s)
		state->begun_s = state->changed_s;
	read_boot(state->boot);
	len = put_text(state, stage, text, sizeof(text));
	movestate_file_name(state, "move", name, sizeof(name));
	err = io_replace_file(folder_fd, name, 0600, text, (size_t)len);
	if (err) {
		write_failed(state, before, stage, name);
		return log_fail(-err, "state folder %s: writing %s: %m; %s", folder_path, name,
				way_out(-err));
	}
	state->stage = state->written_stage = stage;
	state->written = true;
	return 0;
}

/* What io_replace_file had not put under its name: ".<name>.<pid>" of a process that is gone. */
static void sweep_temporaries(void)
{
	struct dir_reader reader;
	const char *name;

	if (dir_reader_open(&reader, folder_fd, "."))
		return;
	while (dir_reader_next(&reader, &name, NULL) > 0) {
		const char *dot = strrchr(name, '.');
		int pid;

		if (name[0] == '.' && strstr(name, ".move.") &&
		    !text_parse_int(dot + 1, 1, INT_MAX, &pid) && kill(pid, 0) && errno == ESRCH)
			unlinkat(folder_fd, name, 0);
	}
	dir_reader_close(&reader);
}

/* Whoever has come may be asked back. */
static int remember_came(const struct movestate *state, const char *name)
{
	char came[64];

	if (!IS_ENABLED(CONFIG_CMD_EVACUATE) || state->source || state->stage != STAGE_COMPLETE ||
	    !state->fingerprint[0])
		return -ENOENT;
	movestate_file_name(state, "came", came, sizeof(came));
	return renameat(folder_fd, name, folder_fd, came) ? -errno : 0;
}

void movestate_remove(struct movestate *state)
{
	char name[64];

	if (folder_fd < 0)
		return;
	if (state->written) {
		movestate_file_name(state, "stat.new", name, sizeof(name));
		unlinkat(folder_fd, name, 0);
		movestate_file_name(state, "stat", name, sizeof(name));
		unlinkat(folder_fd, name, 0);
		movestate_file_name(state, "move", name, sizeof(name));
		if (!remember_came(state, name) || !unlinkat(folder_fd, name, 0))
			fsync(folder_fd);
		sweep_temporaries();
		state->written = false;
	}
	if (state->lock_fd > 0) {
		int fd = state->lock_fd;

		movestate_file_name(state, "lock", name, sizeof(name));
		unlinkat(folder_fd, name, 0);
		state->lock_fd = 0;
		close(fd);
	}
}

/* ---- who works on it ---- */

/* Opens and locks a file of the folder. The descriptor, -EBUSY when another process has it, -errno. */
static int lock_file(const char *name)
{
	struct stat st;
	int fd, err;

	do {
		fd = openat(folder_fd, name, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
		if (fd < 0) {
			err = errno;
			return log_fail(err, "state folder %s: making %s: %m; %s", folder_path,
					name, way_out(err));
		}
		if (flock(fd, LOCK_EX | LOCK_NB)) {
			err = errno == EWOULDBLOCK ? EBUSY : errno;
			close(fd);
			return -err;
		}
		/* The former holder may have removed the file between our open and our lock. */
		if (!fstat(fd, &st) && st.st_nlink)
			return fd;
		close(fd);
	} while (true);
}

int movestate_lock(struct movestate *state)
{
	char name[64];
	int fd;

	movestate_file_name(state, "lock", name, sizeof(name));
	fd = lock_file(name);
	if (fd < 0)
		return log_fail(-fd, "move %s: another process works on it; see: baton status",
				state->id);
	state->lock_fd = fd;
	return 0;
}

static bool is_locked(int folder, const char *name)
{
	int fd = openat(folder, name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
	bool held;

	if (fd < 0)
		return false;
	held = flock(fd, LOCK_SH | LOCK_NB) && errno == EWOULDBLOCK;
	close(fd);
	return held;
}

bool movestate_is_held(int folder, const struct movestate *state)
{
	char name[64];

	movestate_file_name(state, "lock", name, sizeof(name));
	return is_locked(folder, name);
}

bool movestate_is_of_another_boot(const struct movestate *state)
{
	char boot[MOVESTATE_BOOT_TEXT];

	read_boot(boot);
	return boot[0] && strcmp(boot, state->boot) != 0;
}

bool movestate_is_of_file(const struct movestate *state)
{
	/* That of a peer is there from the first write on. */
	return IS_ENABLED(CONFIG_IMAGE) && !state->source && !state->fingerprint[0];
}

void movestate_name_process(struct movestate *state, pid_t pid)
{
	int64_t start = 0;
	int fd = proc_open(pid);

	state->pid = pid;
	state->pid_start = 0;
	if (fd < 0)
		return;
	if (!proc_stat_field(fd, PROC_STAT_STARTTIME, &start))
		state->pid_start = (uint64_t)start;
	close(fd);
}

/* 0: the very process that it names is there. -ESRCH: it is not. Else nobody knows: -EMFILE, ... */
static int look_for_process(const struct movestate *state)
{
	int fd = movestate_is_of_another_boot(state) ? -ESRCH : proc_open(state->pid), err;
	struct proc_status status;
	int64_t start = -1;

	if (fd < 0)
		return fd;
	err = proc_status(fd, &status);
	if (!err && (status.state == 'Z' || status.state == 'X'))
		err = -ESRCH;
	if (!err)
		err = proc_stat_field(fd, PROC_STAT_STARTTIME, &start);
	if (!err && state->pid_start && (uint64_t)start != state->pid_start)
		err = -ESRCH;
	close(fd);
	return err;
}

bool movestate_process_lives(const struct movestate *state)
{
	return !look_for_process(state);
}

int movestate_pidfd(const struct movestate *state)
{
	int fd = (int)syscall(SYS_pidfd_open, state->pid, 0);

	/* Asked when we have it: the number cannot have changed hands since. */
	if (fd >= 0 && !movestate_process_lives(state))
		io_close(&fd);
	return fd;
}

int movestate_signal_engine(const struct movestate *state, int signal)
{
	int fd = (int)syscall(SYS_pidfd_open, state->engine, 0), err = fd < 0 ? -errno : 0;
	struct proc_status status;

	/* A file that outlived its writer names a process that may be anybody by now. */
	if (!err)
		err = proc_status_of(state->engine, &status);
	if (!err && !text_after(status.name, "baton"))
		err = -ESRCH;
	if (!err && syscall(SYS_pidfd_send_signal, fd, signal, NULL, 0))
		err = -errno;
	io_close(&fd);
	return err ? log_fail(-err, "move %s: pid %d, which works on it, cannot be told: %s",
			      state->id, state->engine, strerror(-err))
		   : 0;
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
		"pages-done %llu\npages-left %llu\npages-zero %llu\npages-predicted %llu\nfaults "
		"%llu\n"
		"bytes-wire %llu\nbytes-packed %llu\nbytes-packed-wire %llu\n"
		"fault-p50-us %u\nfault-p99-us %u\nrate-kib-s %llu\n"
		"peak-rss-kib %llu\nstarving-s %u\n",
		(unsigned long long)counters->pages_done, (unsigned long long)counters->pages_left,
		(unsigned long long)counters->pages_zero,
		(unsigned long long)counters->pages_predicted, (unsigned long long)counters->faults,
		(unsigned long long)counters->bytes_wire,
		(unsigned long long)counters->bytes_packed,
		(unsigned long long)counters->bytes_packed_wire, counters->fault_p50_us,
		counters->fault_p99_us, (unsigned long long)counters->rate_kib_s,
		(unsigned long long)counters->peak_rss_kib, counters->starving_s);
	movestate_file_name(state, "stat", name, sizeof(name));
	replace_unsynced(name, text, (size_t)len);
}

static int each(int folder, const char *suffix, int (*fn)(void *data, struct movestate *state),
		void *data)
{
	struct dir_reader reader;
	struct movestate state;
	const char *name;
	int err;

	err = dir_reader_open(&reader, folder, ".");
	if (err)
		return log_fail(-err, "state folder %s: %m", folder_path);
	while (!err && dir_reader_next(&reader, &name, NULL) > 0) {
		size_t len = strlen(name);

		if (len > 5 && !strcmp(name + len - 5, suffix) &&
		    !movestate_read(folder, name, &state))
			err = fn(data, &state);
	}
	dir_reader_close(&reader);
	return err;
}

int movestate_each(int folder, int (*fn)(void *data, struct movestate *state), void *data)
{
	return each(folder, ".move", fn, data);
}

struct came {
	int (*fn)(void *data, struct movestate *state);
	void *data;
};

static int still_here(void *data, struct movestate *state)
{
	const struct came *came = data;

	return movestate_process_lives(state) ? came->fn(came->data, state) : 0;
}

int movestate_each_came(int folder, int (*fn)(void *data, struct movestate *state), void *data)
{
	struct came came = {fn, data};

	return each(folder, ".came", still_here, &came);
}

struct search {
	pid_t pid;
	const char *id;
	struct movestate *found;
	unsigned int nr;
};

static int match_pid(void *data, struct movestate *state)
{
	struct search *search = data;

	/* One that was only offered by a baton that died left nothing behind. */
	if (!state->source || state->pid != search->pid || state->stage == STAGE_OFFERED ||
	    !movestate_process_lives(state))
		return 0;
	if (movestate_is_held(folder_fd, state))
		return log_fail(EBUSY,
				"pid %d is already being moved (move %s, %s); see: baton status",
				state->pid, state->id, movestate_stage_name(state->stage));
	*search->found = *state;
	search->nr++;
	return 0;
}

int movestate_find_pid(pid_t pid, struct movestate *found)
{
	struct search search = {.pid = pid, .found = found};
	int err = movestate_each(folder_fd, match_pid, &search);

	return err ? err : search.nr ? 0 : -ENOENT;
}

static int match_newer(void *data, struct movestate *state)
{
	const struct movestate *offered = data;

	/* Of that very process: both numbers may be the same after a reboot. */
	return state->source && state->pid == offered->pid && strcmp(state->id, offered->id) != 0 &&
	       (state->stage != STAGE_OFFERED || movestate_is_held(folder_fd, state)) &&
	       movestate_process_lives(state);
}

bool movestate_is_superseded(const struct movestate *offered)
{
	return movestate_each(folder_fd, match_newer, (void *)offered) > 0;
}

static int match_id(void *data, struct movestate *state)
{
	struct search *search = data;

	if (strncmp(state->id, search->id, strlen(search->id)) != 0)
		return 0;
	*search->found = *state;
	search->nr++;
	return 0;
}

int movestate_find_id(const char *text, struct movestate *found)
{
	struct search search = {.id = text, .found = found};
	int err = movestate_each(folder_fd, match_id, &search);

	if (err)
		return err;
	if (!search.nr || !text[0])
		return log_fail(ENOENT, "there is no move %s here; see: baton status", text);
	if (search.nr > 1)
		return log_fail(EEXIST, "%u moves begin with %s; see: baton status", search.nr,
				text);
	return 0;
}

/* Of what nobody works on. */
static bool is_left_over(const struct movestate *state)
{
	/* Before READY the source has not committed, and what was built died with its engine. */
	if (state->stage == STAGE_BUILDING)
		return true;
	/* A file never asks what became of it. */
	if (movestate_is_of_file(state) && state->stage == STAGE_COMPLETE)
		return true;
	/* What was offered may be waited for: its process has to tell, while it lives, see baton resume. */
	return (state->stage == STAGE_OFFERED || movestate_is_of_file(state)) &&
	       look_for_process(state) == -ESRCH;
}

static int sweep_one(void *data, struct movestate *state)
{
	(void)data;
	if (!is_left_over(state))
		return 0;
	if (movestate_is_held(folder_fd, state) || movestate_lock(state))
		return 0;
	/* Its process has left it. */
	if (state->freezer[0])
		rmdir(state->freezer);
	state->written = true;
	movestate_remove(state);
	return 0;
}

static int sweep_came(void *data, struct movestate *state)
{
	char name[64];

	(void)data;
	/* What cannot be looked for now may be there. */
	if (look_for_process(state) != -ESRCH)
		return 0;
	movestate_file_name(state, "came", name, sizeof(name));
	unlinkat(folder_fd, name, 0);
	return 0;
}

void movestate_sweep(void)
{
	if (IS_ENABLED(CONFIG_CMD_EVACUATE))
		each(folder_fd, ".came", sweep_came, NULL);
	movestate_each(folder_fd, sweep_one, NULL);
	sweep_temporaries();
	log_reason_clear();
}

/* The lock of this process: a descriptor that is never closed, and its name. */
static char lock_name[32];

static void name_pid_lock(pid_t pid, char out[static sizeof(lock_name)])
{
	snprintf(out, sizeof(lock_name), "pid-%d.lock", pid);
}

bool movestate_pid_is_locked(pid_t pid)
{
	char name[sizeof(lock_name)];

	name_pid_lock(pid, name);
	return is_locked(folder_fd, name);
}

int movestate_lock_pid(pid_t pid)
{
	int fd;

	name_pid_lock(pid, lock_name);
	fd = lock_file(lock_name);
	if (fd == -EBUSY)
		return log_fail(EBUSY, "pid %d is already being moved; see: baton status", pid);
	return fd < 0 ? fd : 0;
}

void movestate_unlock_pid(void)
{
	if (lock_name[0])
		unlinkat(folder_fd, lock_name, 0);
	lock_name[0] = '\0';
}

static struct {
	char name[48];
	int fd;
} door = {.fd = -1};

int movestate_lock_door(const char *name)
{
	char pid[16];
	int len;

	snprintf(door.name, sizeof(door.name), "%s.lock", name);
	door.fd = lock_file(door.name);
	if (door.fd < 0)
		return door.fd;
	/* For whoever finds it locked; nothing depends on it. */
	(void)!ftruncate(door.fd, 0);
	len = snprintf(pid, sizeof(pid), "%d\n", getpid());
	(void)!write(door.fd, pid, (size_t)len);
	return 0;
}

pid_t movestate_door_holder(const char *name)
{
	char path[sizeof(door.name)], text[16];
	int pid;

	snprintf(path, sizeof(path), "%s.lock", name);
	if (io_read_file(folder_fd, path, text, sizeof(text)) <= 0)
		return 0;
	text[strcspn(text, "\n")] = '\0';
	return text_parse_int(text, 1, INT_MAX, &pid) ? 0 : pid;
}

void movestate_close_door_lock(void)
{
	if (door.fd >= 0)
		close(door.fd);
	door.fd = -1;
}

void movestate_unlock_door(void)
{
	if (door.fd >= 0)
		unlinkat(folder_fd, door.name, 0);
	movestate_close_door_lock();
}
