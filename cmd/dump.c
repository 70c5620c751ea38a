/* SPDX-License-Identifier: MIT */
/* baton dump: write a process into a file, or keep it ready for another device to fetch (--serve). */
#include "cmd/session.h"
#include "engine/image/save.h"
#include "lib/config.h"
#include "lib/log.h"

#define ALLOWED                                                                                    \
	(OPTION_BIT(OPTION_KEYS) | OPTION_BIT(OPTION_STATE) | OPTION_BIT(OPTION_JSON) |            \
	 OPTION_BIT(OPTION_SERVE) | OPTION_BIT(OPTION_PORT_FILE) | OPTION_BIT(OPTION_MAX_RATE) |   \
	 OPTION_BIT(OPTION_LEAVE_RUNNING) | OPTION_BIT(OPTION_KEEPALIVE) |                         \
	 OPTION_BIT(OPTION_ALLOW_CLOCK_JUMP) | OPTION_BIT(OPTION_PATIENCE) |                       \
	 OPTION_BIT(OPTION_COMPRESS) | OPTION_BIT(OPTION_POLL_US) |                                \
	 OPTION_BIT(OPTION_ALLOW_UNSIGNED))

static int into_file(const char *argv0, const struct options *options, struct session *session)
{
	struct image_save save = {.path = options->nr_args > 1 ? options->args[1] : NULL,
				  .leave_running = options->leave_running,
				  .sign = !options->allow_unsigned};
	int outcome;

	if (!IS_ENABLED(CONFIG_IMAGE)) {
		log_error("dump into a file is not built in (CONFIG_IMAGE); use --serve ADDR:PORT");
		return OUTCOME_SYSTEM;
	}
	if (options->nr_args != 2 || !save.path[0])
		return cmd_usage(argv0, "a process id and a file are wanted");
	outcome = session_begin_save(session, argv0, options);
	if (outcome >= 0)
		return outcome;
	outcome = (int)image_save(&session->link, &session->move, &save);
	movestate_unlock_pid();
	return outcome;
}

int cmd_dump(int argc, char **argv)
{
	static struct session session;
	struct options options;
	int outcome = options_parse(argc, argv, ALLOWED, &options);

	if (outcome >= 0)
		return outcome;
	if (!options.serve && options.nr_args == 0)
		return cmd_usage(argv[0],
				 "a process id, and a file or --serve ADDR:PORT are wanted");
	if (!options.serve)
		return into_file(argv[0], &options, &session);
	if (options.leave_running || options.allow_unsigned)
		return cmd_usage(argv[0], "--leave-running and --allow-unsigned are for files");
	if (options.nr_args != 1)
		return cmd_usage(argv[0], "one process id is wanted");
	outcome = session_begin_source(&session, argv[0], &options, options.serve, true);
	if (outcome >= 0)
		return outcome;
	outcome = session_listen(&session, &options, options.serve, true, session_work);
	movestate_unlock_pid();
	return outcome;
}
