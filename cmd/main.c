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

/* The function of a command that is built in, or a text; a command that is not leaves no trace but its name. */
#define BUILT_IN(symbol, thing) (IS_ENABLED(symbol) ? (thing) : NULL)

/* Words of a usage that are there only with image files. */
#if IS_ENABLED(CONFIG_IMAGE)
#define FOR_IMAGES(words) words
#else
#define FOR_IMAGES(words)
#endif

static const struct command commands[] = {
	{"check", BUILT_IN(CONFIG_CMD_CHECK, cmd_check),
	 "[--pid PID] [--peer HOST[:PORT]] [--keys DIR] [--state DIR]\n"
	 "                     [--json]",
	 "whether this kernel, this process, this pair of devices can do it", NULL},
	{"keygen", BUILT_IN(CONFIG_CMD_KEYGEN, cmd_keygen), "[--keys DIR] [--name NAME]",
	 "make this device's key and certificate", NULL},
	{"trust", BUILT_IN(CONFIG_CMD_TRUST, cmd_trust), "[--keys DIR] CERT.pem",
	 "allow that device to send to and receive from this one", NULL},
	{"receive", BUILT_IN(CONFIG_CMD_RECEIVE, cmd_receive),
	 "[--listen ADDR:PORT] [--once] [--pidns] [--stdio FILE] [--keys DIR]\n"
	 "                     [--port-file FILE] [--state DIR] [--json] [--keepalive SECONDS]\n"
	 "                     [--compress WHEN] [--poll-us US]",
	 "take processes that other devices send", NULL},
	{"send", BUILT_IN(CONFIG_CMD_SEND, cmd_send),
	 "[--keys DIR] [--state DIR] [--json] [--eager | --on-demand]\n"
	 "                     [--max-rate MIB_S] [--keepalive SECONDS] [--patience SECONDS]\n"
	 "                     [--compress WHEN] [--poll-us US] PID HOST[:PORT]",
	 "hand a running process to another device", NULL},
	{"dump", BUILT_IN(CONFIG_CMD_DUMP, cmd_dump),
	 FOR_IMAGES(
		 "[--leave-running] [--allow-unsigned] [--keys DIR] [--state DIR] [--json]\n"
		 "                     [--allow-clock-jump] PID FILE\n"
		 "       baton dump ") "--serve ADDR:PORT [--keys DIR] [--state DIR] [--json] "
				       "[--port-file FILE]\n"
				       "                     [--max-rate MIB_S] [--keepalive "
				       "SECONDS] [--patience SECONDS]\n"
				       "                     [--compress WHEN] [--poll-us US] PID",
	 FOR_IMAGES("write a process into a file, or ") "keep a process ready for another device "
							"to fetch it",
	 NULL},
	{"restore", BUILT_IN(CONFIG_CMD_RESTORE, cmd_restore),
	 FOR_IMAGES("[--lazy | --on-demand | --eager] [--pidns] [--stdio FILE]\n"
		    "                     [--allow-unsigned] [--keys DIR] [--state DIR] [--json]\n"
		    "                     [--allow-clock-jump] FILE\n"
		    "       baton restore ") "--from HOST:PORT [--lazy | --on-demand | --eager] "
					     "[--pidns]\n"
					     "                     [--stdio FILE] [--keys DIR] "
					     "[--state DIR] [--json]\n"
					     "                     [--keepalive SECONDS] "
					     "[--compress WHEN] [--poll-us US]",
	 FOR_IMAGES(
		 "start a process out of a file, or ") "fetch a process that another device serves",
	 NULL},
	{"status", BUILT_IN(CONFIG_CMD_STATUS, cmd_status), "[--state DIR] [--json] [--watch]",
	 "moves under way: stage, pages, rate, fault latencies", NULL},
	{"resume", BUILT_IN(CONFIG_CMD_RESUME, cmd_resume),
	 "[--peer-is-dead] [--keys DIR] [--state DIR] [--json] [--max-rate MIB_S]\n"
	 "                     [--keepalive SECONDS] [--patience SECONDS] ID",
	 "go on with a move that is held, or run its process here again", NULL},
	{"abort", BUILT_IN(CONFIG_CMD_ABORT, cmd_abort), "[--kill] [--state DIR] ID",
	 "end a move, with what of it is on this device", NULL},
#if IS_ENABLED(CONFIG_IMAGE)
	{"inspect", BUILT_IN(CONFIG_CMD_INSPECT, cmd_inspect), "[--keys DIR] [--json] FILE",
	 "what is in an image file, and what it needs", NULL},
	{"core", BUILT_IN(CONFIG_CMD_CORE, cmd_core), "FILE -o CORE",
	 "make a core file for gdb out of an image file", NULL},
#endif
	{"console", BUILT_IN(CONFIG_CMD_CONSOLE, cmd_console),
	 BUILT_IN(CONFIG_CMD_CONSOLE,
		  "[--tty DEV] [--baud N] [--machine] [--keys DIR] [--state DIR]\n"
		  "       baton console --set-password [--keys DIR]"),
	 BUILT_IN(CONFIG_CMD_CONSOLE, "these commands on a serial line"), NULL},
	{"protect", BUILT_IN(CONFIG_CMD_EVACUATE, cmd_protect),
	 BUILT_IN(CONFIG_CMD_EVACUATE,
		  "add NAME --pidfile FILE | --unit NAME | --command TEXT [--priority N]\n"
		  "                     [--after NAME] [--keys DIR]\n"
		  "       baton protect remove NAME | list [--keys DIR]"),
	 BUILT_IN(CONFIG_CMD_EVACUATE, "the processes that matter, for evacuate"), NULL},
	{"evacuate", BUILT_IN(CONFIG_CMD_EVACUATE, cmd_evacuate),
	 BUILT_IN(CONFIG_CMD_EVACUATE,
		  "[--deadline MS] [--keys DIR] [--state DIR] HOST[:PORT]\n"
		  "       baton evacuate --back [--deadline MS] [--listen ADDR:PORT] [--keys DIR]\n"
		  "                     [--state DIR] [HOST[:PORT]]"),
	 BUILT_IN(CONFIG_CMD_EVACUATE, "move all of them to another device, or fetch them back"),
	 NULL},
	{"version", BUILT_IN(CONFIG_CMD_VERSION, cmd_version), "[--json]",
	 "version, architecture, memory budget, what is built in", NULL},
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
	if (command)
		fprintf(stderr, "usage: baton %s %s\n", argv0, command->usage);
	fprintf(stderr, "See: baton %s%s--help\n", command ? argv0 : "", command ? " " : "");
	return OUTCOME_USAGE;
}

