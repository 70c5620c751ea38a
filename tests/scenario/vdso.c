/* SPDX-License-Identifier: MIT */
/*
 * Functions of the vdso through pointers that were looked up once: threads call them all the time, so that
 * some are inside when the process is stopped, and one has been interrupted there by a signal.
 * build: musl-static glibc-static glibc-dynamic
 * libs: -lpthread
 */
#include "scenario.h"
#include <elf.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <sys/auxv.h>
#include <sys/time.h>
#include <ucontext.h>

#define NR_THREADS 2
/* Two devices' clocks agree so far, and a test takes no longer. */
#define EARLY_S 60
#define LATE_S 3600
/* What is put at an entry is shorter. */
#define ENTRY_BYTES 64
/* SIGALRMs that meet no clock before one does. */
#define ALARM_US 700

typedef int gettime_fn(clockid_t, struct timespec *);
typedef int gettimeofday_fn(struct timeval *, void *);
typedef time_t time_fn(time_t *);
typedef int getcpu_fn(unsigned int *, unsigned int *, void *);
typedef long getrandom_fn(void *, size_t, unsigned int, void *, size_t);

/* NULL: this kernel's vdso has none. */
struct functions {
	gettime_fn *gettime, *getres;
	gettimeofday_fn *timeofday;
	time_fn *seconds;
	getcpu_fn *getcpu;
	getrandom_fn *random;
};

static struct functions vdso;
static uintptr_t image;
static time_t started;
static size_t random_state_len;
static volatile bool stop, interrupted;
static volatile unsigned long rounds[NR_THREADS], in_handler;
static pthread_t threads[NR_THREADS], victim, brief;

static void *look_up(const char *name)
{
	const Elf64_Ehdr *header = (const void *)image;
	const Elf64_Phdr *part = (const void *)(image + header->e_phoff);
	const Elf64_Dyn *entry = NULL;
	uintptr_t bias = image;
	const Elf64_Sym *symbol = NULL;
	const char *strings = NULL;

	for (int i = 0; i < header->e_phnum; i++)
		if (part[i].p_type == PT_DYNAMIC)
			entry = (const void *)(image + part[i].p_offset);
		else if (part[i].p_type == PT_LOAD)
			bias = image + part[i].p_offset - part[i].p_vaddr;
	for (; entry && entry->d_tag != DT_NULL; entry++)
		if (entry->d_tag == DT_SYMTAB)
			symbol = (const void *)(bias + entry->d_un.d_ptr);
		else if (entry->d_tag == DT_STRTAB)
			strings = (const void *)(bias + entry->d_un.d_ptr);
	for (; (const char *)symbol < strings; symbol++) {
		const char *own = strings + symbol->st_name;

		if (symbol->st_shndx &&
		    (!strncmp(own, "__vdso_", 7) || !strncmp(own, "__kernel_", 9)) &&
		    !strcmp(strchr(own + 2, '_') + 1, name))
			return (void *)(bias + symbol->st_value);
	}
	return NULL;
}

static void look_up_all(struct functions *f)
{
	f->gettime = look_up("clock_gettime");
	f->getres = look_up("clock_getres");
	f->timeofday = look_up("gettimeofday");
	f->seconds = look_up("time");
	f->getcpu = look_up("getcpu");
	f->random = look_up("getrandom");
}

static bool is_now(time_t sec)
{
	return sec >= started - EARLY_S && sec <= started + LATE_S;
}

/* The device's own clock, asked before and after, holds what the vdso says; the move may lie between. */
static bool agrees(clockid_t clock)
{
	struct timespec before, ts, after;

	syscall(SYS_clock_gettime, clock, &before);
	CHECK(!vdso.gettime(clock, &ts), "clock %d", (int)clock);
	syscall(SYS_clock_gettime, clock, &after);
	return (before.tv_sec < ts.tv_sec ||
		(before.tv_sec == ts.tv_sec && before.tv_nsec <= ts.tv_nsec)) &&
	       (ts.tv_sec < after.tv_sec ||
		(ts.tv_sec == after.tv_sec && ts.tv_nsec <= after.tv_nsec));
}

static void call_random(void)
{
	/* It may not lie on two pages. */
	_Alignas(256) uint8_t own[256] = {0};
	uint8_t bytes[16] = {0}, zeros[16] = {0};

	if (!vdso.random)
		return;
	CHECK(vdso.random(bytes, sizeof(bytes), 0, own, random_state_len) == sizeof(bytes));
	CHECK(memcmp(bytes, zeros, sizeof(zeros)) != 0, "getrandom gives zeros");
}

static void call_all(void)
{
	static const clockid_t clocks[] = {CLOCK_REALTIME, CLOCK_MONOTONIC, CLOCK_BOOTTIME};
	unsigned int cpu = ~0U, node = ~0U;
	struct timespec ts = {0};
	struct timeval tv = {0};

	for (int i = 0; i < 40; i++) {
		CHECK(!vdso.gettime(CLOCK_REALTIME, &ts) && is_now(ts.tv_sec), "it is %lld",
		      (long long)ts.tv_sec);
		CHECK(!vdso.gettime(CLOCK_REALTIME_COARSE, &ts) && is_now(ts.tv_sec), "it is %lld",
		      (long long)ts.tv_sec);
		CHECK(!vdso.timeofday(&tv, NULL) && is_now(tv.tv_sec), "it is %lld",
		      (long long)tv.tv_sec);
		CHECK(!vdso.seconds || is_now(vdso.seconds(NULL)));
		CHECK(!vdso.getcpu || (!vdso.getcpu(&cpu, &node, NULL) && cpu < 65536), "cpu %u",
		      cpu);
	}
	for (unsigned int i = 0; i < sizeof(clocks) / sizeof(clocks[0]); i++)
		CHECK(agrees(clocks[i]) || agrees(clocks[i]), "clock %d", (int)clocks[i]);
	CHECK(!vdso.getres(CLOCK_MONOTONIC, &ts) && ts.tv_nsec > 0);
	CHECK(vdso.gettime(12345, &ts) == -EINVAL);
	call_random();
}

