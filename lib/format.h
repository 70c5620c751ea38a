/* SPDX-License-Identifier: MIT */
/*
 * What printf(3) does, as far as it is needed here: conversions d i u x o c s m f %, flags - + 0 #,
 * width, precision (both also *), lengths hh h l ll z j t. No long double, wide characters, %p, %n, %g, %e
 * or positions: those the compiler would let pass come out as they stand. %f is for figures that people
 * read: below 10^15 (beyond: "inf"), at most 6 digits behind the point, halves rounded away from zero.
 */
#ifndef BATON_FORMAT_H
#define BATON_FORMAT_H

#include <stdarg.h>
#include <stddef.h>

/* Where text goes. When `buf` is full `flush` empties it (used = 0); without flush the rest is counted only. */
struct format_out {
	char *buf;
	size_t cap;
	size_t used;
	size_t total; /* of all that was put, kept or not */
	void (*flush)(struct format_out *out);
	void *to; /* flush's own */
};

/* Puts the text of fmt and args; terminates nothing. */
void format_put(struct format_out *out, const char *fmt, va_list args);

#endif
