/* SPDX-License-Identifier: MIT */
/*
 * Knows what every byte of its memory must be, reads and writes it all the time, and says what is
 * wrong. What tests/fault moves while it kills and cuts.
 *
 *	verifier DIR SEED MIB THREADS FORKS
 *
 * DIR/beats	a record (struct beat) about each millisecond: a counter, on which device, when.
 *		Of one program each counter is there once, and all of one device before all of
 *		the next: two copies that ran cannot hide.
 * DIR/now	the last of these
 * DIR/wrong	what was wrong, before it aborts; empty otherwise
 * DIR/ready	its pid, once all memory is filled
 * DIR/ask.N	made by the harness: check all memory now; answered by DIR/answer.N
 * DIR/end	made by the harness: end
 *
 * DIR/quiet	while it is there, only memory is read, and nothing called that needs memory of the
 *		kernel: no beats, no changes, no children. For a control group that is full, where
 *		write(2) fails, and mmap(2). DIR/hushed: from here on
 *
 * FORKS children are forked one after the other as soon as it finds itself on another device, while
 * its memory is still coming; each checks and changes its copy.
 * build: musl-static
 * libs: -lpthread
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <ucontext.h>
#include <unistd.h>

#define CHUNK_PAGES 16u
#define CHUNK_BYTES (CHUNK_PAGES * page_bytes)
#define THREADS_MAX 32
#define PAGE_MAGIC 0x6d656d6f72792e2eull
/* What splits the memory still to come into pieces: rarely enough for the table of the pager. */
#define CHANGE_EVERY_NS 25000000ull
#define BEAT_NS 1000000

/* Of this kernel: 4, 16 or 64 KiB. */
static size_t page_bytes;

/* A page: a header, and words that follow from it. */
struct page {
	uint64_t magic;
	uint32_t nr, generation;
	uint64_t seed, checksum;
	uint64_t words[];
};
#define NR_WORDS ((page_bytes - sizeof(struct page)) / sizeof(uint64_t))

struct beat {
	uint64_t count;
	uint32_t netns, pid;
	uint64_t realtime_ns, cookie;
};

/* What was done last that changes which memory there is, for who asks how a page came to be wrong. */
struct deed {
	const char *what;
	uint64_t at_ns;
	uintptr_t from, to, len;
};
#define DEEDS 16

struct thread {
	unsigned int nr, nr_deeds;
	uint64_t random, change_ns;
	struct deed deeds[DEEDS];
	uint64_t ops;
	int pipe[2];
	atomic_uint answered; /* the last check that it has made */
};

static struct {
	const char *dir;
	uint64_t seed, cookie;
	unsigned int nr_chunks, nr_threads, nr_forks;
	struct page **chunks; /* where each is now */
	bool *replaced;       /* a part of the chunk is a mapping of its own */
	/* What each page must be: twice its generation and one; 1: zeros. Never 0. */
	uint32_t *expected;
	struct thread threads[THREADS_MAX];
	pthread_mutex_t space; /* held by who looks for free address space */
	char *first;           /* where all chunks were at first */
	uint64_t moved_ns;
	int wrong_fd, beats_fd, now_fd;
	atomic_uint asked;
	atomic_bool moved, quiet;
	atomic_uint nr_quiet;
	atomic_uint forked;
	bool child;
} v = {.space = PTHREAD_MUTEX_INITIALIZER, .wrong_fd = 2};

/* ---- saying ---- */

static void path_of(char *out, size_t cap, const char *name)
{
	snprintf(out, cap, "%s/%s", v.dir, name);
}

/* The first to find something wrong says it; nobody does anything afterwards. */
static void __attribute__((noreturn, format(printf, 1, 2))) wrong(const char *fmt, ...)
{
	static atomic_flag said = ATOMIC_FLAG_INIT;
	char text[1200];
	va_list args;
	int len;

	while (atomic_flag_test_and_set(&said))
		pause();
	len = snprintf(text, sizeof(text), "WRONG %s", v.child ? "in a child: " : "");
	va_start(args, fmt);
	len += vsnprintf(text + len, sizeof(text) - (size_t)len - 1, fmt, args);
	va_end(args);
	text[len++] = '\n';
	if (write(v.wrong_fd, text, (size_t)len) < 0 || write(2, text, (size_t)len) < 0)
		_exit(4);
	if (v.child)
		_exit(3);
	abort();
}

