/* SPDX-License-Identifier: MIT */
/*
 * Probes of this kernel. What acts on another process is tried on a subject: a child that sleeps,
 * made with clone3(2) and a pid of our choice as the restored process is, and killed at the end.
 */
#include "engine/process/system.h"

#include "arch/arch.h"
#include "engine/paging/pagemap.h"
#include "engine/process/clocks.h"
#include "engine/process/proc.h"
#include "engine/process/system_trial.h"
#include "lib/arena.h"
#include "lib/io.h"
#include "lib/kernel.h"
#include "lib/text.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <linux/userfaultfd.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/ptrace.h>
#include <sys/uio.h>
#include <sys/utsname.h>
#include <sys/wait.h>
#include <unistd.h>

#ifndef PTRACE_GET_RSEQ_CONFIGURATION /* 5.13 */
#define PTRACE_GET_RSEQ_CONFIGURATION 0x420f
#endif

#define TEXT_MAX 256

static void say(struct system_probe *p, enum system_level level, const char *name, const char *fmt,
		...) __attribute__((format(printf, 4, 5)));
static void say(struct system_probe *p, enum system_level level, const char *name, const char *fmt,
		...)
{
	char text[TEXT_MAX];
	va_list args;

	va_start(args, fmt);
	vsnprintf(text, sizeof(text), fmt, args);
	va_end(args);
	if (level == SYSTEM_MISSING)
		p->nr_missing++;
	p->report(p, level, name, text);
}

/* A fact with one text for yes and one for no: `err` is 0 or -errno, `bad` what it then is. */
static void judge(struct system_probe *p, int err, enum system_level bad, const char *name,
		  const char *good_text, const char *bad_text)
{
	if (err)
		say(p, bad, name, "%s: %s", strerror(-err), bad_text);
	else
		say(p, SYSTEM_OK, name, "%s", good_text);
}

/* ---- alone ---- */

static void probe_kernel(struct system_probe *p)
{
	const unsigned int page = 1u << arch_page_shift();
	struct utsname uts;

	uname(&uts);
	say(p, SYSTEM_OK, "kernel", "Linux %s, %s, pages of %u bytes", uts.release, arch_name(),
	    page);
	if (page > CONFIG_RUN_KIB * 1024)
		say(p, SYSTEM_MISSING, "run",
		    "a page is larger than a run of this build; raise CONFIG_RUN_KIB to %u",
		    page / 1024);
}

static const struct right {
	uint8_t cap;
	bool needed;
	const char *name, *why;
} rights[] = {
	{CAP_SYS_ADMIN, true, "CAP_SYS_ADMIN", ""},
	{CAP_SYS_PTRACE, true, "CAP_SYS_PTRACE", ""},
	{CAP_SETUID, true, "CAP_SETUID", ""},
	{CAP_SETGID, true, "CAP_SETGID", ""},
	{CAP_KILL, true, "CAP_KILL", ""},
	{CAP_SYS_RESOURCE, false, "CAP_SYS_RESOURCE",
	 "limits above this device's own, and an oom_score_adj below its own, are not carried"},
	{CAP_SYS_NICE, false, "CAP_SYS_NICE",
	 "real-time priorities and negative nice are not carried"},
	{CAP_SYS_CHROOT, false, "CAP_SYS_CHROOT",
	 "processes with a root folder of their own are not carried"},
};

static uint64_t own_rights(void)
{
	struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
	struct __user_cap_data_struct data[2] = {{0}};

	if (syscall(SYS_capget, &header, data) < 0)
		return 0;
	return data[0].effective | (uint64_t)data[1].effective << 32;
}

static void probe_rights(struct system_probe *p)
{
	uint64_t have = own_rights();
	char lacking[TEXT_MAX / 2] = "";

	for (unsigned int i = 0; i < sizeof(rights) / sizeof(rights[0]); i++) {
		const struct right *r = &rights[i];
		size_t len = strlen(lacking);

		if ((have >> r->cap) & 1)
			continue;
		if (r->needed)
			snprintf(lacking + len, sizeof(lacking) - len, " %s", r->name);
		else
			say(p, SYSTEM_OPTIONAL, r->name, "not ours: %s", r->why);
	}
	if (lacking[0])
		say(p, SYSTEM_MISSING, "rights", "run as root, or with%s", lacking);
	else
		say(p, SYSTEM_OK, "rights", "all that are needed");
}

