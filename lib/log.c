/* SPDX-License-Identifier: MIT */
/* Messages on standard error, one write(2) each, and the reason of the last failure. */
#include "lib/log.h"

#include <errno.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define LINE_MAX_BYTES 1024

static enum log_level shown =
	CONFIG_LOG_LEVEL < LOG_INFO ? (enum log_level)CONFIG_LOG_LEVEL : LOG_INFO;

static struct {
	const char *stage;
	int pid;
	char reason[LOG_REASON_MAX];
} log_state;

void log_context(const char *stage, int pid)
{
	log_state.stage = stage;
	log_state.pid = pid;
}

void log_level_set(enum log_level level)
{
	shown = level <= (enum log_level)CONFIG_LOG_LEVEL ? level
							  : (enum log_level)CONFIG_LOG_LEVEL;
}

/* Names that a peer or a program chose must not steer the terminal or forge a second line. */
static void mask_controls(char *text)
{
	for (; *text != '\0'; text++)
		if ((unsigned char)*text < 0x20 || *text == 0x7f)
			*text = '?';
}

/* Appends; returns the new length, at most cap - 1. */
static size_t append(char *line, size_t cap, size_t len, const char *fmt, va_list args)
{
	int more = vsnprintf(line + len, cap - len, fmt, args);

	if (more < 0)
		return len;
	return (size_t)more < cap - len ? len + (size_t)more : cap - 1;
}

static size_t __attribute__((format(printf, 4, 5)))
append_f(char *line, size_t cap, size_t len, const char *fmt, ...)
{
	va_list args;

	va_start(args, fmt);
	len = append(line, cap, len, fmt, args);
	va_end(args);
	return len;
}

static void write_line(enum log_level level, const char *fmt, va_list args)
{
	static const char *const prefix[] = {
		[LOG_ERROR] = "error: ",
		[LOG_WARN] = "warning: ",
		[LOG_INFO] = "",
		[LOG_DEBUG] = "debug: ",
	};
	char line[LINE_MAX_BYTES];
	size_t len;

	len = append_f(line, sizeof(line) - 1, 0, "baton: %s", prefix[level]);
	if (log_state.stage)
		len = append_f(line, sizeof(line) - 1, len, "%s: ", log_state.stage);
	if (log_state.pid > 0)
		len = append_f(line, sizeof(line) - 1, len, "pid %d: ", log_state.pid);
	len = append(line, sizeof(line) - 1, len, fmt, args);
	line[len] = '\0';
	mask_controls(line);
	line[len++] = '\n';
	/* A log that cannot be written is no reason to fail a move. */
	if (write(STDERR_FILENO, line, len) < 0)
		return;
}

void log_write(enum log_level level, const char *fmt, ...)
{
	int saved = errno;
	va_list args;

	if (level > shown)
		return;
	va_start(args, fmt);
	write_line(level, fmt, args);
	va_end(args);
	errno = saved;
}

int log_fail(int err, const char *fmt, ...)
{
	int saved = errno;
	va_list args;

	errno = err > 0 ? err : -err;
	if (log_state.reason[0] == '\0') {
		va_start(args, fmt);
		vsnprintf(log_state.reason, sizeof(log_state.reason), fmt, args);
		va_end(args);
		mask_controls(log_state.reason);
	}
	if (shown >= LOG_DEBUG) {
		va_start(args, fmt);
		write_line(LOG_DEBUG, fmt, args);
		va_end(args);
	}
	errno = saved;
	return err > 0 ? -err : err;
}

int log_no_room(const char *what)
{
	return log_fail(ENOMEM,
			"the memory budget has no room for %s; raise CONFIG_MEMORY_BUDGET_KIB",
			what);
}

const char *log_reason(void)
{
	return log_state.reason;
}

void log_reason_clear(void)
{
	log_state.reason[0] = '\0';
}
