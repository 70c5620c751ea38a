/* SPDX-License-Identifier: MIT */
/* baton send: hand a running process to a device that receives. */
#include "cmd/session.h"
#include "lib/log.h"

#define ALLOWED                                                                                    \
	(OPTION_BIT(OPTION_KEYS) | OPTION_BIT(OPTION_STATE) | OPTION_BIT(OPTION_JSON) |            \
	 OPTION_BIT(OPTION_EAGER) | OPTION_BIT(OPTION_LAZY) | OPTION_BIT(OPTION_ON_DEMAND) |       \
	 OPTION_BIT(OPTION_MAX_RATE) | OPTION_BIT(OPTION_KEEPALIVE) |                              \
	 OPTION_BIT(OPTION_ALLOW_CLOCK_JUMP) | OPTION_BIT(OPTION_PATIENCE) |                       \
	 OPTION_BIT(OPTION_COMPRESS) | OPTION_BIT(OPTION_POLL_US))

int cmd_send(int argc, char **argv)
{
	static struct session session;
	struct options options;
	int outcome = options_parse(argc, argv, ALLOWED, &options);

	if (outcome >= 0)
		return outcome;
	if (options.nr_args != 2)
		return cmd_usage(argv[0], "a process id and a host are wanted");
	if (options.mode == MOVE_ANY)
		options.mode = MOVE_LAZY;
	outcome = session_begin_source(&session, argv[0], &options, options.args[1], false);
	if (outcome >= 0)
		return outcome;
	if (link_dial(&session.link, options.args[1]))
		return cmd_fail(OUTCOME_SYSTEM, "no random numbers");
	outcome = (int)session_move(&session);
	movestate_unlock_pid();
	return outcome;
}