static void *run(void *arg)
{
	volatile unsigned long *own = arg;

	while (!stop) {
		call_all();
		++*own;
	}
	return NULL;
}

/* Functions that are hardly longer than what is put at their entry: to be stopped in them is to be in that. */
static void *run_short(void *arg)
{
	unsigned int cpu = 0;

	while (!stop)
		for (int i = 0; i < 1000; i++) {
			CHECK(!vdso.seconds || is_now(vdso.seconds(NULL)));
			CHECK(!vdso.getcpu || (!vdso.getcpu(&cpu, NULL, NULL) && cpu < 65536));
			CHECK(!vdso.getres(CLOCK_REALTIME_COARSE, NULL));
		}
	return arg;
}

static uintptr_t interrupted_at(const ucontext_t *context)
{
#if defined(__x86_64__)
	return (uintptr_t)context->uc_mcontext.gregs[REG_RIP];
#elif defined(__aarch64__)
	return (uintptr_t)context->uc_mcontext.pc;
#else
	return 0;
#endif
}

/* Stays here over the move when it has interrupted a clock that is being read. */
static void on_alarm(int signal, siginfo_t *info, void *context)
{
	uintptr_t from = interrupted_at(context) - (uintptr_t)vdso.gettime;
	const struct timespec pause = {0, 1000000};

	(void)signal;
	(void)info;
	if (stop || interrupted || from < ENTRY_BYTES || from > 600)
		return;
	interrupted = true;
	while (!stop && !scenario_moved()) {
		in_handler++;
		nanosleep(&pause, NULL);
	}
}

static void *be_interrupted(void *arg)
{
	struct timespec ts;
	sigset_t alarm;

	sigemptyset(&alarm);
	sigaddset(&alarm, SIGALRM);
	pthread_sigmask(SIG_UNBLOCK, &alarm, NULL);
	while (!stop)
		CHECK(!vdso.gettime(CLOCK_REALTIME, &ts) && is_now(ts.tv_sec), "it is %lld",
		      (long long)ts.tv_sec);
	return arg;
}

static void prepare_threads(void)
{
	struct sigaction action = {.sa_sigaction = on_alarm, .sa_flags = SA_SIGINFO | SA_RESTART};
	const struct itimerval often = {{0, ALARM_US}, {0, ALARM_US}}, never = {{0, 0}, {0, 0}};
	sigset_t alarm;

	sigemptyset(&alarm);
	sigaddset(&alarm, SIGALRM);
	sigprocmask(SIG_BLOCK, &alarm, NULL);
	sigaction(SIGALRM, &action, NULL);
	for (int i = 0; i < NR_THREADS; i++)
		CHECK(!pthread_create(&threads[i], NULL, run, (void *)&rounds[i]));
	CHECK(!pthread_create(&victim, NULL, be_interrupted, NULL));
	CHECK(!pthread_create(&brief, NULL, run_short, NULL));
	setitimer(ITIMER_REAL, &often, NULL);
	for (int i = 0; i < 20000 && !in_handler; i++)
		scenario_sleep_ms(1);
	setitimer(ITIMER_REAL, &never, NULL);
	CHECK(in_handler, "no signal has met a clock");
}

static void prepare(void)
{
	uint8_t params[64] = {0};

	started = time(NULL);
	image = getauxval(AT_SYSINFO_EHDR);
	CHECK(image, "there is no vdso");
	look_up_all(&vdso);
	CHECK(vdso.gettime && vdso.getres && vdso.timeofday);
	if (vdso.random && !vdso.random(NULL, 0, 0, params, ~0UL))
		memcpy(&random_state_len, params, sizeof(uint32_t));
	CHECK(random_state_len <= 256);
	call_all();
	prepare_threads();
}

/* Who looks again finds the same, and libc gets on with it. */
static void check(void)
{
	unsigned long before[NR_THREADS];
	struct functions again;
	struct timeval tv;

	CHECK(getauxval(AT_SYSINFO_EHDR) == image);
	look_up_all(&again);
	CHECK(!memcmp(&again, &vdso, sizeof(vdso)));
	for (int i = 0; i < NR_THREADS; i++)
		before[i] = rounds[i];
	for (int i = 0; i < NR_THREADS; i++)
		for (int ms = 0; rounds[i] < before[i] + 20; ms++) {
			CHECK(ms < 60000, "thread %d stands", i);
			scenario_sleep_ms(1);
		}
	call_all();
	CHECK(is_now(time(NULL)) && !gettimeofday(&tv, NULL) && is_now(tv.tv_sec));
	CHECK(sched_getcpu() >= 0);
	stop = true;
	for (int i = 0; i < NR_THREADS; i++)
		pthread_join(threads[i], NULL);
	pthread_join(victim, NULL);
	pthread_join(brief, NULL);
}

static void sabotage(void)
{
	started -= 2L * LATE_S;
}

int main(int argc, char **argv)
{
	static const struct scenario s = {.prepare = prepare, .check = check, .sabotage = sabotage};

	return scenario_main(argc, argv, &s);
}
