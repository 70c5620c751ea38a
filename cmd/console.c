/* SPDX-License-Identifier: MIT */
/*
 * baton console: the commands on a serial line.
 *
 *     LOGIN --password--> PROMPT --line--> RUNNING --end, or a second Ctrl-C--> PROMPT
 *
 * Each command is a process of its own, of this same program: its fault does not end the console, its memory
 * is not ours. Its output comes through a pipe, so that a line that nobody reads never stops a move.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "board/line.h"
#include "board/notice.h"
#include "board/password.h"
#include "board/tty.h"
#include "cmd/options.h"
#include "cmd/report.h"
#include "lib/clock.h"
#include "lib/io.h"
#include "lib/kernel.h"
#include "lib/log.h"

#define ALLOWED                                                                                    \
	(OPTION_BIT(OPTION_KEYS) | OPTION_BIT(OPTION_STATE) | OPTION_BIT(OPTION_TTY) |             \
	 OPTION_BIT(OPTION_BAUD) | OPTION_BIT(OPTION_MACHINE) | OPTION_BIT(OPTION_SET_PASSWORD))

#define PROMPT "baton> "
#define ASK_PASSWORD "password: "
/* Text that is said and not asked for: of what happens, of the console itself. */
#define NEWS_MAX (LOG_REASON_MAX + 16)
/* A line that has taken nothing for so long is taken for dead, and what was to be said is dropped. */
#define STUCK_MS 2000
/* Between two looks at moves that may have lost those who work on them. */
#define LOOK_MS 2000
/* After a wrong password; doubled with each, up to the longest. */
#define DELAY_MS 1000
#define DELAY_DOUBLED_MOST 6
#define OUT_BYTES 4000
#define READ_BYTES 512

static struct console {
	struct options options;
	struct tty tty;
	struct line line;
	char out[OUT_BYTES]; /* not taken by the line yet */
	size_t nr_out;
	int64_t taken_ms; /* when it last took something */
	bool begun;       /* the cursor stands behind something: a line of output has no end yet */
	bool inside;      /* the password was given, or none is wanted */
	bool known;       /* it was given */
	unsigned int failures;
	int64_t deaf_ms; /* until then nothing counts that is typed */
	pid_t child;     /* 0: none */
	int child_fd, child_pidfd, child_status;
	bool child_ended, child_asked; /* its status is there; Ctrl-C was told to it */
	char child_name[16];
	int events; /* news of moves; < 0: not yet */
	int64_t look_ms;
	bool over;
} c;

static volatile sig_atomic_t ended;

static void on_end(int signal)
{
	ended = signal;
}

/* ---- what is said ---- */

static void flush(void)
{
	ssize_t put;

	while (c.nr_out) {
		put = write(c.tty.fd, c.out, c.nr_out);
		if (put < 0 && errno == EINTR)
			continue;
		if (put < 0 && errno == EAGAIN)
			return;
		if (put <= 0) {
			c.over = true;
			return;
		}
		c.taken_ms = clock_now_ms();
		c.nr_out -= (size_t)put;
		memmove(c.out, c.out + put, c.nr_out);
	}
}

/* Into the buffer; one that is full is waited for, but not for ever. */
static void say_bytes(const char *text, size_t len)
{
	struct pollfd line = {c.tty.fd, POLLOUT, 0};

	if (len > sizeof(c.out))
		return;
	if (!c.nr_out)
		c.taken_ms = clock_now_ms();
	while (sizeof(c.out) - c.nr_out < len && !c.over) {
		flush();
		if (sizeof(c.out) - c.nr_out < len && io_poll(&line, 1, STUCK_MS) <= 0)
			return;
	}
	memcpy(c.out + c.nr_out, text, len);
	c.nr_out += len;
	if (len)
		c.begun = text[len - 1] != '\n';
}

static void say(const char *text)
{
	say_bytes(text, strlen(text));
}

/* The prompt, with what was typed behind it already. */
static void say_prompt(void)
{
	if (c.child || c.over)
		return;
	if (!c.inside)
		say(c.options.machine ? "? password\n" : ASK_PASSWORD);
	else if (!c.options.machine) {
		say(PROMPT);
		say_bytes(c.line.text, c.line.len);
	}
}

