/* SPDX-License-Identifier: MIT */
/* The commands: one function each, and what the table in cmd/main.c says of them. */
#ifndef BATON_CMD_H
#define BATON_CMD_H

/* What every command says that finds no room. */
#define CMD_BUDGET_TOO_SMALL "the memory budget is too small; raise CONFIG_MEMORY_BUDGET_KIB"

#include "lib/outcome.h"
#include <stdbool.h>
#include <stddef.h>

#define CMD_KEYS_DEFAULT "/etc/baton"
#define CMD_STATE_DEFAULT "/run/baton"
#define CMD_PORT_DEFAULT 7117
#define CMD_KEEPALIVE_DEFAULT_S 10
#define CMD_PATIENCE_DEFAULT_S 900

struct command {
	const char *name;
	/* argv[0] is the command's name. Returns an enum outcome. NULL: not built in. */
	int (*run)(int argc, char **argv);
	/* What follows the name: options and arguments. Not built in: the switch that builds it. */
	const char *usage;
	const char *summary; /* one line */
};

int cmd_check(int argc, char **argv);
int cmd_keygen(int argc, char **argv);
int cmd_trust(int argc, char **argv);
int cmd_receive(int argc, char **argv);
int cmd_send(int argc, char **argv);
int cmd_dump(int argc, char **argv);
int cmd_restore(int argc, char **argv);
int cmd_status(int argc, char **argv);
int cmd_resume(int argc, char **argv);
int cmd_abort(int argc, char **argv);
int cmd_inspect(int argc, char **argv);
int cmd_core(int argc, char **argv);
int cmd_console(int argc, char **argv);
int cmd_protect(int argc, char **argv);
int cmd_evacuate(int argc, char **argv);
int cmd_version(int argc, char **argv);

/*
 * Prints "baton: ..." with how to get help on standard error and returns OUTCOME_USAGE. `argv0` is
 * the command's name.
 */
int cmd_usage(const char *argv0, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/*
 * Prints the help of a command on standard output and returns OUTCOME_DONE. OUTCOME_SYSTEM, or OUTCOME_USAGE: it is not built
 * in, or there is none of that name, as is said.
 */
int cmd_help(const char *name);

/* Whether the command has this option: its name as in the usage line, "--keys " when it has a value. */
bool cmd_takes(const char *name, const char *option);

/*
 * Prints the reason of the last failure (lib/log.h) as the error of a command, or `fallback` when
 * there is none, and returns `outcome`.
 */
int cmd_fail(enum outcome outcome, const char *fallback);

#endif
