/* SPDX-License-Identifier: MIT */
/*
 * Self-checking programs: each prepares state, says `ready`, waits to be moved with that state
 * alive, and then checks itself.
 *
 *	prog DIR [--broken] [ARG...]
 *
 * DIR is a folder that both devices see. The program makes DIR/ready (its pid) when it may be
 * moved; the harness makes DIR/go when the move is through (or at once, with --native); the
 * program writes DIR/result ("ok ..." or "FAIL reason") and stays until DIR/end appears.
 * With --broken the program spoils one thing itself before it checks, and must say FAIL.
 *
 * The first lines of each program tell the harness how to build and run it:
 *
 *	build: musl-static glibc-static glibc-dynamic	one binary for each word
 *	cflags: ...   libs: ...				optional, for the compiler
 *	args: a | b | c					one test for each
 *	modes: lazy eager on-demand pull		default: lazy eager on-demand pull
 *	settle: 2.0					seconds between ready and the move
 *	machine: aarch64				only there (uname -m)
 *	name: vector					the test's, when it is not the file's
 *	private: yes				each device has its own copy of DIR, made after ready
 *	rate: 40					MiB/s of the push, so that it takes a while
 *	ahead: 1000 -1000				seconds that the target has run for longer than the
 *						source; a test for each
 */
#ifndef SCENARIO_H
#define SCENARIO_H

#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

/* Of this kernel: 4, 16 or 64 KiB. */
#define PAGE ((size_t)sysconf(_SC_PAGESIZE))

struct scenario {
	void (*prepare)(void);  /* builds the state under test */
	void (*wait)(void);     /* NULL: scenario_wait */
	void (*check)(void);    /* after the move; scenario_fail() or return */
	void (*sabotage)(void); /* --broken: spoils one thing, so that check must notice */
};

static char scenario_dir[256];
static int scenario_argc;
static char **scenario_argv;
static bool scenario_is_broken;
static unsigned long long scenario_home; /* the network namespace it was started in */

static inline const char *scenario_path(const char *name, char *buf, size_t len)
{
	snprintf(buf, len, "%s/%s", scenario_dir, name);
	return buf;
}

/* The ARG of that number, or "". */
static inline const char *scenario_arg(int i)
{
	return i < scenario_argc ? scenario_argv[i] : "";
}

static inline unsigned long long scenario_netns(void)
{
	struct stat st;

	return stat("/proc/self/ns/net", &st) ? 0 : (unsigned long long)st.st_ino;
}

static inline bool scenario_exists(const char *name)
{
	char path[320];

	return access(scenario_path(name, path, sizeof(path)), F_OK) == 0;
}

/* True once the harness says so. */
static inline bool scenario_gone(void)
{
	return scenario_exists("go");
}

/*
 * True once the program runs on the other device, the very moment it does: for what must happen
 * while memory is still being filled. Natively it is DIR/go.
 */
static inline bool scenario_moved(void)
{
	return scenario_netns() != scenario_home || scenario_exists("go");
}

