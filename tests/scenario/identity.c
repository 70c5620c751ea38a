/* SPDX-License-Identifier: MIT */
/*
 * Who the process is: every field of /proc/self/status and /proc/self/stat that belongs to it,
 * names, limits, scheduling, folders, what /proc says of its executable and arguments.
 * ARG chooses what it is before the move: root, a user with a few capabilities, a user with none
 * under seccomp and no_new_privs, or in a chroot.
 * build: musl-static
 * libs: -lpthread
 * args: root | caps | nobody | chroot | seccomp
 */
#include "scenario.h"
#include <grp.h>
#include <linux/capability.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <linux/securebits.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stddef.h>
#include <sys/personality.h>
#include <sys/prctl.h>
#include <sys/resource.h>

#define NR_LIMITS 16

/* Lines of /proc/self/status that must be the same. */
static const char *const status_keys[] = {
	"Name",
	"Umask",
	"Tgid",
	"Pid",
	"Uid",
	"Gid",
	"Groups",
	"NStgid",
	"Threads",
	"SigQ",
	"SigPnd",
	"ShdPnd",
	"SigBlk",
	"SigIgn",
	"SigCgt",
	"CapInh",
	"CapPrm",
	"CapEff",
	"CapBnd",
	"CapAmb",
	"NoNewPrivs",
	"Seccomp",
	"Seccomp_filters",
	"Cpus_allowed",
	"THP_enabled",
	"CoreDumping",
};
#define NR_KEYS (sizeof(status_keys) / sizeof(status_keys[0]))
/* Fields of /proc/self/stat, counted from 1: pgrp, session, priority, nice, threads, start_code,
 * end_code, start_stack, exit_signal, rt_priority, policy, start_data ... env_end. */
static const int stat_fields[] = {5, 6, 18, 19, 20, 26, 27, 28, 40, 41, 45, 46, 47, 48, 49, 50, 51};
#define NR_STAT (sizeof(stat_fields) / sizeof(stat_fields[0]))

static char status_was[NR_KEYS][400], status_now[NR_KEYS][400];
static char stat_was[NR_STAT][32], stat_now[NR_STAT][32];
static struct rlimit limits[NR_LIMITS];
static char text[16384];
static struct {
	char exe[256], cmdline[512], environ[4000], auxv[1024], cwd[256], comm[64], oom[16];
	ssize_t environ_len, auxv_len, cmdline_len;
	int dumpable, securebits, keepcaps, pdeath, thp, timerslack, personality, child_subreaper;
	int policy, nice;
	struct sched_param param;
	cpu_set_t cpus;
	uid_t ruid, euid, suid;
} was, now;

static pthread_t thread;
static volatile bool stop, thread_ok;
static volatile pid_t thread_tid;

static bool with_proc(void)
{
	return strcmp(scenario_arg(0), "chroot");
}

static void status_read(char rows[NR_KEYS][400])
{
	CHECK(scenario_read("/proc/self/status", text, sizeof(text)) > 0);
	for (size_t i = 0; i < NR_KEYS; i++) {
		char key[40], *at;

		snprintf(key, sizeof(key), "\n%s:", status_keys[i]);
		at = i ? strstr(text, key) : text;
		rows[i][0] = 0;
		if (at)
			snprintf(rows[i], 400, "%.*s", (int)strcspn(at + 1, "\n"), at + 1);
	}
	/* Of SigQ only the limit: how many are queued is the user's, not the process's. */
	for (size_t i = 0; i < NR_KEYS; i++)
		if (!strcmp(status_keys[i], "SigQ") && strchr(rows[i], '/'))
			memmove(rows[i], strchr(rows[i], '/'), strlen(strchr(rows[i], '/')) + 1);
}

static void stat_read(char fields[NR_STAT][32])
{
	char *p;

	CHECK(scenario_read("/proc/self/stat", text, sizeof(text)) > 0);
	p = strrchr(text, ')') + 2; /* field 3 */
	for (size_t i = 0; i < NR_STAT; i++) {
		char *q = p;

		for (int f = 3; f < stat_fields[i]; f++)
			q = strchr(q, ' ') + 1;
		snprintf(fields[i], 32, "%.*s", (int)strcspn(q, " \n"), q);
	}
}

