/* SPDX-License-Identifier: MIT */
/*
 * The contract of an architecture (arch/arch.h): what this one's files do with registers that nobody runs,
 * and with a child that is stopped. An emulator that has no ptrace(2) skips the latter.
 * needs: arch/regs.c arch/xstate.c arch/inject.c arch/wire.c arch/features.c arch/pagetable.c
 * needs: arch/batch.c arch/vdso.c arch/sigreturn.c lib/io.c lib/text.c lib/readers.c lib/log.c
 */
#include "arch/arch.h"
#include "unit.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/futex.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/mman.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define SYSCALL_STOP (SIGTRAP | 0x80)

/* ---- without a process ---- */

static void sizes(void **state)
{
	unsigned int shift = arch_page_shift();
	uint64_t top = arch_user_top();
	int here = 0;

	UNUSED(state);
	assert_int_equal(1ul << shift, (unsigned long)sysconf(_SC_PAGESIZE));
	assert_true(top >= 1ull << 36 && top <= 1ull << 52);
	assert_true((uintptr_t)&here < top);
	assert_true(arch_user_top() == top);
	assert_true(arch_name()[0]);
}

static void features(void **state)
{
	uint8_t own[ARCH_FEATURES_MAX], other[ARCH_FEATURES_MAX];
	ssize_t len = arch_features_collect(own, sizeof(own));
	char reason[300];
	int refused = 0;

	UNUSED(state);
	assert_true(len > 0);
	assert_int_equal(arch_features_collect(own, (size_t)len - 1), -ENOSPC);
	assert_int_equal(arch_features_compare(own, (size_t)len, reason, sizeof(reason)), 0);
	assert_string_equal(reason, "");
	assert_int_equal(arch_features_compare(own, (size_t)len - 1, reason, sizeof(reason)),
			 -ENOEXEC);
	/* Whatever bit a peer has more: a refusal names it, or it does not count. */
	for (ssize_t bit = 0; bit < len * 8; bit++) {
		memcpy(other, own, sizeof(other));
		if (other[bit / 8] >> (bit % 8) & 1)
			continue;
		other[bit / 8] |= (uint8_t)(1 << (bit % 8));
		strcpy(reason, "unsaid");
		if (arch_features_compare(other, (size_t)len, reason, sizeof(reason))) {
			assert_true(strlen(reason) > 10);
			refused++;
		} else {
			assert_string_equal(reason, "");
		}
	}
	assert_true(refused > 60);
}

#ifdef __x86_64__
/* State that the source has and this CPU has not is refused by its name, wherever it would lie. */
static void xsave_components(void **state)
{
	uint8_t other[ARCH_FEATURES_MAX];
	ssize_t len = arch_features_collect(other, sizeof(other));
	uint64_t own;
	char reason[300];

	UNUSED(state);
	memcpy(&own, other, sizeof(own)); /* xcr0 comes first */
	for (int i = 2; i < 63; i++) {
		uint64_t more = own | 1ull << i;

		if (more == own)
			continue;
		memcpy(other, &more, sizeof(more));
		assert_int_equal(arch_features_compare(other, (size_t)len, reason, sizeof(reason)),
				 -ENOEXEC);
		assert_non_null(strstr(reason, i == 9    ? "PKRU"
					       : i == 18 ? "AMX tiles"
							 : "component"));
	}
}
#endif

/* Registers of a program: of a child's, or here made up by running a call in nobody. */
static struct arch_regs some_regs(void)
{
	const uint64_t args[6] = {1, 2, 3, 4, 5, 6};
	struct arch_regs regs;
	uint8_t wire[ARCH_REGS_WIRE_MAX] = {0};

#ifdef __x86_64__
	((uint64_t *)(void *)wire)[17] = 0x33; /* cs, ss */
	((uint64_t *)(void *)wire)[20] = 0x2b;
#endif
	assert_int_equal(arch_regs_decode(wire, sizeof(wire), &regs), 0);
	arch_inject_load(&regs, 0x10000, SYS_getpid, args);
	return regs;
}

