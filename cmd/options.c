/* SPDX-License-Identifier: MIT */
/* The options of all commands. */
#include <errno.h>
#include <getopt.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>

#include "cmd/options.h"
#include "lib/config.h"
#include "lib/log.h"
#include "lib/text.h"
#include "transport/socket.h"

static const char keys_default[] = CMD_KEYS_DEFAULT;

/* Ten days: what fits into an int of milliseconds. */
#define PATIENCE_MOST_S 864000
/* Longer than this is a processor given away. */
#define POLL_MOST_US 10000
#define TEXT_OF(x) #x
#define TEXT(x) TEXT_OF(x)
#define POLL_US_TEXT TEXT(CONFIG_FAULT_POLL_US)

struct option_row {
	const char *name;
	const char *value; /* what stands for its value in the help; NULL: it has none */
	const char *help;
};

/* Only of a command that is built in; the others have no use for it. */
#define OF(symbol, text) (IS_ENABLED(symbol) ? (text) : NULL)

static const struct option_row rows[OPTION_END] = {
	[OPTION_HELP] = {"help", NULL, "show this"},
	[OPTION_VERBOSE] = {"verbose", NULL, "say every detail on standard error"},
	[OPTION_KEYS] = {"keys", "DIR", "keys folder (default " CMD_KEYS_DEFAULT ")"},
	[OPTION_STATE] = {"state", "DIR", "state folder (default " CMD_STATE_DEFAULT ")"},
	[OPTION_JSON] = {"json", NULL, "print the result as a JSON object"},
	[OPTION_LISTEN] = {"listen", "ADDR:PORT",
			   "where to listen (default every address, port 7117; port 0: any)"},
	[OPTION_ONCE] = {"once", NULL, "end after one move"},
	[OPTION_PIDNS] = {"pidns", NULL, "give the process a pid namespace of its own"},
	[OPTION_PORT_FILE] = {"port-file", "FILE", "write the port to FILE once it listens"},
	[OPTION_STDIO] = {"stdio", "FILE", "standard streams that led outside go to FILE"},
	[OPTION_EAGER] = {"eager", NULL, "bring all memory over before it starts"},
	[OPTION_LAZY] = {"lazy", NULL, "start it first, memory follows (default)"},
	[OPTION_ON_DEMAND] = {"on-demand", NULL, "bring over only the memory that is touched"},
	[OPTION_MAX_RATE] = {"max-rate", "MIB_S", "limit of the background transfer in MiB/s"},
	[OPTION_KEEPALIVE] = {"keepalive", "SECONDS",
			      "a link that is silent for so long is dead (default 10)"},
	[OPTION_PATIENCE] = {"patience", "SECONDS",
			     "wait so long for a peer that is away (default 900; 0: for ever)"},
	[OPTION_ALLOW_CLOCK_JUMP] = {"allow-clock-jump", NULL,
				     "its clocks may jump where there are no time namespaces"},
	[OPTION_COMPRESS] = {"compress", "WHEN",
			     "pack pages: auto (default, on a slow link), on, off"},
	[OPTION_POLL_US] = {"poll-us", "US",
			    "do not sleep for so long after a fault (default " POLL_US_TEXT ")"},
	[OPTION_SERVE] = {"serve", "ADDR:PORT",
			  "keep the pages here and serve them to restore --from"},
	[OPTION_FROM] = {"from", "HOST:PORT", "take the process from dump --serve there"},
	[OPTION_LEAVE_RUNNING] = {"leave-running", NULL, "the process goes on here"},
	[OPTION_WATCH] = {"watch", NULL, "show it again every second"},
	[OPTION_PID] = {"pid", "PID", "look at this process, too"},
	[OPTION_PEER_IS_DEAD] = {"peer-is-dead", NULL,
				 "the other device will never run it again: run it here"},
	[OPTION_KILL] = {"kill", NULL, "end the process that is here"},
	[OPTION_ALLOW_UNSIGNED] =
		{"allow-unsigned", NULL,
		 "no signature: whoever can write FILE can run anything here as root"},
	[OPTION_OUTPUT] = {"output", "CORE", "where to (short: -o)"},
	[OPTION_PIDFILE] = {OF(CONFIG_CMD_EVACUATE, "pidfile"), OF(CONFIG_CMD_EVACUATE, "FILE"),
			    OF(CONFIG_CMD_EVACUATE, "a file with its pid")},
	[OPTION_UNIT] = {OF(CONFIG_CMD_EVACUATE, "unit"), OF(CONFIG_CMD_EVACUATE, "NAME"),
			 OF(CONFIG_CMD_EVACUATE, "the main process of a unit of systemd")},
	[OPTION_COMMAND] = {OF(CONFIG_CMD_EVACUATE, "command"), OF(CONFIG_CMD_EVACUATE, "TEXT"),
			    OF(CONFIG_CMD_EVACUATE, "what prints its pid, for sh -c")},
	[OPTION_PRIORITY] = {OF(CONFIG_CMD_EVACUATE, "priority"), OF(CONFIG_CMD_EVACUATE, "N"),
			     OF(CONFIG_CMD_EVACUATE, "higher goes first (default 0)")},
	[OPTION_AFTER] = {OF(CONFIG_CMD_EVACUATE, "after"), OF(CONFIG_CMD_EVACUATE, "NAME"),
			  OF(CONFIG_CMD_EVACUATE, "begins when that one runs over there")},
	[OPTION_DEADLINE] = {OF(CONFIG_CMD_EVACUATE, "deadline"), OF(CONFIG_CMD_EVACUATE, "MS"),
			     OF(CONFIG_CMD_EVACUATE, "what does not run there by then stays")},
	[OPTION_BACK] = {OF(CONFIG_CMD_EVACUATE, "back"), OF(CONFIG_CMD_EVACUATE, NULL),
			 OF(CONFIG_CMD_EVACUATE, "fetch back what is there from this device")},
	[OPTION_TTY] = {OF(CONFIG_CMD_CONSOLE, "tty"), OF(CONFIG_CMD_CONSOLE, "DEV"),
			OF(CONFIG_CMD_CONSOLE,
			   "the line (default: the terminal it is started on)")},
	[OPTION_BAUD] = {OF(CONFIG_CMD_CONSOLE, "baud"), OF(CONFIG_CMD_CONSOLE, "N"),
			 OF(CONFIG_CMD_CONSOLE, "how fast it is (default: as it is set)")},
	[OPTION_MACHINE] = {OF(CONFIG_CMD_CONSOLE, "machine"), OF(CONFIG_CMD_CONSOLE, NULL),
			    OF(CONFIG_CMD_CONSOLE,
			       "no prompt, no echo, each result a line: for scripts")},
	[OPTION_SET_PASSWORD] = {OF(CONFIG_CMD_CONSOLE, "set-password"),
				 OF(CONFIG_CMD_CONSOLE, NULL),
				 OF(CONFIG_CMD_CONSOLE,
				    "ask for a new password, and for it from then on")},
	[OPTION_PEER] = {"peer", "HOST[:PORT]", "compare with the device that receives there"},
};

