/* SPDX-License-Identifier: MIT */
/* baton: hands a running process from one device to another. The table of its commands. */
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "cmd/cmd.h"
#include "cmd/options.h"
#include "lib/config.h"
#include "lib/fault.h"
#include "lib/log.h"
#include "version.h"

/* A command that is not built in leaves no trace but its name and its switch. */
#define BUILT_IN(symbol, thing) (IS_ENABLED(symbol) ? (thing) : NULL)
#define HELP(text) (IS_ENABLED(CONFIG_TERSE) ? NULL : (text))
#define COMMAND(symbol, name, run, usage, summary)                                                 \
	{                                                                                          \
		name, BUILT_IN(symbol, run), HELP(IS_ENABLED(symbol) ? (usage) : #symbol "=y"),    \
			HELP(BUILT_IN(symbol, summary))                                            \
	}

/* clang-format off */
/* As they are printed. Words that are there only with image files. */
#if IS_ENABLED(CONFIG_IMAGE)
#define FOR_IMAGES(words) words
#else
#define FOR_IMAGES(words)
#endif

#define SEND_USAGE \
	"[--keys DIR] [--state DIR] [--json] [--eager | --on-demand]\n" \
	"                     [--max-rate MIB_S] [--keepalive SECONDS] [--patience SECONDS]\n" \
	"                     [--allow-clock-jump] [--compress WHEN] [--poll-us US]\n" \
	"                     PID HOST[:PORT]"
#define DUMP_USAGE \
	FOR_IMAGES( \
	"[--leave-running] [--allow-unsigned] [--keys DIR] [--state DIR] [--json]\n" \
	"                     [--allow-clock-jump] [--compress WHEN] PID FILE\n" \
	"       baton dump ") \
	"--serve ADDR:PORT [--keys DIR] [--state DIR] [--json] [--port-file FILE]\n" \
	"                     [--max-rate MIB_S] [--keepalive SECONDS] [--patience SECONDS]\n" \
	"                     [--allow-clock-jump] [--compress WHEN] [--poll-us US] PID"
#define RESTORE_USAGE \
	FOR_IMAGES( \
	"[--lazy | --on-demand | --eager] [--pidns] [--stdio FILE]\n" \
	"                     [--allow-unsigned] [--keys DIR] [--state DIR] [--json]\n" \
	"                     [--allow-clock-jump] FILE\n" \
	"       baton restore ") \
	"--from HOST:PORT [--lazy | --on-demand | --eager] [--pidns]\n" \
	"                     [--stdio FILE] [--keys DIR] [--state DIR] [--json]\n" \
	"                     [--keepalive SECONDS] [--allow-clock-jump] [--compress WHEN]\n" \
	"                     [--poll-us US]"
#define DUMP_SUMMARY \
	FOR_IMAGES("write a process into a file, or ") "keep a process ready for another device to fetch it"
#define RESTORE_SUMMARY \
	FOR_IMAGES("start a process out of a file, or ") "fetch a process that another device serves"
/* clang-format on */

static const struct command commands[] = {
	COMMAND(CONFIG_CMD_CHECK, "check", cmd_check,
		"[--pid PID] [--peer HOST[:PORT]] [--keys DIR] [--state DIR]\n"
		"                     [--json]",
		"whether this kernel, this process, this pair of devices can do it"),
	COMMAND(CONFIG_CMD_KEYGEN, "keygen", cmd_keygen, "[--keys DIR] [--name NAME]",
		"make this device's key and certificate"),
	COMMAND(CONFIG_CMD_TRUST, "trust", cmd_trust, "[--keys DIR] CERT.pem",
		"allow that device to send to and receive from this one"),
	COMMAND(CONFIG_CMD_RECEIVE, "receive", cmd_receive,
		"[--listen ADDR:PORT] [--once] [--pidns] [--stdio FILE] [--keys DIR]\n"
		"                     [--port-file FILE] [--state DIR] [--json] [--keepalive "
		"SECONDS]\n"
		"                     [--compress WHEN] [--poll-us US]",
		"take processes that other devices send"),
	COMMAND(CONFIG_CMD_SEND, "send", cmd_send, SEND_USAGE,
		"hand a running process to another device"),
	COMMAND(CONFIG_CMD_DUMP, "dump", cmd_dump, DUMP_USAGE, DUMP_SUMMARY),
	COMMAND(CONFIG_CMD_RESTORE, "restore", cmd_restore, RESTORE_USAGE, RESTORE_SUMMARY),
	COMMAND(CONFIG_CMD_STATUS, "status", cmd_status, "[--state DIR] [--json] [--watch]",
		"moves under way: stage, pages, rate, fault latencies"),
	COMMAND(CONFIG_CMD_RESUME, "resume", cmd_resume,
		"[--peer-is-dead] [--keys DIR] [--state DIR] [--json] [--max-rate MIB_S]\n"
		"                     [--keepalive SECONDS] [--patience SECONDS] ID",
		"go on with a move that is held, or run its process here again"),
	COMMAND(CONFIG_CMD_ABORT, "abort", cmd_abort, "[--kill] [--state DIR] ID",
		"end a move, with what of it is on this device"),
	COMMAND(CONFIG_CMD_INSPECT, "inspect", cmd_inspect, "[--keys DIR] [--json] FILE",
		"what is in an image file, and what it needs"),
	COMMAND(CONFIG_CMD_CORE, "core", cmd_core, "FILE -o | --output CORE",
		"make a core file for gdb out of an image file"),
	COMMAND(CONFIG_CMD_CONSOLE, "console", cmd_console,
		"[--tty DEV] [--baud N] [--machine] [--keys DIR] [--state DIR]\n"
		"       baton console --set-password [--keys DIR]",
		"these commands on a serial line"),
	COMMAND(CONFIG_CMD_EVACUATE, "protect", cmd_protect,
		"add NAME --pidfile FILE | --unit NAME | --command TEXT [--priority N]\n"
		"                     [--after NAME] [--keys DIR]\n"
		"       baton protect remove NAME | list [--keys DIR]",
		"the processes that matter, for evacuate"),
	COMMAND(CONFIG_CMD_EVACUATE, "evacuate", cmd_evacuate,
		"[--deadline MS] [--keys DIR] [--state DIR] HOST[:PORT]\n"
		"       baton evacuate --back [--deadline MS] [--listen ADDR:PORT] [--keys DIR]\n"
		"                     [--state DIR] [HOST[:PORT]]",
		"move all of them to another device, or fetch them back"),
	COMMAND(CONFIG_CMD_VERSION, "version", cmd_version, "[--json]",
		"version, architecture, memory budget, what is built in"),
};
#define NR_COMMANDS (sizeof(commands) / sizeof(commands[0]))

static const struct command *command_find(const char *name)
{
	for (size_t i = 0; i < NR_COMMANDS; i++)
		if (!strcmp(commands[i].name, name))
			return &commands[i];
	return NULL;
}

bool cmd_takes(const char *name, const char *option)
{
	const struct command *command = command_find(name);

	return command && command->run && strstr(command->usage, option);
}

/* What there is in the place of a help. */
static int say_manual(FILE *out, enum outcome outcome)
{
	fprintf(out, "See: man baton, or docs/baton.8 (no help is built in here: CONFIG_TERSE)\n");
	return fflush(out) ? OUTCOME_FAILED : outcome;
}

int cmd_usage(const char *argv0, const char *fmt, ...)
{
	const struct command *command = command_find(argv0);
	char text[256];
	va_list args;

	if (fmt) {
		va_start(args, fmt);
		vsnprintf(text, sizeof(text), fmt, args);
		va_end(args);
		log_error("%s: %s", argv0, text);
	}
	if (IS_ENABLED(CONFIG_TERSE))
		return say_manual(stderr, OUTCOME_USAGE);
	if (command)
		fprintf(stderr, "usage: baton %s %s\n", argv0, command->usage);
	fprintf(stderr, "See: baton %s%s--help\n", command ? argv0 : "", command ? " " : "");
	return OUTCOME_USAGE;
}

/* One that can be run; NULL: *outcome says why there is none. */
static const struct command *command_get(const char *name, int *outcome)
{
	const struct command *command = command_find(name);

	if (!command) {
		log_error("no such command: %s; see: baton --help", name);
		*outcome = OUTCOME_USAGE;
		return NULL;
	}
	if (command->run)
		return command;
	if (IS_ENABLED(CONFIG_TERSE))
		log_error("%s: not built in", name);
	else
		log_error("%s: not built in; build with %s", name, command->usage);
	*outcome = OUTCOME_SYSTEM;
	return NULL;
}

int cmd_help(const char *name)
{
	int outcome;
	const struct command *command = command_get(name, &outcome);

	if (!command)
		return outcome;
	if (IS_ENABLED(CONFIG_TERSE))
		return say_manual(stdout, OUTCOME_DONE);
	printf("baton %s: %s\n\nusage: baton %s %s\n\n", command->name, command->summary,
	       command->name, command->usage);
	options_help(command->usage);
	return fflush(stdout) ? OUTCOME_FAILED : OUTCOME_DONE;
}

int cmd_fail(enum outcome outcome, const char *fallback)
{
	log_error("%s", log_reason()[0] ? log_reason() : fallback);
	return outcome;
}

static int help_all(FILE *out)
{
	fprintf(out,
		"baton %s: hands a running process from one device to another\n\n"
		"usage: baton COMMAND [OPTIONS] [ARGUMENTS]\n\n",
		BATON_VERSION);
	for (size_t i = 0; i < NR_COMMANDS; i++)
		if (commands[i].run)
			fprintf(out, "  %-9s %s\n", commands[i].name,
				IS_ENABLED(CONFIG_TERSE) ? "" : commands[i].summary);
	if (IS_ENABLED(CONFIG_TERSE))
		return say_manual(out, out == stdout ? OUTCOME_DONE : OUTCOME_USAGE);
	fprintf(out,
		"\nbaton COMMAND --help tells more. Exit codes: 0 done; 1 failed, the process "
		"runs\n"
		"on where it was; 2 wrong usage; 3 refused before anything was stopped; 4 held,\n"
		"waiting for the peer; 5 peer not trusted or not reachable; 6 this system "
		"cannot.\n");
	fflush(out);
	return out == stdout ? OUTCOME_DONE : OUTCOME_USAGE;
}

/* A descriptor of ours must never land on 0, 1 or 2: the moved process would get it as a stream. */
static void open_standard_streams(void)
{
	int fd;

	do {
		fd = open("/dev/null", O_RDWR);
	} while (fd >= 0 && fd <= STDERR_FILENO);
	if (fd >= 0)
		close(fd);
}

int main(int argc, char **argv)
{
	const struct command *command;
	int outcome;

	open_standard_streams();
	/* Who started us may not have wanted to know what becomes of its children; we do. */
	signal(SIGCHLD, SIG_DFL);
	if (fault_init(NULL))
		return cmd_fail(OUTCOME_USAGE, "BATON_FAULT makes no sense");
	if (argc < 2)
		return help_all(stderr);
	if (!strcmp(argv[1], "--help") || !strcmp(argv[1], "help") || !strcmp(argv[1], "-h")) {
		outcome = argc > 2 ? cmd_help(argv[2]) : help_all(stdout);
		return outcome == OUTCOME_USAGE ? help_all(stderr) : outcome;
	}
	command = command_get(!strcmp(argv[1], "--version") ? "version" : argv[1], &outcome);
	if (!command)
		return outcome;
	argv[1] = (char *)command->name;
	outcome = command->run(argc - 1, argv + 1);
	fflush(stdout); /* at exit(3) nobody does: lib/stream.c */
	return outcome;
}
