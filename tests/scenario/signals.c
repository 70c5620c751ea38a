/* SPDX-License-Identifier: MIT */
/*
 * Pending signals with their siginfo (thread and process), masks, alternate stacks, actions with
 * every SA_ flag; and a handler that is running on its alternate stack while the process moves.
 * build: musl-static glibc-static
 * libs: -lpthread
 */
#include "scenario.h"
#include <pthread.h>
#include <signal.h>
#include <ucontext.h>

#define NR_QUEUED 5

/* The kernel's own view: neither libc shows restorer and flags as they are. */
struct kernel_action {
	unsigned long handler, flags, restorer, mask;
};

static struct kernel_action actions[65];
static volatile int handled[65], value_sum, in_handler, leave_handler;
static void *volatile handler_sp;
static pthread_t deep, blocked;
static volatile pid_t blocked_tid;
static volatile bool blocked_check, blocked_done;
static char main_stack[65536], deep_stack[131072];

static void on_info(int sig, siginfo_t *info, void *uc)
{
	(void)uc;
	handled[sig]++;
	value_sum += info->si_value.sival_int;
}

static void on_plain(int sig)
{
	handled[sig]++;
}

/* Stays inside, on the alternate stack, through the move. */
static void on_deep(int sig, siginfo_t *info, void *uc)
{
	volatile char here = 1;

	(void)info;
	(void)uc;
	handler_sp = (void *)&here;
	in_handler = 1;
	while (!leave_handler)
		scenario_sleep_ms(2);
	handled[sig]++;
}

static void set_action(int sig, void *handler, int flags)
{
	struct sigaction sa = {.sa_flags = flags};

	sa.sa_sigaction = (void (*)(int, siginfo_t *, void *))handler;
	sigaddset(&sa.sa_mask, SIGHUP);
	sigaddset(&sa.sa_mask, SIGRTMIN + 9);
	CHECK(!sigaction(sig, &sa, NULL));
}

static void get_action(int sig, struct kernel_action *act)
{
	CHECK(!syscall(SYS_rt_sigaction, sig, NULL, act, 8), "signal %d", sig);
}

static void *deep_run(void *arg)
{
	stack_t ss = {.ss_sp = deep_stack, .ss_size = sizeof(deep_stack)};
	stack_t now;

	(void)arg;
	CHECK(!sigaltstack(&ss, NULL));
	pthread_kill(pthread_self(), SIGUSR2); /* returns when the handler does */
	CHECK((char *)handler_sp > deep_stack &&
	      (char *)handler_sp < deep_stack + sizeof(deep_stack));
	CHECK(!sigaltstack(NULL, &now) && now.ss_sp == deep_stack && now.ss_flags == 0);
	CHECK(handled[SIGUSR2] == 1);
	return NULL;
}

/* A thread with signals of its own pending, all of them blocked. */
static void *blocked_run(void *arg)
{
	struct timespec zero = {0, 0};
	sigset_t set, now;
	siginfo_t info;

	(void)arg;
	sigfillset(&set);
	pthread_sigmask(SIG_SETMASK, &set, NULL);
	blocked_tid = (pid_t)syscall(SYS_gettid);
	while (!blocked_check)
		scenario_sleep_ms(2);
	sigpending(&now);
	CHECK(sigismember(&now, SIGRTMIN + 3) && sigismember(&now, SIGURG));
	sigemptyset(&set);
	sigaddset(&set, SIGRTMIN + 3);
	for (int i = 0; i < NR_QUEUED; i++) {
		CHECK(sigtimedwait(&set, &info, &zero) == SIGRTMIN + 3, "%d of %d came", i,
		      NR_QUEUED);
		CHECK(info.si_code == SI_QUEUE && info.si_value.sival_int == 500 + i, "%d: %d %d",
		      i, info.si_code, info.si_value.sival_int);
		CHECK(info.si_pid == getpid() && info.si_uid == getuid());
	}
	CHECK(sigtimedwait(&set, &info, &zero) == -1 && errno == EAGAIN, "one too many");
	sigemptyset(&set);
	sigaddset(&set, SIGURG);
	/* glibc shows SI_TKILL as SI_USER. */
	CHECK(sigtimedwait(&set, &info, &zero) == SIGURG &&
		      (info.si_code == SI_TKILL || info.si_code == SI_USER),
	      "code %d", info.si_code);
	blocked_done = true;
	return NULL;
}

static void queue(pid_t tid, int sig, int value)
{
	siginfo_t info = {.si_signo = sig, .si_code = SI_QUEUE};

	info.si_pid = getpid();
	info.si_uid = getuid();
	info.si_value.sival_int = value;
	CHECK(!syscall(SYS_rt_tgsigqueueinfo, getpid(), tid, sig, &info));
}