static void wire(void **state)
{
	struct arch_regs regs = some_regs(), back;
	uint8_t form[ARCH_REGS_WIRE_MAX + 1], bad[ARCH_REGS_WIRE_MAX];
	int refused = 0;

	UNUSED(state);
	assert_int_equal(arch_regs_encode(&regs, form, ARCH_REGS_WIRE_MAX - 1), -ENOSPC);
	assert_int_equal(arch_regs_encode(&regs, form, sizeof(form)), ARCH_REGS_WIRE_MAX);
	assert_int_equal(arch_regs_decode(form, ARCH_REGS_WIRE_MAX - 1, &back), -EPROTO);
	assert_int_equal(arch_regs_decode(form, ARCH_REGS_WIRE_MAX + 1, &back), -EPROTO);
	assert_int_equal(arch_regs_decode(form, ARCH_REGS_WIRE_MAX, &back), 0);
	assert_int_equal(arch_regs_pc(&back), 0x10000);
	arch_regs_set_pc(&regs, arch_user_top() - 16);
	arch_regs_encode(&regs, form, sizeof(form));
	assert_int_equal(arch_regs_decode(form, ARCH_REGS_WIRE_MAX, &back), 0);
	/* The kernel's half of the addresses is no place to run. */
	arch_regs_set_pc(&regs, 0xffffffff80000000ull);
	arch_regs_encode(&regs, form, sizeof(form));
	assert_int_equal(arch_regs_decode(form, ARCH_REGS_WIRE_MAX, &back), -EPROTO);
	/* Whatever is taken says the same again: no bit in it that user space cannot have. */
	regs = some_regs();
	arch_regs_encode(&regs, form, sizeof(form));
	for (int bit = 0; bit < ARCH_REGS_WIRE_MAX * 8; bit++) {
		uint8_t again[ARCH_REGS_WIRE_MAX];
		struct arch_regs twice;

		memcpy(bad, form, sizeof(bad));
		bad[bit / 8] ^= (uint8_t)(1 << (bit % 8));
		if (arch_regs_decode(bad, sizeof(bad), &back)) {
			refused++;
			continue;
		}
		arch_regs_encode(&back, again, sizeof(again));
		assert_int_equal(arch_regs_decode(again, sizeof(again), &twice), 0);
		assert_memory_equal(&twice, &back, sizeof(back));
	}
	assert_true(refused > 16);
}

static void injected(void **state)
{
	struct arch_regs regs = some_regs();
	uint64_t args[6] = {7, 8, 9, 10, 11, 12}, got[6];

	UNUSED(state);
	arch_inject_load(&regs, 0x20000, SYS_read, args);
	assert_int_equal(arch_regs_pc(&regs), 0x20000);
	/* It is not one that a stop interrupted. */
	assert_int_equal(arch_restart_call(&regs, got), -1);
	assert_int_equal(arch_restart_kind(&regs), ARCH_RESTART_NONE);
	arch_restart_set_arg(&regs, 0, 70);
	arch_restart_set_arg(&regs, 3, 100);
	arch_restart_call(&regs, got);
	assert_int_equal(got[0], 70);
	assert_int_equal(got[1], 8);
	assert_int_equal(got[3], 100);
	assert_int_equal(got[5], 12);
	arch_restart_finish(&regs, -EINTR);
	assert_int_equal(arch_inject_result(&regs), -EINTR);
	assert_int_equal(arch_restart_kind(&regs), ARCH_RESTART_NONE);
}

/* What the code does with it is in test_batch.c. */
static void batched(void **state)
{
	struct arch_regs regs = some_regs();
	uint64_t failed = 1;
	int64_t kept = 1;

	UNUSED(state);
	arch_batch_load(&regs, 0x20000, 0x30000, 0x30080);
	assert_int_equal(arch_regs_pc(&regs), 0x20000);
	assert_int_equal(arch_restart_kind(&regs), ARCH_RESTART_NONE);
	assert_false(arch_batch_ended(&regs, 0x30080, &failed, &kept));
	assert_true(arch_batch_ended(&regs, 0x30000, &failed, &kept));
	assert_int_equal(failed, 0);
	assert_int_equal(kept, 0);
	assert_true(arch_batch_code_end - arch_batch_code > 32);
	assert_true(arch_batch_code_end - arch_batch_code < 512);
}

static void sigaction_form(void **state)
{
	struct arch_sigaction act = {.handler = 1, .flags = 2, .mask = 3};

	UNUSED(state);
	arch_sigaction_set_restorer(&act, 0x1234);
	assert_int_equal(arch_sigaction_restorer(&act), 0x1234);
	assert_int_equal(act.handler, 1);
	assert_int_equal(act.flags, 2);
	assert_int_equal(act.mask, 3);
}

