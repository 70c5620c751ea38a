/* SPDX-License-Identifier: MIT */
/*
 * What comes over a serial line: any bytes. A line that is ready holds what can be typed and nothing else, the
 * echo stays within its bound, and its words are in the line's text.
 *
 * needs: board/line.c
 */
#include "board/line.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_words(char *text, size_t len)
{
	char *words[LINE_WORDS_MAX];
	int nr = line_split(text, words);
	size_t total = 0;

	if (nr < 0) {
		if (nr != -EINVAL && nr != -E2BIG)
			abort();
		return;
	}
	if (nr >= LINE_WORDS_MAX || words[nr])
		abort();
	for (int i = 0; i < nr; i++) {
		if (words[i] < text || words[i] > text + len)
			abort();
		total += strlen(words[i]);
	}
	if (total > len)
		abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct line line;
	char echo[LINE_ECHO_MAX];
	size_t nr;

	line = (struct line){.secret = size & 1, .silent = size & 2};
	for (size_t i = 0; i < size; i++) {
		enum line_event event = line_take(&line, data[i], echo, &nr);

		if (nr > sizeof(echo) || line.len >= sizeof(line.text) ||
		    strlen(line.text) != line.len || (line.silent && nr) || event > LINE_END)
			abort();
		for (size_t at = 0; at < line.len; at++)
			if (line.text[at] < ' ' || line.text[at] > '~')
				abort();
		if (event == LINE_READY)
			check_words(line.text, line.len);
		if (event != LINE_MORE)
			line_clear(&line);
	}
	return 0;
}