/* A stack that has lost its memory has nowhere to say so. */
static _Alignas(16) char spare_stack[16384];

static void on_crash(int sig, siginfo_t *info, void *context)
{
	const mcontext_t *m = &((ucontext_t *)context)->uc_mcontext;
#ifdef __aarch64__
	uintptr_t pc = (uintptr_t)m->pc, sp = (uintptr_t)m->sp;
#else
	uintptr_t pc = (uintptr_t)m->gregs[REG_RIP], sp = (uintptr_t)m->gregs[REG_RSP];
#endif
	const uint64_t *words = (const uint64_t *)(sp & ~(page_bytes - 1));
	size_t used = 0;

	for (size_t i = 0; i < page_bytes / 8; i++)
		used += words[i] != 0;
	wrong("signal %d at %p: pc %#lx, sp %#lx, whose page has %zu words that are not zero; "
	      "below it %#llx, at it %#llx",
	      sig, info->si_addr, (unsigned long)pc, (unsigned long)sp, used,
	      (unsigned long long)((uint64_t *)sp)[-1], (unsigned long long)*(uint64_t *)sp);
}

static void catch_crashes(void)
{
	const stack_t spare = {.ss_sp = spare_stack, .ss_size = sizeof(spare_stack)};
	struct sigaction crash = {.sa_sigaction = on_crash,
				  .sa_flags = SA_SIGINFO | SA_ONSTACK | SA_RESETHAND};

	sigaltstack(&spare, NULL);
	sigaction(SIGSEGV, &crash, NULL);
	sigaction(SIGBUS, &crash, NULL);
	sigaction(SIGILL, &crash, NULL);
}

static void write_file(const char *name, const char *text)
{
	char path[512], temp[520];
	int fd;

	path_of(path, sizeof(path), name);
	snprintf(temp, sizeof(temp), "%s.new", path);
	fd = open(temp, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
	if (fd < 0 || write(fd, text, strlen(text)) < 0 || close(fd) || rename(temp, path))
		wrong("%s cannot be written: %s", path, strerror(errno));
}

static bool file_exists(const char *name)
{
	char path[512];

	path_of(path, sizeof(path), name);
	return !access(path, F_OK);
}

/* ---- pages ---- */

static uint64_t mix(uint64_t x)
{
	x += 0x9e3779b97f4a7c15ull;
	x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9ull;
	x = (x ^ (x >> 27)) * 0x94d049bb133111ebull;
	return x ^ (x >> 31);
}

static uint64_t page_key(uint32_t nr, uint32_t generation)
{
	return mix(v.seed ^ mix((uint64_t)nr << 32 | generation));
}

static uint64_t word_of(uint64_t key, size_t i)
{
	uint64_t x = key + i * 0x9e3779b97f4a7c15ull;

	return (x ^ (x >> 29)) * 0xbf58476d1ce4e5b9ull;
}

static void page_make(struct page *p, uint32_t nr, uint32_t generation)
{
	uint64_t key = page_key(nr, generation), sum = 0;

	p->magic = PAGE_MAGIC;
	p->nr = nr;
	p->generation = generation;
	p->seed = v.seed;
	for (size_t i = 0; i < NR_WORDS; i++) {
		p->words[i] = word_of(key, i);
		sum += p->words[i];
	}
	p->checksum = sum;
}

static bool page_is(const struct page *p, uint32_t nr, uint32_t generation)
{
	uint64_t key = page_key(nr, generation), sum = 0, differs = 0;

	for (size_t i = 0; i < NR_WORDS; i++) {
		differs |= p->words[i] ^ word_of(key, i);
		sum += p->words[i];
	}
	return !differs && sum == p->checksum && p->magic == PAGE_MAGIC && p->nr == nr &&
	       p->generation == generation && p->seed == v.seed;
}

static bool page_is_zero(const struct page *p)
{
	const uint64_t *words = (const uint64_t *)p;
	uint64_t any = 0;

	for (size_t i = 0; i < page_bytes / 8; i++)
		any |= words[i];
	return !any;
}

static struct page *page_at(uint32_t nr)
{
	char *chunk = (char *)v.chunks[nr / CHUNK_PAGES];

	return (struct page *)(chunk + nr % CHUNK_PAGES * page_bytes);
}

/* ---- how a page came to be wrong ---- */

static uint64_t now_ns(clockid_t clock)
{
	struct timespec ts;

	clock_gettime(clock, &ts);
	return (uint64_t)ts.tv_sec * 1000000000ull + (uint64_t)ts.tv_nsec;
}

static void note(struct thread *t, const char *what, const void *from, const void *to, size_t len)
{
	t->deeds[t->nr_deeds++ % DEEDS] = (struct deed){.what = what,
							.at_ns = now_ns(CLOCK_MONOTONIC),
							.from = (uintptr_t)from,
							.to = (uintptr_t)to,
							.len = len};
}

/* The page table's entry and the page's flags (Documentation/admin-guide/mm/pagemap.rst); 0: not to be had. */
static void page_entry(const void *at, uint64_t *entry, uint64_t *flags)
{
	int fd = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);

	*entry = *flags = 0;
	if (fd < 0 || pread(fd, entry, 8, (off_t)((uintptr_t)at / page_bytes * 8)) != 8)
		return;
	close(fd);
	fd = open("/proc/kpageflags", O_RDONLY | O_CLOEXEC);
	if (fd < 0 || pread(fd, flags, 8, (off_t)((*entry & ((1ull << 55) - 1)) * 8)) != 8)
		return;
	close(fd);
}

