/* SPDX-License-Identifier: MIT */
/* baton dump: keep a process ready for another device to fetch (--serve). */
#include "cmd/session.h"
#include "lib/log.h"

#define ALLOWED                                                                                    \
	(OPTION_BIT(OPTION_KEYS) | OPTION_BIT(OPTION_STATE) | OPTION_BIT(OPTION_JSON) |            \
	 OPTION_BIT(OPTION_SERVE) | OPTION_BIT(OPTION_PORT_FILE) | OPTION_BIT(OPTION_MAX_RATE) |   \
	 OPTION_BIT(OPTION_LEAVE_RUNNING) | OPTION_BIT(OPTION_KEEPALIVE) |                         \
	 OPTION_BIT(OPTION_ALLOW_CLOCK_JUMP) | OPTION_BIT(OPTION_PATIENCE) |                       \
	 OPTION_BIT(OPTION_COMPRESS))

int cmd_dump(int argc, char **argv)
{
	static struct session session;
	struct options options;
	int outcome = options_parse(argc, argv, ALLOWED, &options);

	if (outcome >= 0)
		return outcome;
	if (!options.serve && options.nr_args == 0)
		return cmd_usage(argv[0], "--serve ADDR:PORT and a process id are wanted");
	if (!options.serve || options.leave_running) {
		log_error("dump into a file is not built in; use --serve ADDR:PORT");
		return OUTCOME_SYSTEM;
	}
	if (options.nr_args != 1)
		return cmd_usage(argv[0], "one process id is wanted");
	outcome = session_begin_source(&session, argv[0], &options, options.serve, true);
	if (outcome >= 0)
		return outcome;
	outcome = session_listen(&session, &options, options.serve, true, session_work);
	movestate_unlock_pid();
	return outcome;
}