/* The rest, into was or now. */
static void rest_read(void *into)
{
	typeof(was) *w = into;
	int pdeath = 0, reaper = 0;
	ssize_t n;

	memset(w, 0, sizeof(*w));
	if (with_proc()) {
		n = readlink("/proc/self/exe", w->exe, sizeof(w->exe) - 1);
		CHECK(n > 0);
		w->cmdline_len =
			scenario_read("/proc/self/cmdline", w->cmdline, sizeof(w->cmdline));
		w->environ_len =
			scenario_read("/proc/self/environ", w->environ, sizeof(w->environ));
		w->auxv_len = scenario_read("/proc/self/auxv", w->auxv, sizeof(w->auxv));
		scenario_read("/proc/self/comm", w->comm, sizeof(w->comm));
		scenario_read("/proc/self/oom_score_adj", w->oom, sizeof(w->oom));
	}
	CHECK(getcwd(w->cwd, sizeof(w->cwd)));
	w->dumpable = prctl(PR_GET_DUMPABLE);
	w->securebits = prctl(PR_GET_SECUREBITS);
	w->keepcaps = prctl(PR_GET_KEEPCAPS);
	prctl(PR_GET_PDEATHSIG, &pdeath);
	w->pdeath = pdeath;
	prctl(PR_GET_CHILD_SUBREAPER, &reaper);
	w->child_subreaper = reaper;
	w->thp = prctl(PR_GET_THP_DISABLE, 0, 0, 0, 0);
	w->timerslack = prctl(PR_GET_TIMERSLACK);
	w->personality = personality(0xffffffff);
	w->policy = (int)syscall(SYS_sched_getscheduler, 0);
	syscall(SYS_sched_getparam, 0, &w->param);
	w->nice = getpriority(PRIO_PROCESS, 0);
	sched_getaffinity(0, sizeof(w->cpus), &w->cpus);
	getresuid(&w->ruid, &w->euid, &w->suid);
}

/* A thread with a name, a policy and an affinity of its own. */
static void *thread_run(void *arg)
{
	struct sched_param p = {0};
	cpu_set_t cpus, got;
	char name[16];

	(void)arg;
	CPU_ZERO(&cpus);
	CPU_SET(sysconf(_SC_NPROCESSORS_ONLN) - 1, &cpus);
	sched_setaffinity(0, sizeof(cpus), &cpus);
	prctl(PR_SET_NAME, "odd (name) \n1");
	syscall(SYS_sched_setscheduler, 0, SCHED_IDLE, &p);
	thread_tid = (pid_t)syscall(SYS_gettid);
	while (!stop)
		scenario_sleep_ms(2);
	prctl(PR_GET_NAME, name);
	CHECK(!strcmp(name, "odd (name) \n1"), "thread's name: %s", name);
	CHECK(syscall(SYS_sched_getscheduler, 0) == SCHED_IDLE, "thread's policy");
	CHECK(!sched_getaffinity(0, sizeof(got), &got) && CPU_EQUAL(&cpus, &got),
	      "thread's affinity");
	CHECK(syscall(SYS_gettid) == thread_tid, "tid");
	thread_ok = true;
	return NULL;
}

static void set_common(void)
{
	struct rlimit lim = {200, 300};
	cpu_set_t cpus;
	int fd;

	setrlimit(RLIMIT_NOFILE, &(struct rlimit){500, 600});
	setrlimit(RLIMIT_NPROC, &(struct rlimit){4000, 5000});
	setrlimit(RLIMIT_CORE, &(struct rlimit){5000, 8192});
	setrlimit(RLIMIT_STACK, &(struct rlimit){4 << 20, 16 << 20});
	setrlimit(RLIMIT_SIGPENDING, &lim);
	umask(0137);
	CHECK(!setpriority(PRIO_PROCESS, 0, 5));
	CPU_ZERO(&cpus);
	CPU_SET(0, &cpus);
	CHECK(!sched_setaffinity(0, sizeof(cpus), &cpus));
	prctl(PR_SET_NAME, "who) am (I");
	prctl(PR_SET_TIMERSLACK, 123456);
	fd = open("/proc/self/oom_score_adj", O_WRONLY);
	if (fd >= 0) {
		CHECK(write(fd, "321", 3) == 3);
		close(fd);
	}
	CHECK(!chdir("/usr/share"));
}

static void set_caps(uint32_t low)
{
	struct __user_cap_header_struct h = {_LINUX_CAPABILITY_VERSION_3, 0};
	struct __user_cap_data_struct d[2] = {{low, low, low & 0x2}, {0, 0, 0}};

	CHECK(!syscall(SYS_capset, &h, d));
}

static void set_user(bool caps)
{
	gid_t groups[] = {7, 1000, 70000};

	CHECK(!setgroups(3, groups) && !setresgid(2001, 2002, 2003));
	if (caps) {
		CHECK(!prctl(PR_CAPBSET_DROP, CAP_SYS_MODULE));
		CHECK(!prctl(PR_SET_SECUREBITS, SECBIT_NOROOT | SECBIT_KEEP_CAPS));
	}
	CHECK(!setresuid(3001, 3002, 3003));
	if (caps) {
		set_caps(1u << CAP_NET_BIND_SERVICE | 1u << CAP_DAC_OVERRIDE | 1u << CAP_KILL);
		prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, CAP_DAC_OVERRIDE, 0, 0);
	}
	prctl(PR_SET_DUMPABLE, 1);
}