/* Options whose names are in a command's usage line: the one place that lists them. */
static uint64_t options_in(const char *usage)
{
	static const char *const names[OPTION_END] = {
		[OPTION_KEYS] = "--keys ",
		[OPTION_STATE] = "--state ",
		[OPTION_JSON] = "--json",
		[OPTION_LISTEN] = "--listen ",
		[OPTION_ONCE] = "--once",
		[OPTION_PIDNS] = "--pidns",
		[OPTION_PORT_FILE] = "--port-file ",
		[OPTION_STDIO] = "--stdio ",
		[OPTION_EAGER] = "--eager",
		[OPTION_LAZY] = "--lazy",
		[OPTION_ON_DEMAND] = "--on-demand",
		[OPTION_MAX_RATE] = "--max-rate ",
		[OPTION_SERVE] = "--serve ",
		[OPTION_FROM] = "--from ",
		[OPTION_WATCH] = "--watch",
		[OPTION_PID] = "--pid ",
		[OPTION_PEER] = "--peer ",
		[OPTION_PEER_IS_DEAD] = "--peer-is-dead",
		[OPTION_KILL] = "--kill",
		[OPTION_COMPRESS] = "--compress ",
		[OPTION_LEAVE_RUNNING] = "--leave-running",
		[OPTION_ALLOW_UNSIGNED] = "--allow-unsigned",
		[OPTION_PIDFILE] = "--pidfile ",
		[OPTION_UNIT] = "--unit ",
		[OPTION_COMMAND] = "--command ",
		[OPTION_PRIORITY] = "--priority ",
		[OPTION_AFTER] = "--after ",
		[OPTION_DEADLINE] = "--deadline ",
		[OPTION_BACK] = "--back",
		[OPTION_TTY] = "--tty ",
		[OPTION_BAUD] = "--baud ",
		[OPTION_MACHINE] = "--machine",
		[OPTION_SET_PASSWORD] = "--set-password",
		[OPTION_POLL_US] = "--poll-us ",
	};
	uint64_t found = 0;

	for (int id = 1; id < OPTION_END; id++)
		if (names[id] && strstr(usage, names[id]))
			found |= OPTION_BIT(id);
	return found;
}

int cmd_help(const char *argv0)
{
	const struct command *command = command_find(argv0);

	if (!command || !command->run)
		return OUTCOME_USAGE;
	printf("baton %s: %s\n\nusage: baton %s %s\n\n", command->name, command->summary,
	       command->name, command->usage);
	options_help(options_in(command->usage));
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
			fprintf(out, "  %-9s %s\n", commands[i].name, commands[i].summary);
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

	open_standard_streams();
	/* Who started us may not have wanted to know what becomes of its children; we do. */
	signal(SIGCHLD, SIG_DFL);
	if (fault_init(NULL))
		return cmd_fail(OUTCOME_USAGE, "BATON_FAULT makes no sense");
	if (argc < 2)
		return help_all(stderr);
	if (!strcmp(argv[1], "--help") || !strcmp(argv[1], "help") || !strcmp(argv[1], "-h"))
		return argc > 2 && !cmd_help(argv[2]) ? OUTCOME_DONE : help_all(stdout);
	command = command_find(!strcmp(argv[1], "--version") ? "version" : argv[1]);
	if (!command) {
		log_error("no such command: %s; see: baton --help", argv[1]);
		return OUTCOME_USAGE;
	}
	if (!command->run) {
		log_error("%s: not built in; build with CONFIG_CMD_*", command->name);
		return OUTCOME_SYSTEM;
	}
	argv[1] = (char *)command->name;
	return command->run(argc - 1, argv + 1);
}
