/* SPDX-License-Identifier: MIT */
/* Text from a format and its arguments. */
#include "lib/format.h"

#include <errno.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>
#include <sys/types.h>

#define DIGITS_MAX 24 /* of 64 bits, octal */
#define FLOAT_LIMIT 1e15
#define FLOAT_DIGITS 6

struct spec {
	bool left, plus, zero, alternate;
	int width;
	int precision; /* -1: none */
	char length;   /* one of h H(hh) l q(ll) z j t, or 0 */
};

static void put(struct format_out *out, const char *text, size_t len)
{
	out->total += len;
	while (len > 0) {
		size_t part = out->cap - out->used;

		if (part == 0 && out->flush) {
			out->flush(out);
			continue;
		}
		if (part == 0)
			return;
		if (part > len)
			part = len;
		memcpy(out->buf + out->used, text, part);
		out->used += part;
		text += part;
		len -= part;
	}
}

static void fill(struct format_out *out, char c, int count)
{
	for (; count > 0; count--)
		put(out, &c, 1);
}

/* `prefix` (sign, 0x), zeros up to `digits` of them, `text`; within the width. */
static void put_field(struct format_out *out, const struct spec *spec, const char *prefix,
		      const char *text, size_t len, int digits)
{
	int before = (int)strlen(prefix);
	int zeros = digits > (int)len ? digits - (int)len : 0;
	int pad = spec->width - before - zeros - (int)len;

	if (!spec->left)
		fill(out, ' ', pad);
	put(out, prefix, (size_t)before);
	fill(out, '0', zeros);
	put(out, text, len);
	if (spec->left)
		fill(out, ' ', pad);
}

/* Digits so that they end at `end`; where they begin. */
static char *digits_of(char *end, uint64_t value, unsigned int base)
{
	do
		*--end = "0123456789abcdef"[value % base];
	while ((value /= base) > 0);
	return end;
}

/* How many digits there must be: the precision, or with the flag 0 as many as fill the width. */
static int digits_wanted(const struct spec *spec, const char *prefix)
{
	if (spec->precision >= 0)
		return spec->precision;
	return spec->zero && !spec->left ? spec->width - (int)strlen(prefix) : 1;
}

static void put_number(struct format_out *out, const struct spec *spec, const char *prefix,
		       uint64_t value, unsigned int base)
{
	char text[DIGITS_MAX], *end = text + sizeof(text);
	char *begin = digits_of(end, value, base);

	put_field(out, spec, prefix, begin, (size_t)(end - begin), digits_wanted(spec, prefix));
}

static const char *sign_of(const struct spec *spec, bool negative)
{
	if (negative)
		return "-";
	return spec->plus ? "+" : "";
}

static void put_float(struct format_out *out, struct spec *spec, double value)
{
	char text[2 * DIGITS_MAX], *end = text + sizeof(text), *begin;
	int digits = spec->precision < 0 ? FLOAT_DIGITS : spec->precision;
	const char *prefix = sign_of(spec, value < 0);
	uint64_t scale = 1, scaled;

	if (value < 0)
		value = -value;
	if (digits > FLOAT_DIGITS)
		digits = FLOAT_DIGITS;
	for (int i = 0; i < digits; i++)
		scale *= 10;
	spec->precision = -1;
	if (!(value < FLOAT_LIMIT)) {
		put_field(out, spec, prefix, "inf", 3, 0);
		return;
	}
	/* The whole and the part behind the point apart: both fit 64 bits. */
	scaled = (uint64_t)((value - (double)(uint64_t)value) * (double)scale + 0.5);
	begin = end;
	if (digits > 0) {
		begin = digits_of(end, scaled % scale, 10);
		while (end - begin < digits)
			*--begin = '0';
		*--begin = '.';
	}
	begin = digits_of(begin, (uint64_t)value + scaled / scale, 10);
	put_field(out, spec, prefix, begin, (size_t)(end - begin), digits_wanted(spec, prefix));
}

static void put_string(struct format_out *out, const struct spec *spec, const char *text)
{
	size_t len;

	if (!text)
		text = "(null)";
	len = spec->precision < 0 ? strlen(text) : strnlen(text, (size_t)spec->precision);
	put_field(out, spec, "", text, len, 0);
}