static void own_vdso(void **state)
{
	const uint8_t *image = (const uint8_t *)getauxval(AT_SYSINFO_EHDR);
	uint8_t zeros[64] = {0};
	ssize_t at;

	UNUSED(state);
	assert_int_equal(arch_vdso_find_syscall(zeros, sizeof(zeros)), -ENOENT);
	assert_true(arch_vdso_is_part("[vdso]") && arch_vdso_is_part("[vvar]"));
	assert_false(arch_vdso_is_part("[stack]") || arch_vdso_is_fixed("[vdso]"));
	memcpy(zeros + 16, arch_syscall_insn, arch_syscall_insn_len);
	assert_int_equal(arch_vdso_find_syscall(zeros, sizeof(zeros)), 16);
	if (!image)
		skip();
	at = arch_vdso_find_syscall(image, 4096);
	assert_true(at > 0);
	assert_memory_equal(image + at, arch_syscall_insn, arch_syscall_insn_len);
}

#ifdef __x86_64__
/* Of the three stores the first takes %rsp from the stack, and the second one never returns. */
static const uint8_t code[] = {0x90, 0x0f, 0x05, 0xc3, 0x90, 0x90, 0x58, 0xc3, 0x48, 0x89,
			       0x43, 0x10, 0x5c, 0xc3, 0x48, 0x89, 0x03, 0x90, 0x90, 0x48,
			       0x89, 0x43, 0x10, 0x31, 0xc0, 0x5b, 0x41, 0x5c, 0xc3};
#define STORE 19
#else
/* Of the three stores the first is where an argument is, and the second one takes its link register from nowhere. */
static const uint32_t code[] = {0xd503201f, 0xd4000001, 0xd65f03c0, 0xd2801168, 0xd4000001,
				0xf9000020, 0xa8c27bfd, 0xd65f03c0, 0xf9000a60, 0xd65f03c0,
				0xf9000a60, 0xf9400bf3, 0x52800000, 0xa8c27bfd, 0xd65f03c0};
#define STORE 40
#endif

static void way_is_found(void **state)
{
	struct arch_sigreturn way = {0}, again = {0};
	const uint8_t *text = (const uint8_t *)code;
	struct arch_place places[3];

	UNUSED(state);
	assert_false(arch_sigreturn_scan(&way, text, arch_syscall_insn_len, 0x1000));
	assert_int_equal(arch_sigreturn_places(&way, places), 0);
	/* Enough for the way, but not for steps on it. */
	assert_false(arch_sigreturn_scan(&way, text, STORE, 0x1000));
	assert_int_equal(arch_sigreturn_places(&way, places), 2);
	assert_false(arch_sigreturn_has_steps(&way));
	assert_true(arch_sigreturn_scan(&way, text, sizeof(code), 0x1000));
	assert_int_equal(arch_sigreturn_places(&way, places), 3);
	assert_true(arch_sigreturn_has_steps(&way));
	assert_int_equal(places[2].at, 0x1000 + STORE);
	/* What lies at its places is enough to find it again. */
	for (int i = 0; i < 3; i++) {
		const uint64_t at = places[i].at - 0x1000;

		assert_true(places[i].len <= ARCH_SIGRETURN_CODE);
		assert_true(at < sizeof(code) && places[i].len <= sizeof(code) - at);
		arch_sigreturn_scan(&again, text + at, places[i].len, places[i].at);
	}
	assert_memory_equal(&again, &way, sizeof(way));
	assert_memory_equal(text + (arch_sigreturn_call(&way) - 0x1000), arch_syscall_insn,
			    arch_syscall_insn_len);
}

/* ---- with a child that is stopped ---- */

static pid_t child;
static int child_status;
static uint32_t *shared; /* word 0: a futex; word 1: what the child's call returned; 2: it has */

static int spin_forever(void)
{
	for (volatile int go_on = 1; go_on;)
		;
	return 0;
}

static bool sleeps(void)
{
	char path[32], stat[256] = "";
	int fd;

	snprintf(path, sizeof(path), "/proc/%d/stat", child);
	fd = open(path, O_RDONLY);
	if (fd < 0 || read(fd, stat, sizeof(stat) - 1) <= 0)
		fail_msg("%s cannot be read", path);
	close(fd);
	return strstr(stat, ") S");
}