#define ALWAYS (OPTION_BIT(OPTION_HELP) | OPTION_BIT(OPTION_VERBOSE))

void options_help(uint64_t allowed)
{
	allowed |= ALWAYS;
	for (int id = OPTION_END - 1; id > 0; id--) {
		char name[64];

		if (!(allowed & OPTION_BIT(id)))
			continue;
		snprintf(name, sizeof(name), "--%s%s%s", rows[id].name, rows[id].value ? " " : "",
			 rows[id].value ? rows[id].value : "");
		printf("  %-22s %s\n", name, rows[id].help);
	}
}

static int set_mode(struct options *options, const char *argv0, enum move_mode mode)
{
	if (options->mode != MOVE_ANY && options->mode != mode)
		return cmd_usage(argv0, "--%s and --%s exclude each other",
				 move_mode_name(options->mode), move_mode_name(mode));
	options->mode = mode;
	return -1;
}

/* An option that is a number from `least` to `most`. */
static int set_number(unsigned int *number, const char *argv0, int id, const char *text, int least,
		      int most)
{
	int value;

	if (text_parse_int(text, least, most, &value))
		return cmd_usage(argv0, "--%s %s: a number from %d to %d (%s) is wanted",
				 rows[id].name, text, least, most, rows[id].value);
	*number = (unsigned int)value;
	return -1;
}

/* auto, on, off. */
static int set_compress(enum pack_rule *rule, const char *argv0, const char *text)
{
	static const char *const names[] = {
		[PACK_NEVER] = "off", [PACK_AUTO] = "auto", [PACK_ALWAYS] = "on"};

	for (unsigned int i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		if (strcmp(text, names[i]) != 0)
			continue;
		*rule = (enum pack_rule)i;
		if (i == PACK_ALWAYS && !IS_ENABLED(CONFIG_COMPRESS_LZ4))
			return cmd_usage(argv0,
					 "--compress on: not built in (CONFIG_COMPRESS_LZ4)");
		return -1;
	}
	return cmd_usage(argv0, "--compress %s: auto, on or off is wanted", text);
}

