/* SPDX-License-Identifier: MIT */
/* The options of all commands. */
#include <errno.h>
#include <limits.h>
#include <stddef.h>
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
	enum { SET_OTHERWISE, SET_FLAG, SET_TEXT } how : 8; /* otherwise: set_otherwise */
	uint16_t at;                                        /* in struct options */
};

#define FLAG(member) SET_FLAG, offsetof(struct options, member)
#define STRING(member) SET_TEXT, offsetof(struct options, member)

/* Only of a command that is built in; the others have no use for it. */
#define OF(symbol, text) (IS_ENABLED(symbol) ? (text) : NULL)
#define HELP(text) (IS_ENABLED(CONFIG_TERSE) ? NULL : (text))
#define ROW(symbol, name, value, help) OF(symbol, name), OF(symbol, value), HELP(OF(symbol, help))

static const struct option_row rows[OPTION_END] = {
	[OPTION_NAME] = {ROW(CONFIG_CMD_KEYGEN, "name", "NAME",
			     "what the device is called (default its host name)"),
			 STRING(name)},
	[OPTION_HELP] = {"help", NULL, HELP("show this")},
	[OPTION_VERBOSE] = {"verbose", NULL, HELP("say every detail on standard error")},
	[OPTION_KEYS] = {"keys", "DIR", HELP("keys folder (default " CMD_KEYS_DEFAULT ")"),
			 STRING(keys)},
	[OPTION_STATE] = {"state", "DIR", HELP("state folder (default " CMD_STATE_DEFAULT ")"),
			  STRING(state)},
	[OPTION_JSON] = {"json", NULL, HELP("print the result as a JSON object"), FLAG(json)},
	[OPTION_LISTEN] = {"listen", "ADDR:PORT",
			   HELP("where to listen (default every address, port 7117; port 0: any)"),
			   STRING(listen)},
	[OPTION_ONCE] = {"once", NULL, HELP("end after one move"), FLAG(once)},
	[OPTION_PIDNS] = {"pidns", NULL, HELP("give the process a pid namespace of its own"),
			  FLAG(pidns)},
	[OPTION_PORT_FILE] = {"port-file", "FILE", HELP("write the port to FILE once it listens"),
			      STRING(port_file)},
	[OPTION_STDIO] = {"stdio", "FILE", HELP("standard streams that led outside go to FILE"),
			  STRING(stdio)},
	[OPTION_EAGER] = {"eager", NULL, HELP("bring all memory over before it starts")},
	[OPTION_LAZY] = {"lazy", NULL, HELP("start it first, memory follows (default)")},
	[OPTION_ON_DEMAND] = {"on-demand", NULL,
			      HELP("bring over only the memory that is touched")},
	[OPTION_MAX_RATE] = {"max-rate", "MIB_S",
			     HELP("limit of the background transfer in MiB/s")},
	[OPTION_KEEPALIVE] = {"keepalive", "SECONDS",
			      HELP("a link that is silent for so long is dead (default 10)")},
	[OPTION_PATIENCE] =
		{"patience", "SECONDS",
		 HELP("wait so long for a peer that is away (default 900; 0: for ever)")},
	[OPTION_ALLOW_CLOCK_JUMP] = {"allow-clock-jump", NULL,
				     HELP("its clocks may jump where there are no time namespaces"),
				     FLAG(allow_clock_jump)},
	[OPTION_COMPRESS] =
		{"compress", "WHEN",
		 HELP("pack pages: auto (default: on a slow link, and in a file), on, off")},
	[OPTION_POLL_US] = {"poll-us", "US",
			    HELP("do not sleep for so long after a fault (default " POLL_US_TEXT
				 ")")},
	[OPTION_SERVE] = {ROW(CONFIG_CMD_DUMP, "serve", "ADDR:PORT",
			      "keep the pages here and serve them to restore --from"),
			  STRING(serve)},
	[OPTION_FROM] = {ROW(CONFIG_CMD_RESTORE, "from", "HOST:PORT",
			     "take the process from dump --serve there"),
			 STRING(from)},
	[OPTION_LEAVE_RUNNING] = {ROW(CONFIG_IMAGE, "leave-running", NULL,
				      "the process goes on here"),
				  FLAG(leave_running)},
	[OPTION_WATCH] = {ROW(CONFIG_CMD_STATUS, "watch", NULL, "show it again every second"),
			  FLAG(watch)},
	[OPTION_PID] = {ROW(CONFIG_CMD_CHECK, "pid", "PID", "look at this process, too"),
			STRING(pid)},
	[OPTION_PEER_IS_DEAD] = {ROW(CONFIG_CMD_RESUME, "peer-is-dead", NULL,
				     "the other device will never run it again: run it here"),
				 FLAG(peer_is_dead)},
	[OPTION_KILL] = {ROW(CONFIG_CMD_ABORT, "kill", NULL, "end the process that is here"),
			 FLAG(kill)},
	[OPTION_ALLOW_UNSIGNED] =
		{ROW(CONFIG_IMAGE, "allow-unsigned", NULL,
		     "no signature: whoever can write FILE can run anything here as root"),
		 FLAG(allow_unsigned)},
	[OPTION_OUTPUT] = {ROW(CONFIG_CMD_CORE, "output", "CORE", "where to (short: -o)"),
			   STRING(output)},
	[OPTION_PIDFILE] = {ROW(CONFIG_CMD_EVACUATE, "pidfile", "FILE", "a file with its pid"),
			    STRING(pidfile)},
	[OPTION_UNIT] = {ROW(CONFIG_CMD_EVACUATE, "unit", "NAME",
			     "the main process of a unit of systemd"),
			 STRING(unit)},
	[OPTION_COMMAND] = {ROW(CONFIG_CMD_EVACUATE, "command", "TEXT",
				"what prints its pid, for sh -c"),
			    STRING(command)},
	[OPTION_PRIORITY] = {ROW(CONFIG_CMD_EVACUATE, "priority", "N",
				 "higher goes first (default 0)")},
	[OPTION_AFTER] = {ROW(CONFIG_CMD_EVACUATE, "after", "NAME",
			      "begins when that one runs over there"),
			  STRING(after)},
	[OPTION_DEADLINE] = {ROW(CONFIG_CMD_EVACUATE, "deadline", "MS",
				 "what does not run there by then stays")},
	[OPTION_BACK] = {ROW(CONFIG_CMD_EVACUATE, "back", NULL,
			     "fetch back what is there from this device"),
			 FLAG(back)},
	[OPTION_TTY] = {ROW(CONFIG_CMD_CONSOLE, "tty", "DEV",
			    "the line (default: the terminal it is started on)"),
			STRING(tty)},
	[OPTION_BAUD] = {ROW(CONFIG_CMD_CONSOLE, "baud", "N",
			     "how fast it is (default: as it is set)")},
	[OPTION_MACHINE] = {ROW(CONFIG_CMD_CONSOLE, "machine", NULL,
				"no prompt, no echo, each result a line: for scripts"),
			    FLAG(machine)},
	[OPTION_SET_PASSWORD] = {ROW(CONFIG_CMD_CONSOLE, "set-password", NULL,
				     "ask for a new password, and for it from then on"),
				 FLAG(set_password)},
	[OPTION_PEER] = {ROW(CONFIG_CMD_CHECK, "peer", "HOST[:PORT]",
			     "compare with the device that receives there"),
			 STRING(peer)},
};

