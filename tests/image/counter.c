/* SPDX-License-Identifier: MIT */
/*
 * Knows what each of its pages must be, looks at them all the time, and counts.
 *
 *	counter DIR KIB THREADS
 *
 * DIR/beat.N	how often it has looked at all of its memory; N is its pid namespace, so that copies do not write into
 *		each other's. DIR/wrong.N: what was wrong, before it aborts. DIR/ready: its pid
 *
 * Every fourth page is zeros, and of every 32 the second half can be packed. What it says are the targets of links: it never has a file
 * open, so that it can be started again as often as wanted.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

static const char *dir;
static uint64_t *memory;
static size_t words, page_words;

/*
 * An image can be made between the steps, and a copy has another name and finds what the first one left or took away:
 * it begins again.
 */
static void say(const char *name, const char *text)
{
	char path[512], temp[520];

	for (int left = 3; left; left--) {
		struct stat ns = {0};

		stat("/proc/self/ns/pid", &ns);
		snprintf(path, sizeof(path), "%s/%s.%lu", dir, name, (unsigned long)ns.st_ino);
		snprintf(temp, sizeof(temp), "%s.new", path);
		unlink(temp);
		if (!symlink(text, temp) && !rename(temp, path))
			return;
	}
	snprintf(path, sizeof(path), "%s/wrong.%d", dir, (int)getpid());
	snprintf(temp, sizeof(temp), "cannot say %s: error %d", name, errno);
	symlink(temp, path);
	_exit(3);
}

static uint64_t wanted(size_t i)
{
	if (i / page_words % 4 == 3)
		return 0;
	return (i / page_words % 32 < 16 ? i : i / 64) * 0x9e3779b97f4a7c15ull;
}

static void look(void)
{
	char text[128];

	for (size_t i = 0; i < words; i++) {
		if (memory[i] == wanted(i))
			continue;
		snprintf(text, sizeof(text), "word %zu is %llx", i, (unsigned long long)memory[i]);
		say("wrong", text);
		abort();
	}
}

static void *run_thread(void *data)
{
	for (;;) {
		look();
		usleep(3000);
	}
	return data;
}

int main(int argc, char **argv)
{
	unsigned long nr = 0;
	char text[32];
	pthread_t t;

	if (argc != 4)
		return 2;
	dir = argv[1];
	page_words = (size_t)sysconf(_SC_PAGESIZE) / sizeof(*memory);
	words = strtoul(argv[2], NULL, 10) * 1024 / sizeof(*memory);
	memory = mmap(NULL, words * sizeof(*memory), PROT_READ | PROT_WRITE,
		      MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	for (size_t i = 0; i < words; i++)
		memory[i] = wanted(i);
	for (long i = strtol(argv[3], NULL, 10); i > 1; i--)
		pthread_create(&t, NULL, run_thread, (void *)i);
	snprintf(text, sizeof(text), "%d", (int)getpid());
	snprintf(argv[2], 4, "xx"); /* it knows its arguments no more */
	say("ready", text);
	for (;;) {
		look();
		snprintf(text, sizeof(text), "%lu", ++nr);
		say("beat", text);
		usleep(2000);
	}
}
