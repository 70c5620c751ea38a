/* SPDX-License-Identifier: MIT */
/* baton restore: start a process out of a file, or fetch it from a device that serves it (--from). */
#include <errno.h>

#include "cmd/session.h"
#include "engine/image/peer.h"
#include "lib/config.h"
#include "lib/log.h"

#define ALLOWED                                                                                    \
	(OPTION_BIT(OPTION_KEYS) | OPTION_BIT(OPTION_STATE) | OPTION_BIT(OPTION_JSON) |            \
	 OPTION_BIT(OPTION_FROM) | OPTION_BIT(OPTION_PIDNS) | OPTION_BIT(OPTION_STDIO) |           \
	 OPTION_BIT(OPTION_EAGER) | OPTION_BIT(OPTION_LAZY) | OPTION_BIT(OPTION_ON_DEMAND) |       \
	 OPTION_BIT(OPTION_KEEPALIVE) | OPTION_BIT(OPTION_ALLOW_CLOCK_JUMP) |                      \
	 OPTION_BIT(OPTION_COMPRESS) | OPTION_BIT(OPTION_POLL_US) |                                \
	 OPTION_BIT(OPTION_ALLOW_UNSIGNED))

static int outcome_of(int err)
{
	return err == -EKEYREJECTED ? OUTCOME_PEER
	       : err == -ENOMEM     ? OUTCOME_SYSTEM
				    : OUTCOME_REFUSED;
}

static int out_of_file(const char *argv0, const struct options *options, struct session *session)
{
	static struct image image;
	int err, outcome;

	if (!IS_ENABLED(CONFIG_IMAGE)) {
		log_error(
			"restore from a file is not built in (CONFIG_IMAGE); use --from HOST:PORT");
		return OUTCOME_SYSTEM;
	}
	if (options->nr_args != 1)
		return cmd_usage(argv0, "one file is wanted");
	outcome = session_begin(session, options, MOVE_TARGET);
	if (outcome)
		return outcome;
	err = image_open(&image, options->args[0]);
	if (!err)
		err = image_check_packing(&image);
	if (!err && !options->allow_unsigned)
		err = image_check_signature(&image);
	if (err)
		return cmd_fail(outcome_of(err), "the file cannot be used");
	if (image_peer_link(&session->link, &image))
		return cmd_fail(OUTCOME_SYSTEM, "no random numbers");
	return (int)session_move(session);
}

int cmd_restore(int argc, char **argv)
{
	static struct session session;
	struct options options;
	int outcome = options_parse(argc, argv, ALLOWED, &options);

	if (outcome >= 0)
		return outcome;
	if (!options.from && options.nr_args == 0)
		return cmd_usage(argv[0], "a file or --from HOST:PORT is wanted");
	if (!options.from)
		return out_of_file(argv[0], &options, &session);
	if (options.nr_args || options.allow_unsigned)
		return cmd_usage(argv[0], "--from wants no file, and takes no --allow-unsigned");
	if (options_address(options.from, false))
		return cmd_usage(argv[0], "%s", log_reason());
	outcome = session_begin(&session, &options, MOVE_TARGET);
	if (outcome)
		return outcome;
	if (link_dial(&session.link, options.from))
		return cmd_fail(OUTCOME_SYSTEM, "no random numbers");
	return (int)session_move(&session);
}