/* Fills a page of ours. Closes `fd` before the page goes: unmapping would wait for us to read of it. */
static int fill_a_page(int fd)
{
	size_t page = (size_t)1 << arch_page_shift();
	uint8_t *at =
		mmap(NULL, 2 * page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	struct uffdio_register reg = {.mode = UFFDIO_REGISTER_MODE_MISSING};
	struct uffdio_copy copy = {.len = page};
	int err = 0;

	if (at == MAP_FAILED) {
		close(fd);
		return -ENOMEM;
	}
	at[page] = 0x5a;
	reg.range.start = copy.dst = (uintptr_t)at;
	reg.range.len = page;
	copy.src = (uintptr_t)(at + page);
	if (ioctl(fd, UFFDIO_REGISTER, &reg) < 0 || ioctl(fd, UFFDIO_COPY, &copy) < 0)
		err = -errno;
	else if (at[0] != 0x5a)
		err = -EIO;
	close(fd);
	munmap(at, 2 * page);
	return err;
}

static void probe_userfaultfd(struct system_probe *p)
{
	struct uffdio_api api = {.api = UFFD_API,
				 .features = UFFD_FEATURE_EVENT_FORK | UFFD_FEATURE_EVENT_REMAP |
					     UFFD_FEATURE_EVENT_REMOVE | UFFD_FEATURE_EVENT_UNMAP};
	int fd = (int)syscall(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK);
	int err = fd < 0 ? -errno : 0;
	char text[8] = "";

	judge(p, err, SYSTEM_MISSING, "userfaultfd", "can be made",
	      err == -ENOSYS ? "build the kernel with CONFIG_USERFAULTFD"
			     : "run as root (CAP_SYS_PTRACE)");
	if (!err) {
		err = ioctl(fd, UFFDIO_API, &api) < 0 ? -errno : 0;
		judge(p, err, SYSTEM_MISSING, "userfaultfd-events", "fork, remap, remove, unmap",
		      err == -EPERM ? "run as root (CAP_SYS_PTRACE)" : "needs Linux 4.11");
		if (err)
			close(fd);
		else
			judge(p, fill_a_page(fd), SYSTEM_MISSING, "userfaultfd-fill",
			      "a page was filled",
			      "this kernel's userfaultfd does not fill memory");
	}
	if (io_read_file(AT_FDCWD, "/proc/sys/vm/unprivileged_userfaultfd", text, sizeof(text)) > 0)
		say(p, SYSTEM_OK, "unprivileged-userfaultfd",
		    "vm.unprivileged_userfaultfd is %c; as root baton works with either", text[0]);
}

/* What is read of any process in /proc, tried on ourselves. */
static void probe_proc(struct system_probe *p)
{
	static const struct {
		const char *path, *name, *good, *bad;
		enum system_level level;
	} files[] = {
		{"/proc/self/task", "proc", "is mounted", "mount it: mount -t proc proc /proc",
		 SYSTEM_MISSING},
		{"/proc/thread-self/children", "proc-children", "children are found",
		 "build the kernel with CONFIG_PROC_CHILDREN", SYSTEM_MISSING},
		{"/proc/self/timers", "proc-timers", "POSIX timers are found",
		 "build the kernel with CONFIG_CHECKPOINT_RESTORE and CONFIG_POSIX_TIMERS",
		 SYSTEM_MISSING},
		{"/proc/self/smaps", "proc-smaps", "mappings are described",
		 "build the kernel with CONFIG_PROC_PAGE_MONITOR", SYSTEM_MISSING},
		{"/proc/self/sched", "proc-sched", "how long a thread has waited is known",
		 "sleeps with a relative timeout start over after a move; CONFIG_SCHED_DEBUG helps",
		 SYSTEM_OPTIONAL},
	};

	for (unsigned int i = 0; i < sizeof(files) / sizeof(files[0]); i++)
		judge(p, access(files[i].path, R_OK) < 0 ? -errno : 0, files[i].level,
		      files[i].name, files[i].good, files[i].bad);
}

/* ---- on the subject ---- */

static int open_first_map(pid_t pid)
{
	char buf[PROC_LINE_MAX], path[96], *line;
	struct line_reader reader;
	struct proc_map map;
	int fd = -ENOENT, err;

	snprintf(path, sizeof(path), "/proc/%d/maps", pid);
	err = line_reader_open(&reader, AT_FDCWD, path, buf, sizeof(buf));
	if (err)
		return err;
	if (line_reader_next(&reader, &line) > 0 && proc_map_parse(line, &map)) {
		snprintf(path, sizeof(path), "/proc/%d/map_files/%llx-%llx", pid,
			 (unsigned long long)map.start, (unsigned long long)map.end);
		fd = open(path, O_RDONLY | O_CLOEXEC);
		if (fd < 0)
			fd = -errno;
	}
	line_reader_close(&reader);
	return fd;
}

static int close_if_open(int fd)
{
	if (fd < 0)
		return fd;
	close(fd);
	return 0;
}

static int read_other(pid_t pid, const void *what)
{
	uint64_t value;
	struct iovec local = {&value, sizeof(value)}, remote = {(void *)what, sizeof(value)};

	return process_vm_readv(pid, &local, 1, &remote, 1, 0) < 0 ? -errno : 0;
}

static void probe_access(struct system_probe *p, pid_t pid)
{
	static const uint64_t readable = 1; /* at the same address in the child */
	int pidfd = (int)syscall(SYS_pidfd_open, pid, 0), err;
	bool scans;

	judge(p, pidfd < 0 ? -errno : 0, SYSTEM_MISSING, "pidfd", "pidfd_open", "needs Linux 5.3");
	if (pidfd >= 0) {
		int fd = (int)syscall(SYS_pidfd_getfd, pidfd, STDERR_FILENO, 0);

		judge(p, close_if_open(fd < 0 ? -errno : fd), SYSTEM_MISSING, "pidfd-getfd",
		      "open files are taken over", "needs Linux 5.6 and CAP_SYS_PTRACE");
		close(pidfd);
	}
	judge(p, syscall(SYS_kcmp, pid, pid, BATON_KCMP_FILE, 1, 2) < 0 ? -errno : 0,
	      SYSTEM_MISSING, "kcmp", "shared open files are found",
	      "build the kernel with CONFIG_KCMP");
	judge(p, close_if_open(open_first_map(pid)), SYSTEM_MISSING, "map-files",
	      "mapped files are opened", "run as root (CAP_CHECKPOINT_RESTORE or CAP_SYS_ADMIN)");
	judge(p, read_other(pid, &readable), SYSTEM_MISSING, "process-vm", "memory is read",
	      "build the kernel with CONFIG_CROSS_MEMORY_ATTACH, run as root");
	err = pagemap_probe(pid, &scans);
	judge(p, err, SYSTEM_MISSING, "pagemap", "pages are found",
	      "build the kernel with CONFIG_PROC_PAGE_MONITOR");
	if (!err && !scans)
		say(p, SYSTEM_OPTIONAL, "pagemap-scan",
		    "pages are found by reading pagemap, which takes longer; PAGEMAP_SCAN needs "
		    "Linux 6.7 (6.16 where there are guard regions)");
	else if (!err)
		say(p, SYSTEM_OK, "pagemap-scan", "pages are found by PAGEMAP_SCAN");
}

/* What needs the subject stopped; it is stopped by us when 0 is returned. */
static int probe_seize(struct system_probe *p, pid_t pid)
{
	long options = PTRACE_O_TRACESYSGOOD | PTRACE_O_EXITKILL;
	int err;

	err = ptrace(PTRACE_SEIZE, pid, 0, options | PTRACE_O_SUSPEND_SECCOMP) < 0 ? -errno : 0;
	judge(p, err, SYSTEM_MISSING, "seccomp-suspend", "filters can be suspended",
	      "run as root (CAP_SYS_ADMIN), kernel with CONFIG_SECCOMP and "
	      "CONFIG_CHECKPOINT_RESTORE");
	if (err)
		err = ptrace(PTRACE_SEIZE, pid, 0, options) < 0 ? -errno : 0;
	if (!err)
		err = ptrace(PTRACE_INTERRUPT, pid, 0, 0) < 0 ? -errno : trial_wait_stop(pid);
	judge(p, err, SYSTEM_MISSING, "ptrace", "a process can be stopped",
	      "run as root (CAP_SYS_PTRACE); kernel.yama.ptrace_scope must not be 3");
	return err;
}

static int read_registers(pid_t pid)
{
	size_t mark = arena_mark();
	void *xstate = arena_alloc(ARENA_SCRATCH, ARCH_XSTATE_MAX, 16);
	struct arch_regs regs;
	ssize_t len = xstate ? arch_regs_get(pid, &regs) : -ENOMEM;

	if (!len)
		len = arch_xstate_get(pid, xstate, ARCH_XSTATE_MAX);
	arena_reset(mark);
	return len < 0 ? (int)len : 0;
}

static void probe_stopped(struct system_probe *p, pid_t pid)
{
	uint64_t config[3], mask;

	judge(p, read_registers(pid), SYSTEM_MISSING, "registers", "with their extended state",
	      "this processor's extended state is larger than baton knows");
	judge(p, ptrace(PTRACE_GETSIGMASK, pid, sizeof(mask), &mask) < 0 ? -errno : 0,
	      SYSTEM_MISSING, "signal-mask", "is read",
	      "build the kernel with CONFIG_CHECKPOINT_RESTORE");
	judge(p,
	      ptrace(PTRACE_GET_RSEQ_CONFIGURATION, pid, sizeof(config), config) < 0 ? -errno : 0,
	      SYSTEM_MISSING, "rseq", "its configuration is read", "needs Linux 5.13");
}

static void probe_subject(struct system_probe *p)
{
	pid_t pid = trial_make_subject();
	int err = pid < 0 ? pid : 0;

	judge(p, err, SYSTEM_MISSING, "set-tid", "a pid was chosen",
	      err == -EPERM ? "run as root (CAP_CHECKPOINT_RESTORE or CAP_SYS_ADMIN)"
			    : "clone3 with set_tid needs Linux 5.5");
	if (err)
		pid = fork();
	if (pid == 0)
		trial_sleep();
	if (pid < 0)
		return;
	probe_access(p, pid);
	if (!probe_seize(p, pid))
		probe_stopped(p, pid);
	kill(pid, SIGKILL);
	waitpid(pid, NULL, __WALL);
}

/* ---- in a child ---- */

static void probe_trials(struct system_probe *p)
{
	static const struct {
		int (*run)(void);
		enum system_level level;
		const char *name, *good, *bad;
	} trials[] = {
		{trial_tid_address, SYSTEM_MISSING, "checkpoint-restore", "PR_GET_TID_ADDRESS",
		 "build the kernel with CONFIG_CHECKPOINT_RESTORE"},
		{trial_mm_map, SYSTEM_MISSING, "mm-map", "PR_SET_MM_MAP with the program's file",
		 "run as root (CAP_CHECKPOINT_RESTORE), kernel with CONFIG_CHECKPOINT_RESTORE"},
		{trial_pidns, SYSTEM_OPTIONAL, "pid-namespace", "--pidns works",
		 "--pidns does not work: run as root, kernel with CONFIG_PID_NS"},
		{clocks_trial, SYSTEM_OPTIONAL, "time-namespace",
		 "clocks of processes from other devices go on",
		 "processes from devices with other clocks are refused, or theirs jump "
		 "(--allow-clock-jump): run as root (CAP_SYS_TIME), kernel with CONFIG_TIME_NS, "
		 "user.max_time_namespaces above 0"},
		{trial_timer_ids, SYSTEM_OPTIONAL, "timer-ids", "are restored directly",
		 "are reached by counting, up to a few thousand; PR_TIMER_CREATE_RESTORE_IDS needs "
		 "Linux "
		 "6.15"},
		{trial_unix_diag, SYSTEM_OPTIONAL, "unix-diag", "peers of unix sockets are found",
		 "connected unix sockets are refused; build the kernel with CONFIG_UNIX_DIAG"},
	};

	for (unsigned int i = 0; i < sizeof(trials) / sizeof(trials[0]); i++)
		judge(p, trial_run(trials[i].run), trials[i].level, trials[i].name, trials[i].good,
		      trials[i].bad);
}

void system_probe(struct system_probe *p)
{
	p->nr_missing = 0;
	probe_kernel(p);
	probe_rights(p);
	probe_userfaultfd(p);
	probe_proc(p);
	probe_subject(p);
	probe_trials(p);
}
