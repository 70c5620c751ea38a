/* SPDX-License-Identifier: MIT */
/*
 * System calls that a process makes many at a time: the loop by itself, in a child that nobody traces, and the
 * queue in front of it, in one that is stopped. An emulator that has no ptrace(2) skips the latter.
 * needs: engine/process/batch.c engine/process/remote.c engine/process/restart.c engine/process/freeze.c
 * needs: engine/process/proc.c engine/process/clocks.c arch/batch.c arch/regs.c arch/xstate.c arch/inject.c
 * needs: arch/sigreturn.c arch/pagetable.c lib/arena.c lib/io.c lib/readers.c lib/text.c lib/log.c
 */
#include "engine/process/batch.h"
#include "lib/log.h"
#include "unit.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#define AREA_BYTES (256 * 1024) /* some pages of any size */
#define UNTOUCHED 0x1234

/* Shared with the children: the code in its first half, calls in the second. */
static uint8_t *area, *calls_at;

static int setup(void **state)
{
	UNUSED(state);
	area = mmap(NULL, AREA_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (area == MAP_FAILED)
		return -1;
	calls_at = area + AREA_BYTES / 2;
	memcpy(area, arch_batch_code, (size_t)(arch_batch_code_end - arch_batch_code));
	__builtin___clear_cache((char *)area, (char *)area + 256);
	return mprotect(area, AREA_BYTES / 2, PROT_READ | PROT_EXEC);
}

static int teardown(void **state)
{
	UNUSED(state);
	return munmap(area, AREA_BYTES);
}

/* Does what arch_batch_load does to a stopped thread. */
static _Noreturn void jump(const struct arch_batch_call *first, const struct arch_batch_call *end)
{
#ifdef __x86_64__
	__asm__ volatile("mov %%rcx, %%rbx\n mov %%rdx, %%rbp\n xor %%r12, %%r12\n"
			 "xor %%r14, %%r14\n jmp *%%rax"
			 :
			 : "a"(area), "c"(first), "d"(end)
			 : "memory");
#else
	register const void *code __asm__("x0") = area, *from __asm__("x1") = first,
				  *to __asm__("x2") = end;

	__asm__ volatile("mov x19, x1\n mov x20, x2\n mov x21, xzr\n mov x23, xzr\n br x0"
			 :
			 : "r"(code), "r"(from), "r"(to)
			 : "memory");
#endif
	__builtin_unreachable();
}

/* What is kept and used, what may fail, what may not, and what is not made any more. */
static void loop(void **state)
{
	struct arch_batch_call *c = (void *)calls_at;
	char *path = (char *)calls_at + 4096;
	unsigned int nr = 0;
	int status;
	pid_t pid;

	UNUSED(state);
	strcpy(path, "/dev/zero");
#define CALL(number, how, ...)                                                                     \
	c[nr++] = (struct arch_batch_call){(number), (how), {__VA_ARGS__}, UNTOUCHED}
	CALL(SYS_getppid, 0, 0);
	CALL(SYS_openat, ARCH_BATCH_KEEP, (uint64_t)AT_FDCWD, (uintptr_t)path, O_RDONLY);
	CALL(SYS_mmap, ARCH_BATCH_FIFTH, 0, 1, PROT_READ, MAP_PRIVATE, 9999, 0);
	CALL(SYS_close, ARCH_BATCH_ANY, (uint64_t)-1);
	CALL(SYS_fcntl, ARCH_BATCH_FIRST, 9999, F_DUPFD, 77);
	CALL(SYS_close, ARCH_BATCH_FIRST, 9999);
	CALL(SYS_close, ARCH_BATCH_FIRST, 9999);
	CALL(SYS_getppid, 0, 0);
	CALL(SYS_exit_group, ARCH_BATCH_END, 7);
	pid = fork();
	if (pid == 0)
		jump(c, &c[nr - 1]);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFEXITED(status));
	assert_int_equal(WEXITSTATUS(status), 7);
	assert_int_equal(c[0].result, getpid());
	assert_true(c[1].result > 2);
	assert_false(remote_failed(c[2].result));
	assert_int_equal(c[3].result, -EBADF);
	assert_int_equal(c[4].result, 77);
	assert_int_equal(c[5].result, 0);
	assert_int_equal(c[6].result, -EBADF);
	assert_int_equal(c[7].result, UNTOUCHED);
}

