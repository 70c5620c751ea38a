/* SPDX-License-Identifier: MIT */
/*
 * Every kind of mapping, its protection, flags and name in /proc/self/smaps, and every byte.
 * build: musl-static glibc-dynamic
 */
#include "scenario.h"
#include <sys/mman.h>
#include <sys/resource.h>

#ifndef MADV_COLD
#define MADV_COLD 20
#endif
#ifndef MLOCK_ONFAULT
#define MLOCK_ONFAULT 1
#endif
#ifndef MADV_WIPEONFORK
#define MADV_WIPEONFORK 18
#endif
#ifndef MADV_KEEPONFORK
#define MADV_KEEPONFORK 19
#endif

#define PAGES(n) ((size_t)(n)*PAGE)
#define NOFD_BYTES (PAGES(11) + 123) /* ends within a page */
#define NR_AREAS 32
#define SMAPS_BYTES (1 << 20)

struct area {
	const char *name;
	char *at;
	size_t len;
	char rights[5];  /* as in maps: rwxp */
	char flags[160]; /* VmFlags */
	unsigned long offset;
};

static struct area areas[NR_AREAS];
static unsigned int nr_areas;
static char smaps[SMAPS_BYTES];
static char *anon, *sparse, *readonly, *guard, *code, *file_private, *file_shared, *shared_anon;
static char *mem_shared, *mem_private, *mem_nofd, *grows, *heap, *locked, *huge, *none_data, *once;
static char *onfault, *file_once;
static int mem_fd;
static const char text[] = "the first bytes of the file";
static char file_path[320], shared_path[320];

static const char *flags_of(const char *line, char *out, size_t len)
{
	const char *f = strstr(line, "VmFlags:"), *end;

	CHECK(f && (end = strchr(f, '\n')), "no VmFlags");
	f += 8;
	end = strchr(f, '\n');
	snprintf(out, len, "%.*s", (int)(end - f), f);
	/*
	 * Not of the mapping but of its pages and of who looks at them: sd, soft-dirty, is set on every
	 * new mapping and taken away by whoever writes to clear_refs; um, watched by a userfaultfd, is
	 * there until all memory has arrived.
	 */
	static const char *const ignored[] = {" sd", " um"};
	for (int i = 0; i < 2; i++)
		for (char *at; (at = strstr(out, ignored[i]));)
			memmove(at, at + 3, strlen(at + 3) + 1);
	/* Locked on fault, which kernels of old have no name for: it may change on the way. */
	char *unnamed = strstr(out, " lo ??");
	if (unnamed)
		memcpy(unnamed, " lo lf", 6);
	return out;
}

/* The entry of smaps that holds the address: its rights and flags. */
static void look(const struct area *a, struct area *now)
{
	const char *p = smaps;

	while (p && *p) {
		unsigned long start, end, offset;
		char rights[5];
		const char *flags = strstr(p, "VmFlags:");

		if (sscanf(p, "%lx-%lx %4s %lx", &start, &end, rights, &offset) == 4 &&
		    start <= (unsigned long)a->at && (unsigned long)a->at < end) {
			*now = *a;
			memcpy(now->rights, rights, 5);
			now->offset = offset ? offset + ((unsigned long)a->at - start) : 0;
			flags_of(p, now->flags, sizeof(now->flags));
			CHECK(end >= (unsigned long)a->at + a->len, "%s is shorter: ends %lx",
			      a->name, end);
			return;
		}
		p = flags ? strchr(flags, '\n') : NULL;
		p = p ? p + 1 : NULL;
	}
	scenario_fail("%s at %p is not mapped", a->name, (void *)a->at);
}

static void read_smaps(void)
{
	ssize_t n = scenario_read("/proc/self/smaps", smaps, sizeof(smaps));

	CHECK(n > 0 && n < SMAPS_BYTES - 1);
}

static void add(const char *name, char *at, size_t len)
{
	areas[nr_areas++] = (struct area){.name = name, .at = at, .len = len};
}

static char *map(size_t len, int prot, int flags, int fd, off_t offset)
{
	char *p = mmap(NULL, len, prot, flags, fd, offset);

	CHECK(p != MAP_FAILED, "len %zu flags %#x", len, flags);
	return p;
}

/* musl has no sbrk that grows. Returns the old end. */
static char *brk_grow(size_t len)
{
	char *end = (char *)syscall(SYS_brk, 0);

	CHECK((char *)syscall(SYS_brk, end + len) == end + len);
	return end;
}

