/* SPDX-License-Identifier: MIT */
/*
 * The target's answer to a source whose move has no worker here any more: from what is on disk. The
 * table of answers is in docs/crash-safety.md.
 */
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "engine/move/move_roles.h"
#include "lib/io.h"
#include "lib/kernel.h"
#include "lib/log.h"
#include "lib/text.h"
#include "transport/message.h"

#define DONE_TIMEOUT_MS 15000
#define KILL_TIMEOUT_MS 10000

/* The state of the move that this source asks about. -ENOENT: there is none; -EBUSY: it has a worker. */
static int find(const struct target_move *m, struct movestate *found)
{
	char name[64];
	int err;

	movestate_file_name(&m->move.state, "move", name, sizeof(name));
	err = movestate_read(movestate_folder(), name, found);
	/* The token is no secret: the certificate must be the same, too. */
	if (err || strcmp(found->token, m->move.state.token) != 0 ||
	    strcmp(found->fingerprint, m->move.state.fingerprint) != 0)
		return log_fail(ENOENT,
				"nothing is known here of move %s: this device was "
				"rebooted, or it was forgotten",
				m->move.state.id);
	found->lock_fd = 0;
	err = movestate_lock(found);
	found->written = !err;
	return err;
}

/* What ran here has lost its memory, and must not run on with zeros when the source's copy does. */
static int end_remains(const struct movestate *state)
{
	struct pollfd gone = {-1, POLLIN, 0};
	int ended;

	gone.fd = movestate_pidfd(state);
	if (gone.fd < 0)
		return 0;
	log_warn("pid %d has lost its memory with the processes that filled it; it is ended",
		 state->pid);
	syscall(SYS_pidfd_send_signal, gone.fd, SIGKILL, NULL, 0);
	ended = io_poll(&gone, 1, KILL_TIMEOUT_MS);
	close(gone.fd);
	return ended > 0 ? 0 : log_fail(EBUSY, "pid %d cannot be ended", state->pid);
}

static bool say_complete(struct link *link)
{
	baton_MoveComplete complete = {0};

	if (link_send_message(link, FRAME_COMPLETE, baton_MoveComplete_fields, &complete) ||
	    link_expect(link, FRAME_DONE, DONE_TIMEOUT_MS, false))
		return false;
	lane_receive_done(&link->fast);
	return true;
}

void target_forget_dead(struct target_move *m)
{
	char reason[LOG_REASON_MAX];
	struct movestate found;

	text_copy(reason, sizeof(reason), log_reason());
	if (!find(m, &found)) {
		m->answered = true;
		if (found.stage == STAGE_READY || found.stage == STAGE_BUILDING)
			movestate_remove(&found);
		else
			close(found.lock_fd);
	}
	log_reason_clear();
	log_fail(ECONNABORTED, "%s", reason);
}

enum outcome target_answer_for_dead(struct target_move *m)
{
	struct link *link = m->move.link;
	struct movestate found;
	bool forget = false;
	int err;

	m->answered = true;
	lane_receive_done(&link->fast);
	err = find(m, &found);
	if (err == -EBUSY)
		return OUTCOME_FAILED; /* no answer: its worker will be found the next time */
	if (err) {
		log_warn("%s (%s): %s", link->name, link->peer, log_reason());
		link_abort(link, LINK_UNKNOWN);
		return OUTCOME_FAILED;
	}
	log_reason_clear();
	if (found.stage == STAGE_COMPLETE && !movestate_is_of_another_boot(&found)) {
		forget = say_complete(link);
	} else if (found.stage == STAGE_BUILDING || found.stage == STAGE_READY) {
		log_fail(ECANCELED, "%s (pid %d) was never started here", found.comm, found.pid);
		forget = link_abort(link, LINK_NEVER_STARTED);
	} else if (!end_remains(&found)) {
		log_fail(EOWNERDEAD, "%s (pid %d) ran here: %s", found.comm, found.pid,
			 found.decide && found.reason[0]
				 ? found.reason
				 : "its memory was lost with this device's baton or by a reboot");
		forget = link_abort(link, LINK_LOST);
	}
	log_warn("%s (%s): answered for move %s, which no process works on: %s", link->name,
		 link->peer, found.id, movestate_stage_name(found.stage));
	if (forget) {
		movestate_remove(&found);
		link_abort(link, LINK_UNKNOWN);
	} else {
		close(found.lock_fd);
	}
	log_reason_clear();
	return OUTCOME_FAILED;
}
