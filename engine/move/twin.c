/* SPDX-License-Identifier: MIT */
/*
 * The worker and the keeper of a move.
 *
 *     keeper ──clone(CLONE_FILES)──> worker          the keeper waits for it
 *     keeper dies:   the worker is told (PDEATHSIG), forks a keeper, which watches it by pidfd
 *     worker dies:   the keeper forks a worker
 *
 * What the worker is told comes while it sleeps in io_poll or lets signals in, never within other
 * work: so its memory is always fit to be forked.
 */
#include "engine/move/twin.h"

#include "engine/move/link.h"
#include "lib/arena.h"
#include "lib/clock.h"
#include "lib/io.h"
#include "lib/kernel.h"
#include "lib/log.h"

#include <errno.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

/* What tells the worker that its keeper is dead, whose child it is or who is its child. */
#define TELL_SIGNAL SIGUSR1
/* A worker that dies soon after its start is replaced after a pause, which grows to the longest. */
#define SOON_MS 1000
#define PAUSE_FIRST_MS 10
#define PAUSE_LONGEST_MS 2000
/* How often a keeper looks itself for which there is no descriptor to be woken by. */
#define LOOK_MS 20

static struct twins {
	pid_t keeper, worker;
	bool keeper_is_child; /* of the worker: it was made anew */
	int watch_fd;         /* the keeper's pidfd of a worker that is not its child; -1 */
	bool ended;
	enum outcome outcome;
} * twins;

static const struct twin_work *work;
/* The scratch memory that is ours to keep. What a copy was made in the middle of had more. */
static size_t scratch_mark;

int twin_init(void)
{
	twins = arena_alloc(ARENA_TABLES, sizeof(*twins), 16);
	return twins ? 0 : -ENOMEM;
}

/* A child with our descriptors: the very table, not a copy. */
static pid_t fork_sharing(int exit_signal)
{
	return (pid_t)syscall(SYS_clone, CLONE_FILES | exit_signal, 0, 0, 0, 0);
}

/* ---- the worker ---- */

static bool keeper_is_dead(void)
{
	if (!twins->keeper_is_child)
		return getppid() != twins->keeper;
	/* Somebody who reaped all children may have reaped it as well. */
	return waitpid(twins->keeper, NULL, __WALL | WNOHANG) != 0;
}

static _Noreturn void be_new_keeper(void);

static void renew_keeper(void)
{
	pid_t pid;

	if (!keeper_is_dead())
		return;
	pid = fork_sharing(TELL_SIGNAL);
	if (pid == 0)
		be_new_keeper();
	if (pid < 0) {
		log_error("no new keeper can be made (%s): the death of this process would now be "
			  "the end of the move",
			  strerror(errno));
		return;
	}
	twins->keeper_is_child = true;
	twins->keeper = pid;
	log_warn("the keeper of the move died; there is a new one");
}

static void on_tell(int signal)
{
	(void)signal;
	io_quiet_signal = 1;
	renew_keeper();
}

static void set_signals(bool worker)
{
	struct sigaction tell = {.sa_handler = on_tell};
	sigset_t none;

	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	io_wait_mask = none;
	if (worker) {
		/* Blocked but while it sleeps. */
		sigaddset(&none, TELL_SIGNAL);
		sigprocmask(SIG_SETMASK, &none, NULL);
		sigaction(TELL_SIGNAL, &tell, NULL);
	} else {
		signal(TELL_SIGNAL, SIG_IGN);
	}
	signal(SIGCHLD, SIG_DFL);
	if (worker && work->pass_signals) {
		link_catch_signals();
	} else {
		signal(SIGINT, SIG_IGN);
		signal(SIGHUP, SIG_IGN);
		signal(SIGTERM, SIG_IGN);
	}
}

static _Noreturn void be_worker(bool again)
{
	enum outcome outcome;

	twins->worker = getpid();
	set_signals(true);
	prctl(PR_SET_NAME, "baton");
	prctl(PR_SET_PDEATHSIG, TELL_SIGNAL);
	renew_keeper(); /* it may have died before that */
	if (again)
		arena_reset(scratch_mark);
	outcome = work->run(work->data, again);
	work->finish(work->data, outcome);
	twins->outcome = outcome;
	twins->ended = true;
	_exit((int)outcome);
}

