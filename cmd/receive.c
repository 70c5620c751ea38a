/* SPDX-License-Identifier: MIT */
/* baton receive: take processes that other devices send. */
#include "cmd/session.h"
#include "lib/log.h"

#define ALLOWED                                                                                    \
	(OPTION_BIT(OPTION_KEYS) | OPTION_BIT(OPTION_STATE) | OPTION_BIT(OPTION_JSON) |            \
	 OPTION_BIT(OPTION_LISTEN) | OPTION_BIT(OPTION_ONCE) | OPTION_BIT(OPTION_PIDNS) |          \
	 OPTION_BIT(OPTION_PORT_FILE) | OPTION_BIT(OPTION_STDIO))

int cmd_receive(int argc, char **argv)
{
	static struct session session;
	struct options options;
	int outcome = options_parse(argc, argv, ALLOWED, &options);

	if (outcome >= 0)
		return outcome;
	if (options.nr_args)
		return cmd_usage(argv[0], "%s: no argument is wanted", options.args[0]);
	if (options.listen && options_address(options.listen, true))
		return cmd_usage(argv[0], "%s", log_reason());
	outcome = session_begin(&session, &options, MOVE_TARGET);
	if (outcome)
		return outcome;
	return session_listen(&session, &options, options.listen ? options.listen : "",
			      options.once, session_work);
}