#define ALWAYS (OPTION_BIT(OPTION_HELP) | OPTION_BIT(OPTION_VERBOSE))

/* Whether the usage of a command names this option. */
static bool is_in(const char *usage, int id)
{
	char word[32];

	if (id == OPTION_HELP || id == OPTION_VERBOSE)
		return true;
	if (!rows[id].name)
		return false;
	snprintf(word, sizeof(word), "--%s%s", rows[id].name, rows[id].value ? " " : "");
	return strstr(usage, word);
}

void options_help(const char *usage)
{
	for (int id = OPTION_END - 1; id > 0; id--) {
		char name[64];

		if (!is_in(usage, id))
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

/* What is neither a flag nor a text. -1, or the outcome to end with. */
static int set_otherwise(struct options *options, const char *argv0, int id, const char *value)
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
	case OPTION_DEADLINE:
		return set_number(&options->deadline_ms, argv0, id, value, 1, INT_MAX);
	case OPTION_BAUD:
		return set_number(&options->baud, argv0, id, value, 1, 10000000);
	case OPTION_COMPRESS:
		return set_compress(&options->compress, argv0, value);
	case OPTION_PRIORITY:
		if (!text_parse_int(value, -1000, 1000, &options->priority))
			return -1;
		return cmd_usage(argv0, "--priority %s: a number from -1000 to 1000", value);
	default:
		return -1;
	}
}