/* Once it is in its call, or spins. */
static bool stop_child(int (*run)(void))
{
	child = fork();
	if (child == 0) {
		shared[3] = 1;
		shared[1] = (uint32_t)run();
		shared[2] = 1;
		_exit(0);
	}
	while (!__atomic_load_n(&shared[3], __ATOMIC_ACQUIRE) || (run != spin_forever && !sleeps()))
		usleep(1000);
	if (ptrace(PTRACE_SEIZE, child, 0, PTRACE_O_TRACESYSGOOD | PTRACE_O_EXITKILL) < 0)
		return false;
	arch_call_note(child);
	ptrace(PTRACE_INTERRUPT, child, 0, 0);
	return waitpid(child, &child_status, __WALL) == child;
}

static bool can_trace(void)
{
	return ptrace(PTRACE_PEEKUSER, getpid(), 0, 0) < 0 && errno != ENOSYS;
}

/* From any stop to a signal stop. */
static void to_signal_stop(void)
{
	ptrace(PTRACE_INTERRUPT, child, 0, 0);
	do {
		ptrace(PTRACE_SYSCALL, child, 0, 0);
		assert_int_equal(waitpid(child, &child_status, __WALL), child);
	} while (child_status >> 16 != PTRACE_EVENT_STOP);
}

/* Runs a call in the child, at the vdso's instruction, as engine/process/remote.c does. */
static int64_t run_call(const struct arch_regs *base, long nr, uint64_t first)
{
	const uint64_t args[6] = {first, 2, 3, 4, 5, 6};
	const uint8_t *image = (const uint8_t *)getauxval(AT_SYSINFO_EHDR);
	struct arch_regs regs = *base;

	arch_inject_load(&regs, (uintptr_t)image + (uint64_t)arch_vdso_find_syscall(image, 4096),
			 nr, args);
	assert_int_equal(arch_regs_set(child, &regs), 0);
	for (int i = 0; i < 2; i++) {
		ptrace(PTRACE_SYSCALL, child, 0, 0);
		assert_int_equal(waitpid(child, &child_status, __WALL), child);
		assert_int_equal(WSTOPSIG(child_status), SYSCALL_STOP);
		if (i == 0)
			assert_int_equal(arch_inject_entered(child, nr), 0);
	}
	assert_int_equal(arch_regs_get(child, &regs), 0);
	return arch_inject_result(&regs);
}

/* Lets the child go on with `regs`, after calls of ours, the way that engine/process/remote.c does. */
static void put_back(const struct arch_regs *regs)
{
	uint64_t first;
	bool replays = arch_restart_replays(regs, &first);

	to_signal_stop();
	if (replays)
		run_call(regs, SYS_getpid, first);
	assert_int_equal(arch_regs_set(child, regs), 0);
	if (replays)
		to_signal_stop();
}

static void end_child(void)
{
	kill(child, SIGKILL);
	waitpid(child, NULL, __WALL);
}

/* The child's call returns `result` when it is let go. */
static void expect_result(int result)
{
	ptrace(PTRACE_DETACH, child, 0, 0);
	for (int i = 0; i < 1000 && !__atomic_load_n(&shared[2], __ATOMIC_ACQUIRE); i++)
		usleep(10000);
	assert_int_equal(shared[2], 1);
	assert_int_equal((int)shared[1], result);
	end_child();
}

static int setup_child(void **state)
{
	UNUSED(state);
	if (!shared)
		shared =
			mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	memset(shared, 0, 64);
	return shared == MAP_FAILED ? -1 : 0;
}

static int sleep_futex(void)
{
	return (int)syscall(SYS_futex, &shared[0], FUTEX_WAIT, 0, NULL, NULL, 0);
}

/* A call that is simply begun anew: what it had is known, and it is in it again afterwards. */
static void rewound(void **state)
{
	struct arch_regs regs;
	uint64_t args[6];

	UNUSED(state);
	if (!can_trace())
		skip();
	assert_true(stop_child(sleep_futex));
	assert_int_equal(arch_regs_get_call(child, &regs), 0);
	assert_int_equal(arch_restart_call(&regs, args), SYS_futex);
	assert_int_equal(args[0], (uintptr_t)&shared[0]);
	assert_int_equal(args[1], FUTEX_WAIT);
	assert_int_equal(arch_restart_kind(&regs), ARCH_RESTART_REWIND);
	assert_int_equal(run_call(&regs, SYS_getpid, 0x7777), child);
	put_back(&regs);
	/* Of the same call again, from what the kernel has of it now. */
	assert_int_equal(arch_regs_get_call(child, &regs), 0);
	assert_int_equal(arch_restart_call(&regs, args), SYS_futex);
	assert_int_equal(args[0], (uintptr_t)&shared[0]);
	ptrace(PTRACE_CONT, child, 0, 0);
	usleep(20000);
	__atomic_store_n(&shared[0], 1, __ATOMIC_RELEASE);
	syscall(SYS_futex, &shared[0], FUTEX_WAKE, 10, NULL, NULL, 0);
	expect_result(0);
}