/* ---- with a child that is stopped ---- */

static struct batch queue;
static struct remote thread;
static const char *failed_text;
static long failed_nr;

static int note_failure(const struct batch *b, const struct arch_batch_call *call, int err)
{
	failed_nr = (long)call->nr;
	failed_text = call->nr == SYS_openat ? batch_text(b, call->args[1]) : "";
	assert_ptr_equal(b->owner, &failed_nr);
	return log_fail(-err, "it failed");
}

static bool stop_child(void)
{
	const uint64_t all = ~0ULL;
	pid_t pid = fork();
	int status;

	if (pid == 0) {
		signal(SIGTRAP, SIG_IGN);
		for (;;)
			pause();
	}
	failed_nr = -1;
	memset(&queue, 0, sizeof(queue));
	if (ptrace(PTRACE_SEIZE, pid, 0, PTRACE_O_TRACESYSGOOD | PTRACE_O_EXITKILL) < 0)
		return false;
	usleep(20000);
	ptrace(PTRACE_INTERRUPT, pid, 0, 0);
	if (remote_wait_stop(pid, &status, -1) ||
	    ptrace(PTRACE_SETSIGMASK, pid, sizeof(all), &all) < 0 || remote_open(&thread, pid, pid))
		return false;
	queue.code = (uintptr_t)area;
	queue.at = (uintptr_t)calls_at;
	queue.pid_inside = thread.tid_inside = pid;
	queue.owner = &failed_nr;
	thread.batch = &queue;
	return true;
}

static void end_child(void)
{
	close(thread.mem_fd);
	kill(thread.pid, SIGKILL);
	waitpid(thread.pid, NULL, __WALL);
}

static bool can_trace(void)
{
	return ptrace(PTRACE_PEEKUSER, getpid(), 0, 0) < 0 && errno != ENOSYS;
}

static unsigned int count_files(void)
{
	unsigned int nr = 0;
	char path[40];
	DIR *dir;

	snprintf(path, sizeof(path), "/proc/%d/fd", thread.pid);
	dir = opendir(path);
	assert_non_null(dir);
	while (readdir(dir))
		nr++;
	closedir(dir);
	return nr;
}

/* More calls than there is room for are made all the same, in their order. */
static void queued(void **state)
{
	const unsigned int nr = 3 * BATCH_CALLS + 5;
	unsigned int files;

	UNUSED(state);
	if (!can_trace())
		skip();
	assert_true(stop_child());
	files = count_files();
	for (unsigned int i = 0; i < nr; i++) {
		assert_int_equal(batch_room(&thread, 1, 0), 0);
		batch_call(&thread, note_failure, SYS_dup3, i ? 299 + i : 0, 300 + i, 0);
	}
	assert_true(count_files() < files + nr);
	/* A single call comes behind them, and has its own result. */
	assert_int_equal(remote_call(&thread, SYS_fcntl, 299 + nr, F_GETFD), 0);
	assert_int_equal(count_files(), files + nr);
	assert_int_equal(remote_call(&thread, SYS_close, 5000), -EBADF);
	assert_int_equal(remote_call(&thread, SYS_getpid), thread.pid);
	assert_int_equal(batch_flush(&thread), 0);
	assert_int_equal(failed_nr, -1);
	end_child();
}

