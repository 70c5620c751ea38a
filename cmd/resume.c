/* SPDX-License-Identifier: MIT */
/* baton resume: go on with a move that is held, or run its process here again. */
#include "cmd/session.h"
#include "lib/log.h"

#define ALLOWED                                                                                    \
	(OPTION_BIT(OPTION_KEYS) | OPTION_BIT(OPTION_STATE) | OPTION_BIT(OPTION_JSON) |            \
	 OPTION_BIT(OPTION_MAX_RATE) | OPTION_BIT(OPTION_PEER_IS_DEAD) |                           \
	 OPTION_BIT(OPTION_KEEPALIVE) | OPTION_BIT(OPTION_PATIENCE))

/* Which move, and by which keys, is known before there is any other memory. */
static int find(struct options *options, struct movestate *state)
{
	if (movestate_folder_open(options->state))
		return cmd_fail(OUTCOME_SYSTEM, "the state folder cannot be used");
	if (movestate_find_id(options->args[0], state))
		return cmd_fail(OUTCOME_REFUSED, "there is no such move");
	if (!options_keys_given(options) && state->keys[0])
		options->keys = state->keys;
	return OUTCOME_DONE;
}

static int check(const struct movestate *state, bool peer_is_dead)
{
	if (!state->source && (!state->dial[0] || peer_is_dead)) {
		log_error("move %s: this device is its target, where a move goes on by itself; run "
			  "resume on %s, or here: baton abort %s",
			  state->id, state->peer, state->id);
		return OUTCOME_REFUSED;
	}
	if (state->stage == STAGE_DRAINED && peer_is_dead) {
		log_error("move %s: its process has all it needs on %s; run: baton abort %s",
			  state->id, state->peer, state->id);
		return OUTCOME_REFUSED;
	}
	return OUTCOME_DONE;
}

int cmd_resume(int argc, char **argv)
{
	static struct session session;
	static struct movestate state;
	struct options options;
	int outcome = options_parse(argc, argv, ALLOWED, &options);

	if (outcome >= 0)
		return outcome;
	if (options.nr_args != 1)
		return cmd_usage(argv[0], "the id of a move is wanted; see: baton status");
	outcome = find(&options, &state);
	if (!outcome)
		outcome = check(&state, options.peer_is_dead);
	if (!outcome)
		outcome =
			session_begin(&session, &options, state.source ? MOVE_SOURCE : MOVE_TARGET);
	return outcome ? outcome : session_resume(&session, &options, &state, options.peer_is_dead);
}