static int sleep_sigtimedwait(void)
{
	struct timespec ts = {1, 0};
	sigset_t set;
	long ret;

	sigemptyset(&set);
	sigaddset(&set, SIGUSR2);
	shared[4] = (uint32_t)(uintptr_t)&set;
	ret = syscall(SYS_rt_sigtimedwait, &set, NULL, &ts, 8);
	return ret < 0 ? -errno : (int)ret;
}

/* A call that a stop ends for good: its first argument is found, and it can be made again. */
static void repeated(void **state)
{
	struct arch_regs regs;
	uint64_t args[6], again[6];

	UNUSED(state);
	if (!can_trace())
		skip();
	assert_true(stop_child(sleep_sigtimedwait));
	assert_int_equal(arch_regs_get_call(child, &regs), 0);
	assert_int_equal(arch_restart_call(&regs, args), SYS_rt_sigtimedwait);
	assert_int_equal((uint32_t)args[0], shared[4]);
	assert_int_equal(args[3], 8);
	assert_int_equal(arch_restart_kind(&regs), ARCH_RESTART_EINTR);
	assert_int_equal(run_call(&regs, SYS_getpid, 0x7777), child);
	put_back(&regs);
	assert_int_equal(arch_regs_get_call(child, &regs), 0);
	assert_int_equal(arch_restart_call(&regs, again), SYS_rt_sigtimedwait);
	assert_memory_equal(args, again, sizeof(args));
	assert_int_equal(arch_restart_kind(&regs), ARCH_RESTART_EINTR);
	arch_restart_rewind(&regs);
	assert_int_equal(arch_regs_set(child, &regs), 0);
	expect_result(-EAGAIN);
}

static int sleep_nano(void)
{
	struct timespec ts = {1, 0};

	return (int)syscall(SYS_nanosleep, &ts, &ts);
}

/* A call that the kernel goes on with from its own memory. */
static void block(void **state)
{
	struct arch_regs regs;
	uint64_t args[6];

	UNUSED(state);
	if (!can_trace())
		skip();
	assert_true(stop_child(sleep_nano));
	assert_int_equal(arch_regs_get_call(child, &regs), 0);
	assert_int_equal(arch_restart_call(&regs, args), SYS_nanosleep);
	assert_int_equal(arch_restart_kind(&regs), ARCH_RESTART_BLOCK);
	assert_int_equal(run_call(&regs, SYS_getpid, 0x7777), child);
	put_back(&regs);
	expect_result(0);
}

/* As restart_arm does: the block of a call that was made by us. */
static void through_block(void **state)
{
	struct arch_regs regs;

	UNUSED(state);
	if (!can_trace())
		skip();
	assert_true(stop_child(sleep_nano));
	assert_int_equal(arch_regs_get_call(child, &regs), 0);
	to_signal_stop();
	arch_restart_through_block(&regs);
	assert_int_equal(arch_regs_set(child, &regs), 0);
	expect_result(0);
}

/* Extended state: what is read can be set, again, and nothing else is taken. */
static void extended(void **state)
{
	static uint8_t state_of[ARCH_XSTATE_MAX] __attribute__((aligned(64)));
	static uint8_t again[ARCH_XSTATE_MAX] __attribute__((aligned(64)));
	struct arch_live live;
	ssize_t len;

	UNUSED(state);
	if (!can_trace())
		skip();
	assert_true(stop_child(spin_forever));
	len = arch_xstate_get(child, state_of, sizeof(state_of));
	assert_true(len > 500);
	assert_int_equal(arch_xstate_get(child, again, 64), -E2BIG);
	assert_int_equal(arch_live_keep(child, &live), 0);
	assert_int_equal(arch_xstate_set(child, state_of, (size_t)len), 0);
	assert_int_equal(arch_live_put_back(child, &live), 0);
	assert_int_equal(arch_xstate_get(child, again, sizeof(again)), len);
	assert_memory_equal(again, state_of, (size_t)len);
	assert_true(arch_xstate_set(child, state_of, 3) < 0);
	end_child();
}

