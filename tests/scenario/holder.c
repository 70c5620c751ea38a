/* SPDX-License-Identifier: MIT */
/*
 * Holds one thing that cannot be moved, or a lot of memory, and counts on: the size of
 * DIR/beat is the count, that of DIR/gap the longest pause in ms. (Sizes, because a file that is
 * held open and changes could not be moved.) What the tests of refusals and of memory move, or try to.
 *	holder DIR KIND [ARG]
 * build: musl-static
 * libs: -lpthread
 * helper: yes
 */
#include "region.h"
#include <arpa/inet.h>
#include <grp.h>
#include <linux/filter.h>
#include <linux/if_ether.h>
#include <linux/seccomp.h>
#include <mqueue.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <sys/inotify.h>
#include <sys/mman.h>
#include <sys/msg.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/sem.h>
#include <sys/shm.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>

static int need(int ret, const char *what)
{
	if (ret < 0)
		scenario_fail("%s", what);
	return ret;
}

/* Both ends of an established connection. */
static void hold_tcp(const char *arg)
{
	struct sockaddr_in addr = {.sin_family = AF_INET};
	socklen_t len = sizeof(addr);
	int l = socket(AF_INET, SOCK_STREAM, 0), c = socket(AF_INET, SOCK_STREAM, 0);

	(void)arg;
	addr.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	need(bind(l, (struct sockaddr *)&addr, len) | listen(l, 1), "listen");
	need(getsockname(l, (struct sockaddr *)&addr, &len), "getsockname");
	need(connect(c, (struct sockaddr *)&addr, len), "connect");
	need(accept(l, NULL, NULL), "accept");
}

/* What a build of baton can be without. */
static void hold_optional(const char *arg)
{
	struct sigevent none = {.sigev_notify = SIGEV_NONE};
	timer_t timer;
	int pair[2];

	if (!strcmp(arg, "unix"))
		need(socketpair(AF_UNIX, SOCK_STREAM, 0, pair), arg);
	else if (!strcmp(arg, "inotify"))
		need(inotify_init1(0), arg);
	else if (!strcmp(arg, "memfd"))
		need(memfd_create("held", 0), arg);
	else
		need(timer_create(CLOCK_MONOTONIC, &none, &timer), arg);
}

static void hold_uring(const char *arg)
{
	uint32_t params[30] = {0};

	(void)arg;
	need((int)syscall(425, 4, params), "io_uring_setup");
}

static void hold_uffd(const char *arg)
{
	(void)arg;
	need((int)syscall(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK), "userfaultfd");
}

static void hold_hugetlb(const char *arg)
{
	(void)arg;
	if (mmap(NULL, 2 << 20, PROT_READ,
		 MAP_PRIVATE | MAP_ANONYMOUS | MAP_HUGETLB | MAP_NORESERVE, -1, 0) == MAP_FAILED)
		scenario_fail("hugetlb");
}

static void hold_socket(const char *arg)
{
	if (!strcmp(arg, "packet"))
		need(socket(AF_PACKET, SOCK_RAW, htons(ETH_P_ALL)), "packet socket");
	else if (!strcmp(arg, "raw"))
		need(socket(AF_INET, SOCK_RAW, IPPROTO_ICMP), "raw socket");
	else
		need(socket(AF_NETLINK, SOCK_RAW, 0), "netlink socket");
}

static void hold_child(const char *arg)
{
	(void)arg;
	if (!need(fork(), "fork"))
		for (;;)
			pause();
}

static void hold_namespace(const char *arg)
{
	need(unshare(!strcmp(arg, "children") ? CLONE_NEWPID : CLONE_NEWUTS), "unshare");
}

static void hold_pidfd(const char *arg)
{
	(void)arg;
	need((int)syscall(434, getpid(), 0), "pidfd_open");
}

static void hold_open(const char *arg)
{
	need(open(arg, O_RDONLY | O_CLOEXEC), arg);
}

static void hold_map(const char *arg)
{
	int fd = need(open(arg, O_RDONLY | O_CLOEXEC), arg);

	if (mmap(NULL, PAGE, PROT_READ, MAP_PRIVATE, fd, 0) == MAP_FAILED)
		scenario_fail("map %s", arg);
	close(fd);
}

static void hold_deleted(const char *arg)
{
	char path[320];

	(void)arg;
	need(open(scenario_path("deleted", path, sizeof(path)), O_RDWR | O_CREAT, 0644), path);
	unlink(path);
}

static void hold_shm(const char *arg)
{
	int id = need(shmget(IPC_PRIVATE, 8192, 0600), "shmget");
	void *at = shmat(id, NULL, 0);

	(void)arg;
	shmctl(id, IPC_RMID, NULL);
	if (at == (void *)-1)
		scenario_fail("shmat");
}

