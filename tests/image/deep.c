/* SPDX-License-Identifier: MIT */
/* Threads in functions of known names, and memory of each sort, for gdb to find in a core file. */
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

int known_data = 4711;
char *on_heap, *in_shared;

__attribute__((noinline)) void deep_three(int nr)
{
	volatile int here = nr;

	for (;;) {
		usleep(50000);
		here += nr - nr;
	}
}

__attribute__((noinline)) void deep_two(int nr)
{
	deep_three(nr + 1);
	write(2, "", 0);
}

__attribute__((noinline)) void *deep_one(void *nr)
{
	deep_two((int)(long)nr);
	return nr;
}

int main(void)
{
	pthread_t t;

	on_heap = malloc(3 << 20);
	strcpy(on_heap + 100000, "text on the heap");
	in_shared = mmap(NULL, 65536, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	strcpy(in_shared + 5000, "text in shared memory");
	known_data = 815;
	for (long i = 1; i < 4; i++)
		pthread_create(&t, NULL, deep_one, (void *)(i * 10));
	deep_one((void *)100);
}
