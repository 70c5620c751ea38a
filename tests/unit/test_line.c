/* SPDX-License-Identifier: MIT */
/*
 * The line editor and the splitter of the console, byte by byte.
 *
 * needs: board/line.c
 */
#include "board/line.h"

#include "tests/unit/unit.h"
#include <errno.h>
#include <stdio.h>
#include <string.h>

static struct line line;
static char shown[65536];

/* Types all of a text; the event of its last byte. Those before it must be LINE_MORE. */
static enum line_event type_bytes(const char *text, size_t len)
{
	enum line_event event = LINE_MORE;
	size_t nr, at = 0;

	for (size_t i = 0; i < len; i++) {
		assert_int_equal(event, LINE_MORE);
		event = line_take(&line, (uint8_t)text[i], shown + at, &nr);
		assert_true(nr <= LINE_ECHO_MAX);
		at += nr;
	}
	shown[at] = '\0';
	return event;
}

static enum line_event type(const char *text)
{
	return type_bytes(text, strlen(text));
}

static int begin(void **state)
{
	UNUSED(state);
	line = (struct line){0};
	return 0;
}

static void test_plain(void **unused)
{
	UNUSED(unused);
	assert_int_equal(type("status\r"), LINE_READY);
	assert_string_equal(line.text, "status");
	assert_string_equal(shown, "status\n");
	line_clear(&line);
	/* The line feed of CR LF ends no second line; one of its own does. */
	assert_int_equal(type("\n"), LINE_MORE);
	assert_int_equal(type("\n"), LINE_READY);
	assert_string_equal(line.text, "");
}

static void test_edit(void **unused)
{
	UNUSED(unused);
	assert_int_equal(type("\b\x7fstax\b\btatus\n"), LINE_READY);
	assert_string_equal(line.text, "sttatus");
	line_clear(&line);
	assert_int_equal(type("wrong\x15right\n"), LINE_READY);
	assert_string_equal(line.text, "right");
	assert_non_null(strstr(shown, "\b \b\b \b\b \b\b \b\b \bright"));
	line_clear(&line);
	assert_int_equal(type("a\tb\n"), LINE_READY);
	assert_string_equal(line.text, "a b");
}

static void test_keys(void **unused)
{
	UNUSED(unused);
	assert_int_equal(type("send\x03"), LINE_INTERRUPT);
	line_clear(&line);
	assert_int_equal(type("a\x04"), LINE_MORE);
	line_clear(&line);
	assert_int_equal(type("\x04"), LINE_END);
	line_clear(&line);
	/* Arrows, function keys, Alt and a letter; one that was cut short by Enter. */
	assert_int_equal(type("\x1b[Aa\x1bOPb\x1b[15~c\x1bxd\n"), LINE_READY);
	assert_string_equal(line.text, "abcd");
	line_clear(&line);
	assert_int_equal(type("a\x1b[\n"), LINE_READY);
	assert_string_equal(line.text, "a");
}

static void test_garbled(void **unused)
{
	UNUSED(unused);
	/* What PARMRK makes of a broken byte, in the middle of a number. */
	assert_int_equal(type_bytes("send 12\377\0\0013 b\n", 14), LINE_GARBLED);
	line_clear(&line);
	/* A plug, a break, before anything is typed. */
	assert_int_equal(type_bytes("\377\0\0\n", 4), LINE_READY);
	assert_string_equal(line.text, "");
	line_clear(&line);
	/* Ctrl-U begins anew. */
	assert_int_equal(type("se\xfe\x15status\n"), LINE_READY);
	assert_string_equal(line.text, "status");
}

static void test_long(void **unused)
{
	char text[LINE_MAX_BYTES + 2];

	UNUSED(unused);
	memset(text, 'a', sizeof(text));
	text[LINE_MAX_BYTES - 1] = '\n';
	assert_int_equal(type_bytes(text, LINE_MAX_BYTES), LINE_READY);
	assert_int_equal(line.len, LINE_MAX_BYTES - 1);
	line_clear(&line);
	text[LINE_MAX_BYTES - 1] = 'a';
	text[LINE_MAX_BYTES] = '\n';
	assert_int_equal(type_bytes(text, LINE_MAX_BYTES + 1), LINE_TOO_LONG);
	line_clear(&line);
	/* What was too long once stays so, however much is taken back: something is missing. */
	text[LINE_MAX_BYTES] = '\b';
	text[LINE_MAX_BYTES + 1] = '\n';
	assert_int_equal(type_bytes(text, LINE_MAX_BYTES + 2), LINE_TOO_LONG);
}

static void test_secret(void **unused)
{
	UNUSED(unused);
	line.secret = true;
	assert_int_equal(type("pass\bword\n"), LINE_READY);
	assert_string_equal(line.text, "pasword");
	assert_string_equal(shown, "\n");
	line_clear(&line);
	for (size_t i = 0; i < sizeof(line.text); i++)
		assert_int_equal(line.text[i], 0);
}

static char *words[LINE_WORDS_MAX];

static int split(const char *text)
{
	static char copy[LINE_MAX_BYTES];

	snprintf(copy, sizeof(copy), "%s", text);
	return line_split(copy, words);
}

static void test_split(void **unused)
{
	UNUSED(unused);
	assert_int_equal(split(""), 0);
	assert_null(words[0]);
	assert_int_equal(split("   "), 0);
	assert_int_equal(split("  send  12 b "), 3);
	assert_string_equal(words[0], "send");
	assert_string_equal(words[1], "12");
	assert_string_equal(words[2], "b");
	assert_null(words[3]);
	assert_int_equal(split("a 'b  c\\' \"d 'e' \\\" f\"g h\\ i \"\""), 5);
	assert_string_equal(words[1], "b  c\\");
	assert_string_equal(words[2], "d 'e' \" fg");
	assert_string_equal(words[3], "h i");
	assert_string_equal(words[4], "");
}

static void test_split_bad(void **unused)
{
	char text[LINE_MAX_BYTES] = "";

	UNUSED(unused);
	assert_int_equal(split("a 'b"), -EINVAL);
	assert_int_equal(split("a \"b'"), -EINVAL);
	assert_int_equal(split("a \\"), -EINVAL);
	for (int i = 0; i < LINE_WORDS_MAX - 1; i++)
		strcat(text, "w ");
	assert_int_equal(split(text), LINE_WORDS_MAX - 1);
	assert_null(words[LINE_WORDS_MAX - 1]);
	strcat(text, "w");
	assert_int_equal(split(text), -E2BIG);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup(test_plain, begin),
		cmocka_unit_test_setup(test_edit, begin),
		cmocka_unit_test_setup(test_keys, begin),
		cmocka_unit_test_setup(test_garbled, begin),
		cmocka_unit_test_setup(test_long, begin),
		cmocka_unit_test_setup(test_secret, begin),
		cmocka_unit_test_setup(test_split, begin),
		cmocka_unit_test_setup(test_split_bad, begin),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