static volatile bool left;

static void *sleeper(void *arg)
{
	for (;;)
		pause();
	return arg;
}

/* It outlives the program: what ipcrm needs to remove it is in DIR/ipc. */
static void note_object(const char *option, int id)
{
	char text[40];

	snprintf(text, sizeof(text), "%s %d", option, id);
	scenario_write("ipc", text);
}

static void hold_semaphore(const char *arg)
{
	struct sembuf op = {0, 1, !strcmp(arg, "undo") ? SEM_UNDO : 0};
	int id = need(semget(IPC_PRIVATE, 1, 0600), "semget");

	note_object("-s", id);
	need(semop(id, &op, 1), "semop");
	/* Somebody else was the last: what is left is that there is something to undo. */
	if (op.sem_flg && !need(fork(), "fork")) {
		op = (struct sembuf){0, -1, 0};
		_exit(semop(id, &op, 1) != 0);
	}
	while (wait(NULL) > 0)
		;
}

static void hold_queue(const char *arg)
{
	struct {
		long type;
		char text[8];
	} message = {1, "text"};
	int id = need(msgget(IPC_PRIVATE, 0600), "msgget");

	(void)arg;
	note_object("-q", id);
	need(msgsnd(id, &message, sizeof(message.text), 0), "msgsnd");
}

/* Of POSIX: a descriptor. Its name is gone at once, so that nothing is left. */
static void hold_mq(const char *arg)
{
	char name[40];

	snprintf(name, sizeof(name), "/baton-test-%d", getpid());
	need(mq_open(name, O_RDWR | O_CREAT, 0600, NULL), "mq_open");
	if (strcmp(arg, "named"))
		mq_unlink(name);
}

/* It may make no folder any more. */
static void hold_landlock(const char *arg)
{
	const uint64_t make_dir = 1 << 7;
	int ruleset = need((int)syscall(444, &make_dir, sizeof(make_dir), 0), "Landlock");

	(void)arg;
	need(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), "no_new_privs");
	need((int)syscall(446, ruleset, 0), "landlock_restrict_self");
	close(ruleset);
}

static void hold_key(const char *arg)
{
	int where = !strcmp(arg, "thread") ? -1 : !strcmp(arg, "process") ? -2 : -3;

	if (where == -3) /* KEYCTL_JOIN_SESSION_KEYRING */
		need((int)syscall(SYS_keyctl, 1, "a session of its own"), "keyctl");
	need((int)syscall(SYS_add_key, "user", "a key", "x", 1, where), "add_key");
}

static void hold_mbind(const char *arg)
{
	const unsigned long nodes = 1;
	void *at = mmap(NULL, 8192, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	(void)arg;
	need((int)syscall(SYS_mbind, at, 8192, 2, &nodes, 64, 0), "mbind");
}

/* A filter that would ask a listener about uname(2); the listener is not kept. */
static void hold_listened(const char *arg)
{
	struct sock_filter code[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, 0),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_uname, 0, 1),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_USER_NOTIF),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};
	struct sock_fprog program = {sizeof(code) / sizeof(code[0]), code};

	(void)arg;
	need(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), "no_new_privs");
	close(need((int)syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER,
				SECCOMP_FILTER_FLAG_NEW_LISTENER, &program),
		   "seccomp"));
}

static void *leave(void *arg)
{
	if (unshare(strcmp(arg, "files") ? CLONE_NEWUTS : CLONE_FILES))
		scenario_fail("unshare");
	left = true;
	return sleeper(NULL);
}

/* A thread that does not share all with the others. */
static void hold_apart(const char *arg)
{
	pthread_t t;

	if (pthread_create(&t, NULL, leave, (void *)arg))
		scenario_fail("thread");
	while (!left)
		scenario_sleep_ms(1);
}

/* What a user may not have opened itself: "before" it became one. */
#define USER 1234

static void hold_thing(const char *thing, const char *path)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	int fd;

	if (!strcmp(thing, "socket")) {
		fd = need(socket(AF_UNIX, SOCK_STREAM, 0), "socket");
		snprintf(address.sun_path, sizeof(address.sun_path), "%s", path);
		need(bind(fd, (struct sockaddr *)&address, sizeof(address)) | listen(fd, 1), path);
		return;
	}
	if (!strcmp(thing, "fifo"))
		need(mkfifo(path, 0600), path);
	need(open(path, !strcmp(thing, "read") ? O_RDONLY : O_RDWR), path);
}