#define RW (PROT_READ | PROT_WRITE)
#define ANON (MAP_PRIVATE | MAP_ANONYMOUS)

/* A few instructions on any processor, which do not mind where they are. */
static __attribute__((noinline, noclone, aligned(16))) int forty_two(void)
{
	return 42;
}

static void prepare_anon(void)
{
	anon = map(PAGES(512), RW, ANON, -1, 0);
	scenario_fill(anon, PAGES(512), 1);
	/* Every third page exists, the rest never did; one zero page was read, one written with zeros. */
	sparse = map(PAGES(300), RW, ANON, -1, 0);
	for (int i = 0; i < 300; i += 3)
		scenario_fill(sparse + PAGES(i), PAGE, 1000 + (uint64_t)i);
	CHECK(*(volatile char *)(sparse + PAGES(1)) == 0);
	*(volatile char *)(sparse + PAGES(2)) = 0;
	readonly = map(PAGES(8), RW, ANON, -1, 0);
	scenario_fill(readonly, PAGES(8), 2);
	CHECK(!mprotect(readonly, PAGES(8), PROT_READ));
	/* Never written, so never counted; and never to be counted (as long as overcommit allows). */
	add("always read-only", map(PAGES(4), PROT_READ, ANON, -1, 0), PAGES(4));
	add("NORESERVE", map(PAGES(4), RW, ANON | MAP_NORESERVE, -1, 0), PAGES(4));
	guard = map(PAGES(4), PROT_NONE, ANON | MAP_NORESERVE, -1, 0);
	/* Data behind PROT_NONE is still data. */
	none_data = map(PAGES(4), RW, ANON, -1, 0);
	scenario_fill(none_data, PAGES(4), 3);
	CHECK(!mprotect(none_data, PAGES(4), PROT_NONE));
	code = map(PAGE, RW, ANON, -1, 0);
	memcpy(code, (const void *)forty_two, 16);
	__builtin___clear_cache(code, code + 16);
	CHECK(!mprotect(code, PAGE, PROT_READ | PROT_EXEC));
	heap = brk_grow(PAGES(100));
	scenario_fill((char *)(((unsigned long)heap + 7) & ~7ul), PAGES(99), 5);
	add("private anonymous", anon, PAGES(512));
	add("sparse", sparse, PAGES(300));
	add("read-only", readonly, PAGES(8));
	add("PROT_NONE", guard, PAGES(4));
	add("PROT_NONE with data", none_data, PAGES(4));
	add("code", code, PAGE);
	add("brk", (char *)(((unsigned long)heap + PAGE) & ~(PAGE - 1)), PAGES(98));
}

static void prepare_files(void)
{
	int fd;

	scenario_path("file", file_path, sizeof(file_path));
	fd = open(file_path, O_RDWR | O_CREAT, 0644);
	CHECK(fd >= 0 && !ftruncate(fd, (off_t)PAGES(16)) && pwrite(fd, text, sizeof(text), 0) > 0);
	CHECK(pwrite(fd, "tenth", 5, (off_t)PAGES(10)) == 5);
	file_private = map(PAGES(14), RW, MAP_PRIVATE, fd, (off_t)PAGES(2));
	scenario_fill(file_private + PAGES(3), PAGES(2), 6);
	CHECK(!memcmp(file_private + PAGES(8), "tenth", 5)); /* read, not written */
	close(fd);
	scenario_path("shared", shared_path, sizeof(shared_path));
	fd = open(shared_path, O_RDWR | O_CREAT, 0644);
	CHECK(fd >= 0 && !ftruncate(fd, (off_t)PAGES(8)));
	file_shared = map(PAGES(8), RW, MAP_SHARED, fd, 0);
	scenario_fill(file_shared, PAGES(8), 7);
	close(fd);
	/* Written, then only to be read: counted as memory of its own, as a program's relocations are. */
	fd = open(file_path, O_RDONLY);
	file_once = map(PAGES(4), RW, MAP_PRIVATE, fd, 0);
	scenario_fill(file_once, PAGE, 16);
	CHECK(!mprotect(file_once, PAGES(4), PROT_READ));
	close(fd);
	add("private file, read-only again", file_once, PAGES(4));
	add("private file", file_private, PAGES(14));
	add("shared file", file_shared, PAGES(8));
}

