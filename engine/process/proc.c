/* SPDX-License-Identifier: MIT */
/* What /proc tells of a process, read without allocation. */
#include "engine/process/proc.h"

#include "arch/arch.h"
#include "lib/log.h"
#include "lib/text.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

int proc_open(pid_t pid)
{
	char path[32];
	int fd;

	snprintf(path, sizeof(path), "/proc/%d", pid);
	fd = open(path, O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0)
		return errno == ENOENT ? -ESRCH : -errno;
	return fd;
}

/* The last number of a line such as "NSpid: 812 7"; counts them. */
static pid_t last_number(const char *text, unsigned int *count)
{
	uint64_t value;
	pid_t last = 0;

	for (*count = 0; text_take_u64(&text, 10, &value); ++*count)
		last = (pid_t)value;
	return last;
}

static unsigned int take_u32s(const char *text, uint32_t *out, unsigned int max)
{
	uint64_t value;
	unsigned int nr = 0;

	while (text_take_u64(&text, 10, &value)) {
		if (nr == max)
			return max + 1;
		out[nr++] = (uint32_t)value;
	}
	return nr;
}

static void take_hex(const char *text, uint64_t *out)
{
	text_take_u64(&text, 16, out);
}

static void take_number(const char *text, pid_t *out)
{
	uint64_t value;

	if (text_take_u64(&text, 10, &value))
		*out = (pid_t)value;
}

static void status_line(struct proc_status *s, const char *line)
{
	const char *v;
	unsigned int n;
	pid_t number = 0;
	uint64_t mask = 0, kib;

	if ((v = text_after(line, "Name:")))
		text_copy(s->name, sizeof(s->name), v);
	else if ((v = text_after(line, "Umask:")))
		text_take_u64(&v, 8, &mask), s->umask = (unsigned int)mask;
	else if ((v = text_after(line, "State:")))
		s->state = v[0];
	else if ((v = text_after(line, "Tgid:")))
		take_number(v, &s->tgid);
	else if ((v = text_after(line, "PPid:")))
		take_number(v, &s->ppid);
	else if ((v = text_after(line, "TracerPid:")))
		take_number(v, &s->tracer);
	else if ((v = text_after(line, "Uid:")))
		take_u32s(v, s->uid, 4);
	else if ((v = text_after(line, "Gid:")))
		take_u32s(v, s->gid, 4);
	else if ((v = text_after(line, "Groups:")))
		s->nr_groups = take_u32s(v, s->groups, PROC_GROUPS_MAX);
	else if ((v = text_after(line, "NSpid:")))
		s->pid_inside = last_number(v, &s->ns_depth);
	else if ((v = text_after(line, "NSpgid:")))
		s->pgid_inside = last_number(v, &n);
	else if ((v = text_after(line, "NSsid:")))
		s->sid_inside = last_number(v, &n);
	else if ((v = text_after(line, "VmLck:")))
		text_take_u64(&v, 10, &s->locked_kib);
	else if ((v = text_after(line, "RssAnon:")) || (v = text_after(line, "RssShmem:")) ||
		 (v = text_after(line, "VmSwap:"))) {
		if (text_take_u64(&v, 10, &kib))
			s->own_kib += kib;
	} else if ((v = text_after(line, "VmSize:")))
		s->has_mm = true;
	else if ((v = text_after(line, "Threads:"))) {
		take_number(v, &number);
		s->threads = (unsigned int)number;
	} else if ((v = text_after(line, "SigPnd:")))
		take_hex(v, &s->sig_pending);
	else if ((v = text_after(line, "ShdPnd:")))
		take_hex(v, &s->shared_pending);
	else if ((v = text_after(line, "SigBlk:")))
		take_hex(v, &s->sig_blocked);
	else if ((v = text_after(line, "SigIgn:")))
		take_hex(v, &s->sig_ignored);
	else if ((v = text_after(line, "SigCgt:")))
		take_hex(v, &s->sig_caught);
	else if ((v = text_after(line, "CapInh:")))
		take_hex(v, &s->cap_inh);
	else if ((v = text_after(line, "CapPrm:")))
		take_hex(v, &s->cap_prm);
	else if ((v = text_after(line, "CapEff:")))
		take_hex(v, &s->cap_eff);
	else if ((v = text_after(line, "CapBnd:")))
		take_hex(v, &s->cap_bnd);
	else if ((v = text_after(line, "CapAmb:")))
		take_hex(v, &s->cap_amb);
	else if ((v = text_after(line, "NoNewPrivs:")))
		s->no_new_privs = v[0] == '1';
	else if ((v = text_after(line, "untag_mask:"))) {
		uint64_t mask = ARCH_UNTAG_MASK;

		v = text_after(v, "0x");
		if (v)
			text_take_u64(&v, 16, &mask);
		s->tagged_addresses = mask != ARCH_UNTAG_MASK;
	} else if ((v = text_after(line, "Seccomp:"))) {
		take_number(v, &number);
		s->seccomp = (unsigned int)number;
	}
}

int proc_status(int dir_fd, struct proc_status *status)
{
	struct line_reader reader;
	char buf[2048], *line;
	int err;

	memset(status, 0, sizeof(*status));
	err = line_reader_open(&reader, dir_fd, "status", buf, sizeof(buf));
	if (err)
		return err == -ENOENT ? -ESRCH : err;
	while ((err = line_reader_next(&reader, &line)) > 0)
		status_line(status, line);
	line_reader_close(&reader);
	/* A very long list of groups is the only line that can exceed the buffer. */
	if (err == -EFBIG)
		err = log_fail(E2BIG, "the process has more than %d supplementary groups",
			       PROC_GROUPS_MAX);
	return err;
}

