/* SPDX-License-Identifier: MIT */
/*
 * A line as somebody types it on a serial line: echo, backspace, and what a bad line makes of it. And the
 * words of a line. Nothing here reads or writes: bytes go in, text for the terminal comes out.
 */
#ifndef BATON_LINE_H
#define BATON_LINE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define LINE_MAX_BYTES 512 /* with its NUL */
#define LINE_WORDS_MAX 40
/* Most that one byte makes of echo: a whole line that is taken back. */
#define LINE_ECHO_MAX (3 * LINE_MAX_BYTES)

enum line_event {
	LINE_MORE,      /* nothing yet */
	LINE_READY,     /* a line is in `text` */
	LINE_GARBLED,   /* the end of a line in which bytes came that nobody types */
	LINE_TOO_LONG,  /* the end of a line that did not fit */
	LINE_INTERRUPT, /* Ctrl-C */
	LINE_END,       /* Ctrl-D on an empty line */
};

struct line {
	char text[LINE_MAX_BYTES];
	size_t len;
	bool secret;    /* no echo: a password */
	bool silent;    /* no echo at all, not even of the end: a program is there */
	bool garbled;   /* see LINE_GARBLED */
	bool too_long;  /* see LINE_TOO_LONG */
	bool after_cr;  /* a line feed that comes now ends nothing */
	uint8_t escape; /* inside the sequence of a key that is none of ours: how far */
};

/* Forgets what was typed (and wipes it); what is asked for by `secret` and `silent` stays. */
void line_clear(struct line *line);

/*
 * Takes one byte. `echo` (LINE_ECHO_MAX bytes of room) becomes what the terminal is to show, *nr_echo its
 * length. After any other event than LINE_MORE the caller reads `text` and calls line_clear.
 *
 * A byte that no key gives (and so what a receiver makes of a broken one: PARMRK of termios(3)) garbles the
 * line: a command in which something is missing may be another command.
 */
enum line_event line_take(struct line *line, uint8_t byte, char *echo, size_t *nr_echo);

/*
 * Cuts a text into words, in place: blanks part them; "..." and '...' keep blanks; a backslash keeps what
 * follows, but not inside of '...'. `words` gets a NULL behind the last one. The number of words; -EINVAL: a
 * quote is not closed, or the backslash is the last character; -E2BIG: more than LINE_WORDS_MAX - 1 words.
 */
int line_split(char *text, char *words[static LINE_WORDS_MAX]);

#endif
