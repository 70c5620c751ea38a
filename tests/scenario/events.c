/* SPDX-License-Identifier: MIT */
/*
 * What a program does to its memory while it is still being filled. ARG is the event. Each begins
 * the moment the program runs on the other device, and every byte is checked afterwards.
 * build: musl-static
 * libs: -lpthread
 * args: fork | vfork | exec | munmap | mremap | dontunmap | dontneed | mprotect | stack | heap | fragments | shreds | threads | mixed
 * rate: 40
 */
#include "region.h"
#include <pthread.h>
#include <spawn.h>
#include <stdatomic.h>
#include <sys/epoll.h>
#include <sys/wait.h>

#define NR_PAGES 16384 /* 64 MiB */
#define CHUNK 256
#define NR_MIXERS 4

static struct region big, mixed[NR_MIXERS];
static char self_path[512];
extern char **environ;

static const char *event(void)
{
	return scenario_arg(0);
}

static bool is(const char *name)
{
	return !strcmp(event(), name);
}

static void prepare(void)
{
	ssize_t n = readlink("/proc/self/exe", self_path, sizeof(self_path) - 1);

	CHECK(n > 0);
	if (is("mixed"))
		for (uint32_t i = 0; i < NR_MIXERS; i++)
			region_make(&mixed[i], NR_PAGES / NR_MIXERS, 70, 1 + i * 0x10000000);
	else
		region_make(&big, NR_PAGES, is("fragments") || is("shreds") ? 100 : 90, 1);
}

static void wait_moved(void)
{
	while (!scenario_moved())
		scenario_sleep_ms(1);
}

static void wait_child(pid_t pid, const char *what)
{
	int status = -1;

	CHECK(waitpid(pid, &status, 0) == pid && WIFEXITED(status) && WEXITSTATUS(status) == 0,
	      "%s: status %#x", what, (unsigned int)status);
}

/* Children at several moments, each with a copy of its own, which parent and child then change. */
static void do_fork(void)
{
	pid_t pids[4];

	for (int c = 0; c < 4; c++) {
		pids[c] = fork();
		CHECK(pids[c] >= 0);
		if (!pids[c]) {
			for (size_t i = (size_t)c; i < NR_PAGES; i += 97)
				region_write(&big, i, 1);
			region_discard(&big, 5000, 100);
			if (c == 2) {
				pid_t grandchild = fork();

				if (!grandchild) {
					region_check(&big, "grandchild");
					_exit(0);
				}
				wait_child(grandchild, "grandchild");
			}
			region_check(&big, "child");
			_exit(0);
		}
		for (size_t i = (size_t)c + 40; i < NR_PAGES; i += 211)
			region_write(&big, i, 1);
		region_discard(&big, 1000 * (size_t)c, 64);
		region_move(&big, 9000 + 100 * (size_t)c, 12000 + 100 * (size_t)c, 80, false);
		scenario_sleep_ms(60);
	}
	for (int c = 0; c < 4; c++)
		wait_child(pids[c], "child");
}

static void do_vfork(void)
{
	char *const argv[] = {self_path, (char *)"--true", NULL};

	for (int i = 0; i < 8; i++) {
		pid_t pid = vfork();

		CHECK(pid >= 0);
		if (!pid) {
			execv(self_path, argv);
			_exit(127);
		}
		wait_child(pid, "vfork and exec");
		CHECK(!posix_spawn(&pid, self_path, NULL, NULL, argv, environ));
		wait_child(pid, "posix_spawn");
		scenario_sleep_ms(20);
	}
}

/* A forked child execs at once; then the program itself does, and never comes back here. */
static void do_exec(void)
{
	char *const child[] = {self_path, (char *)"--true", NULL};
	char *const own[] = {self_path, scenario_dir, (char *)"--execed", NULL};
	pid_t pid = fork();

	if (!pid) {
		execv(self_path, child);
		_exit(127);
	}
	wait_child(pid, "fork and exec");
	for (size_t i = 0; i < NR_PAGES; i += 64)
		region_check_page(&big, i, "before exec");
	if (scenario_is_broken)
		scenario_fail("as was asked for");
	execv(self_path, own);
	scenario_fail("exec");
}

static void do_chunks(void (*one)(struct region *r, size_t page, size_t n))
{
	for (size_t c = 0; c + CHUNK <= NR_PAGES; c += 2 * CHUNK)
		one(&big, NR_PAGES - c - CHUNK + 3, CHUNK / 2 + 7);
}