/* A file stays open for the calls of one queue, and no longer. */
static void files(void **state)
{
	unsigned int files;
	uint64_t at = 0;

	UNUSED(state);
	if (!can_trace())
		skip();
	assert_true(stop_child());
	files = count_files();
	for (int i = 0; i < 6; i++) {
		assert_int_equal(batch_room(&thread, 3, 64), 0);
		batch_open(&thread, note_failure, i < 3 ? "/dev/zero" : "/dev/null", O_RDONLY);
		batch_add(&thread, ARCH_BATCH_FIFTH, note_failure, SYS_mmap,
			  (const uint64_t[6]){0, 4096, PROT_READ,
					      i < 3 ? MAP_PRIVATE : MAP_PRIVATE | MAP_ANONYMOUS});
	}
	/* Two of open, six of mmap, one of close. */
	assert_int_equal(queue.nr, 9);
	assert_int_equal(batch_flush(&thread), 0);
	assert_int_equal(count_files(), files);
	at = (uint64_t)remote_call(&thread, SYS_mmap, 0, 4096, PROT_READ,
				   MAP_PRIVATE | MAP_ANONYMOUS, (uint64_t)-1, 0);
	assert_false(remote_failed((int64_t)at));
	end_child();
}

/* One that fails is told of with what it was about; nothing behind it is made, now or later. */
static void failing(void **state)
{
	unsigned int files;

	UNUSED(state);
	if (!can_trace())
		skip();
	assert_true(stop_child());
	files = count_files();
	assert_int_equal(batch_room(&thread, 6, 64), 0);
	batch_call(&thread, note_failure, SYS_dup3, 0, 300, 0);
	batch_try(&thread, SYS_dup3, 4000, 301, 0);
	batch_call(&thread, note_failure, SYS_dup3, 0, 302, 0);
	batch_open(&thread, note_failure, "/there/is/none", O_RDONLY);
	batch_call(&thread, note_failure, SYS_dup3, 0, 303, 0);
	assert_int_equal(batch_flush(&thread), -ENOENT);
	assert_int_equal(failed_nr, SYS_openat);
	assert_string_equal(failed_text, "/there/is/none");
	assert_int_equal(count_files(), files + 2);
	assert_int_equal(remote_call(&thread, SYS_dup3, 0, 304, 0), -ENOENT);
	assert_int_equal(batch_room(&thread, 1, 0), -ENOENT);
	assert_int_equal(count_files(), files + 2);
	log_reason_clear();
	end_child();
}

/* Who asks for no room gets an error, and nothing beyond the room is written. */
static void no_room(void **state)
{
	static char long_text[BATCH_DATA_BYTES + 1];

	UNUSED(state);
	if (!can_trace())
		skip();
	assert_true(stop_child());
	assert_int_equal(batch_push(&thread, long_text, sizeof(long_text)), 0);
	assert_int_equal(batch_flush(&thread), -ENOBUFS);
	end_child();
	assert_true(stop_child());
	for (int i = 0; i < 2 * BATCH_CALLS; i++)
		batch_call(&thread, note_failure, SYS_getpid, 0);
	assert_int_equal(queue.nr, BATCH_CALLS);
	assert_int_equal(batch_flush(&thread), -ENOBUFS);
	end_child();
}

/* The program's signals are as they were: SIGTRAP, too, and one that stops it meanwhile does no harm. */
static void signals(void **state)
{
	struct arch_sigaction act = {0};
	uint64_t mask, at;

	UNUSED(state);
	if (!can_trace())
		skip();
	assert_true(stop_child());
	kill(thread.pid, SIGSTOP);
	for (int i = 0; i < 100; i++) {
		assert_int_equal(batch_room(&thread, 1, 0), 0);
		batch_call(&thread, note_failure, SYS_getpid, 0);
		assert_int_equal(batch_flush(&thread), 0);
	}
	at = (uintptr_t)area + AREA_BYTES - 64;
	assert_int_equal(remote_call(&thread, SYS_rt_sigaction, SIGTRAP, 0, at, 8), 0);
	assert_int_equal(remote_read(&thread, at, &act, sizeof(act)), 0);
	assert_int_equal(act.handler, (uintptr_t)SIG_IGN);
	assert_true(ptrace(PTRACE_GETSIGMASK, thread.pid, sizeof(mask), &mask) == 0);
	assert_true(mask >> (SIGTRAP - 1) & 1);
	assert_int_equal(remote_close(&thread), 0);
	end_child();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(loop),    cmocka_unit_test(queued),  cmocka_unit_test(files),
		cmocka_unit_test(failing), cmocka_unit_test(no_room), cmocka_unit_test(signals),
	};

	return cmocka_run_group_tests(tests, setup, teardown);
}
