/* SPDX-License-Identifier: MIT */
/*
 * What a process or a thread has switched on for itself with prctl(2) and its like, and what only
 * such a call tells again: a getter that answers the same is not enough where it can be tried.
 * What this kernel does not have is left out.
 * build: musl-static
 * libs: -lpthread
 * args: process | threads | future | future-on-fault | guards
 */
#include "scenario.h"
#include <linux/filter.h>
#include <pthread.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/prctl.h>

#define MEMBARRIER_GET_REGISTRATIONS (1 << 9)
#define MEMBARRIER_PRIVATE 8
#define MEMBARRIER_REGISTER_GLOBAL 4
#define MEMBARRIER_REGISTER_PRIVATE 16
#define NR_NODES 1024
#define MPOL_INTERLEAVE 3
#ifndef MADV_GUARD_INSTALL
#define MADV_GUARD_INSTALL 102
#endif
#ifndef MCL_ONFAULT
#define MCL_ONFAULT 4
#endif
#ifndef PR_SET_MDWE
#define PR_SET_MDWE 65
#define PR_GET_MDWE 66
#endif
#ifndef PR_SET_MEMORY_MERGE
#define PR_SET_MEMORY_MERGE 67
#define PR_GET_MEMORY_MERGE 68
#endif
#ifndef PR_SET_SYSCALL_USER_DISPATCH
#define PR_SET_SYSCALL_USER_DISPATCH 59
#endif

/* linux/sched/types.h clashes with musl's sched.h */
struct attr {
	uint32_t size, policy;
	uint64_t flags;
	int32_t nice;
	uint32_t priority;
	uint64_t runtime, deadline, period;
	uint32_t util_min, util_max;
};

/* One number for each thing; -errno where the kernel does not have it. */
enum { MDWE, MERGE, THP, MEMBARRIER, COREDUMP, AUTOGROUP, NR_PROCESS };
static const char *const process_names[NR_PROCESS] = {"mdwe",       "memory merge",    "thp",
						      "membarrier", "coredump filter", "autogroup"};
static long process_was[NR_PROCESS];

static long got(long ret)
{
	return ret < 0 ? -errno : ret;
}

/* The last number of a small file: hexadecimal in coredump_filter, decimal in autogroup. */
static long number_in(const char *path, int base)
{
	char text[64];
	ssize_t n = scenario_read(path, text, sizeof(text));

	if (n <= 0)
		return -ENOENT;
	text[strcspn(text, "\n")] = 0;
	return strtol(strrchr(text, ' ') ? strrchr(text, ' ') : text, NULL, base);
}

static void write_text(const char *path, const char *text)
{
	int fd = open(path, O_WRONLY | O_CLOEXEC);

	CHECK(fd >= 0 && write(fd, text, strlen(text)) == (ssize_t)strlen(text), "%s", path);
	close(fd);
}

static void process_read(long *values)
{
	values[MDWE] = got(prctl(PR_GET_MDWE, 0, 0, 0, 0));
	values[MERGE] = got(prctl(PR_GET_MEMORY_MERGE, 0, 0, 0, 0));
	values[THP] = got(prctl(PR_GET_THP_DISABLE, 0, 0, 0, 0));
	values[MEMBARRIER] = got(syscall(SYS_membarrier, MEMBARRIER_GET_REGISTRATIONS, 0, 0));
	values[COREDUMP] = number_in("/proc/self/coredump_filter", 16);
	values[AUTOGROUP] = number_in("/proc/self/autogroup", 10);
}

static void process_prepare(void)
{
	/* A group of its own for the scheduler comes with a session. */
	CHECK(setsid() > 0 || getsid(0) == getpid());
	write_text("/proc/self/coredump_filter", "0x35");
	if (!access("/proc/self/autogroup", W_OK))
		write_text("/proc/self/autogroup", "7");
	syscall(SYS_membarrier, MEMBARRIER_REGISTER_GLOBAL, 0, 0);
	syscall(SYS_membarrier, MEMBARRIER_REGISTER_PRIVATE, 0, 0);
	prctl(PR_SET_MEMORY_MERGE, 1, 0, 0, 0);
	/* Except where it was asked for (6.18), or altogether. */
	if (prctl(PR_SET_THP_DISABLE, 1, 2, 0, 0))
		CHECK(!prctl(PR_SET_THP_DISABLE, 1, 0, 0, 0));
	prctl(PR_SET_MDWE, 1, 0, 0, 0);
	process_read(process_was);
	CHECK(process_was[COREDUMP] == 0x35);
}