/* ---- reading the format; arguments come through a pointer, which a va_list is not everywhere ---- */

struct cursor {
	const char *at;
	va_list args;
};

static int take_count(struct cursor *cursor)
{
	int count = 0;

	if (*cursor->at == '*') {
		cursor->at++;
		return va_arg(cursor->args, int);
	}
	while (*cursor->at >= '0' && *cursor->at <= '9')
		count = count * 10 + *cursor->at++ - '0';
	return count;
}

static void take_spec(struct cursor *cursor, struct spec *spec)
{
	*spec = (struct spec){.precision = -1};
	for (;; cursor->at++) {
		if (*cursor->at == '-')
			spec->left = true;
		else if (*cursor->at == '+')
			spec->plus = true;
		else if (*cursor->at == '0')
			spec->zero = true;
		else if (*cursor->at == '#')
			spec->alternate = true;
		else
			break;
	}
	spec->width = take_count(cursor);
	if (spec->width < 0) {
		spec->left = true;
		spec->width = -spec->width;
	}
	if (*cursor->at == '.') {
		cursor->at++;
		spec->precision = take_count(cursor); /* negative: as if there were none */
	}
	if (*cursor->at && strchr("hlzjt", *cursor->at)) {
		spec->length = *cursor->at++;
		if (*cursor->at == spec->length) {
			spec->length = spec->length == 'h' ? 'H' : 'q';
			cursor->at++;
		}
	}
}

static int64_t take_signed(struct cursor *cursor, char length)
{
	int value;

	if (length == 'l' || length == 'q' || length == 'z' || length == 'j' || length == 't')
		return va_arg(cursor->args, long long); /* all of them have 64 bits here */
	value = va_arg(cursor->args, int);
	if (length == 'h')
		return (short)value;
	return length == 'H' ? (signed char)value : value;
}

static uint64_t take_unsigned(struct cursor *cursor, char length)
{
	uint64_t value = (uint64_t)take_signed(cursor, length);

	switch (length) {
	case 'H':
		return (uint8_t)value;
	case 'h':
		return (uint16_t)value;
	case 0:
		return (uint32_t)value;
	default:
		return value;
	}
}

_Static_assert(sizeof(long) == 8 && sizeof(size_t) == 8, "lengths are told apart by their size");

/* One conversion, the cursor behind its %. */
static void convert(struct format_out *out, struct cursor *cursor)
{
	const char *begin = cursor->at - 1;
	struct spec spec;
	int64_t number;
	char c;

	take_spec(cursor, &spec);
	switch (*cursor->at) {
	case 'd':
	case 'i':
		number = take_signed(cursor, spec.length);
		put_number(out, &spec, sign_of(&spec, number < 0),
			   number < 0 ? 0 - (uint64_t)number : (uint64_t)number, 10);
		break;
	case 'u':
		put_number(out, &spec, "", take_unsigned(cursor, spec.length), 10);
		break;
	case 'o':
		put_number(out, &spec, "", take_unsigned(cursor, spec.length), 8);
		break;
	case 'x':
		number = (int64_t)take_unsigned(cursor, spec.length);
		put_number(out, &spec, spec.alternate && number != 0 ? "0x" : "", (uint64_t)number,
			   16);
		break;
	case 'f':
		put_float(out, &spec, va_arg(cursor->args, double));
		break;
	case 's':
		put_string(out, &spec, va_arg(cursor->args, const char *));
		break;
	case 'm':
		put_string(out, &spec, strerror(errno));
		break;
	case 'c':
		c = (char)va_arg(cursor->args, int);
		put_field(out, &spec, "", &c, 1, 0);
		break;
	case '%':
		put(out, "%", 1);
		break;
	default: /* not ours: as it stands, and what follows as text */
		put(out, begin, (size_t)(cursor->at - begin));
		return;
	}
	cursor->at++;
}

void format_put(struct format_out *out, const char *fmt, va_list args)
{
	struct cursor cursor = {.at = fmt};

	va_copy(cursor.args, args);
	while (*cursor.at) {
		size_t len = strcspn(cursor.at, "%");

		put(out, cursor.at, len);
		cursor.at += len;
		if (*cursor.at == '%') {
			cursor.at++;
			convert(out, &cursor);
		}
	}
	va_end(cursor.args);
}