/* Says what is known of the memory around; before the first wrong page ends it. */
static void tell_story(uint32_t nr, const struct page *p)
{
	const uint64_t now = now_ns(CLOCK_MONOTONIC);
	uint64_t entry, flags;
	char text[200];
	int len;

	page_entry(p, &entry, &flags);
	len = snprintf(
		text, sizeof(text),
		"page %u: at first %p, replaced %d, pagemap %#llx, flags %#llx, %llu us after "
		"the move, %u children\n",
		nr, (void *)(v.first + nr * page_bytes), v.replaced[nr / CHUNK_PAGES],
		(unsigned long long)entry, (unsigned long long)flags,
		(unsigned long long)(v.moved_ns ? (now - v.moved_ns) / 1000 : 0),
		atomic_load(&v.forked));
	(void)!write(v.wrong_fd, text, (size_t)len);
	for (unsigned int i = 0; i < v.nr_threads; i++) {
		for (unsigned int n = 0; n < DEEDS; n++) {
			const struct deed *d = &v.threads[i].deeds[n];

			if (!d->what)
				continue;
			len = snprintf(text, sizeof(text),
				       "  thread %u, %llu us ago: %s %#lx %#lx %#lx\n", i,
				       (unsigned long long)(now - d->at_ns) / 1000, d->what,
				       (unsigned long)d->from, (unsigned long)d->to,
				       (unsigned long)d->len);
			(void)!write(v.wrong_fd, text, (size_t)len);
		}
	}
}

/* What it is instead, in words: says more than any offset. */
static void __attribute__((noreturn))
page_wrong(uint32_t nr, const struct page *p, const char *when)
{
	uint32_t expected = v.expected[nr];
	uint64_t want[page_bytes / sizeof(uint64_t)];
	const uint64_t *got = (const uint64_t *)p;
	size_t at = 0;

	tell_story(nr, p);
	memset(want, 0, page_bytes);
	if (expected > 1)
		page_make((struct page *)want, nr, expected / 2);
	while (at < page_bytes / 8 - 1 && got[at] == want[at])
		at++;
	if (page_is_zero(p))
		wrong("page %u at %p, %s: expected generation %u, got zeros", nr, (const void *)p,
		      when, expected / 2);
	if (page_is(p, p->nr, p->generation))
		wrong("page %u at %p, %s: expected generation %u, got page %u of generation %u", nr,
		      (const void *)p, when, expected / 2, p->nr, p->generation);
	wrong("page %u at %p, %s: expected %s %u, got %#llx instead of %#llx at byte %zu "
	      "(header: page %u, generation %u)",
	      nr, (const void *)p, when, expected > 1 ? "generation" : "zeros", expected / 2,
	      (unsigned long long)got[at], (unsigned long long)want[at], at * 8, p->nr,
	      p->generation);
}

static void page_check(uint32_t nr, const char *when)
{
	const struct page *p = page_at(nr);
	uint32_t expected = v.expected[nr];

	if (!expected)
		wrong("the table, %s: page %u is expected to be nothing", when, nr);
	if (expected == 1 ? !page_is_zero(p) : !page_is(p, nr, expected / 2))
		page_wrong(nr, p, when);
}

static void page_renew(uint32_t nr)
{
	uint32_t generation = v.expected[nr] / 2 + 1;

	page_make(page_at(nr), nr, generation);
	v.expected[nr] = generation * 2 + 1;
}

