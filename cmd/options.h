/* SPDX-License-Identifier: MIT */
/* The options of all commands: one table, each command takes some of them. */
#ifndef BATON_OPTIONS_H
#define BATON_OPTIONS_H

#include "cmd/cmd.h"
#include "engine/move/move.h"
#include "lib/config.h"

enum option_id {
	OPTION_HELP = 1,
	OPTION_VERBOSE,
	OPTION_KEYS,
	OPTION_STATE,
	OPTION_JSON,
	OPTION_LISTEN,
	OPTION_ONCE,
	OPTION_PIDNS,
	OPTION_PORT_FILE,
	OPTION_STDIO,
	OPTION_EAGER,
	OPTION_LAZY,
	OPTION_ON_DEMAND,
	OPTION_MAX_RATE,
	OPTION_SERVE,
	OPTION_FROM,
	OPTION_LEAVE_RUNNING,
	OPTION_WATCH,
	OPTION_PID,
	OPTION_PEER,
	OPTION_PEER_IS_DEAD,
	OPTION_KILL,
	OPTION_KEEPALIVE,
	OPTION_PATIENCE,
	OPTION_ALLOW_CLOCK_JUMP,
	OPTION_COMPRESS,
	OPTION_ALLOW_UNSIGNED,
	OPTION_OUTPUT,
	OPTION_TTY,
	OPTION_BAUD,
	OPTION_MACHINE,
	OPTION_SET_PASSWORD,
	OPTION_PIDFILE,
	OPTION_UNIT,
	OPTION_COMMAND,
	OPTION_PRIORITY,
	OPTION_AFTER,
	OPTION_DEADLINE,
	OPTION_BACK,
	OPTION_POLL_US,
	OPTION_NAME,
	OPTION_END,
};
#define OPTION_BIT(id) (1ull << (id))

struct options {
	const char *keys, *state;
	bool json, once, pidns, leave_running, watch, peer_is_dead, kill, allow_clock_jump;
	bool allow_unsigned, machine, set_password, back;
	const char *listen, *port_file, *stdio, *serve, *from, *pid, *peer, *output, *tty;
	const char *pidfile, *unit, *command, *after, *name;
	int priority;
	enum move_mode mode;
	enum pack_rule compress;
	unsigned int max_rate_mib_s, keepalive_s, poll_us, baud, deadline_ms;
	unsigned int patience_s; /* 0: for ever */
	char **args;             /* what is no option */
	int nr_args;
};

/*
 * Reads the options of a command: those in `allowed`, and --help and --verbose. Returns -1 when the
 * command may go on, else the outcome to end with: the help was shown, or the usage is wrong.
 */
int options_parse(int argc, char **argv, uint64_t allowed, struct options *options);

/* Whether --keys was there. */
bool options_keys_given(const struct options *options);

/* Whether results are printed as JSON. */
static inline bool options_json(bool wanted)
{
	return IS_ENABLED(CONFIG_TERSE) || wanted;
}

/* A process id from the command line. -EINVAL. */
int options_pid(const char *text, pid_t *pid);

/* An address from the command line. -EINVAL with its reason; a name that is not known is none yet. */
int options_address(const char *text, bool listening);

/* The help lines of the options that stand in a command's usage, on standard output. */
void options_help(const char *usage);

#endif
