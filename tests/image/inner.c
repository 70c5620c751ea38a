/* SPDX-License-Identifier: MIT */
/*
 * A coroutine whose stack lies in a frame of the main stack, above frames that are in use: it looks at them all the time.
 *
 *	inner filter|neighbour|alone
 *
 * It writes a line when it begins, and ends with 1 when they have changed. filter: a seccomp filter ends it for calls that
 * it never makes itself. neighbour: something else is mapped where the stack would grow.
 */
#define _GNU_SOURCE
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <ucontext.h>
#include <unistd.h>

#define DEEP 100000
#define NEIGHBOUR_BYTES 262144

static ucontext_t outside, inside;
static volatile uint32_t *frame, *neighbour;

static void look(void)
{
	write(1, "ready\n", 6);
	for (;;) {
		for (uint32_t i = 0; i < DEEP; i++)
			if (frame[i] != i * 2654435761u + 1)
				_exit(1);
		for (uint32_t i = 0; neighbour && i < NEIGHBOUR_BYTES / sizeof(*neighbour); i++)
			if (neighbour[i] != ~i)
				_exit(1);
		usleep(2000);
	}
}

/* A mapping that ends a little below the stack's. */
static void map_neighbour(void)
{
	char line[256];
	unsigned long low = 0;
	FILE *maps = fopen("/proc/self/maps", "r");

	while (maps && fgets(line, sizeof(line), maps))
		if (strstr(line, "[stack]"))
			low = strtoul(line, NULL, 16);
	fclose(maps);
	neighbour = mmap((void *)(low - 16384 - NEIGHBOUR_BYTES), NEIGHBOUR_BYTES,
			 PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE,
			 -1, 0);
	if (neighbour == MAP_FAILED)
		_exit(2);
	for (uint32_t i = 0; i < NEIGHBOUR_BYTES / sizeof(*neighbour); i++)
		neighbour[i] = ~i;
}

__attribute__((noinline)) static void go_deep(int with_neighbour)
{
	volatile uint32_t words[DEEP];

	for (uint32_t i = 0; i < DEEP; i++)
		words[i] = i * 2654435761u + 1;
	frame = words;
	if (with_neighbour)
		map_neighbour();
	swapcontext(&outside, &inside);
}

#define KILL_FOR(call)                                                                             \
	BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (call), 0, 1),                                         \
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS)

static void set_filter(void)
{
	struct sock_filter code[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
		KILL_FOR(SYS_keyctl),
		KILL_FOR(SYS_get_robust_list),
		KILL_FOR(SYS_get_mempolicy),
		KILL_FOR(SYS_personality),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW)};
	struct sock_fprog program = {sizeof(code) / sizeof(code[0]), code};

	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) ||
	    prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program))
		_exit(2);
}

int main(int argc, char **argv)
{
	char stack[65536];

	if (argc != 2)
		return 2;
	if (!strcmp(argv[1], "filter"))
		set_filter();
	getcontext(&inside);
	inside.uc_stack.ss_sp = stack;
	inside.uc_stack.ss_size = sizeof(stack);
	makecontext(&inside, look, 0);
	go_deep(!strcmp(argv[1], "neighbour"));
}