/* ---- what a thread does ---- */

static void nap(uint64_t ns)
{
	struct timespec ts = {(time_t)(ns / 1000000000ull), (long)(ns % 1000000000ull)};

	clock_nanosleep(CLOCK_MONOTONIC, 0, &ts, NULL);
}

static uint32_t random_below(struct thread *t, uint32_t below)
{
	t->random = mix(t->random);
	return (uint32_t)((t->random >> 32) * below >> 32);
}

/* A chunk of this thread's own: nobody else reads or writes it. */
static uint32_t own_chunk(struct thread *t)
{
	uint32_t nr_own = (v.nr_chunks - t->nr + v.nr_threads - 1) / v.nr_threads;

	return t->nr + random_below(t, nr_own) * v.nr_threads;
}

static uint32_t own_page(struct thread *t)
{
	return own_chunk(t) * CHUNK_PAGES + random_below(t, CHUNK_PAGES);
}

static void check_own(struct thread *t, const char *when)
{
	for (uint32_t c = t->nr; c < v.nr_chunks; c += v.nr_threads)
		for (uint32_t i = 0; i < CHUNK_PAGES; i++)
			page_check(c * CHUNK_PAGES + i, when);
}

static void expect_zeros(uint32_t first, uint32_t n)
{
	for (uint32_t i = 0; i < n; i++)
		v.expected[first + i] = 1;
}

static void discard(struct thread *t, uint32_t first, uint32_t n)
{
	note(t, "discard", page_at(first), NULL, n * page_bytes);
	if (madvise(page_at(first), n * page_bytes, MADV_DONTNEED))
		wrong("madvise: %s", strerror(errno));
	expect_zeros(first, n);
}

/* Unmaps pages and maps new ones there. */
static void replace(struct thread *t, uint32_t first, uint32_t n)
{
	void *at = page_at(first);

	note(t, "replace", at, NULL, n * page_bytes);
	pthread_mutex_lock(&v.space);
	if (munmap(at, n * page_bytes) ||
	    mmap(at, n * page_bytes, PROT_READ | PROT_WRITE,
		 MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0) != at)
		wrong("munmap and mmap at %p: %s", at, strerror(errno));
	pthread_mutex_unlock(&v.space);
	v.replaced[first / CHUNK_PAGES] = true;
	expect_zeros(first, n);
}

/*
 * Moves a chunk to where there is room. Not one that is several mappings, since a part of it was
 * replaced: mremap(2) of several is new in Linux 6.17, and never for those with a userfaultfd.
 */