static void prepare_actions(void)
{
	set_action(SIGUSR1, (void *)on_info, SA_SIGINFO | SA_RESTART);
	set_action(SIGUSR2, (void *)on_deep, SA_SIGINFO | SA_ONSTACK | SA_NODEFER);
	set_action(SIGRTMIN + 1, (void *)on_info, SA_SIGINFO | SA_ONSTACK);
	set_action(SIGRTMIN + 2, (void *)on_plain, SA_RESETHAND | SA_NODEFER);
	set_action(SIGCHLD, (void *)on_plain, SA_NOCLDSTOP | SA_NOCLDWAIT);
	set_action(SIGPIPE, (void *)SIG_IGN, 0);
	set_action(SIGTRAP, (void *)on_plain, SA_RESTART); /* the engine must leave it alone */
	set_action(SIGALRM, (void *)on_plain, 0);
}

static void prepare(void)
{
	stack_t ss = {.ss_sp = main_stack, .ss_size = sizeof(main_stack)};
	sigset_t set;

	CHECK(!sigaltstack(&ss, NULL));
	prepare_actions();
	sigemptyset(&set);
	sigaddset(&set, SIGRTMIN + 1);
	sigaddset(&set, SIGRTMIN + 2);
	sigaddset(&set, SIGUSR1);
	sigaddset(&set, SIGTERM);
	sigprocmask(SIG_BLOCK, &set, NULL);
	CHECK(!pthread_create(&deep, NULL, deep_run, NULL));
	CHECK(!pthread_create(&blocked, NULL, blocked_run, NULL));
	while (!blocked_tid || !in_handler)
		scenario_sleep_ms(1);
	/* Only now: glibc adds an action of its own with the first thread. */
	for (int sig = 1; sig < 65; sig++)
		if (sig != SIGKILL && sig != SIGSTOP)
			get_action(sig, &actions[sig]);
	for (int i = 0; i < NR_QUEUED; i++)
		queue(blocked_tid, SIGRTMIN + 3, 500 + i);
	pthread_kill(blocked, SIGURG);
	/* Pending on the process as a whole. */
	for (int i = 0; i < 3; i++) {
		union sigval v = {.sival_int = 1000 * (i + 1)};

		CHECK(!sigqueue(getpid(), SIGRTMIN + 1, v));
	}
	kill(getpid(), SIGTERM);
	kill(getpid(), SIGUSR1);
	queue((pid_t)syscall(SYS_gettid), SIGRTMIN + 2, 1);
}

static void sabotage(void)
{
	set_action(SIGALRM, (void *)on_plain, SA_RESTART);
}

static void check_masks(void)
{
	sigset_t now, set;

	sigprocmask(SIG_SETMASK, NULL, &now);
	for (int sig = 1; sig < 32; sig++)
		CHECK(sigismember(&now, sig) == (sig == SIGUSR1 || sig == SIGTERM),
		      "mask, signal %d", sig);
	CHECK(sigismember(&now, SIGRTMIN + 1) == 1 && sigismember(&now, SIGRTMIN + 3) == 0);
	sigpending(&set);
	CHECK(sigismember(&set, SIGTERM) && sigismember(&set, SIGUSR1) &&
	      sigismember(&set, SIGRTMIN + 1) && sigismember(&set, SIGRTMIN + 2));
	CHECK(!sigismember(&set, SIGCHLD) && !sigismember(&set, SIGTRAP) &&
		      !sigismember(&set, SIGSTOP) && !sigismember(&set, SIGCONT),
	      "a signal that the program never had is pending");
}

static void check(void)
{
	struct kernel_action act;
	siginfo_t info;
	sigset_t set;
	stack_t now;

	CHECK(!sigaltstack(NULL, &now) && now.ss_sp == main_stack &&
	      now.ss_size == sizeof(main_stack));
	for (int sig = 1; sig < 65; sig++) {
		if (sig == SIGKILL || sig == SIGSTOP)
			continue;
		get_action(sig, &act);
		CHECK(!memcmp(&act, &actions[sig], sizeof(act)),
		      "action of %d: %#lx %#lx was %#lx %#lx", sig, act.handler, act.flags,
		      actions[sig].handler, actions[sig].flags);
	}
	check_masks();
	sigemptyset(&set);
	sigaddset(&set, SIGTERM);
	CHECK(sigwaitinfo(&set, &info) == SIGTERM && info.si_code == SI_USER &&
	      info.si_pid == getpid());
	sigaddset(&set, SIGRTMIN + 1);
	sigaddset(&set, SIGRTMIN + 2);
	sigaddset(&set, SIGUSR1);
	sigprocmask(SIG_UNBLOCK, &set, NULL);
	CHECK(handled[SIGRTMIN + 1] == 3 && value_sum == 6000, "%d signals, sum %d",
	      handled[SIGRTMIN + 1], value_sum);
	CHECK(handled[SIGRTMIN + 2] == 1 && handled[SIGUSR1] == 1);
	get_action(SIGRTMIN + 2, &act);
	CHECK(act.handler == 0, "SA_RESETHAND did not reset");
	CHECK(handled[SIGTRAP] == 0 && handled[SIGCHLD] == 0 && handled[SIGALRM] == 0);
	leave_handler = 1;
	blocked_check = true;
	pthread_join(deep, NULL);
	pthread_join(blocked, NULL);
	CHECK(blocked_done);
}

int main(int argc, char **argv)
{
	static const struct scenario s = {prepare, NULL, check, sabotage};

	return scenario_main(argc, argv, &s);
}
