/* SPDX-License-Identifier: MIT */
/* baton send: hand a running process to a device that receives. */
#include "cmd/session.h"
#include "lib/log.h"

#define ALLOWED                                                                                    \
	(OPTION_BIT(OPTION_KEYS) | OPTION_BIT(OPTION_STATE) | OPTION_BIT(OPTION_JSON) |            \
	 OPTION_BIT(OPTION_EAGER) | OPTION_BIT(OPTION_LAZY) | OPTION_BIT(OPTION_ON_DEMAND) |       \
	 OPTION_BIT(OPTION_MAX_RATE))

int cmd_send(int argc, char **argv)
{
	static struct session session;
	struct movestate begun;
	struct options options;
	pid_t pid;
	int outcome = options_parse(argc, argv, ALLOWED, &options);

	if (outcome >= 0)
		return outcome;
	if (options.nr_args != 2)
		return cmd_usage(argv[0], "a process id and a host are wanted");
	if (options_pid(options.args[0], &pid))
		return cmd_usage(argv[0], "%s is no process id", options.args[0]);
	if (options_address(options.args[1], false))
		return cmd_usage(argv[0], "%s", log_reason());
	if (options.mode == MOVE_ANY)
		options.mode = MOVE_LAZY;
	outcome = session_begin(&session, &options, MOVE_SOURCE);
	if (!outcome)
		outcome = session_claim(&session, pid, &begun);
	if (outcome == OUTCOME_HELD)
		return session_resume(&session, &options, &begun, false);
	if (outcome)
		return outcome;
	if (link_dial(&session.link, options.args[1]))
		return cmd_fail(OUTCOME_SYSTEM, "no random numbers");
	outcome = (int)session_move(&session);
	movestate_unlock_pid();
	return outcome;
}
