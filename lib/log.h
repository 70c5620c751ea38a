/* SPDX-License-Identifier: MIT */
/* One line a message on standard error, one write(2) each; the last failure's reason in words. */
#ifndef BATON_LOG_H
#define BATON_LOG_H

enum log_level { LOG_ERROR, LOG_WARN, LOG_INFO, LOG_DEBUG };

#define LOG_REASON_MAX 512

/* What stands in front of each line. Both may be NULL / 0. `stage` must outlive its use. */
void log_context(const char *stage, int pid);

/* Lines above this level are dropped; LOG_INFO at first. CONFIG_LOG_LEVEL is the upper bound. */
void log_level_set(enum log_level level);

void log_write(enum log_level level, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/* What is above the bound leaves not even its text in the binary. */
#define log_at(level, ...)                                                                         \
	((int)(level) <= CONFIG_LOG_LEVEL ? log_write(level, __VA_ARGS__) : (void)0)
#define log_error(...) log_at(LOG_ERROR, __VA_ARGS__)
#define log_warn(...) log_at(LOG_WARN, __VA_ARGS__)
#define log_info(...) log_at(LOG_INFO, __VA_ARGS__)
#define log_debug(...) log_at(LOG_DEBUG, __VA_ARGS__)

/*
 * Says why something failed (%m: the text of `err`), once, where the context is known: keeps the text as the reason (the
 * first since log_reason_clear wins), logs it at debug level, returns -err.
 * The text is a full message for a user: what failed, on what, why, what to do.
 */
int log_fail(int err, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/* log_fail for what the arena had no room for, and the way out. -ENOMEM. */
int log_no_room(const char *what);

/* The reason kept by log_fail, "" when there is none. */
const char *log_reason(void);
void log_reason_clear(void);

#endif
