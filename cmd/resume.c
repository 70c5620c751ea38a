/* SPDX-License-Identifier: MIT */
/* baton resume: go on with a move that is held, or run its process here again. */
#include <signal.h>

#include "cmd/session.h"
#include "lib/clock.h"
#include "lib/io.h"
#include "lib/log.h"

/* An attempt to reach the peer takes as long as a dial; then it holds. */
#define TAKE_OVER_MS 20000
#define LOOK_MS 20

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

/*
 * Somebody still tries to reach the peer, which the operator says is dead: that one's work ends, and holds. Whoever has
 * a connection knows better.
 */
static int take_over(struct options *options, struct movestate *state)
{
	int64_t deadline = clock_deadline_ms(state->reason[0] ? TAKE_OVER_MS : 0);
	int outcome;
	pid_t engine;

	if (!movestate_is_held(movestate_folder(), state))
		return OUTCOME_DONE;
	if (state->reason[0] && movestate_signal_engine(state, SIGTERM))
		return cmd_fail(OUTCOME_REFUSED, "the move cannot be resumed");
	if (state->reason[0])
		log_info("move %s: pid %d still tries to reach %s; it is told to stop", state->id,
			 state->engine, state->peer);
	while (movestate_is_held(movestate_folder(), state)) {
		if (!clock_left_ms(deadline)) {
			log_error("move %s: pid %d works on it and has not lost %s", state->id,
				  state->engine, state->peer);
			return OUTCOME_REFUSED;
		}
		io_sleep_ms(LOOK_MS);
		/* Somebody else may have picked it up meanwhile: receive looks for what nobody works on. */
		engine = state->engine;
		outcome = find(options, state);
		if (outcome)
			return outcome;
		if (state->engine != engine && state->reason[0] &&
		    movestate_signal_engine(state, SIGTERM))
			log_reason_clear(); /* gone again: the next look tells */
	}
	outcome = find(options, state);
	return outcome ? outcome : check(state, true);
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
	if (!outcome && options.peer_is_dead)
		outcome = take_over(&options, &state);
	if (!outcome)
		outcome =
			session_begin(&session, &options, state.source ? MOVE_SOURCE : MOVE_TARGET);
	return outcome ? outcome : session_resume(&session, &options, &state, options.peer_is_dead);
}