/* ---- the keeper ---- */

static volatile sig_atomic_t pass_signal;

static void on_pass(int signal)
{
	pass_signal = signal;
	if (twins->worker)
		kill(twins->worker, signal);
}

static pid_t make_worker(bool again)
{
	pid_t pid;

	twins->keeper = getpid();
	twins->keeper_is_child = false;
	pid = fork_sharing(SIGCHLD);
	if (pid == 0)
		be_worker(again);
	if (pid > 0)
		twins->worker = pid;
	return pid;
}

/* Waits until it is dead. Its status, -1 when nobody knows: it was not our child. */
static int await_worker(pid_t pid, bool is_child)
{
	struct pollfd watch = {twins->watch_fd, POLLIN, 0};
	int status;

	if (is_child) {
		while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
			;
		return status;
	}
	while (watch.fd >= 0 && poll(&watch, 1, -1) < 0 && errno == EINTR)
		;
	if (watch.fd >= 0)
		close(watch.fd);
	twins->watch_fd = -1;
	return -1;
}

/* One worker after the other until one has ended by itself. */
static enum outcome keep(pid_t pid, bool is_child)
{
	int pause_ms = PAUSE_FIRST_MS, status;

	for (;;) {
		int64_t begun_ms = clock_now_ms();

		status = await_worker(pid, is_child);
		if (twins->ended)
			return twins->outcome;
		if (status != -1 && WIFEXITED(status))
			return (enum outcome)WEXITSTATUS(status);
		if (status == -1)
			log_warn("the worker of the move died; another one goes on");
		else
			log_warn("the worker of the move died of signal %d; another one goes on",
				 WTERMSIG(status));
		if (clock_now_ms() - begun_ms < SOON_MS && pause_ms > PAUSE_FIRST_MS)
			io_sleep_ms(pause_ms);
		pause_ms = clock_now_ms() - begun_ms < SOON_MS ? 2 * pause_ms : PAUSE_FIRST_MS;
		if (pause_ms > PAUSE_LONGEST_MS)
			pause_ms = PAUSE_LONGEST_MS;
		while ((pid = make_worker(true)) < 0)
			io_sleep_ms(PAUSE_LONGEST_MS);
		is_child = true;
	}
}

/* A pidfd of our parent, once there is a descriptor for it. -1: it is dead. */
static int watch_parent(pid_t parent)
{
	int fd;

	for (;;) {
		fd = (int)syscall(SYS_pidfd_open, parent, 0);
		/* Asked when we have it: the number cannot have changed hands since. */
		if (getppid() != parent) {
			io_close(&fd);
			return -1;
		}
		if (fd >= 0)
			return fd;
		io_sleep_ms(LOOK_MS);
	}
}

/* In place of one that died, as a child of the worker. */
static _Noreturn void be_new_keeper(void)
{
	pid_t worker = twins->worker;

	prctl(PR_SET_NAME, "baton-keeper");
	set_signals(false);
	if (twins->watch_fd >= 0)
		close(twins->watch_fd);
	twins->watch_fd = watch_parent(worker);
	_exit((int)keep(worker, false));
}

enum outcome twin_run(const struct twin_work *wanted)
{
	static const int passed[] = {SIGINT, SIGTERM, SIGHUP};
	struct sigaction pass = {.sa_handler = on_pass};
	pid_t pid;
	int err;

	work = wanted;
	scratch_mark = arena_mark();
	err = arena_share();
	if (err) {
		log_fail(-err, "no memory can be shared: %m");
		return OUTCOME_SYSTEM;
	}
	*twins = (struct twins){.watch_fd = -1};
	prctl(PR_SET_NAME, "baton-keeper");
	set_signals(false);
	for (unsigned int i = 0; work->pass_signals && i < sizeof(passed) / sizeof(passed[0]); i++)
		sigaction(passed[i], &pass, NULL);
	/* What came before there was somebody to pass it to. */
	if (link_stopping())
		pass_signal = SIGTERM;
	pid = make_worker(false);
	if (pid < 0) {
		log_fail(errno, "no process can be made for the move: %m");
		return OUTCOME_SYSTEM;
	}
	if (pass_signal)
		kill(pid, pass_signal);
	return keep(pid, true);
}
