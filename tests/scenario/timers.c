/* SPDX-License-Identifier: MIT */
/*
 * Interval timers and POSIX timers: ids with holes, what was left, intervals, overruns, and the
 * signals they send after the move; a timerfd.
 * build: musl-static
 * settle: 1.0
 */
#include "scenario.h"
#include <signal.h>
#include <sys/time.h>
#include <sys/timerfd.h>

#define NR_POSIX 6
#define LEFT_S 20
#define SLACK_MS 1500

/* What the kernel takes: neither libc passes the ids through. */
static int kernel_timer_create(clockid_t clock, struct sigevent *ev)
{
	int id = -1;

	return syscall(SYS_timer_create, clock, ev, &id) ? -1 : id;
}

static int ids[NR_POSIX];
static int tick_id, overrun_id, none_id, cpu_id, thread_id;
static int64_t armed_ms;
static volatile int ticks, alarms, virtuals, profs, tick_value, thread_ticks;
static int tfd;

static void on_signal(int sig, siginfo_t *info, void *uc)
{
	(void)uc;
	if (sig == SIGRTMIN + 1) {
		ticks++;
		tick_value = info->si_code == SI_TIMER ? info->si_value.sival_int : -1;
	} else if (sig == SIGRTMIN + 3) {
		thread_ticks++;
	} else if (sig == SIGALRM) {
		alarms++;
	} else if (sig == SIGVTALRM) {
		virtuals++;
	} else if (sig == SIGPROF) {
		profs++;
	}
}

static void arm(int id, long ms, long every_ms)
{
	struct itimerspec it = {
		.it_value = {ms / 1000, (ms % 1000) * 1000000},
		.it_interval = {every_ms / 1000, (every_ms % 1000) * 1000000},
	};

	CHECK(!syscall(SYS_timer_settime, id, 0, &it, NULL));
}

static int64_t left_ms(int id)
{
	struct itimerspec it;

	CHECK(!syscall(SYS_timer_gettime, id, &it), "timer %d is gone", id);
	return it.it_value.tv_sec * 1000 + it.it_value.tv_nsec / 1000000;
}

static void handlers(void)
{
	static const int sigs[] = {SIGALRM, SIGVTALRM, SIGPROF};
	struct sigaction sa = {.sa_sigaction = on_signal, .sa_flags = SA_SIGINFO | SA_RESTART};

	for (size_t i = 0; i < 3; i++)
		sigaction(sigs[i], &sa, NULL);
	sigaction(SIGRTMIN + 1, &sa, NULL);
	sigaction(SIGRTMIN + 3, &sa, NULL);
}

static void prepare_posix(void)
{
	struct sigevent ev = {.sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGRTMIN + 1};

	for (int i = 0; i < NR_POSIX; i++) {
		ev.sigev_value.sival_int = 100 + i;
		ids[i] = kernel_timer_create(CLOCK_MONOTONIC, &ev);
		CHECK(ids[i] >= 0);
	}
	/* Holes in the ids, and a one-shot timer with a long time left in each that stays. */
	CHECK(!syscall(SYS_timer_delete, ids[0]) && !syscall(SYS_timer_delete, ids[3]));
	for (int i = 0; i < NR_POSIX; i++)
		if (i != 0 && i != 3)
			arm(ids[i], LEFT_S * 1000, 0);
	ev.sigev_value.sival_int = 4242;
	tick_id = kernel_timer_create(CLOCK_REALTIME, &ev);
	arm(tick_id, 20, 20);
	/* One whose signal stays blocked, so that it overruns. */
	ev.sigev_signo = SIGRTMIN + 2;
	overrun_id = kernel_timer_create(CLOCK_MONOTONIC, &ev);
	arm(overrun_id, 10, 10);
	ev.sigev_notify = SIGEV_NONE;
	none_id = kernel_timer_create(CLOCK_BOOTTIME, &ev);
	arm(none_id, LEFT_S * 1000, 3000);
	ev.sigev_notify = SIGEV_SIGNAL;
	ev.sigev_signo = SIGRTMIN + 4;
	cpu_id = kernel_timer_create(CLOCK_PROCESS_CPUTIME_ID, &ev);
	arm(cpu_id, LEFT_S * 1000, 0);
	ev.sigev_notify = SIGEV_THREAD_ID;
	ev.sigev_signo = SIGRTMIN + 3;
	((int *)&ev.sigev_signo)[2] = (int)syscall(SYS_gettid); /* sigev_notify_thread_id */
	thread_id = kernel_timer_create(CLOCK_MONOTONIC, &ev);
	CHECK(tick_id >= 0 && overrun_id >= 0 && none_id >= 0 && cpu_id >= 0 && thread_id >= 0);
	arm(thread_id, 25, 25);
}

