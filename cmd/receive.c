/* SPDX-License-Identifier: MIT */
/* baton receive: take processes that other devices send, and look after moves that nobody works on. */
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "cmd/session.h"
#include "lib/clock.h"
#include "lib/config.h"
#include "lib/log.h"
#include "lib/text.h"

#define ALLOWED                                                                                    \
	(OPTION_BIT(OPTION_KEYS) | OPTION_BIT(OPTION_STATE) | OPTION_BIT(OPTION_JSON) |            \
	 OPTION_BIT(OPTION_LISTEN) | OPTION_BIT(OPTION_ONCE) | OPTION_BIT(OPTION_PIDNS) |          \
	 OPTION_BIT(OPTION_PORT_FILE) | OPTION_BIT(OPTION_STDIO) | OPTION_BIT(OPTION_KEEPALIVE) |  \
	 OPTION_BIT(OPTION_COMPRESS) | OPTION_BIT(OPTION_POLL_US))

/* A move that could not be gone on with is tried again after so long, doubled up to the longest. */
#define AGAIN_MS 10000
#define AGAIN_LONGEST_MS 600000
#define REMEMBERED 16

static const struct options *given;

/* The moves that were picked up last, so that one that fails at once is not tried without a pause. */
static bool is_due(const char *id)
{
	static struct {
		int64_t next_ms;
		int wait_ms;
		char id[MOVESTATE_ID_TEXT];
	} tried[REMEMBERED];
	static unsigned int oldest;
	int64_t now_ms = clock_now_ms();

	for (unsigned int i = 0; i < REMEMBERED; i++) {
		if (strcmp(tried[i].id, id) != 0)
			continue;
		if (now_ms < tried[i].next_ms)
			return false;
		tried[i].wait_ms *= 2;
		if (tried[i].wait_ms > AGAIN_LONGEST_MS)
			tried[i].wait_ms = AGAIN_LONGEST_MS;
		tried[i].next_ms = now_ms + tried[i].wait_ms;
		return true;
	}
	text_copy(tried[oldest].id, sizeof(tried[oldest].id), id);
	tried[oldest].wait_ms = AGAIN_MS;
	tried[oldest].next_ms = now_ms + AGAIN_MS;
	oldest = (oldest + 1) % REMEMBERED;
	return true;
}

static int pick_up(void *data, struct movestate *state)
{
	sigset_t none;

	(void)data;
	/* A target that listens is asked by its source, and answers then. */
	if (state->decide || (!state->source && !state->dial[0]) ||
	    state->stage == STAGE_BUILDING || movestate_is_held(movestate_folder(), state) ||
	    !is_due(state->id))
		return 0;
	log_warn("move %s (%s, pid %d) is %s and nobody works on it: resume", state->id,
		 state->comm, state->pid, movestate_stage_name(state->stage));
	if (fork() == 0) {
		sigemptyset(&none);
		sigprocmask(SIG_SETMASK, &none, NULL);
		execv("/proc/self/exe",
		      (char *const[]){"baton", "resume", "--state", (char *)given->state, "--keys",
				      state->keys[0] ? state->keys : (char *)given->keys, state->id,
				      NULL});
		_exit(OUTCOME_SYSTEM);
	}
	return 0;
}

/* To where it came from, as a command of its own. */
static void send_back(pid_t pid, const char *address)
{
	char text[16];

	snprintf(text, sizeof(text), "%d", pid);
	log_info("pid %d is fetched back by %s", pid, address);
	if (fork() == 0) {
		setsid();
		execv("/proc/self/exe",
		      (char *const[]){"baton", "send", "--state", (char *)given->state, "--keys",
				      (char *)given->keys, text, (char *)address, NULL});
		_exit(OUTCOME_SYSTEM);
	}
}

static void tend(void *data)
{
	(void)data;
	movestate_sweep();
	movestate_each(movestate_folder(), pick_up, NULL);
	log_reason_clear();
}

int cmd_receive(int argc, char **argv)
{
	static struct session session;
	static struct options options;
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
	given = &options;
	session.move.send_back = IS_ENABLED(CONFIG_CMD_EVACUATE) ? send_back : NULL;
	session.tend = options.once ? NULL : tend;
	return session_listen(&session, &options, options.listen ? options.listen : "",
			      options.once, session_work);
}