/* One option with its value. -1, or the outcome to end with. */
static int set_option(struct options *options, const char *argv0, int id, const char *value)
{
	switch (id) {
	case OPTION_HELP:
		return cmd_help(argv0);
	case OPTION_VERBOSE:
		log_level_set(LOG_DEBUG);
		return -1;
	case OPTION_EAGER:
		return set_mode(options, argv0, MOVE_EAGER);
	case OPTION_LAZY:
		return set_mode(options, argv0, MOVE_LAZY);
	case OPTION_ON_DEMAND:
		return set_mode(options, argv0, MOVE_ON_DEMAND);
	case OPTION_MAX_RATE:
		return set_number(&options->max_rate_mib_s, argv0, id, value, 1, 1 << 20);
	case OPTION_KEEPALIVE:
		return set_number(&options->keepalive_s, argv0, id, value, 2, 3600);
	case OPTION_PATIENCE:
		return set_number(&options->patience_s, argv0, id, value, 0, PATIENCE_MOST_S);
	case OPTION_POLL_US:
		return set_number(&options->poll_us, argv0, id, value, 0, POLL_MOST_US);
	case OPTION_COMPRESS:
		return set_compress(&options->compress, argv0, value);
	case OPTION_JSON:
		options->json = true;
		return -1;
	case OPTION_ONCE:
		options->once = true;
		return -1;
	case OPTION_PIDNS:
		options->pidns = true;
		return -1;
	case OPTION_LEAVE_RUNNING:
		options->leave_running = true;
		return -1;
	case OPTION_WATCH:
		options->watch = true;
		return -1;
	case OPTION_PEER_IS_DEAD:
		options->peer_is_dead = true;
		return -1;
	case OPTION_ALLOW_CLOCK_JUMP:
		options->allow_clock_jump = true;
		return -1;
	case OPTION_ALLOW_UNSIGNED:
		options->allow_unsigned = true;
		return -1;
	case OPTION_DEADLINE:
		return set_number(&options->deadline_ms, argv0, id, value, 1, INT_MAX);
	case OPTION_PRIORITY:
		if (!text_parse_int(value, -1000, 1000, &options->priority))
			return -1;
		return cmd_usage(argv0, "--priority %s: a number from -1000 to 1000", value);
	case OPTION_BACK:
		options->back = true;
		return -1;
	case OPTION_BAUD:
		return set_number(&options->baud, argv0, id, value, 1, 10000000);
	case OPTION_MACHINE:
		options->machine = true;
		return -1;
	case OPTION_SET_PASSWORD:
		options->set_password = true;
		return -1;
	case OPTION_KILL:
		options->kill = true;
		return -1;
	default:
		break;
	}
	if (!value[0])
		return cmd_usage(argv0, "--%s needs a value", rows[id].name);
	if (id == OPTION_KEYS)
		options->keys = value;
	else if (id == OPTION_STATE)
		options->state = value;
	else if (id == OPTION_LISTEN)
		options->listen = value;
	else if (id == OPTION_PORT_FILE)
		options->port_file = value;
	else if (id == OPTION_STDIO)
		options->stdio = value;
	else if (id == OPTION_SERVE)
		options->serve = value;
	else if (id == OPTION_FROM)
		options->from = value;
	else if (id == OPTION_PID)
		options->pid = value;
	else if (id == OPTION_PIDFILE)
		options->pidfile = value;
	else if (id == OPTION_UNIT)
		options->unit = value;
	else if (id == OPTION_COMMAND)
		options->command = value;
	else if (id == OPTION_AFTER)
		options->after = value;
	else if (id == OPTION_TTY)
		options->tty = value;
	else if (id == OPTION_PEER)
		options->peer = value;
	else if (id == OPTION_OUTPUT)
		options->output = value;
	return -1;
}

int options_parse(int argc, char **argv, uint64_t allowed, struct options *options)
{
	struct option table[OPTION_END + 1] = {0};
	int nr = 0, id, outcome;

	*options = (struct options){.keys = keys_default,
				    .state = CMD_STATE_DEFAULT,
				    .compress = PACK_AUTO,
				    .poll_us = CONFIG_FAULT_POLL_US,
				    .keepalive_s = CMD_KEEPALIVE_DEFAULT_S,
				    .patience_s = CMD_PATIENCE_DEFAULT_S};
	allowed |= ALWAYS;
	for (id = 1; id < OPTION_END; id++)
		if (allowed & OPTION_BIT(id))
			table[nr++] = (struct option){
				rows[id].name, rows[id].value ? required_argument : no_argument,
				NULL, id};
	optind = 1;
	while ((id = getopt_long(argc, argv, allowed & OPTION_BIT(OPTION_OUTPUT) ? "o:" : "", table,
				 NULL)) != -1) {
		if (id == 'o')
			id = OPTION_OUTPUT;
		if (id <= 0 || id >= OPTION_END)
			return cmd_usage(argv[0], NULL);
		outcome = set_option(options, argv[0], id, optarg);
		if (outcome >= 0)
			return outcome;
	}
	options->args = argv + optind;
	options->nr_args = argc - optind;
	return -1;
}

bool options_keys_given(const struct options *options)
{
	return options->keys != keys_default;
}

int options_pid(const char *text, pid_t *pid)
{
	int value;

	if (text_parse_int(text, 1, INT_MAX, &value))
		return -EINVAL;
	*pid = value;
	return 0;
}

int options_address(const char *text, bool listening)
{
	struct sockaddr_storage address;
	int err = socket_parse(text, CMD_PORT_DEFAULT, listening, &address);

	if (err == -EINVAL)
		return err;
	log_reason_clear();
	return 0;
}