#ifdef __x86_64__
#define AVX_END 832 /* of the area of a CPU that has no more than AVX */

/* From a CPU whose area is smaller: what it has arrives, and of the rest nothing is in use. */
static void narrower(void **state)
{
	static uint8_t from[ARCH_XSTATE_MAX] __attribute__((aligned(64)));
	static uint8_t got[ARCH_XSTATE_MAX] __attribute__((aligned(64)));
	const uint64_t avx = 7, keys = 1 << 9;
	uint64_t used;
	ssize_t len;

	UNUSED(state);
	if (!can_trace())
		skip();
	assert_true(stop_child(spin_forever));
	len = arch_xstate_get(child, from, sizeof(from));
	if (len <= AVX_END) {
		end_child();
		skip();
	}
	memcpy(from + 464, &avx, sizeof(avx));
	memcpy(from + 512, &avx, sizeof(avx));
	for (int i = 160; i < 416; i++)
		from[i] = (uint8_t)i; /* XMM */
	for (int i = 576; i < AVX_END; i++)
		from[i] = (uint8_t)(i * 7); /* the upper halves of YMM */
	assert_int_equal(arch_xstate_set(child, from, AVX_END), 0);
	assert_int_equal(arch_xstate_get(child, got, sizeof(got)), len);
	memcpy(&used, got + 512, sizeof(used));
	assert_int_equal(used & ~keys, avx);
	assert_memory_equal(got, from, 464);
	assert_memory_equal(got + 576, from + 576, AVX_END - 576);
	end_child();
}
#endif

/* A child that sleeps in a call of its own, with a way back to it in shared memory. */
static uint8_t *place;
#define WAY 4096 /* where in there; and steps on it, and their results */
#define STEPS 32768
#define RESULTS 61440

static void prepare_way(struct arch_sigreturn *way, struct arch_regs *regs)
{
	static uint8_t frame[ARCH_SIGRETURN_MAX] __attribute__((aligned(64)));
	struct arch_regs back;
	uint64_t at;
	ssize_t len;

	place = mmap(NULL, 65536, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_SHARED | MAP_ANONYMOUS,
		     -1, 0);
	at = (uintptr_t)place + WAY;
	memcpy(place, code, sizeof(code));
	__builtin___clear_cache((char *)place, (char *)place + sizeof(code));
	assert_true(arch_sigreturn_scan(way, place, sizeof(code), (uintptr_t)place));
	assert_true(stop_child(sleep_futex));
	assert_int_equal(arch_regs_get_call(child, regs), 0);
	assert_int_equal(arch_restart_kind(regs), ARCH_RESTART_REWIND);
	back = *regs;
	arch_restart_rewind(&back);
	assert_int_equal(arch_sigreturn_frame(way, child, &back, 0, at + 1, frame, sizeof(frame)),
			 -EINVAL);
	len = arch_sigreturn_frame(way, child, &back, 0, at, frame, sizeof(frame));
	assert_true(len > 500 && len <= ARCH_SIGRETURN_MAX);
	memcpy(place + WAY, frame, (size_t)len);
	to_signal_stop();
}

/* It waits in its own call again, as what it was. */
static void check_it_waits(void)
{
	usleep(50000);
	assert_int_equal(waitpid(child, &child_status, __WALL | WNOHANG), 0);
	__atomic_store_n(&shared[0], 1, __ATOMIC_RELEASE);
	syscall(SYS_futex, &shared[0], FUTEX_WAKE, 10, NULL, NULL, 0);
	for (int i = 0; i < 1000 && !__atomic_load_n(&shared[2], __ATOMIC_ACQUIRE); i++)
		usleep(10000);
	assert_int_equal(shared[2], 1);
	assert_int_equal((int)shared[1], 0);
	end_child();
}

/* The way back: a thread that works for us goes on as what it was when it is let go. */
static void way_back(void **state)
{
	struct arch_sigreturn way = {0};
	struct arch_regs regs;
	const uint64_t args[6] = {0};

	UNUSED(state);
	if (!can_trace())
		skip();
	prepare_way(&way, &regs);
	arch_inject_load(&regs, arch_sigreturn_call(&way), SYS_getpid, args);
	arch_sigreturn_set_stack(&regs, &way, (uintptr_t)place + WAY);
	assert_int_equal(arch_regs_set(child, &regs), 0);
	/* Let go with a call of ours before it: it ends that, goes back, and waits in its own again. */
	ptrace(PTRACE_CONT, child, 0, 0);
	check_it_waits();
}

