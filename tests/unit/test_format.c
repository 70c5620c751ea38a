/* SPDX-License-Identifier: MIT */
/*
 * Our printf against the C library's: every kind of conversion that is used, widths, limits, buffers
 * that are too small.
 *
 * needs: lib/format.c
 */
#include "lib/format.h"

#include "tests/unit/unit.h"
#include <errno.h>
#include <limits.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

/* snprintf(3) as lib/printf.c makes it of format_put. */
static int __attribute__((format(printf, 3, 4))) ours(char *buf, size_t cap, const char *fmt, ...)
{
	struct format_out out = {.buf = buf, .cap = cap > 0 ? cap - 1 : 0};
	va_list args;

	va_start(args, fmt);
	format_put(&out, fmt, args);
	va_end(args);
	if (cap > 0)
		buf[out.used] = '\0';
	return (int)out.total;
}

static char want[600], got[600];

/* Being cut short is what is tried. */
#pragma GCC diagnostic ignored "-Wformat-truncation"

/* Into buffers of several sizes, one of them zero: the same text, and the same length told. */
#define SAME(...)                                                                                  \
	do {                                                                                       \
		static const size_t caps[] = {sizeof(got), 5, 1, 0};                               \
		for (size_t n = 0; n < sizeof(caps) / sizeof(caps[0]); n++) {                      \
			memset(want, '!', sizeof(want));                                           \
			memset(got, '!', sizeof(got));                                             \
			int len = snprintf(want, caps[n], __VA_ARGS__);                            \
			assert_int_equal(len, ours(got, caps[n], __VA_ARGS__));                    \
			assert_memory_equal(got, want, sizeof(got));                               \
		}                                                                                  \
	} while (0)

static void test_strings(void **state)
{
	static const char raw[4] = {'a', 'b', 'c', 'd'}; /* not terminated */

	UNUSED(state);
	SAME("plain");
	SAME("%s", "");
	SAME("a %s and %s.", "one", "another");
	SAME("%-9s|%9s|%-2s|%2s", "left", "right", "wide", "wide");
	SAME("%.3s|%.0s|%.40s|%.*s|%.*s", "abcdef", "abc", "abc", 2, "xyz", -1, "whole");
	SAME("%.4s|%.*s", raw, 3, raw);
	SAME("%-*s|%*s", 6, "ab", -6, "cd");
	SAME("%c%c %5c %-5c|", 'x', '%', 'y', 'z');
	SAME("100%% of %s%%", "it");
	errno = ENOENT;
	SAME("fd %d: %m, %30m|", 7);
	SAME("%300s", "long");
}

static void test_numbers(void **state)
{
	static const int64_t values[] = {
		0,         1,         -1,      9,        10,        -10,       99,
		127,       128,       255,     256,      -128,      32767,     65535,
		65536,     INT_MAX,   INT_MIN, UINT_MAX, INT64_MAX, INT64_MIN, 0x123456789abcdef,
		012345670, 100000000, -4294967};

	UNUSED(state);
	for (size_t i = 0; i < sizeof(values) / sizeof(values[0]); i++) {
		int64_t v = values[i];

		SAME("%d %i %u %x %o", (int)v, (int)v, (unsigned int)v, (unsigned int)v,
		     (unsigned int)v);
		SAME("%ld %lu %lx %lo", (long)v, (unsigned long)v, (unsigned long)v,
		     (unsigned long)v);
		SAME("%lld %llu %#llx %#x", (long long)v, (unsigned long long)v,
		     (unsigned long long)v, (unsigned int)v);
		SAME("%zu %zd %jd %ju %td", (size_t)v, (ssize_t)v, (intmax_t)v, (uintmax_t)v,
		     (ptrdiff_t)v);
		SAME("%hd %hu %hhd %hhu %hhx", (short)v, (unsigned short)v, (signed char)v,
		     (unsigned char)v, (unsigned char)v);
		SAME("%6d|%-6d|%06d|%+d|%+06d|%.4d|%8.4d|%-8.4d", (int)v, (int)v, (int)v, (int)v,
		     (int)v, (int)v, (int)v, (int)v);
		SAME("%04x|%02x|%#10x|%#010x|%-#10x|%04o|%*d|%0*d|%.*d", (unsigned int)v,
		     (unsigned int)v, (unsigned int)v, (unsigned int)v, (unsigned int)v,
		     (unsigned int)v, 12, (int)v, 12, (int)v, 3, (int)v);
	}
}

/* Away from ties, which the C library rounds to even. */
static void test_floats(void **state)
{
	static const double values[] = {0,    0.04,  0.06,  0.94,     0.96, 0.9996, 1,
					9.96, 12.34, 99.97, 999.9996, 1e6,  1e9,    123456.78,
					1e14, -0.04, -1.23, -999.97,  1e-9, 2.0004, 3.14159};

	UNUSED(state);
	for (size_t i = 0; i < sizeof(values) / sizeof(values[0]); i++) {
		double v = values[i];

		if (v == 0 || v <= -0.05 || v >= 0) /* "-0.0" is told alike below */
			SAME("%.1f %.2f %.3f", v, v, v);
		SAME("%f %+.3f %8.1f|%-8.1f|%08.2f", v, v, v, v, v);
		SAME("%.0f", v);
	}
	ours(got, sizeof(got), "%.1f %.1f %.1f", 1e15, -1e300, 0.0 / 0.0);
	assert_string_equal(got, "inf -inf inf");
}

/* What is written in pieces is the same as what is written at once. */
static void empty(struct format_out *out)
{
	char *all = out->to;

	strncat(all, out->buf, out->used);
	out->used = 0;
}

static void __attribute__((format(printf, 2, 3))) in_pieces(char *all, const char *fmt, ...)
{
	char part[3];
	struct format_out out = {.buf = part, .cap = sizeof(part), .flush = empty, .to = all};
	va_list args;

	va_start(args, fmt);
	format_put(&out, fmt, args);
	va_end(args);
	empty(&out);
}

static void test_pieces(void **state)
{
	char all[64] = "";

	UNUSED(state);
	in_pieces(all, "%s: %d of %5u, %.1f", "a name", -12, 345U, 6.7);
	assert_string_equal(all, "a name: -12 of   345, 6.7");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_strings),
		cmocka_unit_test(test_numbers),
		cmocka_unit_test(test_floats),
		cmocka_unit_test(test_pieces),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