static void prepare_shared(void)
{
	int fd;

	shared_anon = map(PAGES(40), RW, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	scenario_fill(shared_anon, PAGES(20), 8); /* the other half never existed */
	mem_fd = memfd_create("scenario", 0);
	CHECK(mem_fd >= 0 && !ftruncate(mem_fd, (off_t)PAGES(30)));
	mem_shared = map(PAGES(20), RW, MAP_SHARED, mem_fd, (off_t)PAGES(5));
	scenario_fill(mem_shared, PAGES(20), 9);
	mem_private = map(PAGES(10), RW, MAP_PRIVATE, mem_fd, (off_t)PAGES(5));
	scenario_fill(mem_private, PAGES(2), 10);
	fd = memfd_create("closed", MFD_CLOEXEC);
	CHECK(fd >= 0 && !ftruncate(fd, (off_t)NOFD_BYTES));
	mem_nofd = map(PAGES(12), RW, MAP_SHARED, fd, 0);
	scenario_fill(mem_nofd, NOFD_BYTES, 11);
	close(fd);
	add("shared anonymous", shared_anon, PAGES(40));
	add("memfd shared", mem_shared, PAGES(20));
	add("memfd private", mem_private, PAGES(10));
	add("memfd without descriptor", mem_nofd, PAGES(12));
}

static void prepare_flags(void)
{
	locked = map(PAGES(4), RW, ANON, -1, 0);
	scenario_fill(locked, PAGES(4), 12);
	CHECK(!mlock(locked, PAGES(4)));
	/* Locked where it is touched, and only there. */
	onfault = map(PAGES(8), RW, ANON, -1, 0);
	CHECK(!syscall(SYS_mlock2, onfault, PAGES(8), MLOCK_ONFAULT));
	scenario_fill(onfault, PAGES(2), 15);
	huge = map(PAGES(1024), RW, ANON, -1, 0);
	CHECK(!madvise(huge, PAGES(1024), MADV_HUGEPAGE) || errno == EINVAL);
	scenario_fill(huge, PAGES(1024), 13);
	once = map(PAGES(16), RW, ANON, -1, 0);
	scenario_fill(once, PAGES(16), 14);
	CHECK(!madvise(once, PAGES(4), MADV_DONTDUMP));
	CHECK(!madvise(once + PAGES(4), PAGES(4), MADV_DONTFORK));
	CHECK(!madvise(once + PAGES(8), PAGES(4), MADV_WIPEONFORK));
	CHECK(!madvise(once + PAGES(12), PAGES(4), MADV_SEQUENTIAL));
	add("mlock", locked, PAGES(4));
	add("mlock on fault", onfault, PAGES(8));
	add("huge", huge, PAGES(1024));
	add("DONTDUMP", once, PAGES(4));
	add("DONTFORK", once + PAGES(4), PAGES(4));
	add("WIPEONFORK", once + PAGES(8), PAGES(4));
	add("SEQUENTIAL", once + PAGES(12), PAGES(4));
}

static void prepare(void)
{
	prepare_anon();
	prepare_files();
	prepare_shared();
	prepare_flags();
	/* Last, or what is mapped after it would fill the room. */
	grows = map(PAGES(1024), RW, ANON | MAP_GROWSDOWN | MAP_STACK, -1, 0);
	munmap(grows, PAGES(1008)); /* room below it, the kernel's stack guard gap included */
	grows += PAGES(1008);
	scenario_fill(grows, PAGES(16), 4);
	add("GROWSDOWN", grows, PAGES(16));
	read_smaps();
	for (unsigned int i = 0; i < nr_areas; i++)
		look(&areas[i], &areas[i]);
}

static void sabotage(void)
{
	sparse[PAGES(150) + 8] ^= 4;
}

static void same(const char *name, const char *mem, size_t len, uint64_t seed, size_t skip)
{
	long at = scenario_differs(mem, len, seed, skip);

	CHECK(at < 0, "%s differs at byte %ld", name, at);
}

static void check_anon(void)
{
	same("anonymous", anon, PAGES(512), 1, 0);
	for (int i = 0; i < 300; i++) {
		if (i % 3 == 0)
			same("sparse", sparse + PAGES(i), PAGE, 1000 + (uint64_t)i, 0);
		else
			CHECK(scenario_not_zero(sparse + PAGES(i), PAGE) < 0, "sparse page %d", i);
	}
	same("read-only", readonly, PAGES(8), 2, 0);
	CHECK(!mprotect(none_data, PAGES(4), PROT_READ));
	same("PROT_NONE", none_data, PAGES(4), 3, 0);
	CHECK(((int (*)(void))code)() == 42);
	same("GROWSDOWN", grows, PAGES(16), 4, 0);
	*(volatile char *)(grows - PAGE) = 1; /* it still grows */
	*(volatile char *)(grows - PAGES(10)) = 1;
	same("brk", (char *)(((unsigned long)heap + 7) & ~7ul), PAGES(99), 5, 0);
	CHECK(brk_grow(PAGES(50)) == heap + PAGES(100), "brk is elsewhere");
	memset(heap + PAGES(100), 1, PAGES(50));
}

static void check_files(void)
{
	char buf[64];
	int fd;

	same("private file", file_private + PAGES(3), PAGES(2), 6, 0);
	CHECK(scenario_not_zero(file_private, PAGES(3)) < 0 &&
	      !memcmp(file_private + PAGES(8), "tenth", 5));
	same("shared file", file_shared, PAGES(8), 7, 0);
	same("private file, read-only again", file_once, PAGE, 16, 0);
	/* Shared with the file indeed, and the private one's file unchanged. */
	memcpy(file_shared + 100, "written after", 13);
	fd = open(shared_path, O_RDONLY);
	CHECK(pread(fd, buf, 13, 100) == 13 && !memcmp(buf, "written after", 13));
	close(fd);
	fd = open(file_path, O_RDONLY);
	CHECK(pread(fd, buf, 8, (off_t)PAGES(5)) == 8 && scenario_not_zero(buf, 8) < 0);
	close(fd);
}

static off_t object_bytes(const char *at, size_t len)
{
	char path[80];
	struct stat st;

	snprintf(path, sizeof(path), "/proc/self/map_files/%lx-%lx", (unsigned long)at,
		 (unsigned long)at + len);
	CHECK(!stat(path, &st), "%s: %s", path, strerror(errno));
	return st.st_size;
}

static void check_shared(void)
{
	char buf[16];

	same("shared anonymous", shared_anon, PAGES(20), 8, 0);
	CHECK(scenario_not_zero(shared_anon + PAGES(20), PAGES(20)) < 0);
	same("memfd", mem_shared, PAGES(20), 9, 0);
	same("memfd private", mem_private, PAGES(2), 10, 0);
	same("memfd private, unwritten", mem_private + PAGES(2), PAGES(8), 9, PAGES(2));
	same("memfd without descriptor", mem_nofd, NOFD_BYTES, 11, 0);
	CHECK(scenario_not_zero(mem_nofd + NOFD_BYTES, PAGES(12) - NOFD_BYTES) < 0);
	CHECK(object_bytes(mem_nofd, PAGES(12)) == (off_t)NOFD_BYTES);
	memcpy(mem_shared, "joined", 6);
	CHECK(pread(mem_fd, buf, 6, (off_t)PAGES(5)) == 6 && !memcmp(buf, "joined", 6));
	CHECK(lseek(mem_fd, 0, SEEK_END) == (off_t)PAGES(30));
}

static void check(void)
{
	struct area now;

	read_smaps();
	for (unsigned int i = 0; i < nr_areas; i++) {
		look(&areas[i], &now);
		CHECK(!strcmp(now.rights, areas[i].rights), "%s: %s was %s", now.name, now.rights,
		      areas[i].rights);
		CHECK(now.offset == areas[i].offset, "%s: offset %lx was %lx", now.name, now.offset,
		      areas[i].offset);
		CHECK(!strcmp(now.flags, areas[i].flags), "%s: flags%s were%s", now.name, now.flags,
		      areas[i].flags);
	}
	check_anon();
	check_files();
	check_shared();
	same("mlock", locked, PAGES(4), 12, 0);
	same("mlock on fault", onfault, PAGES(2), 15, 0);
	CHECK(scenario_not_zero(onfault + PAGES(2), PAGES(6)) < 0);
	same("huge", huge, PAGES(1024), 13, 0);
	same("flags", once, PAGES(16), 14, 0);
}

int main(int argc, char **argv)
{
	static const struct scenario s = {prepare, NULL, check, sabotage};

	return scenario_main(argc, argv, &s);
}
