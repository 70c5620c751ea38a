/* SPDX-License-Identifier: MIT */
/*
 * The C library's streams under its own names: standard output, which is written when the buffer is full and by
 * fflush(3), and standard error, which is written at once. There are no others, and one thread uses them. musl's, with
 * locks and files that can be opened, take 2.5 KiB. Tests of parts are linked without this file, and so is libgcrypt,
 * which opens files.
 */
#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

/* What a FILE is here. */
static struct stream {
	bool failed;
} out, err;

FILE *const stream_out __asm__("stdout") = (FILE *)&out;
FILE *const stream_err __asm__("stderr") = (FILE *)&err;

static char buf[1024]; /* of standard output */
static size_t used;

static void write_out(struct stream *s, const char *text, size_t len)
{
	while (len > 0 && !s->failed) {
		ssize_t put = write(s == &out ? STDOUT_FILENO : STDERR_FILENO, text, len);

		if (put < 0 && errno == EINTR)
			continue;
		if (put <= 0) {
			s->failed = true;
			return;
		}
		text += put;
		len -= (size_t)put;
	}
}

/* Standard error has nothing that waits. */
int fflush(FILE *file)
{
	struct stream *s = (struct stream *)file;

	if (s == &out) {
		write_out(s, buf, used);
		used = 0;
	}
	return s->failed ? EOF : 0;
}

int ferror(FILE *file)
{
	return ((struct stream *)file)->failed;
}

size_t fwrite(const void *from, size_t size, size_t nr, FILE *file)
{
	struct stream *s = (struct stream *)file;
	size_t len = size * nr;

	if (len > sizeof(buf) - used)
		fflush(file);
	if (s == &err || len > sizeof(buf)) {
		write_out(s, from, len);
	} else {
		memcpy(buf + used, from, len);
		used += len;
	}
	return s->failed ? 0 : nr;
}

/* These the compiler makes of printf and its like. */

int fputs(const char *text, FILE *file)
{
	return fwrite(text, strlen(text), 1, file) ? 0 : EOF;
}

int fputc(int c, FILE *file)
{
	char byte = (char)c;

	return fwrite(&byte, 1, 1, file) ? (unsigned char)c : EOF;
}

int putchar(int c)
{
	return fputc(c, stream_out);
}

int puts(const char *text)
{
	return fputs(text, stream_out) == EOF ? EOF : putchar('\n');
}