/* A line of its own, whatever stands there; the prompt comes again. */
static void say_news(const char *text)
{
	char line[NEWS_MAX];
	size_t len;

	if (!c.inside)
		return;
	if (c.begun)
		say("\n");
	len = (size_t)snprintf(line, sizeof(line) - 1, "%s%s", c.options.machine ? "! " : "* ",
			       text);
	if (len > sizeof(line) - 2)
		len = sizeof(line) - 2;
	for (char *at = line; *at; at++)
		if ((unsigned char)*at < ' ' || *at == 0x7f)
			*at = '?';
	line[len] = '\n';
	say_bytes(line, len + 1);
	say_prompt();
}

/* How a command ended; a word when it has no code. */
static void say_result(const char *name, int code, const char *word)
{
	char line[80];

	if (c.begun)
		say("\n");
	if (c.options.machine && word)
		snprintf(line, sizeof(line), "= %s %s\n", word, name);
	else if (c.options.machine)
		snprintf(line, sizeof(line), "= %d %s\n", code, name);
	else if (code > OUTCOME_SYSTEM)
		snprintf(line, sizeof(line), "[%s was killed by signal %d]\n", name, code - 128);
	else if (code)
		snprintf(line, sizeof(line), "[code %d: %s]\n", code,
			 report_outcome_name((enum outcome)code));
	else
		line[0] = '\0';
	say(line);
}

/* What the console itself finds wrong with a line. */
static void say_wrong(const char *why)
{
	if (c.options.machine)
		say(". ");
	say(why);
	say("\n");
	say_result("-", OUTCOME_USAGE, NULL);
	say_prompt();
}

/* ---- a command ---- */

/* What the console was given holds for its commands as well, unless they are told otherwise. */
static void add_option(char **argv, int *nr, const char *option, const char *value)
{
	size_t len = strlen(option);
	char with_blank[16];

	snprintf(with_blank, sizeof(with_blank), "%s ", option);
	if (len + 2 > sizeof(with_blank) || !cmd_takes(c.child_name, with_blank))
		return;
	argv[(*nr)++] = (char *)option;
	argv[(*nr)++] = (char *)value;
}

static void __attribute__((noreturn)) be_command(char **words, int out)
{
	char *argv[LINE_WORDS_MAX + 8];
	int nr = 0, null = open("/dev/null", O_RDWR | O_CLOEXEC);
	sigset_t none;

	argv[nr++] = "baton";
	argv[nr++] = *words++;
	if (options_keys_given(&c.options))
		add_option(argv, &nr, "--keys", c.options.keys);
	add_option(argv, &nr, "--state", c.options.state);
	while (*words)
		argv[nr++] = *words++;
	argv[nr] = NULL;
	/* A session of its own: a hang-up of the line is ours to tell. */
	setsid();
	/* Our handlers would swallow what has come for it already. */
	signal(SIGINT, SIG_DFL);
	signal(SIGTERM, SIG_DFL);
	signal(SIGHUP, SIG_DFL);
	/* It may have to go on when nobody hears it any more. */
	signal(SIGPIPE, SIG_IGN);
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	if (dup2(null, 0) == 0 && dup2(out, 1) == 1 && dup2(out, 2) == 2)
		execv("/proc/self/exe", argv);
	_exit(OUTCOME_SYSTEM);
}

static void begin_command(char **words)
{
	sigset_t asks, before;
	int ends[2];

	snprintf(c.child_name, sizeof(c.child_name), "%s", words[0]);
	if (pipe2(ends, O_CLOEXEC)) {
		say_wrong(strerror(errno));
		return;
	}
	sigemptyset(&asks);
	sigaddset(&asks, SIGINT);
	sigprocmask(SIG_BLOCK, &asks, &before);
	c.child = fork();
	if (c.child == 0)
		be_command(words, ends[1]);
	sigprocmask(SIG_SETMASK, &before, NULL);
	close(ends[1]);
	if (c.child > 0)
		c.child_pidfd = (int)syscall(SYS_pidfd_open, c.child, 0);
	if (c.child < 0) {
		c.child = 0;
		close(ends[0]);
		say_wrong(strerror(errno));
		return;
	}
	fcntl(ends[0], F_SETFL, O_NONBLOCK);
	fcntl(c.child_pidfd, F_SETFD, FD_CLOEXEC);
	c.child_fd = ends[0];
	c.child_asked = false;
}

