/* SPDX-License-Identifier: MIT */
/*
 * Files, lines, folders and text.
 *
 * needs: lib/io.c lib/readers.c lib/text.c
 */
#include "lib/clock.h"
#include "lib/io.h"
#include "lib/text.h"

#include "tests/unit/unit.h"
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <unistd.h>

static char folder[] = "/tmp/baton-test-io-XXXXXX";
static int dir_fd;

static int setup(void **state)
{
	UNUSED(state);
	if (!mkdtemp(folder))
		return -1;
	dir_fd = open(folder, O_RDONLY | O_DIRECTORY);
	return dir_fd < 0 ? -1 : 0;
}

static int teardown(void **state)
{
	struct dir_reader dir;
	const char *name;

	UNUSED(state);
	if (dir_reader_open(&dir, dir_fd, "."))
		return -1;
	while (dir_reader_next(&dir, &name, NULL) == 1)
		unlinkat(dir_fd, name, 0);
	dir_reader_close(&dir);
	close(dir_fd);
	return rmdir(folder);
}

static void put(const char *name, const char *text)
{
	assert_int_equal(io_replace_file(dir_fd, name, 0600, text, strlen(text)), 0);
}

static void test_read_file(void **state)
{
	char buf[6];

	UNUSED(state);
	put("five", "12345");
	assert_int_equal(io_read_file(dir_fd, "five", buf, 6), 5);
	assert_string_equal(buf, "12345");
	assert_int_equal(io_read_file(dir_fd, "five", buf, 5), -EFBIG);
	assert_int_equal(io_read_file(dir_fd, "none", buf, 5), -ENOENT);
}

static void test_replace_file(void **state)
{
	struct stat st;
	char buf[8];

	UNUSED(state);
	put("again", "old");
	assert_int_equal(io_replace_file(dir_fd, "again", 0640, "new", 3), 0);
	assert_int_equal(io_read_file(dir_fd, "again", buf, sizeof(buf)), 3);
	assert_string_equal(buf, "new");
	assert_int_equal(fstatat(dir_fd, "again", &st, 0), 0);
	assert_int_equal(st.st_mode & 07777, 0640);
	assert_int_equal(io_replace_file(dir_fd, "no/such", 0600, "", 0), -ENOENT);
}

static void test_full_reads(void **state)
{
	int pipe_fds[2];
	char buf[8];

	UNUSED(state);
	assert_int_equal(pipe(pipe_fds), 0);
	assert_int_equal(io_write_full(pipe_fds[1], "abcdef", 6), 0);
	close(pipe_fds[1]);
	assert_int_equal(io_read_full(pipe_fds[0], buf, 4), 0);
	assert_int_equal(io_read_full(pipe_fds[0], buf, 4), -ENODATA);
	close(pipe_fds[0]);
}

static void test_lines(void **state)
{
	struct line_reader reader;
	char buf[10], *line;

	UNUSED(state);
	put("lines", "one\n\nthree 33\nlast");
	assert_int_equal(line_reader_open(&reader, dir_fd, "lines", buf, sizeof(buf)), 0);
	assert_int_equal(line_reader_next(&reader, &line), 1);
	assert_string_equal(line, "one");
	assert_int_equal(line_reader_next(&reader, &line), 1);
	assert_string_equal(line, "");
	assert_int_equal(line_reader_next(&reader, &line), 1);
	assert_string_equal(line, "three 33");
	assert_int_equal(line_reader_next(&reader, &line), 1);
	assert_string_equal(line, "last");
	assert_int_equal(line_reader_next(&reader, &line), 0);
	assert_int_equal(line_reader_next(&reader, &line), 0);
	line_reader_close(&reader);
	assert_int_equal(line_reader_open(&reader, dir_fd, "lines", buf, 6), 0);
	assert_int_equal(line_reader_next(&reader, &line), 1);
	assert_int_equal(line_reader_next(&reader, &line), 1);
	assert_int_equal(line_reader_next(&reader, &line), -EFBIG);
	line_reader_close(&reader);
	assert_int_equal(line_reader_open(&reader, dir_fd, "none", buf, 6), -ENOENT);
	line_reader_close(&reader);
}

static void test_folder(void **state)
{
	struct dir_reader dir;
	char seen[300] = {0}, name[64];
	const char *entry;
	int count = 0;
	uint8_t type;

	UNUSED(state);
	for (int i = 0; i < 300; i++) { /* more than one buffer */
		snprintf(name, sizeof(name), "entry-with-a-long-name-%d", i);
		put(name, "");
	}
	assert_int_equal(dir_reader_open(&dir, dir_fd, "."), 0);
	while (dir_reader_next(&dir, &entry, &type) == 1) {
		int i;

		assert_int_not_equal(strcmp(entry, ".."), 0);
		assert_int_equal(type, DT_REG);
		if (sscanf(entry, "entry-with-a-long-name-%d", &i) == 1) {
			assert_int_equal(seen[i]++, 0);
			count++;
		}
	}
	dir_reader_close(&dir);
	assert_int_equal(count, 300);
}

static void test_make_dirs(void **state)
{
	char path[128];
	struct stat st;

	UNUSED(state);
	snprintf(path, sizeof(path), "%s/a/b", folder);
	assert_int_equal(io_make_dirs(path, 0700), 0);
	assert_int_equal(io_make_dirs(path, 0700), 0);
	assert_int_equal(stat(path, &st), 0);
	assert_int_equal(st.st_mode & 0777, 0700);
	rmdir(path);
	snprintf(path, sizeof(path), "%s/a", folder);
	rmdir(path);
	put("file", "");
	snprintf(path, sizeof(path), "%s/file", folder);
	assert_int_equal(io_make_dirs(path, 0700), -ENOTDIR);
}

