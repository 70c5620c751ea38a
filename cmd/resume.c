/* SPDX-License-Identifier: MIT */
/* baton resume: go on with a move that is held, or run its process here again. */
#include "cmd/session.h"
#include "lib/log.h"

#define ALLOWED                                                                                    \
	(OPTION_BIT(OPTION_KEYS) | OPTION_BIT(OPTION_STATE) | OPTION_BIT(OPTION_JSON) |            \
	 OPTION_BIT(OPTION_MAX_RATE) | OPTION_BIT(OPTION_PEER_IS_DEAD))

int cmd_resume(int argc, char **argv)
{
	static struct session session;
	struct movestate state;
	struct options options;
	int outcome = options_parse(argc, argv, ALLOWED, &options);

	if (outcome >= 0)
		return outcome;
	if (options.nr_args != 1)
		return cmd_usage(argv[0], "the id of a move is wanted; see: baton status");
	outcome = session_begin(&session, &options, MOVE_SOURCE);
	if (outcome)
		return outcome;
	if (movestate_find_id(options.args[0], &state))
		return cmd_fail(OUTCOME_REFUSED, "there is no such move");
	if (!state.source) {
		log_error("move %s: this device is its target, where a move goes on by itself; run "
			  "resume on %s, or here: baton abort %s",
			  state.id, state.peer, state.id);
		return OUTCOME_REFUSED;
	}
	if (state.stage == STAGE_DRAINED && options.peer_is_dead) {
		log_error("move %s: its process has all it needs on %s; run: baton abort %s",
			  state.id, state.peer, state.id);
		return OUTCOME_REFUSED;
	}
	return session_resume(&session, &options, &state, options.peer_is_dead);
}