/* Whether a password is wanted, also of one that is open already: it may have been set since. */
static void look_for_password(void)
{
	int wanted;

	if (c.known)
		return;
	wanted = password_wanted(c.options.keys);
	if (wanted < 0 && c.inside)
		log_warn("console: nobody is let in: %s", log_reason());
	log_reason_clear();
	c.inside = !wanted;
	c.line.secret = wanted;
}

/* Back to the prompt, whether the command has ended or not. */
static void leave_command(void)
{
	io_close(&c.child_fd);
	io_close(&c.child_pidfd);
	c.child = 0;
	c.child_ended = false;
	line_clear(&c.line);
	if (c.inside)
		look_for_password();
	say_prompt();
}

static void end_command(void)
{
	int status = c.child_status;

	say_result(c.child_name, WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status),
		   NULL);
	leave_command();
}

/* Some of the command's output; when there is no more and it has ended, that is its end. */
static void hear_command(void)
{
	char buf[READ_BYTES];
	ssize_t got = read(c.child_fd, buf, sizeof(buf)), from = 0;

	if (got < 0 && errno == EINTR)
		return;
	if (got <= 0) {
		/* Others may hold the pipe: only the command itself counts. */
		if (c.child_ended)
			end_command();
		else if (got == 0)
			io_close(&c.child_fd);
		return;
	}
	if (!c.options.machine) {
		say_bytes(buf, (size_t)got);
		return;
	}
	for (ssize_t at = 0; at < got; at++) {
		if (!c.begun && at == from)
			say(". ");
		if (buf[at] == '\n' || at + 1 == got) {
			say_bytes(buf + from, (size_t)(at + 1 - from));
			from = at + 1;
		}
	}
}

static void reap(void)
{
	if (!c.child) {
		/* Those that were let go. */
		while (waitpid(-1, NULL, WNOHANG) > 0)
			;
	} else if (!c.child_ended && waitpid(c.child, &c.child_status, WNOHANG) == c.child) {
		c.child_ended = true;
		io_close(&c.child_pidfd);
		if (c.child_fd < 0)
			end_command();
	}
}

/* It and what it has made, or itself when it has no group of its own yet. */
static void ask_to_end(void)
{
	if (kill(-c.child, SIGINT))
		kill(c.child, SIGINT);
}

static void interrupt(void)
{
	if (!c.child_asked) {
		/* As a shell would: a move that is not committed is undone, any other goes on. */
		c.child_asked = true;
		ask_to_end();
		say_news("it is asked to end; after another Ctrl-C it goes on without the console");
		return;
	}
	say_result(c.child_name, 0, "&");
	leave_command();
}

/* ---- a line ---- */

static void take_words(char **words)
{
	if (!strcmp(words[0], "baton") && words[1])
		words++;
	if (!strcmp(words[0], "exit") || !strcmp(words[0], "logout"))
		c.over = true;
	else if (!strcmp(words[0], "console"))
		say_wrong("this is the console");
	else
		begin_command(words);
}

static void take_line(void)
{
	char *words[LINE_WORDS_MAX];
	int nr = line_split(c.line.text, words);

	if (nr < 0)
		say_wrong(nr == -E2BIG ? "too many words"
				       : "a quote is open, or a backslash is last");
	else if (nr)
		take_words(words);
	else {
		say_result("-", OUTCOME_DONE, NULL);
		say_prompt();
	}
}

static void take_password(void)
{
	int err = password_check(c.options.keys, c.line.text);
	unsigned int doubled = c.failures < DELAY_DOUBLED_MOST ? c.failures : DELAY_DOUBLED_MOST;

	if (!err) {
		c.inside = c.known = true;
		c.line.secret = false;
		c.failures = 0;
		line_clear(&c.line);
		say_result("password", 0, NULL);
		say_prompt();
		return;
	}
	c.failures++;
	if (err != -EACCES)
		log_warn("console: %s", log_reason());
	log_reason_clear();
	/* Whoever listens at the line gets no more than that. */
	say(c.options.machine ? "= 5 password\n" : "wrong; wait a moment\n");
	c.deaf_ms = clock_now_ms() + ((int64_t)DELAY_MS << doubled);
}