static void do_mremap(bool dontunmap)
{
	size_t far = NR_PAGES * PAGE;
	char *grown;

	for (size_t c = 0; c < NR_PAGES / 2 - CHUNK; c += CHUNK)
		region_move(&big, NR_PAGES / 2 + c, c + 5, CHUNK - 9, dontunmap);
	/* Back again, and elsewhere: distances add up. */
	for (size_t c = 0; c < NR_PAGES / 2 - 2 * CHUNK; c += 2 * CHUNK)
		region_move(&big, c + 5, NR_PAGES / 2 + c + CHUNK, CHUNK - 9, dontunmap);
	if (dontunmap)
		return;
	/* The whole region grows, which moves it. */
	grown = mremap(big.base, far, 2 * far, MREMAP_MAYMOVE);
	CHECK(grown != MAP_FAILED || errno == EFAULT);
	if (grown == MAP_FAILED) /* it is several VMAs by now: only its last part can grow */
		return;
	big.base = grown;
	CHECK(scenario_not_zero(grown + far, far) < 0);
	memset(grown + far, 1, PAGE * 10);
}

static void do_grow(void)
{
	/* A region of one VMA, grown while it is being filled. */
	size_t len = NR_PAGES * PAGE;
	char *block = mmap(NULL, PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	char *grown = mremap(big.base, len, len + 64 * PAGE, MREMAP_MAYMOVE);

	CHECK(grown != MAP_FAILED && block != MAP_FAILED);
	big.base = grown;
	CHECK(scenario_not_zero(grown + len, 64 * PAGE) < 0);
	memset(grown + len, 7, 64 * PAGE);
	big.base = mremap(grown, len + 64 * PAGE, len, 0);
	CHECK(big.base == grown);
}

static __attribute__((noinline)) int recurse(int depth)
{
	volatile char frame[3 * PAGE];
	int deeper;

	memset((char *)frame, depth, sizeof(frame));
	deeper = depth ? recurse(depth - 1) : 0;
	for (size_t i = 0; i < sizeof(frame); i += 512)
		CHECK(frame[i] == (char)depth, "stack at depth %d", depth);
	return deeper + 1;
}

static void do_heap(void)
{
	char *end = (char *)syscall(SYS_brk, 0);
	size_t len = 2048 * PAGE;

	for (int i = 0; i < 4; i++) {
		CHECK((char *)syscall(SYS_brk, end + len) == end + len);
		CHECK(scenario_not_zero((char *)(((unsigned long)end + 7) & ~7ul), len - 8) < 0,
		      "grown heap is not zero");
		memset(end, 0x55, len);
		CHECK((char *)syscall(SYS_brk, end + len / 2) == end + len / 2);
		CHECK((char *)syscall(SYS_brk, end) == end);
		scenario_sleep_ms(30);
	}
	for (int i = 0; i < 600; i++) {
		size_t n = (size_t)(i * 37) % 60000 + 8;
		char *p = malloc(n), *q;

		CHECK(p);
		memset(p, i, n);
		q = realloc(p, n * 2);
		CHECK(q && q[n - 1] == (char)i && q[0] == (char)i);
		if (i % 3)
			free(q);
	}
}

/*
 * More fragments than the table of what is still to come can hold, several times over: every second
 * page is discarded. The program is halted for that now and then, of which it must not see anything.
 */
static atomic_bool waiters_end;

static void *waiter_run(void *arg)
{
	int fd = epoll_create1(EPOLL_CLOEXEC), ms = (int)(long)arg;
	struct epoll_event event;

	CHECK(fd >= 0);
	while (!waiters_end)
		CHECK(epoll_wait(fd, &event, 1, ms) == 0, "epoll_wait of %d ms", ms);
	close(fd);
	return NULL;
}

static void discard_every_second(size_t first, size_t end)
{
	for (size_t i = first; i < end; i += 2)
		region_discard(&big, i, 1);
}

/* All in one mapping, discarded in 8,192 pieces; then moved across them and onto them. */
static void do_fragments(void)
{
	static const long waits[] = {0, 1, 20, 500};
	pthread_t waiters[4];

	for (int i = 0; i < 4; i++)
		CHECK(!pthread_create(&waiters[i], NULL, waiter_run, (void *)waits[i]));
	discard_every_second(0, NR_PAGES);
	region_check(&big, "fragments");
	for (size_t i = 0; i < NR_PAGES; i += 2048)
		region_move(&big, i, i + 1024, 1000, false);
	region_check(&big, "moved across fragments");
	for (size_t i = 1100; i + 2048 < NR_PAGES; i += 2048)
		for (size_t k = 0; k < 100; k++)
			region_move(&big, i + 3 * k, i + 925 + 2 * k, 1, k % 2);
	waiters_end = true;
	for (int i = 0; i < 4; i++)
		pthread_join(waiters[i], NULL);
}

/* Threads that do so at once, and children, each with a copy of its own, whose parent goes on. */
static void *shredder_run(void *arg)
{
	size_t each = NR_PAGES / NR_MIXERS, first = (size_t)arg * each;

	discard_every_second(first, first + each);
	for (size_t i = first; i < first + each; i++)
		region_check_page(&big, i, "shredder");
	return NULL;
}

static void do_threads(void *(*run)(void *), bool is_mixed);

static void do_shreds(void)
{
	pid_t pids[3];

	for (size_t c = 0; c < 3; c++) {
		discard_every_second(c * 600, c * 600 + 600);
		pids[c] = fork();
		CHECK(pids[c] >= 0);
		if (!pids[c]) {
			discard_every_second(1801 + c, NR_PAGES - 1000 * c);
			region_check(&big, "child");
			_exit(0);
		}
	}
	do_threads(shredder_run, false);
	region_check(&big, "parent");
	for (int c = 0; c < 3; c++)
		wait_child(pids[c], "child");
}

static void *reader_run(void *arg)
{
	uint64_t x = (uint64_t)(unsigned long)arg;

	for (int i = 0; i < 30000; i++) {
		x = scenario_mix(x);
		region_check_page(&big, x % NR_PAGES, "reader");
	}
	return NULL;
}

static void *mixer_run(void *arg)
{
	struct region *r = arg;

	for (int i = 0; i < 1000; i++)
		region_step(r);
	return NULL;
}

static void do_threads(void *(*run)(void *), bool is_mixed)
{
	pthread_t threads[NR_MIXERS];

	for (unsigned long i = 0; i < NR_MIXERS; i++)
		CHECK(!pthread_create(&threads[i], NULL, run,
				      is_mixed ? (void *)&mixed[i] : (void *)i));
	for (int i = 0; i < NR_MIXERS; i++)
		pthread_join(threads[i], NULL);
}

static void do_event(void)
{
	if (is("fork"))
		do_fork();
	else if (is("vfork"))
		do_vfork();
	else if (is("exec"))
		do_exec();
	else if (is("munmap"))
		do_chunks(region_unmap);
	else if (is("mremap"))
		do_grow(), do_mremap(false);
	else if (is("dontunmap"))
		do_mremap(true);
	else if (is("dontneed"))
		do_chunks(region_discard);
	else if (is("mprotect"))
		do_chunks(region_protect);
	else if (is("stack"))
		CHECK(recurse(300) == 301);
	else if (is("heap"))
		do_heap();
	else if (is("fragments"))
		do_fragments();
	else if (is("shreds"))
		do_shreds();
	else if (is("threads"))
		do_threads(reader_run, false);
	else if (is("mixed"))
		do_threads(mixer_run, true);
	else
		scenario_fail("no such event: %s", event());
}

/* After the event, which might have overwritten it. */
static void sabotage_late(void)
{
	region_page(is("mixed") ? &mixed[2] : &big, 1000)[8] ^= 1;
}

/* At once, and again when all has arrived: what came late must not have undone anything. */
static void check_all(const char *when)
{
	if (is("mixed"))
		for (int i = 0; i < NR_MIXERS; i++)
			region_check(&mixed[i], when);
	else
		region_check(&big, when);
}

static void check(void)
{
	do_event();
	if (scenario_is_broken)
		sabotage_late();
	check_all("at once");
	scenario_wait();
	check_all("in the end");
}

int main(int argc, char **argv)
{
	static const struct scenario s = {prepare, wait_moved, check, NULL};

	if (argc == 2 && !strcmp(argv[1], "--true"))
		return 0;
	if (argc == 3 && !strcmp(argv[2], "--execed")) {
		scenario_init(2, argv);
		scenario_done();
		return 0;
	}
	return scenario_main(argc, argv, &s);
}
