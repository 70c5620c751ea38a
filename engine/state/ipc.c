/* SPDX-License-Identifier: MIT */
/*
 * System V semaphores and message queues: a program knows them by a number that means nothing on
 * another device, and what is to be undone when it ends (SEM_UNDO) is undone when its copy is killed.
 * Nothing tells who uses them; but the kernel notes who was the last, and compares the lists of what
 * two processes would undo. Source: semctl(2), msgctl(2), kcmp(2).
 */
#include "engine/process/proc.h"
#include "engine/state/state.h"
#include "lib/kernel.h"
#include "lib/text.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/sem.h>
#include <unistd.h>

/* Takes a line of /proc/sysvipc. */
typedef void object_fn(struct probe *p, const char *line);

static bool take_columns(const char *line, uint64_t *columns, unsigned int nr)
{
	for (unsigned int i = 0; i < nr; i++) {
		int64_t value;

		/* The key, in the first column, may be negative. */
		if (!text_take_i64(&line, 10, &value))
			return false;
		columns[i] = (uint64_t)value;
	}
	return true;
}

/* key semid perms nsems ... */
static void check_semaphores(struct probe *p, const char *line)
{
	uint64_t columns[4];
	char item[40];

	if (!take_columns(line, columns, 4))
		return;
	for (unsigned int i = 0; i < columns[3]; i++) {
		if (semctl((int)columns[1], (int)i, GETPID) != p->pid)
			continue;
		snprintf(item, sizeof(item), "semaphore set %d", (int)columns[1]);
		probe_refused(p, item, "is of System V and used by the process; it is not carried");
		return;
	}
}

/* key msqid perms cbytes qnum lspid lrpid ... */
static void check_queue(struct probe *p, const char *line)
{
	uint64_t columns[7];
	char item[40];

	if (!take_columns(line, columns, 7) ||
	    (columns[5] != (uint64_t)p->pid && columns[6] != (uint64_t)p->pid))
		return;
	snprintf(item, sizeof(item), "message queue %d", (int)columns[1]);
	probe_refused(p, item, "is of System V and used by the process; it is not carried");
}

/* A headline, then a line for each object of our IPC namespace, which is the process' own. Returns how
 * many there are, or -errno. */
static int each_object(struct probe *p, const char *path, object_fn *fn)
{
	struct line_reader reader;
	char buf[256], *line;
	int got, nr = 0, err = line_reader_open(&reader, AT_FDCWD, path, buf, sizeof(buf));

	if (err)
		return err == -ENOENT ? 0 : err; /* no CONFIG_SYSVIPC */
	got = line_reader_next(&reader, &line);
	for (; got > 0 && (got = line_reader_next(&reader, &line)) > 0; nr++)
		fn(p, line);
	line_reader_close(&reader);
	return got < 0 ? got : nr;
}

/*
 * We have no list. One that has is not told from an empty one, which is made with the first thread
 * beside the leader: of a program with threads this says nothing.
 */
static void check_undo(struct probe *p)
{
	struct proc_status status;

	if (proc_status(p->proc_fd, &status) || status.threads > 1 ||
	    syscall(SYS_kcmp, getpid(), p->pid, BATON_KCMP_SYSVSEM, 0, 0) <= 0)
		return;
	probe_refused(p, "SEM_UNDO",
		      "of System V semaphores has been used by the process, and is not carried");
}

static int ipc_probe(struct probe *p)
{
	unsigned int before = p->nr_refused;
	int nr = each_object(p, "/proc/sysvipc/sem", check_semaphores);

	if (nr > 0 && p->nr_refused == before)
		check_undo(p);
	if (nr >= 0)
		nr = each_object(p, "/proc/sysvipc/msg", check_queue);
	return nr < 0 ? nr : 0;
}

const struct state_kind kind_ipc = {
	.name = "System V IPC",
	.probe = ipc_probe,
};