/* Three calls on the way; the last is a signal to itself, which it ignores. */
static void put_steps(const struct arch_sigreturn *way, const struct arch_regs *regs)
{
	const uint64_t base = (uintptr_t)place, back = base + WAY;
	const struct arch_step steps[] = {
		{SYS_getpid, {0}, base + RESULTS},
		{SYS_rt_sigaction, {SIGUSR1, 0, base + RESULTS + 16, 8}, base + RESULTS + 8},
		{SYS_close, {(uint64_t)-1}, base + RESULTS + 48},
		{SYS_tgkill, {(uint64_t)child, (uint64_t)child, SIGURG}, 0},
	};
	uint64_t at = base + STEPS;

	memset(place + RESULTS, 0xff, 64);
	for (size_t i = 0; i < sizeof(steps) / sizeof(steps[0]); i++) {
		uint8_t step[ARCH_STEP_MAX] __attribute__((aligned(16)));
		ssize_t len = arch_sigreturn_step(way, child, regs, ~(1ULL << (SIGURG - 1)), at,
						  back, &steps[i], step);

		assert_true(len > 0 && len % 16 == 0 && len <= ARCH_STEP_MAX);
		memcpy(place + (at - base), step, (size_t)len);
		at += (uint64_t)len;
	}
}

static void check_results(void)
{
	int64_t results[7];
	struct arch_sigaction act;

	memcpy(results, place + RESULTS, sizeof(results));
	memcpy(&act, place + RESULTS + 16, sizeof(act));
	assert_int_equal(results[0], child);
	assert_int_equal(results[1], 0);
	assert_int_equal(act.handler, 0);
	assert_int_equal(results[6], -EBADF);
}

static void steps_taken(void **state)
{
	struct arch_sigreturn way = {0};
	struct arch_regs regs, first;

	UNUSED(state);
	if (!can_trace())
		skip();
	prepare_way(&way, &regs);
	put_steps(&way, &regs);
	first = regs;
	arch_sigreturn_load(&first, &way, (uintptr_t)place + STEPS);
	assert_int_equal(arch_regs_set(child, &first), 0);
	ptrace(PTRACE_CONT, child, 0, 0);
	assert_int_equal(waitpid(child, &child_status, __WALL), child);
	assert_true(WIFSTOPPED(child_status) && WSTOPSIG(child_status) == SIGURG);
	assert_int_equal(arch_regs_get(child, &first), 0);
	assert_int_equal(arch_regs_pc(&first), arch_sigreturn_call(&way) + arch_syscall_insn_len);
	assert_int_equal(arch_regs_sp(&first), (uintptr_t)place + WAY);
	check_results();
	ptrace(PTRACE_CONT, child, 0, 0);
	check_it_waits();
}

/* Nobody is there to take the signal: it is nothing to it, and the way goes on. */
static void steps_alone(void **state)
{
	struct arch_sigreturn way = {0};
	struct arch_regs regs;

	UNUSED(state);
	if (!can_trace())
		skip();
	prepare_way(&way, &regs);
	put_steps(&way, &regs);
	arch_sigreturn_load(&regs, &way, (uintptr_t)place + STEPS);
	assert_int_equal(arch_regs_set(child, &regs), 0);
	ptrace(PTRACE_DETACH, child, 0, 0);
	check_it_waits();
	check_results();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(sizes),
		cmocka_unit_test(features),
#ifdef __x86_64__
		cmocka_unit_test(xsave_components),
		cmocka_unit_test_setup(narrower, setup_child),
#endif
		cmocka_unit_test(wire),
		cmocka_unit_test(injected),
		cmocka_unit_test(batched),
		cmocka_unit_test(sigaction_form),
		cmocka_unit_test(own_vdso),
		cmocka_unit_test(way_is_found),
		cmocka_unit_test_setup(rewound, setup_child),
		cmocka_unit_test_setup(repeated, setup_child),
		cmocka_unit_test_setup(block, setup_child),
		cmocka_unit_test_setup(through_block, setup_child),
		cmocka_unit_test_setup(extended, setup_child),
		cmocka_unit_test_setup(way_back, setup_child),
		cmocka_unit_test_setup(steps_taken, setup_child),
		cmocka_unit_test_setup(steps_alone, setup_child),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