static void process_check(void)
{
	long now[NR_PROCESS];
	void *page;

	process_read(now);
	for (int i = 0; i < NR_PROCESS; i++)
		CHECK(now[i] == process_was[i], "%s: %ld was %ld", process_names[i], now[i],
		      process_was[i]);
	CHECK(!syscall(SYS_membarrier, MEMBARRIER_PRIVATE, 0, 0));
	page = mmap(NULL, PAGE, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (process_was[MDWE] > 0)
		CHECK(mprotect(page, PAGE, PROT_READ | PROT_EXEC) && errno == EACCES, "mdwe");
}

/* ---- threads: each has one thing that the others do not have ---- */

struct worker {
	const char *name;
	long (*set)(void); /* 0 or -errno */
	long (*get)(void);
	long was, now;
	pthread_t thread;
	volatile bool ready;
};

static volatile bool go_on;
static volatile uint8_t selector;
static volatile sig_atomic_t dispatched;

static long set_tsc(void)
{
	return got(prctl(PR_SET_TSC, PR_TSC_SIGSEGV));
}

static long get_tsc(void)
{
	int value = 0;

	return prctl(PR_GET_TSC, &value) ? -errno : value;
}

static long set_mce(void)
{
	return got(prctl(PR_MCE_KILL, PR_MCE_KILL_SET, PR_MCE_KILL_EARLY, 0, 0));
}

static long get_mce(void)
{
	return got(prctl(PR_MCE_KILL_GET, 0, 0, 0, 0));
}

static long set_memory_policy(void)
{
	unsigned long nodes[NR_NODES / 64] = {1};

	return got(syscall(SYS_set_mempolicy, MPOL_INTERLEAVE, nodes, NR_NODES));
}

static long get_memory_policy(void)
{
	unsigned long nodes[NR_NODES / 64] = {0};
	int mode = 0;

	if (syscall(SYS_get_mempolicy, &mode, nodes, NR_NODES, 0, 0))
		return -errno;
	return (long)(mode | nodes[0] << 8);
}

static long set_ssb(void)
{
	return got(prctl(PR_SET_SPECULATION_CTRL, PR_SPEC_STORE_BYPASS, PR_SPEC_DISABLE, 0, 0));
}

static long get_ssb(void)
{
	return got(prctl(PR_GET_SPECULATION_CTRL, PR_SPEC_STORE_BYPASS, 0, 0, 0));
}

static long set_indirect(void)
{
	return got(prctl(PR_SET_SPECULATION_CTRL, PR_SPEC_INDIRECT_BRANCH, PR_SPEC_DISABLE, 0, 0));
}

static long get_indirect(void)
{
	return got(prctl(PR_GET_SPECULATION_CTRL, PR_SPEC_INDIRECT_BRANCH, 0, 0, 0));
}

static long set_flusher(void)
{
	return got(prctl(PR_SET_IO_FLUSHER, 1, 0, 0, 0));
}

static long get_flusher(void)
{
	return got(prctl(PR_GET_IO_FLUSHER, 0, 0, 0, 0));
}

static long set_slice(void)
{
	struct attr attr = {.size = sizeof(attr), .runtime = 7000000};

	return got(syscall(SYS_sched_setattr, 0, &attr, 0));
}

static long get_slice(void)
{
	struct attr attr = {0};

	return syscall(SYS_sched_getattr, 0, &attr, sizeof(attr), 0) ? -errno : (long)attr.runtime;
}

static long set_clamp(void)
{
	struct attr attr = {.size = sizeof(attr), .flags = 0x60, .util_min = 100, .util_max = 900};

	return got(syscall(SYS_sched_setattr, 0, &attr, 0));
}

static long get_clamp(void)
{
	struct attr attr = {0};

	return syscall(SYS_sched_getattr, 0, &attr, sizeof(attr), 0)
		       ? -errno
		       : (long)(attr.util_min << 16 | attr.util_max);
}

static long set_io_priority(void)
{
	return got(syscall(SYS_ioprio_set, 1, 0, 2 << 13 | 3));
}

static long get_io_priority(void)
{
	return got(syscall(SYS_ioprio_get, 1, 0));
}

#define WORKER(text, what)                                                                         \
	{                                                                                          \
		.name = text, .set = set_##what, .get = get_##what                                 \
	}

static struct worker workers[] = {
	WORKER("tsc", tsc),
	WORKER("mce", mce),
	WORKER("memory policy", memory_policy),
	WORKER("store bypass", ssb),
	WORKER("indirect branches", indirect),
	WORKER("io flusher", flusher),
	WORKER("slice", slice),
	WORKER("clamp", clamp),
	WORKER("i/o priority", io_priority),
};
#define NR_WORKERS (sizeof(workers) / sizeof(workers[0]))

/* Waits without the vdso, which reads the time stamp counter. */
static void *worker_run(void *arg)
{
	struct worker *w = arg;
	long missing = w->set();

	w->was = missing ? missing : w->get();
	w->ready = true;
	while (!go_on)
		scenario_sleep_ms(2);
	w->now = missing ? missing : w->get();
	return NULL;
}

static void on_dispatch(int sig, siginfo_t *info, void *context)
{
	(void)sig;
	(void)context;
	dispatched = info->si_code == 2; /* SYS_USER_DISPATCH */
	selector = 0;
}

/* Its system calls are blocked as long as it waits: also those that somebody else lets it make. */
static void *dispatch_run(void *arg)
{
	volatile bool *ready = arg;

	if (prctl(PR_SET_SYSCALL_USER_DISPATCH, 1, 0, 0, &selector)) {
		dispatched = 2;
		*ready = true;
		return NULL;
	}
	selector = 1;
	*ready = true;
	while (!go_on)
		;
	syscall(SYS_getppid);
	return NULL;
}

static pthread_t dispatch_thread;

static void threads_prepare(void)
{
	struct sigaction act = {.sa_sigaction = on_dispatch, .sa_flags = SA_SIGINFO};
	static volatile bool ready;

	sigaction(SIGSYS, &act, NULL);
	for (size_t i = 0; i < NR_WORKERS; i++) {
		CHECK(!pthread_create(&workers[i].thread, NULL, worker_run, &workers[i]));
		while (!workers[i].ready)
			scenario_sleep_ms(1);
	}
	CHECK(!pthread_create(&dispatch_thread, NULL, dispatch_run, (void *)&ready));
	while (!ready)
		scenario_sleep_ms(1);
}

static void threads_check(void)
{
	go_on = true;
	for (size_t i = 0; i < NR_WORKERS; i++) {
		struct worker *w = &workers[i];

		pthread_join(w->thread, NULL);
		CHECK(w->now == w->was, "%s: %ld was %ld", w->name, w->now, w->was);
	}
	pthread_join(dispatch_thread, NULL);
	CHECK(dispatched, "user dispatch");
}

/* ---- memory that is yet to come ---- */

/* VmFlags of a page that is mapped now. */
static void flags_of_new(char *flags, size_t len)
{
	static char smaps[1 << 18];
	char *page = mmap(NULL, PAGE, PROT_READ, MAP_SHARED | MAP_ANONYMOUS, -1, 0), head[40], *at;

	CHECK(page != MAP_FAILED && scenario_read("/proc/self/smaps", smaps, sizeof(smaps)) > 0);
	snprintf(head, sizeof(head), "%lx-", (unsigned long)page);
	at = strstr(smaps, head);
	at = at ? strstr(at, "VmFlags:") : NULL;
	CHECK(at);
	snprintf(flags, len, "%.*s", (int)strcspn(at, "\n"), at);
	munmap(page, PAGE);
}

static bool on_fault(void)
{
	return !strcmp(scenario_arg(0), "future-on-fault");
}

static void future_prepare(void)
{
	CHECK(!mlockall(MCL_FUTURE | (on_fault() ? MCL_ONFAULT : 0)));
}

static void future_check(void)
{
	char flags[160];

	flags_of_new(flags, sizeof(flags));
	CHECK(strstr(flags, " lo") && !strstr(flags, " lf") == !on_fault(), "%s", flags);
}

/* ---- guard regions: a touch is a fault, not a page of zeros ---- */

static char *guarded;
static volatile sig_atomic_t faulted;
static bool has_guards;

static void on_fault_signal(int sig)
{
	(void)sig;
	faulted = 1;
	mprotect(guarded, PAGE, PROT_READ);
	madvise((char *)((uintptr_t)guarded), 8 * PAGE, 103); /* MADV_GUARD_REMOVE */
}

/* One so large that it is looked through last. */
#define LARGE_BYTES ((size_t)96 << 20)
static char *large;

static void guards_prepare(void)
{
	large = mmap(NULL, LARGE_BYTES, PROT_READ | PROT_WRITE,
		     MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	CHECK(large != MAP_FAILED);
	scenario_fill(large + LARGE_BYTES / 2, 4 * PAGE, 5);
	madvise(large + LARGE_BYTES / 2 + PAGE, PAGE, MADV_GUARD_INSTALL);
	madvise(large, PAGE, MADV_GUARD_INSTALL);
	guarded = mmap(NULL, 32 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	CHECK(guarded != MAP_FAILED);
	scenario_fill(guarded, 32 * PAGE, 3);
	has_guards = !madvise(guarded + PAGE, 2 * PAGE, MADV_GUARD_INSTALL);
	CHECK(has_guards || errno == EINVAL);
}

static void guards_check(void)
{
	signal(SIGSEGV, on_fault_signal);
	CHECK(scenario_differs(guarded, PAGE, 3, 0) < 0, "before the guard");
	CHECK(scenario_differs(guarded + 3 * PAGE, 29 * PAGE, 3, 3 * PAGE) < 0, "after the guard");
	*(volatile char *)(guarded + 2 * PAGE);
	CHECK(faulted == has_guards, "the guard is gone");
	guarded = large;
	for (size_t i = 0; i < 2; i++) {
		faulted = 0;
		*(volatile char *)(large + i * (LARGE_BYTES / 2 + PAGE));
		CHECK(faulted == has_guards, "guard %zu of the large mapping is gone", i);
		guarded = large + LARGE_BYTES / 2;
	}
	CHECK(scenario_differs(large + LARGE_BYTES / 2 + 2 * PAGE, 2 * PAGE, 5, 2 * PAGE) < 0,
	      "behind the guard of the large mapping");
}

/* ---- all ---- */

static const struct kind {
	const char *name;
	void (*prepare)(void), (*check)(void);
} kinds[] = {
	{"process", process_prepare, process_check},
	{"threads", threads_prepare, threads_check},
	{"future", future_prepare, future_check},
	{"future-on-fault", future_prepare, future_check},
	{"guards", guards_prepare, guards_check},
};

static const struct kind *chosen(void)
{
	for (size_t i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++)
		if (!strcmp(kinds[i].name, scenario_arg(0)))
			return &kinds[i];
	scenario_fail("no such kind: %s", scenario_arg(0));
	return NULL;
}

static void prepare(void)
{
	chosen()->prepare();
}

static void check(void)
{
	chosen()->check();
}

static void sabotage(void)
{
	write_text("/proc/self/coredump_filter", "0x1");
	workers[0].was++;
	munlockall();
	if (guarded)
		memset(guarded, 0, PAGE);
}

int main(int argc, char **argv)
{
	static const struct scenario s = {prepare, NULL, check, sabotage};

	return scenario_main(argc, argv, &s);
}