/* Allows all but uname, which gives errno 77: two filters, of which both must be there. */
static void set_seccomp(void)
{
	struct sock_filter deny[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_uname, 0, 1),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | 77),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_ptrace, 0, 1),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS),
		/* What an engine might make it run, and a program with a filter would not allow. */
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_userfaultfd, 0, 1),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};
	struct sock_fprog prog = {sizeof(deny) / sizeof(deny[0]), deny};
	struct sock_filter allow[] = {BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW)};
	struct sock_fprog second = {1, allow};

	CHECK(!prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0));
	CHECK(!syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_TSYNC, &prog));
	CHECK(!syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_TSYNC, &second));
}

static void snapshot(void)
{
	if (with_proc()) {
		status_read(status_was);
		stat_read(stat_was);
	}
	rest_read(&was);
	for (int i = 0; i < NR_LIMITS; i++)
		getrlimit(i, &limits[i]);
}

static void prepare(void)
{
	const char *kind = scenario_arg(0);

	chmod(scenario_dir, 0777);
	set_common();
	if (!strcmp(kind, "root")) {
		personality(ADDR_NO_RANDOMIZE);
		prctl(PR_SET_PDEATHSIG, SIGUSR1);
		signal(SIGUSR1, SIG_IGN);
		prctl(PR_SET_CHILD_SUBREAPER, 1);
		prctl(PR_SET_DUMPABLE, 0);
		prctl(PR_SET_THP_DISABLE, 1, 0, 0, 0);
	}
	if (!strcmp(kind, "caps") || !strcmp(kind, "nobody"))
		set_user(!strcmp(kind, "caps"));
	if (!strcmp(kind, "nobody"))
		CHECK(!prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0));
	CHECK(!pthread_create(&thread, NULL, thread_run, NULL));
	while (!thread_tid)
		scenario_sleep_ms(1);
	if (!strcmp(kind, "seccomp"))
		set_seccomp();
	if (!strcmp(kind, "chroot")) {
		CHECK(!chroot(scenario_dir) && !chdir("/"));
		scenario_dir[0] = 0;
		mkdir("/inside", 0755);
		CHECK(!chdir("/inside"));
	}
	snapshot();
}

static void sabotage(void)
{
	umask(0);
	chdir("..");
}

#define SAME(field)                                                                                \
	CHECK(now.field == was.field, "%s: %d was %d", #field, (int)now.field, (int)was.field)
#define SAME_TEXT(field)                                                                           \
	CHECK(!strcmp(now.field, was.field), "%s: %s was %s", #field, now.field, was.field)

static void check(void)
{
	struct rlimit lim;

	rest_read(&now);
	SAME_TEXT(cwd);
	SAME_TEXT(exe);
	SAME_TEXT(comm);
	SAME_TEXT(oom);
	SAME(dumpable);
	SAME(securebits);
	SAME(keepcaps);
	SAME(child_subreaper);
	SAME(thp);
	SAME(timerslack);
	SAME(personality);
	SAME(policy);
	SAME(nice);
	SAME(pdeath);
	SAME(param.sched_priority);
	SAME(ruid);
	SAME(euid);
	SAME(suid);
	SAME(cmdline_len);
	SAME(environ_len);
	SAME(auxv_len);
	CHECK(!memcmp(now.cmdline, was.cmdline, sizeof(now.cmdline)), "cmdline");
	CHECK(!memcmp(now.environ, was.environ, sizeof(now.environ)), "environ");
	CHECK(!memcmp(now.auxv, was.auxv, sizeof(now.auxv)), "auxv");
	CHECK(CPU_EQUAL(&now.cpus, &was.cpus), "affinity");
	for (int i = 0; i < NR_LIMITS; i++) {
		getrlimit(i, &lim);
		CHECK(lim.rlim_cur == limits[i].rlim_cur && lim.rlim_max == limits[i].rlim_max,
		      "limit %d", i);
	}
	if (with_proc()) {
		status_read(status_now);
		stat_read(stat_now);
		for (size_t i = 0; i < NR_KEYS; i++)
			CHECK(!strcmp(status_now[i], status_was[i]), "%s was %s", status_now[i],
			      status_was[i]);
		for (size_t i = 0; i < NR_STAT; i++)
			CHECK(!strcmp(stat_now[i], stat_was[i]), "stat field %d: %s was %s",
			      stat_fields[i], stat_now[i], stat_was[i]);
	} else {
		CHECK(access("/proc/self", F_OK) && !access("/inside", F_OK), "not in its root");
	}
	if (!strcmp(scenario_arg(0), "seccomp"))
		CHECK(syscall(SYS_uname, text) == -1 && errno == 77, "the filter is gone");
	stop = true;
	pthread_join(thread, NULL);
	CHECK(thread_ok);
}

int main(int argc, char **argv)
{
	static const struct scenario s = {prepare, NULL, check, sabotage};

	return scenario_main(argc, argv, &s);
}
