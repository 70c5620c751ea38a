/* SPDX-License-Identifier: MIT */
/* The processes that have memory of the moved process. Source: proc(5), kcmp(2). */
#include "engine/process/family.h"

#include "engine/process/proc.h"
#include "lib/io.h"
#include "lib/kernel.h"
#include "lib/text.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

/* Fields of /proc/PID/stat, as proc(5) counts them. */
#define STAT_FIRST 20
enum { STAT_THREADS = 20, STAT_START_TIME = 22, STAT_START_CODE = 26, STAT_START_STACK = 28 };
#define STAT_NR (STAT_START_STACK - STAT_FIRST + 1)

struct identity {
	uint64_t threads, start_time, start_code, start_stack;
};

static int identity_read(int dir_fd, struct identity *id)
{
	uint64_t values[STAT_NR];
	int err = proc_stat_fields(dir_fd, STAT_FIRST, STAT_NR, values);

	if (err)
		return err;
	*id = (struct identity){.threads = values[STAT_THREADS - STAT_FIRST],
				.start_time = values[STAT_START_TIME - STAT_FIRST],
				.start_code = values[STAT_START_CODE - STAT_FIRST],
				.start_stack = values[STAT_START_STACK - STAT_FIRST]};
	return 0;
}

int family_init(struct family *f, pid_t pid)
{
	struct identity id;
	int fd = proc_open(pid), err;

	if (fd < 0)
		return fd;
	err = identity_read(fd, &id);
	close(fd);
	if (!err && !id.start_stack)
		err = -EACCES;
	*f = (struct family){.start_time = id.start_time,
			     .start_code = id.start_code,
			     .start_stack = id.start_stack};
	return err;
}

/* Opens the folder of a thread in /proc/PID/task. */
static int thread_open(int proc_fd, pid_t tid)
{
	char path[32];
	int fd;

	snprintf(path, sizeof(path), "task/%d", tid);
	fd = openat(proc_fd, path, O_PATH | O_DIRECTORY | O_CLOEXEC);
	return fd < 0 ? -errno : fd;
}

static bool is_alike(const struct family *f, const struct identity *id)
{
	return id->start_stack == f->start_stack && id->start_code == f->start_code;
}

struct thread_search {
	const struct family *f;
	int proc_fd;
	pid_t tid; /* found */
};

static int search_thread(void *data, pid_t tid)
{
	struct thread_search *s = data;
	int fd = thread_open(s->proc_fd, tid);
	struct identity id;

	if (fd < 0)
		return 0;
	if (identity_read(fd, &id) == 0 && is_alike(s->f, &id))
		s->tid = tid;
	close(fd);
	return s->tid;
}

/* A thread of the process that has memory of the family; 0: none has. */
static pid_t thread_alike(const struct family *f, int proc_fd, pid_t pid)
{
	struct thread_search s = {.f = f, .proc_fd = proc_fd};
	struct identity id;

	if (identity_read(proc_fd, &id) || id.start_time < f->start_time)
		return 0;
	if (is_alike(f, &id))
		return pid;
	/* A leader that has ended has no memory any more; its threads still do. */
	if (!id.start_stack && id.threads > 1)
		proc_each_thread(proc_fd, search_thread, &s);
	return s.tid;
}

/* Whether a userfaultfd watches over any of its memory. Takes a while. */
static bool is_watched(int proc_fd, pid_t tid)
{
	char path[32], buf[PROC_LINE_MAX], *line;
	struct line_reader reader;
	bool watched = false;

	snprintf(path, sizeof(path), "task/%d/smaps", tid);
	if (line_reader_open(&reader, proc_fd, path, buf, sizeof(buf)))
		return false;
	while (!watched && line_reader_next(&reader, &line) > 0)
		watched = text_after(line, "VmFlags:") && strstr(line, " um");
	line_reader_close(&reader);
	return watched;
}

static int member_add(struct family *f, pid_t pid, pid_t tid)
{
	bool first = true;

	if (f->nr == FAMILY_MAX)
		return -E2BIG;
	for (unsigned int i = 0; i < f->nr && first; i++)
		first = syscall(SYS_kcmp, tid, f->members[i].tid, BATON_KCMP_VM, 0, 0) != 0;
	f->members[f->nr++] = (struct family_member){.pid = pid, .tid = tid, .first = first};
	f->nr_memories += first;
	return 0;
}

static int look_at(struct family *f, pid_t pid, bool watched)
{
	int fd = proc_open(pid), err = 0;
	pid_t tid;

	if (fd < 0)
		return 0;
	tid = thread_alike(f, fd, pid);
	if (tid && (!watched || is_watched(fd, tid)))
		err = member_add(f, pid, tid);
	close(fd);
	return err;
}

/* `watched`: only those that are. */
static int look_through(struct family *f, bool watched)
{
	struct dir_reader dir;
	const char *name;
	uint64_t pid;
	int err;

	f->nr = f->nr_memories = 0;
	err = dir_reader_open(&dir, AT_FDCWD, "/proc");
	if (err)
		return err;
	while ((err = dir_reader_next(&dir, &name, NULL)) > 0) {
		err = text_parse_u64(name, 10, &pid) ? 0 : look_at(f, (pid_t)pid, watched);
		if (err)
			break;
	}
	dir_reader_close(&dir);
	return err;
}

int family_find(struct family *f, unsigned int nr_watched)
{
	int err = look_through(f, false);

	/* Some of them may have all their memory already, or run the program anew. */
	if (err == -E2BIG || (!err && f->nr_memories > nr_watched))
		err = look_through(f, true);
	return err;
}

static bool has_lazyfree(pid_t tid)
{
	char path[48], buf[512], *line;
	struct line_reader reader;
	bool found = false, some = true;

	snprintf(path, sizeof(path), "/proc/%d/smaps_rollup", tid);
	if (line_reader_open(&reader, AT_FDCWD, path, buf, sizeof(buf)))
		return true;
	while (!found && line_reader_next(&reader, &line) > 0) {
		const char *value = text_after(line, "LazyFree:");
		uint64_t kib = 1;

		found = value && text_take_u64(&value, 10, &kib);
		some = kib != 0;
	}
	line_reader_close(&reader);
	return some;
}

bool family_has_lazyfree(const struct family *f)
{
	for (unsigned int i = 0; i < f->nr; i++) {
		if (f->members[i].first && has_lazyfree(f->members[i].tid))
			return true;
	}
	return false;
}