/* What was typed, and how the line was left, is of whoever was here before. */
static void ask_password(void)
{
	line_clear(&c.line);
	if (c.begun)
		say("\n");
	say_prompt();
}

static void take_event(enum line_event event)
{
	if (c.inside) {
		look_for_password();
		if (!c.inside) {
			ask_password();
			return;
		}
	}
	/* What is said from here on is not said in the middle of it. */
	c.line.len = 0;
	/* Who has guessed wrong may not begin anew by leaving. */
	if (event == LINE_END && (c.inside || !c.failures)) {
		c.over = true;
	} else if (event == LINE_INTERRUPT || event == LINE_END) {
		line_clear(&c.line);
		say_prompt();
		return;
	} else if (event == LINE_TOO_LONG) {
		say_wrong("the line is too long; nothing was done");
	} else if (event == LINE_GARBLED) {
		say_wrong("the line arrived garbled; nothing was done");
	} else if (!c.inside) {
		take_password();
	} else {
		take_line();
	}
	line_clear(&c.line);
}

static void take_byte(uint8_t byte)
{
	char echo[LINE_ECHO_MAX];
	enum line_event event;
	size_t nr;

	if (clock_now_ms() < c.deaf_ms)
		return;
	/* Typed ahead counts for nothing: it was not meant for what the command has changed meanwhile. */
	c.line.silent = c.child || c.options.machine;
	event = line_take(&c.line, byte, echo, &nr);
	say_bytes(echo, nr);
	if (!c.child && event != LINE_MORE)
		take_event(event);
	else if (event == LINE_INTERRUPT)
		interrupt();
	if (c.child && event != LINE_MORE)
		line_clear(&c.line);
}