static void become_user(void)
{
	char path[320];
	int null = need(open("/dev/null", O_RDWR), "/dev/null");

	for (int fd = 0; fd < 3; fd++) /* the harness' files are root's */
		dup2(null, fd);
	close(null);
	need(chmod(scenario_dir, 0777), "chmod");
	need(chmod(scenario_path("beat", path, sizeof(path)), 0666), path);
	need(chmod(scenario_path("gap", path, sizeof(path)), 0666), path);
	need(chdir("/"), "chdir");
	need(setgroups(0, NULL) | setgid(USER) | setuid(USER), "setuid");
	need(prctl(PR_SET_DUMPABLE, 1), "dumpable");
}

/* "before read PATH", "after fifo PATH", ... */
static void hold_user(const char *when)
{
	if (!strcmp(when, "before"))
		hold_thing(scenario_arg(2), scenario_arg(3));
	become_user();
	if (!strcmp(when, "after"))
		hold_thing(scenario_arg(2), scenario_arg(3));
}

static void hold_fds(const char *arg)
{
	for (int i = atoi(arg); i > 0; i--)
		need(open("/dev/null", O_RDONLY), "/dev/null");
}

static void hold_threads(const char *arg)
{
	pthread_attr_t attr;
	pthread_t t;

	pthread_attr_init(&attr);
	pthread_attr_setstacksize(&attr, 16384);
	for (int i = atoi(arg); i > 0; i--)
		if (pthread_create(&t, &attr, sleeper, NULL))
			scenario_fail("thread");
}

/* MiB of memory, each page its own. */
static struct region filled;

static void hold_memory(const char *arg)
{
	region_make(&filled, (size_t)atoi(arg) * 256, 100, 1);
}

/* The same in KiB, for slow links. */
static void hold_kib(const char *arg)
{
	region_make(&filled, (size_t)atoi(arg) / 4, 100, 1);
}

/* KiB of shared memory, which is sent while the process is stopped. */
static void hold_shared(const char *arg)
{
	region_make_shared(&filled, (size_t)atoi(arg) / 4);
}

/* Is the debugger of another process. */
static void hold_tracee(const char *arg)
{
	need((int)ptrace(PTRACE_SEIZE, atoi(arg), 0, 0), "PTRACE_SEIZE");
}

static void hold_nothing(const char *arg)
{
	(void)arg;
}

static const struct {
	const char *kind;
	void (*hold)(const char *arg);
} kinds[] = {
	{"nothing", hold_nothing},
	{"tcp", hold_tcp},
	{"optional", hold_optional},
	{"io_uring", hold_uring},
	{"userfaultfd", hold_uffd},
	{"hugetlb", hold_hugetlb},
	{"socket", hold_socket},
	{"child", hold_child},
	{"namespace", hold_namespace},
	{"pidfd", hold_pidfd},
	{"open", hold_open},
	{"map", hold_map},
	{"deleted", hold_deleted},
	{"shm", hold_shm},
	{"fds", hold_fds},
	{"threads", hold_threads},
	{"memory", hold_memory},
	{"kib", hold_kib},
	{"shared", hold_shared},
	{"user", hold_user},
	{"tracee", hold_tracee},
	{"semaphore", hold_semaphore},
	{"queue", hold_queue},
	{"landlock", hold_landlock},
	{"mq", hold_mq},
	{"key", hold_key},
	{"mbind", hold_mbind},
	{"listened", hold_listened},
	{"apart", hold_apart},
};

/* Counts on until DIR/end appears. A gap in CLOCK_BOOTTIME is what the process would notice. */
static void beat(void)
{
	int64_t last_ms = scenario_now_ms(), longest_ms = 0;
	char beat_path[320], gap_path[320];

	scenario_path("beat", beat_path, sizeof(beat_path));
	scenario_path("gap", gap_path, sizeof(gap_path));

	for (unsigned long n = 1; !scenario_exists("end"); n++) {
		int64_t now_ms;

		scenario_sleep_ms(2);
		now_ms = scenario_now_ms();
		if (now_ms - last_ms > longest_ms)
			longest_ms = now_ms - last_ms;
		last_ms = now_ms;
		if (truncate(gap_path, longest_ms) || truncate(beat_path, (off_t)n))
			scenario_fail("beat");
		if (scenario_exists("go") && !scenario_exists("result")) {
			if (filled.base)
				region_check(&filled, "after the move");
			scenario_write("result", "ok");
		}
	}
}

int main(int argc, char **argv)
{
	scenario_init(argc, argv);
	scenario_write("beat", "");
	scenario_write("gap", "");
	for (size_t i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++) {
		if (strcmp(kinds[i].kind, scenario_arg(0)))
			continue;
		kinds[i].hold(scenario_arg(1));
		scenario_ready();
		beat();
		return 0;
	}
	scenario_fail("no such kind: %s", scenario_arg(0));
}
