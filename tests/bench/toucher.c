/* SPDX-License-Identifier: MIT */
/*
 * The program that the benchmarks move. It touches its memory as it is told, and knows how long it stood
 * still and how long each touch took that found nothing there.
 *
 *	toucher DIR [NAME=VALUE]...
 *	mib=256			memory that is present
 *	span_mib=		and that much is mapped: it lies in there in pieces of 64 KiB
 *	vmas=1			mappings of it
 *	zero=0			percent of its pages that hold nothing but zeros
 *	touch=random		or `sequential`, from the first to the last; or `none`
 *	period_us=100		from a touch to the next; 0: back to back
 *	check=1			whether all its memory is looked at in the end
 *
 * Result in DIR/result, one JSON object.
 */
#include "../scenario/scenario.h"
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>

#define MAX_FAULTS 65536
#define PIECE_BYTES ((size_t)64 << 10)
/* A pause that is longer than this may have been a move. */
#define SUSPICIOUS_NS 300000
/* So often it is looked whether there is something to do. */
#define LOOK_NS 2000000

static struct options {
	size_t mib, span_mib, vmas, zero, check;
	long period_us;
	char touch[16];
} opt = {.mib = 256, .vmas = 1, .check = 1, .period_us = 100, .touch = "random"};

static char *base;
static size_t nr_pages, piece, stride; /* pages: all, of a piece, from a piece to the next */

static uint32_t fault_ns[MAX_FAULTS];
static size_t nr_faults, nr_touches;
static bool moved;
static int64_t gap_ns,
	sweep_ns; /* how long it stood still; until each page was read once after that */

static int64_t clock_ns(clockid_t clock)
{
	struct timespec ts;

	clock_gettime(clock, &ts);
	return (int64_t)ts.tv_sec * 1000000000 + ts.tv_nsec;
}

static long minor_faults(void)
{
	struct rusage usage;

	getrusage(RUSAGE_THREAD, &usage);
	return usage.ru_minflt;
}

/* The NAME=VALUE of that name, or NULL. */
static const char *option(const char *name)
{
	size_t len = strlen(name);

	for (int i = 0; i < scenario_argc; i++)
		if (!strncmp(scenario_arg(i), name, len) && scenario_arg(i)[len] == '=')
			return scenario_arg(i) + len + 1;
	return NULL;
}

static size_t number(const char *name, size_t otherwise)
{
	const char *value = option(name);

	return value ? (size_t)atol(value) : otherwise;
}

static void read_options(void)
{
	opt.mib = number("mib", opt.mib);
	opt.span_mib = number("span_mib", opt.mib);
	opt.vmas = number("vmas", opt.vmas);
	opt.zero = number("zero", opt.zero);
	opt.check = number("check", opt.check);
	opt.period_us = (long)number("period_us", (size_t)opt.period_us);
	if (option("touch"))
		snprintf(opt.touch, sizeof(opt.touch), "%s", option("touch"));
}

static char *page_at(size_t i)
{
	return base + (i / piece * stride + i % piece) * PAGE;
}

static bool is_zero(size_t i)
{
	return scenario_mix(i) % 100 < opt.zero;
}

/* Neighbours with different rights are mappings of their own. */
static void cut(void)
{
	size_t each = nr_pages / opt.vmas;

	for (size_t i = 1; i < opt.vmas; i += 2)
		CHECK(!mprotect(page_at(i * each), each * PAGE, PROT_READ));
}

