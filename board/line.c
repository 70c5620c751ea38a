/* SPDX-License-Identifier: MIT */
/* A line as somebody types it, and its words. */
#include <errno.h>
#include <string.h>

#include "board/line.h"

#define KEY_CTRL(c) ((c)&0x1f)
#define KEY_ESCAPE 0x1b
#define KEY_DELETE 0x7f

/* How far a sequence is: ESC was there; ESC [ or ESC O, and its end is waited for. */
enum { ESCAPE_NONE, ESCAPE_BEGUN, ESCAPE_INSIDE };

/* Not to be left out by the compiler. */
static void wipe(void *at, size_t len)
{
	memset(at, 0, len);
	__asm__ volatile("" : : "r"(at) : "memory");
}

void line_clear(struct line *line)
{
	wipe(line->text, sizeof(line->text));
	line->len = 0;
	line->garbled = line->too_long = false;
	line->escape = ESCAPE_NONE;
}

static void put(char *echo, size_t *nr, const char *text)
{
	for (; *text; text++)
		echo[(*nr)++] = *text;
}

/* Takes `nr` characters back. */
static void erase(struct line *line, size_t nr, char *echo, size_t *nr_echo)
{
	for (; nr && line->len; nr--) {
		line->text[--line->len] = '\0';
		if (!line->secret && !line->silent)
			put(echo, nr_echo, "\b \b");
	}
}

/* Keys that give several bytes (arrows and their like) do nothing. True when the byte belongs to one. */
static bool take_escape(struct line *line, uint8_t byte)
{
	if (line->escape == ESCAPE_NONE) {
		if (byte != KEY_ESCAPE)
			return false;
		line->escape = ESCAPE_BEGUN;
		return true;
	}
	/* A control character ends what was cut short, and counts. */
	if (byte < ' ') {
		line->escape = ESCAPE_NONE;
		return take_escape(line, byte);
	}
	if (line->escape == ESCAPE_BEGUN)
		line->escape = byte == '[' || byte == 'O' ? ESCAPE_INSIDE : ESCAPE_NONE;
	else if (byte >= '@')
		line->escape = ESCAPE_NONE;
	return true;
}

static enum line_event end(const struct line *line)
{
	if (line->too_long)
		return LINE_TOO_LONG;
	/* What came before the first key (a plug, a break) harms nobody. */
	return line->garbled && line->len ? LINE_GARBLED : LINE_READY;
}

static void add(struct line *line, uint8_t byte, char *echo, size_t *nr_echo)
{
	if (line->len + 1 >= sizeof(line->text)) {
		line->too_long = true;
		if (!line->silent)
			put(echo, nr_echo, "\a");
		return;
	}
	line->text[line->len++] = (char)byte;
	if (!line->secret && !line->silent)
		echo[(*nr_echo)++] = (char)byte;
}

enum line_event line_take(struct line *line, uint8_t byte, char *echo, size_t *nr_echo)
{
	bool after_cr = line->after_cr;

	*nr_echo = 0;
	line->after_cr = byte == '\r';
	if (take_escape(line, byte))
		return LINE_MORE;
	switch (byte) {
	case '\n':
		if (after_cr)
			return LINE_MORE;
		/* fall through */
	case '\r':
		if (!line->silent)
			put(echo, nr_echo, "\n");
		return end(line);
	case KEY_CTRL('C'):
		if (!line->silent)
			put(echo, nr_echo, "^C\n");
		return LINE_INTERRUPT;
	case KEY_CTRL('D'):
		return line->len ? LINE_MORE : LINE_END;
	case KEY_CTRL('U'):
		erase(line, line->len, echo, nr_echo);
		line->garbled = line->too_long = false;
		return LINE_MORE;
	case '\b':
	case KEY_DELETE:
		erase(line, 1, echo, nr_echo);
		return LINE_MORE;
	case '\t':
		byte = ' ';
		break;
	default:
		break;
	}
	if (byte >= ' ' && byte < KEY_DELETE)
		add(line, byte, echo, nr_echo);
	else
		line->garbled = true;
	return LINE_MORE;
}

/* One word from *from to *to, both of which move on. 0 or -EINVAL. */
static int take_word(const char **from, char **to)
{
	char quote = '\0';

	for (; **from && (quote || **from != ' '); (*from)++) {
		char c = **from;

		if (c == quote) {
			quote = '\0';
			continue;
		}
		if (!quote && (c == '"' || c == '\'')) {
			quote = c;
			continue;
		}
		if (c == '\\' && quote != '\'') {
			c = *++*from;
			if (!c)
				return -EINVAL;
		}
		*(*to)++ = c;
	}
	return quote ? -EINVAL : 0;
}

int line_split(char *text, char *words[static LINE_WORDS_MAX])
{
	const char *from = text;
	char *to = text;
	int nr = 0;

	words[0] = NULL;
	for (;;) {
		while (*from == ' ')
			from++;
		if (!*from)
			return nr;
		if (nr == LINE_WORDS_MAX - 1)
			return -E2BIG;
		words[nr] = to;
		if (take_word(&from, &to))
			return -EINVAL;
		/* The blank behind the word becomes its end; never in front of `from`. */
		if (*from)
			from++;
		*to++ = '\0';
		words[++nr] = NULL;
	}
}
