/* SPDX-License-Identifier: MIT */
/* baton abort: end a move by an operator's decision, with the part of it that is on this device. */
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <unistd.h>

#include "cmd/session.h"
#include "lib/clock.h"
#include "lib/io.h"
#include "lib/log.h"

/* The worker looks between two attempts to reach its peer. */
#define END_TIMEOUT_MS 30000
#define LOOK_MS 100

#define ALLOWED (OPTION_BIT(OPTION_KEYS) | OPTION_BIT(OPTION_STATE) | OPTION_BIT(OPTION_KILL))

/*
 * The worker ends the process, and says on disk that this was no end of its own: who kills it from outside may meet a
 * worker that has just seen the last page come, and takes it for one. It may be on its way to a peer that is away.
 */
static int await_end(const struct movestate *state)
{
	struct pollfd gone = {movestate_pidfd(state), POLLIN, 0};
	int64_t deadline = clock_deadline_ms(END_TIMEOUT_MS);
	struct movestate now;
	pid_t told = state->engine;
	char name[64];

	movestate_file_name(state, "move", name, sizeof(name));
	while (gone.fd >= 0 && io_poll(&gone, 1, LOOK_MS) <= 0) {
		int err = movestate_read(movestate_folder(), name, &now);
		bool complete = err == -ENOENT || (!err && now.stage == STAGE_COMPLETE);

		/* It may have died before it has heard; the next one says who it is. */
		if (!err && !complete && now.engine != told &&
		    !movestate_signal_engine(&now, SIGUSR2))
			told = now.engine;
		if (!complete && clock_left_ms(deadline))
			continue;
		log_error("move %s: pid %d (%s) has not ended here: %s", state->id, state->pid,
			  state->comm,
			  complete ? "all of it came meanwhile; end it as any other"
				   : "its worker does not answer");
		close(gone.fd);
		return OUTCOME_FAILED;
	}
	io_close(&gone.fd);
	log_info("move %s is given up here, and pid %d has ended; %s has the whole copy of it, "
		 "held. What is left of the move here is the answer for %s, which will ask; if it "
		 "never will: baton abort %s",
		 state->id, state->pid, state->peer, state->peer, state->id);
	return OUTCOME_DONE;
}

static int refuse(const struct movestate *state)
{
	log_error("move %s is %s: this would end pid %d (%s) here, %s; if that is meant, run: "
		  "baton abort "
		  "--kill %s",
		  state->id, movestate_stage_name(state->stage), state->pid, state->comm,
		  state->source ? "the only whole copy of it" : "which has run since it was moved",
		  state->id);
	return OUTCOME_REFUSED;
}

/* Somebody works on it: it is asked to undo what can still be undone, or to give up what it has. */
static int ask_worker(const struct movestate *state, bool kill_it)
{
	bool undo = state->source && state->stage == STAGE_OFFERED;
	bool give_up = !state->source && state->stage == STAGE_STARTED;

	if (give_up && !kill_it)
		return refuse(state);
	if (!undo && !give_up) {
		log_error("move %s is %s, and pid %d works on it: it cannot be undone any more",
			  state->id, movestate_stage_name(state->stage), state->engine);
		return OUTCOME_REFUSED;
	}
	if (movestate_signal_engine(state, undo ? SIGTERM : SIGUSR2))
		return cmd_fail(OUTCOME_FAILED, "the move cannot be ended");
	if (give_up)
		return await_end(state);
	log_info("move %s is being undone; pid %d runs on here", state->id, state->pid);
	return OUTCOME_DONE;
}

static int end(struct session *session, struct movestate *state, const struct options *options)
{
	/* A source that is drained and a target that never started have nothing to lose. */
	bool harmless = state->stage == STAGE_DRAINED || state->stage == STAGE_OFFERED ||
			state->stage == STAGE_BUILDING || state->stage == STAGE_READY ||
			state->stage == STAGE_COMPLETE || !movestate_process_lives(state);

	if (!harmless && !options->kill)
		return refuse(state);
	state->lock_fd = 0;
	if (movestate_lock(state))
		return cmd_fail(OUTCOME_REFUSED, "the move cannot be ended");
	/* It may have been left held. */
	if (state->stage == STAGE_OFFERED)
		move_source_let_run(&session->link, &session->move, state);
	/* What is complete is a process like any other now, and what never ran here is none. */
	if (state->stage == STAGE_COMPLETE || state->stage == STAGE_OFFERED ||
	    state->stage == STAGE_READY || state->stage == STAGE_BUILDING) {
		state->written = true;
		movestate_remove(state);
		return OUTCOME_DONE;
	}
	return (int)move_source_give_up(&session->move, state);
}

int cmd_abort(int argc, char **argv)
{
	static struct session session;
	struct movestate state;
	struct options options;
	int outcome = options_parse(argc, argv, ALLOWED, &options);

	if (outcome >= 0)
		return outcome;
	if (options.nr_args != 1)
		return cmd_usage(argv[0], "the id of a move is wanted; see: baton status");
	/* Before what is left over is swept: it is as well ended by that. */
	if (movestate_folder_open(options.state))
		return cmd_fail(OUTCOME_SYSTEM, "the state folder cannot be used");
	if (movestate_find_id(options.args[0], &state))
		return cmd_fail(OUTCOME_REFUSED, "there is no such move");
	outcome = session_begin_offline(&session, &options);
	if (outcome)
		return outcome;
	return movestate_is_held(movestate_folder(), &state) ? ask_worker(&state, options.kill)
							     : end(&session, &state, &options);
}
