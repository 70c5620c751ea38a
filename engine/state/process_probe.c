/* SPDX-License-Identifier: MIT */
/* What of a process as a whole, and of its threads among each other, cannot be moved. */
#include "engine/state/process_probe.h"

#include "engine/process/proc.h"
#include "lib/io.h"
#include "lib/kernel.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

static void probe_status(struct probe *p, const struct proc_status *s)
{
	char item[24];

	snprintf(item, sizeof(item), "pid %d", p->pid);
	if (s->state == 'Z' || s->state == 'X')
		probe_refused(p, item, "has ended (a zombie); there is nothing to move");
	else if (!s->has_mm)
		probe_refused(p, item, "is a kernel thread, which cannot be moved");
	else if (p->pid == getpid())
		probe_refused(p, item, "is baton itself");
	else if (s->pid_inside == 1)
		probe_refused(p, item, "is the init of its pid namespace, which cannot be moved");
	else if (s->tracer)
		probe_refused(p, item,
			      "is being traced by pid %d (a debugger, strace); detach that first",
			      s->tracer);
	if (s->nr_groups > PROC_GROUPS_MAX)
		probe_refused(p, item, "has more than %d supplementary groups", PROC_GROUPS_MAX);
	if (s->seccomp == 1)
		probe_refused(p, item, "is in seccomp strict mode, which allows no restore");
	if (s->tagged_addresses)
		probe_refused(p, item,
			      "has tags in its addresses (ARCH_ENABLE_TAGGED_ADDR), which "
			      "is not carried");
	if (s->threads > CONFIG_MAX_THREADS)
		probe_refused(p, item, "has %u threads; this build takes %d (CONFIG_MAX_THREADS)",
			      s->threads, CONFIG_MAX_THREADS);
}

static int refuse_child(void *data, pid_t child)
{
	struct probe *p = data;
	char item[24];

	snprintf(item, sizeof(item), "child %d", child);
	probe_refused(p, item,
		      "is a child process; trees are not moved yet: end it, or move a process that "
		      "has none");
	return 0;
}

static void refuse_namespace(struct probe *p, const char *path, const char *link)
{
	probe_refused(p, path,
		      "the process is in a namespace of its own (%s); run baton in there, or start "
		      "the process outside of it",
		      link);
}

/* A link below /proc/PID, against another one there, or one of ours. */
static void compare_namespace(struct probe *p, const char *path, int dir_fd, const char *other)
{
	char theirs[64], wanted[64];
	ssize_t len = io_read_link(p->proc_fd, path, theirs, sizeof(theirs));

	if (io_read_link(dir_fd, other, wanted, sizeof(wanted)) < 0)
		return; /* the kernel has none of this sort, or the thread has ended */
	if (len < 0 || strcmp(theirs, wanted) != 0)
		refuse_namespace(p, path, len < 0 ? "without a process" : theirs);
}

static const char *const namespaces[] = {"mnt", "net", "ipc", "uts", "user", "cgroup", "time"};
#define NR_NAMESPACES (sizeof(namespaces) / sizeof(namespaces[0]))
/* All but the last: its clocks are carried (engine/process/clocks.h). */
#define NR_OURS (NR_NAMESPACES - 1)

static void probe_namespaces(struct probe *p)
{
	char path[24], own[40];

	for (unsigned int i = 0; i < NR_OURS; i++) {
		snprintf(path, sizeof(path), "ns/%s", namespaces[i]);
		snprintf(own, sizeof(own), "/proc/self/ns/%s", namespaces[i]);
		compare_namespace(p, path, AT_FDCWD, own);
	}
	/* Those that only its children would be in. */
	compare_namespace(p, "ns/pid_for_children", p->proc_fd, "ns/pid");
	compare_namespace(p, "ns/time_for_children", p->proc_fd, "ns/time");
}

/* A thread that has left the others (unshare(2)) cannot be made by clone. */
static int probe_thread(void *data, pid_t tid)
{
	struct probe *p = data;
	char item[32], path[48], leader[24];

	if (tid == p->pid)
		return 0;
	snprintf(item, sizeof(item), "thread %d", tid);
	if (syscall(SYS_kcmp, p->pid, tid, BATON_KCMP_FILES, 0, 0) > 0 ||
	    syscall(SYS_kcmp, p->pid, tid, BATON_KCMP_FS, 0, 0) > 0)
		probe_refused(p, item,
			      "has descriptors or a working folder of its own (unshare), which "
			      "are not carried");
	for (unsigned int i = 0; i < NR_NAMESPACES; i++) {
		snprintf(path, sizeof(path), "task/%d/ns/%s", tid, namespaces[i]);
		snprintf(leader, sizeof(leader), "ns/%s", namespaces[i]);
		if (faccessat(p->proc_fd, path, F_OK, AT_SYMLINK_NOFOLLOW) == 0)
			compare_namespace(p, path, p->proc_fd, leader);
	}
	return 0;
}

/* The new process gets our own labels: one that confines it would be lost. */
static void probe_labels(struct probe *p)
{
	static const char *const files[] = {"attr/current",      "attr/exec",
					    "attr/fscreate",     "attr/keycreate",
					    "attr/sockcreate",   "attr/apparmor/current",
					    "attr/smack/current"};
	char theirs[256], ours[256], own[48];

	for (unsigned int i = 0; i < sizeof(files) / sizeof(files[0]); i++) {
		snprintf(own, sizeof(own), "/proc/self/%s", files[i]);
		if (io_read_file(p->proc_fd, files[i], theirs, sizeof(theirs)) <= 0)
			continue;
		if (io_read_file(AT_FDCWD, own, ours, sizeof(ours)) <= 0)
			ours[0] = '\0';
		theirs[strcspn(theirs, "\n")] = ours[strcspn(ours, "\n")] = '\0';
		if (strcmp(theirs, ours) != 0)
			probe_refused(p, files[i],
				      "the process is confined by a security module (%s), which is "
				      "not carried; start it, or baton, with the same label",
				      theirs);
	}
}

static void probe_program(struct probe *p)
{
	unsigned char head[5] = {0};
	int fd = openat(p->proc_fd, "exe", O_RDONLY | O_CLOEXEC);

	if (fd < 0)
		return;
	if (io_read_full(fd, head, sizeof(head)) == 0 && memcmp(head, "\177ELF", 4) == 0 &&
	    head[4] == 1)
		probe_refused(p, "exe", "is a 32-bit program, which is not carried");
	close(fd);
}

int process_probe(struct probe *p)
{
	struct proc_status status;
	int err = proc_status(p->proc_fd, &status);

	if (err)
		return err;
	probe_status(p, &status);
	if (p->nr_refused)
		return 0;
	probe_program(p);
	probe_namespaces(p);
	probe_labels(p);
	err = proc_each_thread(p->proc_fd, probe_thread, p);
	return err ? err : proc_each_child(p->proc_fd, refuse_child, p);
}