static void hear_line(void)
{
	uint8_t buf[64];
	ssize_t got = read(c.tty.fd, buf, sizeof(buf));

	if (got < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	/* Hung up, or whatever else there is nothing to be done about. */
	if (got <= 0)
		c.over = true;
	for (ssize_t i = 0; i < got && !c.over; i++)
		take_byte(buf[i]);
}

/* ---- the loop ---- */

static void look_at_moves(void)
{
	if (c.inside) {
		look_for_password();
		if (!c.inside)
			ask_password();
	}
	if (c.events < 0) {
		c.events = notice_open(c.options.state);
		if (c.events < 0)
			return;
	}
	notice_look(say_news);
}

static int next_ms(void)
{
	int64_t next = INT64_MAX;

	if (c.child_ended && !c.nr_out)
		return 0;
	if (c.events < 0 || notice_has_moves())
		next = c.look_ms;
	if (c.nr_out && c.taken_ms + STUCK_MS < next)
		next = c.taken_ms + STUCK_MS;
	if (c.deaf_ms && c.deaf_ms < next)
		next = c.deaf_ms;
	return clock_left_ms(next);
}

static void wait_and_serve(void)
{
	/* More output is taken from a command when the line has room for it. */
	struct pollfd fds[4] = {
		{c.tty.fd, (short)(c.nr_out ? POLLIN | POLLOUT : POLLIN), 0},
		{c.nr_out ? -1 : c.child_fd, POLLIN, 0},
		{c.child_pidfd, POLLIN, 0},
		{c.events, POLLIN, 0},
	};

	if (io_poll(fds, 4, next_ms()) < 0)
		return;
	if (fds[0].revents & POLLIN)
		hear_line();
	else if (fds[0].revents & (POLLHUP | POLLERR | POLLNVAL))
		c.over = true;
	flush();
	if (c.nr_out && clock_now_ms() - c.taken_ms >= STUCK_MS)
		c.nr_out = 0;
	if (c.child_fd >= 0 && !c.nr_out && (fds[1].revents || c.child_ended))
		hear_command();
	reap();
	if (fds[3].revents || clock_now_ms() >= c.look_ms) {
		look_at_moves();
		c.look_ms = clock_now_ms() + LOOK_MS;
	}
	if (c.deaf_ms && clock_now_ms() >= c.deaf_ms) {
		c.deaf_ms = 0;
		say_prompt();
	}
	flush();
}

static void catch_signals(void)
{
	struct sigaction end = {.sa_handler = on_end};

	sigaction(SIGTERM, &end, NULL);
	sigaction(SIGINT, &end, NULL);
	sigaction(SIGHUP, &end, NULL);
	signal(SIGPIPE, SIG_IGN);
	/* One that was sent to the background must not stop at its first word. */
	signal(SIGTTOU, SIG_IGN);
}

static int run(void)
{
	c.inside = true;
	look_for_password();
	look_at_moves();
	if (c.inside)
		say(c.options.machine
			    ? "! baton console\n"
			    : "baton console; \"help\" lists the commands, \"exit\" ends it\n");
	say_prompt();
	flush();
	while (!c.over && !ended)
		wait_and_serve();
	/* As by Ctrl-C: what was not committed is undone, the rest goes on. */
	if (c.child && !c.child_ended)
		ask_to_end();
	line_clear(&c.line);
	tty_close(&c.tty);
	/* Nor by a hang-up: whoever starts the console again waits, too. */
	if (c.deaf_ms && !ended)
		io_sleep_ms(clock_left_ms(c.deaf_ms));
	return OUTCOME_DONE;
}

/* ---- the password is set ---- */

/* A line without echo, from the terminal or from a pipe. False: there was none. */
static bool ask(const char *question)
{
	struct pollfd input = {c.tty.fd < 0 ? STDIN_FILENO : c.tty.fd, POLLIN, 0};
	enum line_event event = LINE_MORE;
	char echo[LINE_ECHO_MAX];
	uint8_t byte;
	size_t nr;

	line_clear(&c.line);
	if (c.tty.fd >= 0)
		say(question);
	while (event == LINE_MORE && !ended) {
		flush();
		if (io_poll(&input, 1, -1) < 0)
			continue;
		if (read(input.fd, &byte, 1) != 1)
			return false;
		event = line_take(&c.line, byte, echo, &nr);
		if (c.tty.fd >= 0)
			say_bytes(echo, nr);
	}
	flush();
	return event == LINE_READY;
}

static int set_password(void)
{
	char first[LINE_MAX_BYTES];
	bool twice = isatty(STDIN_FILENO);
	int err = -EINVAL;

	if (twice && tty_open(&c.tty, NULL, 0))
		return cmd_fail(OUTCOME_SYSTEM, "no terminal");
	c.line.secret = true;
	if (!ask("new password: "))
		log_fail(EINVAL, "no password was given; nothing is changed");
	else {
		memcpy(first, c.line.text, sizeof(first));
		if (twice && (!ask("once more: ") || strcmp(first, c.line.text) != 0))
			log_fail(EINVAL, "the two differ; nothing is changed");
		else
			err = password_set(c.options.keys, first);
	}
	explicit_bzero(first, sizeof(first));
	line_clear(&c.line);
	tty_close(&c.tty);
	if (err)
		return cmd_fail(OUTCOME_FAILED, "the password cannot be set");
	printf("the console asks for it from now on (%s/console)\n", c.options.keys);
	return OUTCOME_DONE;
}

int cmd_console(int argc, char **argv)
{
	int outcome = options_parse(argc, argv, ALLOWED, &c.options);

	c.tty.fd = c.child_fd = c.child_pidfd = c.events = -1;
	if (outcome >= 0)
		return outcome;
	if (c.options.nr_args)
		return cmd_usage(argv[0], "%s: no argument is wanted", c.options.args[0]);
	if (c.options.baud && !tty_baud_known(c.options.baud))
		return cmd_usage(argv[0], "--baud %u: no line has that rate", c.options.baud);
	catch_signals();
	if (c.options.set_password)
		return set_password();
	if (tty_open(&c.tty, c.options.tty, c.options.baud))
		return cmd_fail(OUTCOME_SYSTEM, "the line cannot be opened");
	return run();
}
