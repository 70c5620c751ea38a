/* SPDX-License-Identifier: MIT */
/*
 * The C library's printf family under its own names, for us and for mbedtls. musl's prints each kind of
 * number exactly, long double too, and takes 10 KiB for that; where long double is arithmetic in software
 * (arm64), 22. What these can: lib/format.h. Tests of parts are linked without this file.
 */
#include "lib/format.h"
#include <stdarg.h>
#include <stdio.h>

int vsnprintf(char *buf, size_t cap, const char *fmt, va_list args)
{
	struct format_out out = {.buf = buf, .cap = cap > 0 ? cap - 1 : 0};

	format_put(&out, fmt, args);
	if (cap > 0)
		buf[out.used] = '\0';
	return (int)out.total;
}

int snprintf(char *buf, size_t cap, const char *fmt, ...)
{
	va_list args;
	int len;

	va_start(args, fmt);
	len = vsnprintf(buf, cap, fmt, args);
	va_end(args);
	return len;
}

static void flush(struct format_out *out)
{
	fwrite(out->buf, 1, out->used, out->to);
	out->used = 0;
}

/* Whether it could be written is asked of the file, when all has been (ferror). */
int vfprintf(FILE *file, const char *fmt, va_list args)
{
	char part[256]; /* standard error is not buffered: one write(2) for what fits here */
	struct format_out out = {.buf = part, .cap = sizeof(part), .flush = flush, .to = file};

	format_put(&out, fmt, args);
	flush(&out);
	return (int)out.total;
}

int fprintf(FILE *file, const char *fmt, ...)
{
	va_list args;
	int len;

	va_start(args, fmt);
	len = vfprintf(file, fmt, args);
	va_end(args);
	return len;
}

int printf(const char *fmt, ...)
{
	va_list args;
	int len;

	va_start(args, fmt);
	len = vfprintf(stdout, fmt, args);
	va_end(args);
	return len;
}