/* One option with its value. -1, or the outcome to end with. */
static int set_option(struct options *options, const char *argv0, int id, const char *value)
{
	const struct option_row *row = &rows[id];
	void *member = (char *)options + row->at;

	if (row->how == SET_OTHERWISE)
		return set_otherwise(options, argv0, id, value);
	if (row->how == SET_FLAG) {
		*(bool *)member = true;
		return -1;
	}
	if (!value || !value[0])
		return cmd_usage(argv0, "--%s needs a value", row->name);
	*(const char **)member = value;
	return -1;
}

/* The option of `allowed` that a word without its dashes names, up to a '='; 0: none. */
static int find(const char *word, uint64_t allowed)
{
	size_t len = strcspn(word, "=");

	for (int id = 1; id < OPTION_END; id++)
		if (allowed & OPTION_BIT(id) && rows[id].name &&
		    !strncmp(rows[id].name, word, len) && !rows[id].name[len])
			return id;
	return 0;
}

/* The option at argv[*at], and its value, which may be the next word. -1, or the outcome to end with. */
static int take_option(char **argv, int *at, uint64_t allowed, struct options *options)
{
	const char *word = argv[*at], *value = NULL;
	int id = 0;

	if (word[1] == '-') {
		id = find(word + 2, allowed);
		value = strchr(word, '=');
		if (value)
			value++;
	} else if (!strcmp(word, "-o") && allowed & OPTION_BIT(OPTION_OUTPUT)) {
		id = OPTION_OUTPUT;
	}
	if (!id)
		return cmd_usage(argv[0], "%s: there is no such option", word);
	if (value && !rows[id].value)
		return cmd_usage(argv[0], "--%s takes no value", rows[id].name);
	if (!value && rows[id].value)
		value = argv[++*at];
	if (!value && rows[id].value)
		return cmd_usage(argv[0], "--%s needs a value", rows[id].name);
	return set_option(options, argv[0], id, value);
}

int options_parse(int argc, char **argv, uint64_t allowed, struct options *options)
{
	bool ended = false; /* by "--": what follows are arguments */
	int outcome;

	*options = (struct options){.keys = keys_default,
				    .state = CMD_STATE_DEFAULT,
				    .compress = PACK_AUTO,
				    .poll_us = CONFIG_FAULT_POLL_US,
				    .keepalive_s = CMD_KEEPALIVE_DEFAULT_S,
				    .patience_s = CMD_PATIENCE_DEFAULT_S,
				    .args = argv + 1};
	/* Arguments may stand between options: they are moved together, to the front. */
	for (int at = 1; at < argc; at++) {
		if (ended || argv[at][0] != '-' || !argv[at][1]) {
			options->args[options->nr_args++] = argv[at];
		} else if (!strcmp(argv[at], "--")) {
			ended = true;
		} else {
			outcome = take_option(argv, &at, allowed | ALWAYS, options);
			if (outcome >= 0)
				return outcome;
		}
	}
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
