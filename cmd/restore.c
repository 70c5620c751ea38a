/* SPDX-License-Identifier: MIT */
/* baton restore: fetch a process from a device that serves it (--from). */
#include "cmd/session.h"
#include "lib/log.h"

#define ALLOWED                                                                                    \
	(OPTION_BIT(OPTION_KEYS) | OPTION_BIT(OPTION_STATE) | OPTION_BIT(OPTION_JSON) |            \
	 OPTION_BIT(OPTION_FROM) | OPTION_BIT(OPTION_PIDNS) | OPTION_BIT(OPTION_STDIO) |           \
	 OPTION_BIT(OPTION_EAGER) | OPTION_BIT(OPTION_LAZY) | OPTION_BIT(OPTION_ON_DEMAND) |       \
	 OPTION_BIT(OPTION_KEEPALIVE) | OPTION_BIT(OPTION_ALLOW_CLOCK_JUMP) |                      \
	 OPTION_BIT(OPTION_COMPRESS))

int cmd_restore(int argc, char **argv)
{
	static struct session session;
	struct options options;
	int outcome = options_parse(argc, argv, ALLOWED, &options);

	if (outcome >= 0)
		return outcome;
	if (!options.from && options.nr_args == 0)
		return cmd_usage(argv[0], "--from HOST:PORT is wanted");
	if (!options.from) {
		log_error("restore from a file is not built in; use --from HOST:PORT");
		return OUTCOME_SYSTEM;
	}
	if (options.nr_args)
		return cmd_usage(argv[0], "%s: no argument is wanted", options.args[0]);
	if (options_address(options.from, false))
		return cmd_usage(argv[0], "%s", log_reason());
	outcome = session_begin(&session, &options, MOVE_TARGET);
	if (outcome)
		return outcome;
	if (link_dial(&session.link, options.from))
		return cmd_fail(OUTCOME_SYSTEM, "no random numbers");
	return (int)session_move(&session);
}
