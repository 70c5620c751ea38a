/* SPDX-License-Identifier: MIT */
/*
 * Large mappings whose advice and locks change all the time, up to the moment of the move: what smaps shows on
 * the other device is what was asked for last. Between two of them memory comes and goes, and one of them grows.
 * build: musl-static
 * libs: -lpthread
 * args: steady | moving
 * modes: lazy pull
 */
#include "scenario.h"
#include <pthread.h>
#include <sys/mman.h>

#define NR_AREAS 4
#define AREA_BYTES ((size_t)20 << 20)
#define GAP_BYTES ((size_t)4 << 20)

/* What is switched, each by one of its own, and how smaps shows it. */
static const struct {
	const char *flag;
	int on, off;
} advice[] = {{" dc", MADV_DONTFORK, MADV_DOFORK},
	      {" dd", MADV_DONTDUMP, MADV_DODUMP},
	      {" wf", 18, 19 /* MADV_WIPEONFORK, MADV_KEEPONFORK */},
	      {" lf", -1, -1 /* mlock2(MLOCK_ONFAULT), munlock */}};
#define NR_ADVICE (sizeof(advice) / sizeof(advice[0]))

static char *base, *areas[NR_AREAS];
static bool is_on[NR_AREAS][NR_ADVICE];
static char smaps[1 << 16];
static pthread_t toggler;
static unsigned int rounds;
static unsigned long grown;
static bool locks; /* this kernel has a name for them */

static unsigned int random_number(void)
{
	static unsigned int state = 12345;

	state = state * 1103515245 + 12345;
	return state >> 16;
}

static char *entry_of(const char *at)
{
	char head[32], *found;

	snprintf(head, sizeof(head), "%lx-", (unsigned long)at);
	found = strstr(smaps, head);
	CHECK(found, "%p is not the beginning of a mapping", (const void *)at);
	return found;
}

/* Natively this runs all the time as well. */
static void look(void)
{
	ssize_t n = scenario_read("/proc/self/smaps", smaps, sizeof(smaps));

	CHECK(n > 0 && n < (ssize_t)sizeof(smaps) - 1);
	for (int i = 0; i < NR_AREAS; i++) {
		char *flags = strstr(entry_of(areas[i]), "VmFlags:");
		char *end = flags ? strchr(flags, '\n') : NULL;

		CHECK(end);
		*end = '\0';
		for (size_t k = 0; k < NR_ADVICE; k++)
			CHECK(!!strstr(flags, advice[k].flag) == is_on[i][k] ||
				      (advice[k].on < 0 && !locks),
			      "area %d after %u rounds:%s is %s, but %s", i, rounds, advice[k].flag,
			      is_on[i][k] ? "on" : "off", flags);
		*end = '\n';
	}
}

static void toggle(int i, size_t k)
{
	size_t len = AREA_BYTES + (i == NR_AREAS - 1 ? grown : 0);
	bool on = !is_on[i][k];
	int ret;

	if (advice[k].on < 0)
		ret = on ? (int)syscall(SYS_mlock2, areas[i], len, 1) : munlock(areas[i], len);
	else
		ret = madvise(areas[i], len, on ? advice[k].on : advice[k].off);
	CHECK(ret == 0, "%s", advice[k].flag);
	is_on[i][k] = on;
}

/* The last area becomes longer, and what lies behind the first one comes and goes. */
static void move_mappings(void)
{
	char *behind = areas[0] + AREA_BYTES + PAGE;
	char *last = areas[NR_AREAS - 1];
	size_t len = AREA_BYTES + grown;

	if (rounds & 1)
		CHECK(mmap(behind, PAGE, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1,
			   0) == behind);
	else
		CHECK(munmap(behind, PAGE) == 0);
	if (rounds % 64 == 0 && grown + PAGE < GAP_BYTES) {
		CHECK(mremap(last, len, len + PAGE, 0) == last);
		grown += PAGE;
	}
}

static void *run(void *data)
{
	bool moving = !strcmp(scenario_arg(0), "moving");

	for (;; rounds++) {
		/* Not one more after the move: what it has left is looked at. */
		if (scenario_moved())
			return data;
		if (moving)
			move_mappings();
		toggle((int)(random_number() % NR_AREAS), random_number() % NR_ADVICE);
	}
}

static void prepare(void)
{
	size_t len = NR_AREAS * (AREA_BYTES + GAP_BYTES);

	base = mmap(NULL, len, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	CHECK(base != MAP_FAILED);
	CHECK(munmap(base, len) == 0);
	for (int i = 0; i < NR_AREAS; i++) {
		areas[i] = mmap(base + (size_t)i * (AREA_BYTES + GAP_BYTES), AREA_BYTES,
				PROT_READ | PROT_WRITE,
				MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);
		CHECK(areas[i] != MAP_FAILED);
		memset(areas[i], 'a' + i, AREA_BYTES);
	}
	CHECK(scenario_read("/proc/self/smaps", smaps, sizeof(smaps)) > 0);
	locks = false;
	if (!syscall(SYS_mlock2, areas[0], AREA_BYTES, 1)) {
		CHECK(scenario_read("/proc/self/smaps", smaps, sizeof(smaps)) > 0);
		locks = strstr(entry_of(areas[0]), " lf");
		munlock(areas[0], AREA_BYTES);
	}
	look();
	CHECK(pthread_create(&toggler, NULL, run, NULL) == 0);
}

static void check(void)
{
	CHECK(pthread_join(toggler, NULL) == 0);
	CHECK(rounds > 0);
	look();
	for (int i = 0; i < NR_AREAS; i++)
		for (size_t k = 0; k < AREA_BYTES; k += PAGE)
			CHECK(areas[i][k] == 'a' + i, "area %d, byte %zu", i, k);
}

static void sabotage(void)
{
	pthread_join(toggler, NULL);
	is_on[1][0] = !is_on[1][0];
}

int main(int argc, char **argv)
{
	static const struct scenario s = {prepare, NULL, check, sabotage};

	return scenario_main(argc, argv, &s);
}
