/* SPDX-License-Identifier: MIT */
/*
 * One line a message, the first reason kept, nothing that steers a terminal.
 *
 * needs: lib/log.c
 */
#include "lib/log.h"

#include "tests/unit/unit.h"
#include <errno.h>
#include <string.h>
#include <unistd.h>

static int saved_stderr, pipe_fds[2];

/* Standard error into a pipe; `text` is what it got. */
static int setup(void **state)
{
	UNUSED(state);
	saved_stderr = dup(2);
	if (pipe(pipe_fds) || dup2(pipe_fds[1], 2) < 0)
		return -1;
	close(pipe_fds[1]);
	log_context(NULL, 0);
	log_level_set(LOG_INFO);
	log_reason_clear();
	return 0;
}

static const char *finish(void)
{
	static char text[4096];
	ssize_t len;

	dup2(saved_stderr, 2);
	close(saved_stderr);
	len = read(pipe_fds[0], text, sizeof(text) - 1);
	close(pipe_fds[0]);
	text[len > 0 ? len : 0] = '\0';
	return text;
}

static void test_line(void **state)
{
	UNUSED(state);
	log_info("plain %d", 1);
	log_context("freeze", 812);
	log_error("no");
	log_debug("not shown");
	assert_string_equal(finish(), "baton: plain 1\nbaton: error: freeze: pid 812: no\n");
}

static void test_controls_are_masked(void **state)
{
	UNUSED(state);
	log_warn("a\nb\033[2Jc\xc3\xa4");
	assert_string_equal(finish(), "baton: warning: a?b?[2Jc\xc3\xa4\n");
}

static void test_long_line(void **state)
{
	char big[3000];
	const char *line;

	UNUSED(state);
	memset(big, 'x', sizeof(big) - 1);
	big[sizeof(big) - 1] = '\0';
	log_info("%s", big);
	line = finish();
	assert_int_equal(strlen(line), 1023);
	assert_int_equal(line[1022], '\n');
}

static void test_reason(void **state)
{
	UNUSED(state);
	errno = EBADF;
	assert_int_equal(log_fail(EPERM, "first %s", "one"), -EPERM);
	assert_int_equal(log_fail(-EIO, "second"), -EIO);
	assert_int_equal(errno, EBADF);
	assert_string_equal(log_reason(), "first one");
	log_reason_clear();
	assert_string_equal(log_reason(), "");
	/* The text of the error that it is about, whatever the sign and whatever errno is. */
	log_fail(-ENOENT, "file %s: %m", "x");
	assert_string_equal(log_reason(), "file x: No such file or directory");
	log_reason_clear();
	log_fail(ENOENT, "%m");
	assert_string_equal(log_reason(), "No such file or directory");
	assert_int_equal(errno, EBADF);
	log_reason_clear();
	assert_string_equal(finish(), "");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup(test_line, setup),
		cmocka_unit_test_setup(test_controls_are_masked, setup),
		cmocka_unit_test_setup(test_long_line, setup),
		cmocka_unit_test_setup(test_reason, setup),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