static void prepare(void)
{
	struct itimerval it = {.it_value = {0, 30000}, .it_interval = {0, 30000}};
	struct itimerspec its = {.it_value = {LEFT_S, 0}, .it_interval = {7, 0}};
	sigset_t set;

	handlers();
	sigemptyset(&set);
	sigaddset(&set, SIGRTMIN + 2);
	sigaddset(&set, SIGRTMIN + 4);
	sigprocmask(SIG_BLOCK, &set, NULL);
	prepare_posix();
	CHECK(!setitimer(ITIMER_REAL, &it, NULL));
	it.it_value.tv_sec = it.it_interval.tv_sec = 0;
	it.it_value.tv_usec = it.it_interval.tv_usec = 5000;
	CHECK(!setitimer(ITIMER_VIRTUAL, &it, NULL) && !setitimer(ITIMER_PROF, &it, NULL));
	tfd = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK);
	CHECK(tfd >= 0 && !timerfd_settime(tfd, 0, &its, NULL));
	armed_ms = scenario_now_ms();
}

static void sabotage(void)
{
	syscall(SYS_timer_delete, ids[4]);
}

static void check_left(void)
{
	/* Timers may have stood still while the process did: what was left, no more, not much less. */
	int64_t gone_ms = scenario_now_ms() - armed_ms;

	for (int i = 0; i < NR_POSIX; i++) {
		struct itimerspec it;

		if (i == 0 || i == 3) {
			CHECK(syscall(SYS_timer_gettime, ids[i], &it) && errno == EINVAL,
			      "timer %d is back", ids[i]);
			continue;
		}
		CHECK(left_ms(ids[i]) <= LEFT_S * 1000 - 900, "timer %d started over", ids[i]);
		CHECK(left_ms(ids[i]) >= LEFT_S * 1000 - gone_ms - SLACK_MS, "timer %d lost time",
		      ids[i]);
	}
	CHECK(left_ms(none_id) <= LEFT_S * 1000 - 900 && left_ms(none_id) > 0);
	CHECK(left_ms(cpu_id) <= LEFT_S * 1000 &&
		      left_ms(cpu_id) > LEFT_S * 1000 - gone_ms - SLACK_MS,
	      "cpu timer: %ld ms", (long)left_ms(cpu_id));
}

static void check_timerfd(void)
{
	struct itimerspec it;
	uint64_t n;

	CHECK(!timerfd_gettime(tfd, &it) && it.it_interval.tv_sec == 7);
	CHECK(it.it_value.tv_sec > 0 && it.it_value.tv_sec < LEFT_S, "%ld s left",
	      (long)it.it_value.tv_sec);
	CHECK(read(tfd, &n, sizeof(n)) == -1 && errno == EAGAIN);
}

static void check_overrun(void)
{
	struct timespec zero = {0, 0};
	siginfo_t info;
	sigset_t set;

	sigemptyset(&set);
	sigaddset(&set, SIGRTMIN + 2);
	CHECK(sigtimedwait(&set, &info, &zero) == SIGRTMIN + 2,
	      "the timer's signal is not pending");
	CHECK(info.si_code == SI_TIMER && info.si_value.sival_int == 4242, "code %d", info.si_code);
	CHECK(syscall(SYS_timer_getoverrun, overrun_id) > 5, "overrun %ld",
	      (long)syscall(SYS_timer_getoverrun, overrun_id));
}

static void check(void)
{
	int t = ticks, a = alarms, v = virtuals, p = profs, th = thread_ticks;
	struct itimerval it;
	volatile uint64_t spin = 0;

	for (int64_t end = scenario_now_ms() + 400; scenario_now_ms() < end;)
		spin++;
	CHECK(ticks - t >= 10 && ticks - t <= 40, "%d ticks of 20 ms in 400 ms", ticks - t);
	CHECK(tick_value == 4242, "value %d", tick_value);
	CHECK(thread_ticks - th >= 8 && thread_ticks - th <= 30, "%d ticks for a thread",
	      thread_ticks - th);
	CHECK(alarms - a >= 6 && alarms - a <= 30, "%d alarms of 30 ms", alarms - a);
	CHECK(virtuals - v >= 5, "%d virtual ticks", virtuals - v);
	CHECK(profs - p >= 5, "%d profile ticks", profs - p);
	CHECK(!getitimer(ITIMER_REAL, &it) && it.it_interval.tv_usec == 30000);
	CHECK(!getitimer(ITIMER_PROF, &it) && it.it_interval.tv_usec >= 5000 &&
	      it.it_interval.tv_usec < 10001);
	check_left();
	check_timerfd();
	check_overrun();
}

int main(int argc, char **argv)
{
	static const struct scenario s = {prepare, NULL, check, sabotage};

	return scenario_main(argc, argv, &s);
}