static void make_memory(void)
{
	nr_pages = (opt.mib << 20) / PAGE;
	piece = opt.span_mib > opt.mib ? PIECE_BYTES / PAGE : nr_pages;
	stride = piece * (opt.span_mib / opt.mib);
	base = mmap(NULL, opt.span_mib << 20, PROT_READ | PROT_WRITE,
		    MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	CHECK(base != MAP_FAILED);
	for (size_t i = 0; i < nr_pages; i++)
		if (is_zero(i))
			memset(page_at(i), 0, PAGE);
		else
			scenario_fill(page_at(i), PAGE, i + 1);
	if (opt.vmas > 1)
		cut();
}

/* The beginning of each page, and all of each 16th. */
static void check_memory(void)
{
	for (size_t i = 0; i < nr_pages; i++) {
		size_t len = i % 16 ? 64 : PAGE;
		long at = is_zero(i) ? scenario_not_zero(page_at(i), len)
				     : scenario_differs(page_at(i), len, i + 1, 0);

		CHECK(at < 0, "page %zu of %zu differs at byte %ld", i, nr_pages, at);
	}
}

static void touch(size_t i)
{
	long before = minor_faults();
	int64_t began = clock_ns(CLOCK_MONOTONIC), took;

	(void)*(volatile char *)page_at(i);
	took = clock_ns(CLOCK_MONOTONIC) - began;
	if (moved && nr_faults < MAX_FAULTS && minor_faults() != before)
		fault_ns[nr_faults++] = took > UINT32_MAX ? UINT32_MAX : (uint32_t)took;
	nr_touches++;
}

static void touch_next(bool sequential)
{
	static uint64_t random;
	static size_t next, since_move;
	static int64_t began;

	if (!sequential) {
		touch((random = scenario_mix(random)) % nr_pages);
		return;
	}
	touch(next++ % nr_pages);
	if (moved && !since_move++)
		began = clock_ns(CLOCK_REALTIME);
	if (since_move == nr_pages)
		sweep_ns = clock_ns(CLOCK_REALTIME) - began;
}

/* Touches and beats until it is told that the move is over. */
static void work(void)
{
	bool none = !strcmp(opt.touch, "none"), sequential = !strcmp(opt.touch, "sequential");
	int64_t last = clock_ns(CLOCK_REALTIME), looked = last, period_ns = opt.period_us * 1000;
	struct timespec ts = {0, period_ns};

	for (;;) {
		int64_t now = clock_ns(CLOCK_REALTIME);

		if (!moved && now - last > period_ns + SUSPICIOUS_NS &&
		    scenario_netns() != scenario_home) {
			moved = true;
			gap_ns = now - last - period_ns;
			nr_touches = 0;
		}
		last = now;
		if (now - looked > LOOK_NS) {
			looked = now;
			if (scenario_gone())
				return;
		}
		if (!none)
			touch_next(sequential);
		if (period_ns)
			nanosleep(&ts, NULL);
	}
}

static int by_value(const void *a, const void *b)
{
	uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;

	return x < y ? -1 : x > y;
}

/* Of n hundredths the slowest one, in microseconds. */
static double hundredth(size_t n)
{
	return nr_faults ? fault_ns[(nr_faults * n - 1) / 100] / 1e3 : 0;
}

static void report(void)
{
	char text[3000];
	int len;

	qsort(fault_ns, nr_faults, sizeof(*fault_ns), by_value);
	len = snprintf(text, sizeof(text),
		       "{\"gap_us\": %ld, \"touches\": %zu, \"faults\": %zu, \"sweep_us\": %ld, "
		       "\"fault_hundredths_us\": [",
		       (long)(gap_ns / 1000), nr_touches, nr_faults, (long)(sweep_ns / 1000));
	for (size_t n = 1; n <= 100; n++)
		len += snprintf(text + len, sizeof(text) - (size_t)len, "%s%.1f", n > 1 ? ", " : "",
				hundredth(n));
	snprintf(text + len, sizeof(text) - (size_t)len, "]}");
	scenario_write("result", text);
}

int main(int argc, char **argv)
{
	scenario_init(argc, argv);
	read_options();
	prctl(PR_SET_TIMERSLACK, 1);
	memset(fault_ns, 1, sizeof(fault_ns));
	make_memory();
	scenario_ready();
	work();
	CHECK(moved, "did not notice that it was moved");
	if (opt.check)
		check_memory();
	report();
	while (!scenario_exists("end"))
		scenario_sleep_ms(2);
	return 0;
}