int proc_status_of(pid_t tid, struct proc_status *status)
{
	int fd = proc_open(tid), err = fd < 0 ? fd : proc_status(fd, status);

	if (fd >= 0)
		close(fd);
	return err;
}

/* Paths in maps have newlines as \012; no other character is escaped. */
static void unescape(char *text)
{
	char *out = text;

	for (; *text; text++) {
		if (strncmp(text, "\\012", 4) == 0) {
			*out++ = '\n';
			text += 3;
		} else {
			*out++ = *text;
		}
	}
	*out = '\0';
}

bool proc_map_parse(char *line, struct proc_map *map)
{
	const char *c = line;
	uint64_t major, minor;
	char perms[8];

	if (!text_take_u64(&c, 16, &map->start) || !text_take_char(&c, '-') ||
	    !text_take_u64(&c, 16, &map->end) || !text_take_word(&c, perms, sizeof(perms)) ||
	    strlen(perms) != 4 || !text_take_u64(&c, 16, &map->offset) ||
	    !text_take_u64(&c, 16, &major) || !text_take_char(&c, ':') ||
	    !text_take_u64(&c, 16, &minor) || !text_take_u64(&c, 10, &map->inode))
		return false;
	map->dev_major = (unsigned int)major;
	map->dev_minor = (unsigned int)minor;
	map->read = perms[0] == 'r';
	map->write = perms[1] == 'w';
	map->exec = perms[2] == 'x';
	map->shared = perms[3] == 's';
	while (*c == ' ')
		c++;
	map->name = c;
	unescape(line + (c - line));
	return true;
}

int proc_each_thread(int proc_fd, int (*fn)(void *data, pid_t tid), void *data)
{
	struct dir_reader dir;
	const char *name;
	uint64_t tid;
	int err;

	err = dir_reader_open(&dir, proc_fd, "task");
	if (err)
		return err == -ENOENT ? -ESRCH : err;
	while ((err = dir_reader_next(&dir, &name, NULL)) > 0) {
		if (text_parse_u64(name, 10, &tid))
			continue;
		err = fn(data, (pid_t)tid);
		if (err)
			break;
	}
	dir_reader_close(&dir);
	return err;
}

struct child_walk {
	int proc_fd;
	int (*fn)(void *data, pid_t child);
	void *data;
};

static bool thread_is_there(int proc_fd, pid_t tid)
{
	char path[48];

	snprintf(path, sizeof(path), "task/%d/stat", tid);
	return faccessat(proc_fd, path, F_OK, 0) == 0;
}

static int children_of_thread(void *data, pid_t tid)
{
	struct child_walk *walk = data;
	char path[48], text[256];
	const char *c = text;
	uint64_t child;
	ssize_t n;
	int err = 0;

	snprintf(path, sizeof(path), "task/%d/children", tid);
	n = io_read_file(walk->proc_fd, path, text, sizeof(text));
	if (n == -EFBIG) /* more than fit; the first ones say enough */
		text[sizeof(text) - 1] = '\0';
	else if (n < 0)
		return thread_is_there(walk->proc_fd, tid)
			       ? log_fail(EOPNOTSUPP, "this kernel does not tell a process' "
						      "children; it needs CONFIG_PROC_CHILDREN")
			       : 0;
	while (!err && text_take_u64(&c, 10, &child))
		err = walk->fn(walk->data, (pid_t)child);
	return err;
}

int proc_each_child(int proc_fd, int (*fn)(void *data, pid_t child), void *data)
{
	struct child_walk walk = {proc_fd, fn, data};

	return proc_each_thread(proc_fd, children_of_thread, &walk);
}

int proc_kill_tree(void *unused, pid_t pid)
{
	int fd = proc_open(pid);

	(void)unused;
	kill(pid, SIGSTOP);
	/* What it has made goes first: later nobody would know whose it was. */
	if (fd >= 0) {
		(void)proc_each_child(fd, proc_kill_tree, NULL);
		close(fd);
	}
	kill(pid, SIGKILL);
	return 0;
}

int proc_stat_fields(int dir_fd, unsigned int first, unsigned int nr, uint64_t *values)
{
	char buf[1024];
	const char *c;
	unsigned int index;
	char state[4];
	int64_t value;
	ssize_t n = io_read_file(dir_fd, "stat", buf, sizeof(buf));

	if (n < 0)
		return n == -ENOENT ? -ESRCH : (int)n;
	/* The name in parentheses may hold anything; fields are counted from its end. */
	c = strrchr(buf, ')');
	if (!c)
		return -EPROTO;
	c++;
	if (!text_take_word(&c, state, sizeof(state)))
		return -EPROTO;
	for (index = 4; index < first + nr; index++) {
		uint64_t big;

		if (text_take_u64(&c, 10, &big))
			value = (int64_t)big;
		else if (!text_take_i64(&c, 10, &value))
			return -EPROTO;
		if (index >= first)
			values[index - first] = (uint64_t)value;
	}
	return 0;
}

int proc_stat_field(int dir_fd, unsigned int index, int64_t *value)
{
	return proc_stat_fields(dir_fd, index, 1, (uint64_t *)value);
}