static void test_numbers(void **state)
{
	uint64_t value;
	int64_t number;
	int small;

	UNUSED(state);
	assert_int_equal(text_parse_u64("18446744073709551615", 10, &value), 0);
	assert_true(value == UINT64_MAX);
	assert_int_equal(text_parse_u64("18446744073709551616", 10, &value), -ERANGE);
	assert_int_equal(text_parse_u64("ffFF", 16, &value), 0);
	assert_int_equal(value, 0xffff);
	assert_int_equal(text_parse_u64("", 10, &value), -EINVAL);
	assert_int_equal(text_parse_u64("1x", 10, &value), -EINVAL);
	assert_int_equal(text_parse_u64("-1", 10, &value), -EINVAL);
	assert_int_equal(text_parse_u64("8", 8, &value), -EINVAL);
	assert_int_equal(text_parse_i64("-9223372036854775808", 10, &number), 0);
	assert_true(number == INT64_MIN);
	assert_int_equal(text_parse_i64("9223372036854775808", 10, &number), -ERANGE);
	assert_int_equal(text_parse_int("65536", 0, 65535, &small), -ERANGE);
	assert_int_equal(text_parse_int("65535", 0, 65535, &small), 0);
	assert_int_equal(small, 65535);
}

static void test_cursor(void **state)
{
	const char *at = " 7f00-7fff r-xp -5 word";
	uint64_t start, end;
	int64_t number;
	char word[5];

	UNUSED(state);
	assert_true(text_take_u64(&at, 16, &start));
	assert_true(text_take_char(&at, '-'));
	assert_true(text_take_u64(&at, 16, &end));
	assert_int_equal(start, 0x7f00);
	assert_int_equal(end, 0x7fff);
	assert_false(text_take_u64(&at, 10, &end));
	assert_true(text_take_word(&at, word, sizeof(word)));
	assert_string_equal(word, "r-xp");
	assert_true(text_take_i64(&at, 10, &number));
	assert_int_equal(number, -5);
	assert_false(text_take_word(&at, word, 4));
	assert_true(text_take_word(&at, word, 5));
	assert_string_equal(word, "word");
	assert_false(text_take_word(&at, word, 5));
	assert_string_equal(text_after("Name:\tredis", "Name:"), "redis");
	assert_null(text_after("Nam", "Name:"));
}

static void test_hex(void **state)
{
	const uint8_t bytes[] = {0x00, 0xab, 0xff};
	uint8_t back[3];
	char text[10];

	UNUSED(state);
	text_put_hex(text, bytes, 3, ':');
	assert_string_equal(text, "00:ab:ff");
	text_put_hex(text, bytes, 3, '\0');
	assert_string_equal(text, "00abff");
	assert_int_equal(text_parse_hex("00aBff", back, 3), 0);
	assert_memory_equal(back, bytes, 3);
	assert_int_equal(text_parse_hex("00abf", back, 3), -EINVAL);
	assert_int_equal(text_parse_hex("00abff0", back, 3), -EINVAL);
	assert_int_equal(text_parse_hex("", back, 3), -EINVAL);
}

static void test_copy(void **state)
{
	char out[4];

	UNUSED(state);
	assert_true(text_copy(out, sizeof(out), "abc"));
	assert_false(text_copy(out, sizeof(out), "abcd"));
	assert_string_equal(out, "abc");
	assert_false(text_copy(out, 0, ""));
}

static void on_alarm(int signal)
{
	UNUSED(signal);
}

/* For what it may look without sleep: a signal and what is ready still end it, and no wait is no wait. */
static void test_poll_busy(void **state)
{
	const int64_t now = clock_now_ns();
	struct pollfd fd = {.events = POLLIN};
	sigset_t alarm;
	int ends[2];

	UNUSED(state);
	assert_int_equal(pipe(ends), 0);
	fd.fd = ends[0];
	/* With any of these it would go on for an hour. */
	io_busy_us = 3600000000U;
	assert_int_equal(io_poll_busy(&fd, 1, 0, now), 0);
	assert_int_equal(io_poll_busy(&fd, 1, 1, 0), 0);
	assert_int_equal(io_poll_busy(&fd, 1, 1, now - 3600ll * 1000000000), 0);
	/* As baton has it: it is let in while we look, and only there. */
	sigemptyset(&alarm);
	sigaddset(&alarm, SIGALRM);
	sigprocmask(SIG_BLOCK, &alarm, NULL);
	signal(SIGALRM, on_alarm);
	setitimer(ITIMER_REAL, &(struct itimerval){.it_value.tv_usec = 2000}, NULL);
	/* Asleep it would be over after a millisecond, with nothing. */
	assert_int_equal(io_poll_busy(&fd, 1, 1, now), -EINTR);
	io_busy_us = 0;
	assert_int_equal(io_poll_busy(&fd, 1, 1, now), 0);
	assert_int_equal(write(ends[1], "", 1), 1);
	assert_int_equal(io_poll_busy(&fd, 1, -1, now), 1);
	io_busy_us = 3600000000U;
	assert_int_equal(io_poll_busy(&fd, 1, -1, now), 1);
	io_busy_us = CONFIG_FAULT_POLL_US;
	close(ends[0]);
	close(ends[1]);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_read_file),  cmocka_unit_test(test_replace_file),
		cmocka_unit_test(test_full_reads), cmocka_unit_test(test_lines),
		cmocka_unit_test(test_folder),     cmocka_unit_test(test_make_dirs),
		cmocka_unit_test(test_numbers),    cmocka_unit_test(test_cursor),
		cmocka_unit_test(test_hex),        cmocka_unit_test(test_copy),
		cmocka_unit_test(test_poll_busy),
	};

	return cmocka_run_group_tests(tests, setup, teardown);
}
