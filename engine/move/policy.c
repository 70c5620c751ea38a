/* SPDX-License-Identifier: MIT */
/* What this device accepts: users, programs and peers. */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "engine/move/policy.h"
#include "engine/process/proc.h"
#include "lib/config.h"
#include "lib/io.h"
#include "lib/log.h"
#include "lib/text.h"

#define NR_UIDS 4
#define NR_GIDS (4 + PROC_GROUPS_MAX)

/* What the lines seen so far say of one subject. */
struct verdict {
	bool has_uid, has_gid, has_exe, has_peer; /* there is a line of this sort */
	bool recall;
	bool uid[NR_UIDS], gid[NR_GIDS], root, exe, peer; /* one matched */
};

/* Marks those ids that a line allows. */
static int take_id(const char *value, const uint32_t *ids, size_t nr, size_t max, bool *matched,
		   uint64_t *id)
{
	if (text_parse_u64(value, 10, id) || *id > UINT32_MAX)
		return -EINVAL;
	for (size_t i = 0; i < nr && i < max; i++)
		matched[i] |= ids[i] == *id;
	return 0;
}

/* Whether a line names what is asked for. */
static bool names(const char *value, const char *wanted)
{
	return wanted && !strcmp(value, wanted);
}

static int verdict_add(struct verdict *v, const struct policy_subject *subject, const char *line)
{
	const char *value;
	uint64_t id;

	if ((value = text_after(line, "allow-uid "))) {
		if (take_id(value, subject->uids, subject->nr_uids, NR_UIDS, v->uid, &id))
			return -EINVAL;
		v->has_uid = true;
		v->root |= !id;
	} else if ((value = text_after(line, "allow-gid "))) {
		if (take_id(value, subject->gids, subject->nr_gids, NR_GIDS, v->gid, &id))
			return -EINVAL;
		v->has_gid = true;
	} else if ((value = text_after(line, "allow-exe "))) {
		v->has_exe = true;
		v->exe |= names(value, subject->exe);
	} else if ((value = text_after(line, "allow-peer "))) {
		v->has_peer = true;
		v->peer |= names(value, subject->peer);
	} else if ((value = text_after(line, "allow-recall "))) {
		v->recall |= names(value, subject->peer);
	} else if (line[0] && line[0] != '#') {
		return -EINVAL;
	}
	return 0;
}

static int check_ids(const char *what, const uint32_t *ids, size_t nr, size_t max,
		     const bool *matched)
{
	for (size_t i = 0; i < nr; i++)
		if (i >= max || !matched[i])
			return log_fail(EPERM, "policy: %s %u is not among allow-%s", what, ids[i],
					what);
	return nr ? 0 : log_fail(EPERM, "policy: the offer names no %s", what);
}

static int verdict_check(const struct verdict *v, struct policy_subject *subject)
{
	int err = 0;

	subject->limited = v->has_uid && !v->root;
	subject->may_recall = v->recall;
	if (v->has_peer && subject->peer && !v->peer)
		return log_fail(EPERM, "policy: peer %s is not among allow-peer", subject->peer);
	if (!subject->exe)
		return 0;
	if (v->has_exe && !v->exe)
		return log_fail(EPERM, "policy: program %s is not among allow-exe", subject->exe);
	if (v->has_uid)
		err = check_ids("uid", subject->uids, subject->nr_uids, NR_UIDS, v->uid);
	/* A group can be worth as much as a user: of disks, of the shadow file. */
	if (!err && (v->has_gid || subject->limited))
		err = check_ids("gid", subject->gids, subject->nr_gids, NR_GIDS, v->gid);
	if (!err && subject->limited && subject->privileged)
		err = log_fail(EPERM,
			       "policy: program %s holds capabilities, which needs allow-uid 0",
			       subject->exe);
	return err;
}

int policy_check(const char *keys_dir, struct policy_subject *subject)
{
	char path[PATH_MAX], buf[PROC_LINE_MAX], *line;
	struct line_reader reader;
	struct verdict verdict = {0};
	unsigned int number = 0;
	int got, err;

	subject->limited = subject->may_recall = false;
	if (snprintf(path, sizeof(path), "%s/policy", keys_dir) >= (int)sizeof(path))
		return log_fail(ENAMETOOLONG, "keys folder %s: the name is too long", keys_dir);
	if (!IS_ENABLED(CONFIG_POLICY))
		return access(path, F_OK) && errno == ENOENT
			       ? 0
			       : log_fail(EPERM,
					  "%s: not built in here (CONFIG_POLICY); nothing is "
					  "accepted while it is there",
					  path);
	err = line_reader_open(&reader, AT_FDCWD, path, buf, sizeof(buf));
	if (err == -ENOENT)
		return 0;
	if (err)
		return log_fail(-err, "%s: %m", path);
	while ((got = line_reader_next(&reader, &line)) > 0) {
		number++;
		got = verdict_add(&verdict, subject, line);
		if (got)
			break;
	}
	line_reader_close(&reader);
	if (got < 0)
		return log_fail(-got,
				"%s, line %u: neither allow-uid N, allow-gid N, allow-exe PATH, "
				"allow-peer NAME nor allow-recall NAME; "
				"nothing is accepted until it is mended",
				path, number);
	return verdict_check(&verdict, subject);
}

struct built {
	const char *keys_dir;
	struct policy_subject subject;
	pid_t pid;
};

/* Each thread has ids and capabilities of its own. */
static int check_thread(void *data, pid_t tid)
{
	struct built *b = data;
	uint32_t gids[NR_GIDS];
	struct proc_status status;
	char path[48];
	int fd, err;

	snprintf(path, sizeof(path), "/proc/%d/task/%d", b->pid, tid);
	fd = open(path, O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0)
		return log_fail(errno, "pid %d: thread %d that was built cannot be read", b->pid,
				tid);
	err = proc_status(fd, &status);
	close(fd);
	if (err)
		return log_fail(-err, "pid %d: thread %d that was built cannot be read", b->pid,
				tid);
	if (status.nr_groups > PROC_GROUPS_MAX)
		return log_fail(E2BIG, "pid %d: thread %d has too many groups", b->pid, tid);
	memcpy(gids, status.gid, sizeof(status.gid));
	memcpy(gids + 4, status.groups, status.nr_groups * sizeof(gids[0]));
	b->subject.gids = gids;
	b->subject.nr_gids = 4 + status.nr_groups;
	b->subject.uids = status.uid;
	b->subject.privileged = status.cap_prm || status.cap_inh || status.cap_amb;
	return policy_check(b->keys_dir, &b->subject);
}

int policy_check_process(const char *keys_dir, const char *peer, pid_t pid)
{
	char exe[PATH_MAX], path[PATH_MAX];
	struct built b = {.keys_dir = keys_dir, .pid = pid};
	ssize_t len;
	int fd, err;

	if (!IS_ENABLED(CONFIG_POLICY))
		return policy_check(keys_dir, &b.subject);
	/* Without a policy there is nothing to ask for each of the threads. */
	if (snprintf(path, sizeof(path), "%s/policy", keys_dir) < (int)sizeof(path) &&
	    access(path, F_OK) && errno == ENOENT)
		return 0;
	b.subject = (struct policy_subject){.peer = peer, .exe = exe, .nr_uids = NR_UIDS};
	fd = proc_open(pid);
	if (fd < 0)
		return fd;
	len = io_read_link(fd, "exe", exe, sizeof(exe));
	err = len < 0 ? log_fail((int)-len, "pid %d: what was built cannot be read", pid)
		      : proc_each_thread(fd, check_thread, &b);
	close(fd);
	return err;
}