static inline void scenario_write(const char *name, const char *text)
{
	char tmp[320], path[320];
	int fd;

	snprintf(tmp, sizeof(tmp), "%s/%s.%d.tmp", scenario_dir, name, (int)getpid());
	fd = open(tmp, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
	if (fd < 0)
		_exit(99);
	if (write(fd, text, strlen(text)) != (ssize_t)strlen(text))
		_exit(98);
	close(fd);
	scenario_path(name, path, sizeof(path));
	/* A second result means that two copies ran: leave the first, and say so. */
	if (link(tmp, path)) {
		char twice[340];

		snprintf(twice, sizeof(twice), "%s.twice", path);
		rename(tmp, twice);
	}
	unlink(tmp);
}

/* Writes the result, once, and ends the program: where, which condition, and a text. */
static inline void scenario_fail_at(const char *file, int line, const char *cond, int err,
				    const char *fmt, ...) __attribute__((format(printf, 5, 6)));
static inline void scenario_fail_at(const char *file, int line, const char *cond, int err,
				    const char *fmt, ...)
{
	char text[900], more[600];
	const char *slash = strrchr(file, '/');
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(more, sizeof(more), fmt, ap);
	va_end(ap);
	snprintf(text, sizeof(text), "FAIL %s:%d: %s:%s (errno %d)", slash ? slash + 1 : file, line,
		 cond, more, err);
	scenario_write("result", text);
	_exit(1);
}

#define scenario_fail(...) scenario_fail_at(__FILE__, __LINE__, "", errno, " " __VA_ARGS__)

/* Fails with the condition's own text, and what follows, unless it holds. */
#define CHECK(cond, ...)                                                                           \
	do {                                                                                       \
		if (!(cond))                                                                       \
			scenario_fail_at(__FILE__, __LINE__, #cond, errno, " " __VA_ARGS__);       \
	} while (0)

/* CLOCK_MONOTONIC in milliseconds. */
static inline int64_t scenario_now_ms(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (int64_t)ts.tv_sec * 1000 + ts.tv_nsec / 1000000;
}

static inline void scenario_sleep_ms(long ms)
{
	struct timespec ts = {ms / 1000, (ms % 1000) * 1000000};

	while (nanosleep(&ts, &ts) && errno == EINTR)
		;
}

/* Waits for DIR/go. A sleep of its own may be interrupted by signals of the program. */
static inline void scenario_wait(void)
{
	while (!scenario_gone())
		scenario_sleep_ms(2);
}

static inline uint64_t scenario_mix(uint64_t x)
{
	x += 0x9e3779b97f4a7c15ull;
	x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9ull;
	x = (x ^ (x >> 27)) * 0x94d049bb133111ebull;
	return x ^ (x >> 31);
}

/* Fills memory with a pattern that no other place has. len: a multiple of 8. */
static __attribute__((noinline, unused)) void scenario_fill(void *mem, size_t len, uint64_t seed)
{
	uint64_t *w = mem;

	for (size_t i = 0; i < len / 8; i++)
		w[i] = scenario_mix(seed * 0x100000001ull + i);
}

/* The offset of the first wrong byte group, or -1. skip: bytes into the pattern of that seed. */
static __attribute__((noinline, unused)) long scenario_differs(const void *mem, size_t len,
							       uint64_t seed, size_t skip)
{
	const uint64_t *w = mem;

	for (size_t i = 0; i < len / 8; i++)
		if (w[i] != scenario_mix(seed * 0x100000001ull + skip / 8 + i))
			return (long)(i * 8);
	return -1;
}

/* The offset of the first byte that is not zero, or -1. */
static __attribute__((noinline, unused)) long scenario_not_zero(const void *mem, size_t len)
{
	const uint64_t *w = mem;

	for (size_t i = 0; i < len / 8; i++)
		if (w[i])
			return (long)(i * 8);
	return -1;
}

/* Reads a small file; the text ends with 0. Returns its length or -1. */
static inline ssize_t scenario_read(const char *path, char *buf, size_t len)
{
	size_t got = 0;
	int fd = open(path, O_RDONLY | O_CLOEXEC);

	if (fd < 0)
		return -1;
	while (got < len - 1) {
		ssize_t n = read(fd, buf + got, len - 1 - got);

		if (n <= 0)
			break;
		got += (size_t)n;
	}
	close(fd);
	buf[got] = 0;
	return (ssize_t)got;
}

static inline void scenario_ready(void)
{
	char text[32];

	snprintf(text, sizeof(text), "%d", (int)getpid());
	scenario_write("ready", text);
}

/* Takes DIR and --broken out of the arguments. */
static inline void scenario_init(int argc, char **argv)
{
	if (argc < 2) {
		fprintf(stderr, "usage: %s DIR [--broken] [ARG...]\n", argv[0]);
		_exit(2);
	}
	snprintf(scenario_dir, sizeof(scenario_dir), "%s", argv[1]);
	scenario_argc = argc - 2;
	scenario_argv = argv + 2;
	if (scenario_argc && !strcmp(scenario_argv[0], "--broken")) {
		scenario_is_broken = true;
		scenario_argc--;
		scenario_argv++;
	}
	scenario_home = scenario_netns();
}

/* Says ok, and stays until the harness has looked at the process from outside. */
static inline void scenario_done(void)
{
	char text[64];

	snprintf(text, sizeof(text), "ok netns %llu", scenario_netns());
	scenario_write("result", text);
	for (int i = 0; i < 60000 && !scenario_exists("end"); i++)
		scenario_sleep_ms(2);
}

static inline int scenario_main(int argc, char **argv, const struct scenario *s)
{
	scenario_init(argc, argv);
	s->prepare();
	scenario_ready();
	if (s->wait)
		s->wait();
	else
		scenario_wait();
	if (scenario_is_broken && s->sabotage)
		s->sabotage();
	s->check();
	scenario_done();
	return 0;
}

#endif
