/* SPDX-License-Identifier: MIT */
/*
 * A coroutine whose stack lies in a frame of the main stack, above frames that are in use: it looks at them all the time.
 *
 *	inner [FILTER]
 *
 * It writes a line when it begins, and ends with 1 when they have changed. FILTER: a seccomp filter ends it for calls that
 * it never makes itself.
 */
#define _GNU_SOURCE
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <ucontext.h>
#include <unistd.h>

#define DEEP 100000

static ucontext_t outside, inside;
static volatile uint32_t *frame;

static void look(void)
{
	write(1, "ready\n", 6);
	for (;;) {
		for (uint32_t i = 0; i < DEEP; i++)
			if (frame[i] != i * 2654435761u + 1)
				_exit(1);
		usleep(2000);
	}
}

__attribute__((noinline)) static void go_deep(void)
{
	volatile uint32_t words[DEEP];

	for (uint32_t i = 0; i < DEEP; i++)
		words[i] = i * 2654435761u + 1;
	frame = words;
	swapcontext(&outside, &inside);
}

#define KILL_FOR(call) \
	BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (call), 0, 1), BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS)

static void set_filter(void)
{
	struct sock_filter code[] = {BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
				     KILL_FOR(SYS_keyctl),
				     KILL_FOR(SYS_get_robust_list),
				     KILL_FOR(SYS_get_mempolicy),
				     KILL_FOR(SYS_personality),
				     BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW)};
	struct sock_fprog program = {sizeof(code) / sizeof(code[0]), code};

	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) || prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program))
		_exit(2);
}

int main(int argc, char **argv)
{
	char stack[65536];

	(void)argv;
	if (argc > 1)
		set_filter();
	getcontext(&inside);
	inside.uc_stack.ss_sp = stack;
	inside.uc_stack.ss_size = sizeof(stack);
	makecontext(&inside, look, 0);
	go_deep();
}