static void move(struct thread *t, uint32_t chunk)
{
	void *from = v.chunks[chunk], *to;

	if (v.replaced[chunk])
		return;
	pthread_mutex_lock(&v.space);
	to = mmap(NULL, CHUNK_BYTES, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (to == MAP_FAILED)
		wrong("mmap: %s", strerror(errno));
	note(t, "move", from, to, CHUNK_BYTES);
	if (mremap(from, CHUNK_BYTES, CHUNK_BYTES, MREMAP_MAYMOVE | MREMAP_FIXED, to) != to)
		wrong("mremap from %p to %p: %s", from, to, strerror(errno));
	v.chunks[chunk] = to;
	pthread_mutex_unlock(&v.space);
}

static void change(struct thread *t)
{
	uint32_t chunk = own_chunk(t), n = 1 + random_below(t, CHUNK_PAGES - 1);
	uint32_t first = chunk * CHUNK_PAGES + random_below(t, CHUNK_PAGES - n + 1);

	switch (random_below(t, 4)) {
	case 0:
		replace(t, first, n);
		break;
	case 1:
		move(t, chunk);
		break;
	default:
		discard(t, first, n);
	}
	page_check(first, "just changed");
}

/* The kernel reads a page, and writes another: through a pipe that only this thread has. */
static void pass_through_kernel(struct thread *t)
{
	uint32_t from = own_page(t), to = own_page(t);
	struct page *into = page_at(to);

	if (v.child || v.expected[from] == 1)
		return;
	page_check(from, "before a pipe");
	if (write(t->pipe[1], page_at(from), page_bytes) != (ssize_t)page_bytes ||
	    read(t->pipe[0], into, page_bytes) != (ssize_t)page_bytes)
		wrong("a pipe: %s", strerror(errno));
	if (!page_is(into, from, v.expected[from] / 2))
		page_wrong(from, into, "through a pipe");
	page_renew(to);
}

static void step(struct thread *t)
{
	uint32_t nr = own_page(t), what = random_below(t, 100);

	t->ops++;
	if (what < 4) {
		pass_through_kernel(t);
		return;
	}
	page_check(nr, "reading");
	if (what < 36)
		page_renew(nr);
}

/* ---- children ---- */

/* In the child: only what the forking thread owned stands still, and is checked. */
static void __attribute__((noreturn)) be_child(struct thread *t)
{
	v.child = true;
	t->random ^= (uint64_t)getpid();
	for (int i = 0; i < 200; i++)
		step(t);
	for (int i = 0; i < 3; i++) {
		uint32_t nr = own_page(t);

		discard(t, nr, 1);
	}
	check_own(t, "all of a child");
	_exit(0);
}

static void fork_one(struct thread *t)
{
	int status = 0;
	pid_t pid;

	note(t, "fork", NULL, NULL, 0);
	pid = fork();
	note(t, "forked", NULL, NULL, 0);

	if (pid < 0)
		wrong("fork: %s", strerror(errno));
	if (pid == 0)
		be_child(t);
	/* Beside the child, so that both change what they share. */
	for (int i = 0; i < 50; i++)
		step(t);
	while (waitpid(pid, &status, 0) < 0)
		if (errno != EINTR)
			wrong("waitpid: %s", strerror(errno));
	if (status)
		wrong("child %d ended with status %#x", (int)pid, (unsigned int)status);
	atomic_fetch_add(&v.forked, 1);
}

static void answer(struct thread *t)
{
	unsigned int asked = atomic_load(&v.asked);

	if (asked == atomic_load(&t->answered))
		return;
	check_own(t, "all");
	atomic_store(&t->answered, asked);
}

static void *thread_run(void *data)
{
	struct thread *t = data;

	for (;;) {
		uint32_t n = 1 + random_below(t, 30);
		uint64_t now;

		if (atomic_load(&v.quiet))
			atomic_fetch_add(&v.nr_quiet, 1);
		while (atomic_load(&v.quiet)) {
			page_check(own_page(t), "reading quietly");
			nap(random_below(t, 1500000));
		}
		while (n--)
			step(t);
		now = now_ns(CLOCK_MONOTONIC);
		if (now - t->change_ns > CHANGE_EVERY_NS * v.nr_threads) {
			t->change_ns = now;
			change(t);
		}
		if (t->nr == 0 && atomic_load(&v.moved) && atomic_load(&v.forked) < v.nr_forks)
			fork_one(t);
		answer(t);
		if (random_below(t, 8) == 0)
			sched_yield();
		else
			nap(random_below(t, 1500000));
	}
	return NULL;
}

/* ---- the heartbeat ---- */

static uint32_t network(void)
{
	char link[64];
	ssize_t len = readlink("/proc/self/ns/net", link, sizeof(link) - 1);

	if (len < 0)
		wrong("/proc/self/ns/net: %s", strerror(errno));
	link[len] = '\0';
	return (uint32_t)strtoul(link + 5, NULL, 10); /* net:[4026531840] */
}

static void beat_once(struct beat *beat, uint32_t home)
{
	beat->count++;
	beat->netns = network();
	beat->pid = (uint32_t)getpid();
	beat->realtime_ns = now_ns(CLOCK_REALTIME);
	beat->cookie = v.cookie;
	if (beat->netns != home && !v.moved_ns)
		v.moved_ns = now_ns(CLOCK_MONOTONIC);
	if (beat->netns != home)
		atomic_store(&v.moved, true);
	if (write(v.beats_fd, beat, sizeof(*beat)) != sizeof(*beat) ||
	    pwrite(v.now_fd, beat, sizeof(*beat), 0) != sizeof(*beat))
		wrong("the heartbeat: %s", strerror(errno));
}

/* Asks all threads for a check of what they own, and answers when all have made it. */
static void hear(unsigned int *nr_answered)
{
	unsigned int next = *nr_answered + 1, done = 0;
	char name[32], text[128];
	uint64_t ops = 0;

	snprintf(name, sizeof(name), "ask.%u", next);
	if (atomic_load(&v.asked) != next) {
		if (file_exists(name))
			atomic_store(&v.asked, next);
		return;
	}
	for (unsigned int i = 0; i < v.nr_threads; i++) {
		done += atomic_load(&v.threads[i].answered) == next;
		ops += v.threads[i].ops;
	}
	if (done < v.nr_threads || (atomic_load(&v.moved) && atomic_load(&v.forked) < v.nr_forks))
		return;
	snprintf(name, sizeof(name), "answer.%u", next);
	snprintf(text, sizeof(text), "right: %u pages, %llu operations, %u children\n",
		 v.nr_chunks * CHUNK_PAGES, (unsigned long long)ops, atomic_load(&v.forked));
	write_file(name, text);
	*nr_answered = next;
}

static void be_quiet(void)
{
	char path[512];

	path_of(path, sizeof(path), "quiet");
	atomic_store(&v.nr_quiet, 0);
	atomic_store(&v.quiet, true);
	while (atomic_load(&v.nr_quiet) < v.nr_threads)
		nap(BEAT_NS);
	write_file("hushed", "");
	/* Any other error is the lack of memory. */
	while (!access(path, F_OK) || errno != ENOENT)
		nap(BEAT_NS);
	atomic_store(&v.quiet, false);
}

static void beat_run(void)
{
	struct beat beat = {0};
	uint32_t home = network();
	unsigned int nr_answered = 0;

	while (beat.count % 16 || !file_exists("end")) {
		if (beat.count % 16 == 0 && file_exists("quiet"))
			be_quiet();
		beat_once(&beat, home);
		hear(&nr_answered);
		nap(BEAT_NS);
	}
}

/* ---- start ---- */

static int open_file(const char *name, int flags)
{
	char path[512];
	int fd;

	path_of(path, sizeof(path), name);
	fd = open(path, flags | O_CREAT | O_CLOEXEC, 0644);
	if (fd < 0)
		wrong("%s: %s", path, strerror(errno));
	return fd;
}

static void *map(size_t len)
{
	void *at = mmap(NULL, len, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (at == MAP_FAILED)
		wrong("no memory");
	return at;
}

static void fill(void)
{
	char *all = map(v.nr_chunks * CHUNK_BYTES);

	v.first = all;
	v.chunks = map(v.nr_chunks * sizeof(*v.chunks));
	v.replaced = map(v.nr_chunks * sizeof(*v.replaced));
	v.expected = map(v.nr_chunks * CHUNK_PAGES * sizeof(*v.expected));
	for (uint32_t c = 0; c < v.nr_chunks; c++) {
		v.chunks[c] = (struct page *)(all + c * CHUNK_BYTES);
		for (uint32_t i = 0; i < CHUNK_PAGES; i++)
			page_renew(c * CHUNK_PAGES + i);
	}
}

static void start_threads(void)
{
	pthread_t thread;

	for (unsigned int i = 0; i < v.nr_threads; i++) {
		struct thread *t = &v.threads[i];

		t->nr = i;
		t->random = mix(v.seed + i);
		t->change_ns = now_ns(CLOCK_MONOTONIC);
		if (pipe2(t->pipe, O_CLOEXEC) || pthread_create(&thread, NULL, thread_run, t))
			wrong("a thread: %s", strerror(errno));
	}
}

int main(int argc, char **argv)
{
	char text[32];

	if (argc != 6) {
		fprintf(stderr, "usage: verifier DIR SEED MIB THREADS FORKS\n");
		return 2;
	}
	page_bytes = (size_t)sysconf(_SC_PAGESIZE);
	v.dir = argv[1];
	v.seed = strtoull(argv[2], NULL, 0);
	v.nr_chunks = (unsigned int)(strtoul(argv[3], NULL, 0) * 1048576 / CHUNK_BYTES);
	v.nr_threads = (unsigned int)strtoul(argv[4], NULL, 0);
	v.nr_forks = (unsigned int)strtoul(argv[5], NULL, 0);
	if (!v.nr_threads || v.nr_threads > THREADS_MAX || v.nr_chunks < v.nr_threads)
		return 2;
	v.cookie = mix(now_ns(CLOCK_REALTIME) ^ (uint64_t)getpid() << 40);
	v.wrong_fd = open_file("wrong", O_WRONLY | O_APPEND);
	v.beats_fd = open_file("beats", O_WRONLY | O_APPEND);
	v.now_fd = open_file("now", O_WRONLY);
	catch_crashes();
	fill();
	start_threads();
	snprintf(text, sizeof(text), "%d\n", (int)getpid());
	write_file("ready", text);
	beat_run();
	return 0;
}
