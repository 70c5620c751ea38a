/* SPDX-License-Identifier: MIT */
/* The source before the freeze: what cannot be moved is found here, and nothing has been stopped. */
#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "engine/process/dump.h"
#include "engine/move/files.h"
#include "engine/move/move_roles.h"
#include "engine/move/offer.h"
#include "engine/process/proc.h"
#include "lib/arena.h"
#include "lib/config.h"
#include "lib/fault.h"
#include "lib/log.h"
#include "lib/text.h"
#include "transport/message.h"

#define SEND_TIMEOUT_MS 20000
/* The target may have to read large files before it answers. */
#define ANSWER_TIMEOUT_MS 300000

static void report_probe(struct probe *p, bool carried, const char *item, const char *text)
{
	if (carried)
		log_debug("pid %d: %s: %s", p->pid, item, text);
	else
		log_error("pid %d: %s: %s", p->pid, item, text);
}

int move_probe(pid_t pid)
{
	struct probe probe = {.report = report_probe};
	int err;

	err = offer_check_pid(pid);
	if (err)
		return err;
	err = probe_process(&probe, pid);
	if (err)
		return err;
	if (!probe.nr_refused)
		return 0;
	return log_fail(EOPNOTSUPP,
			"pid %d holds %u thing%s that cannot be moved; it was not touched", pid,
			probe.nr_refused, probe.nr_refused == 1 ? "" : "s");
}

/* No right, no kernel feature, no room in the budget: the system. All else: the process. */
enum outcome move_probe_outcome(int err)
{
	switch (-err) {
	case EPERM:
	case EACCES:
	case ENOSYS:
	case ENOMEM:
		return OUTCOME_SYSTEM;
	default:
		return OUTCOME_REFUSED;
	}
}

/* Why the link failed is a failure; why the process or its files do not fit is a refusal. */
static enum outcome outcome_of(int err)
{
	switch (-err) {
	case ECONNRESET:
	case ECONNABORTED:
	case EPIPE:
	case ENOTCONN:
	case ETIMEDOUT:
	case EPROTO:
	case EINTR:
	case EIO:
		return OUTCOME_FAILED;
	case ENOMEM:
		return OUTCOME_SYSTEM;
	default:
		return OUTCOME_REFUSED;
	}
}

static int send_offer(struct source_move *m)
{
	struct move *move = &m->move;
	size_t mark = arena_mark();
	baton_MoveOffer *offer = arena_alloc(ARENA_SCRATCH, sizeof(*offer), 16);
	int err;

	if (!offer)
		return log_no_room("the offer");
	err = offer_collect(move->state.pid, offer);
	if (!err) {
		text_copy(move->state.comm, sizeof(move->state.comm), offer->comm);
		m->pages_resident = offer->pages;
		offer->mode = (baton_MoveMode)move->mode;
		offer->allow_clock_jump = move->options->allow_clock_jump;
		offer->id.size = MOVESTATE_ID_BYTES;
		memcpy(offer->id.bytes, move->link->token, MOVESTATE_ID_BYTES);
		err = link_send_message(move->link, FRAME_OFFER, baton_MoveOffer_fields, offer);
	}
	arena_reset(mark);
	return err;
}

/* CHECK, and what the target says to it. -EACCES: it refuses. */
static int ask_answer(struct source_move *m, int timeout_ms)
{
	struct move *move = &m->move;
	size_t mark = arena_mark();
	baton_MoveAnswer *answer;
	int err;

	err = link_send(move->link, FRAME_CHECK, 0);
	if (!err)
		err = link_expect(move->link, FRAME_ANSWER, timeout_ms, true);
	if (err)
		return err;
	answer = arena_alloc(ARENA_SCRATCH, sizeof(*answer), 16);
	err = answer ? message_decode(&move->link->fast, baton_MoveAnswer_fields, answer) : -ENOMEM;
	lane_receive_done(&move->link->fast);
	if (err) {
		log_fail(-err, "peer %s: its answer makes no sense", move->link->peer);
	} else if (!answer->accepted) {
		offer_clean_text(answer->reason);
		err = log_fail(EACCES, "refused by %s (%s): %s", move->link->name, move->link->peer,
			       answer->reason);
	} else if (answer->mode >= baton_MoveMode_MOVE_MODE_LAZY &&
		   answer->mode <= baton_MoveMode_MOVE_MODE_EAGER) {
		move->mode = (enum move_mode)answer->mode;
		/* Only who has offered it is asked for it. */
		m->other_vdso = IS_ENABLED(CONFIG_OTHER_VDSO) && answer->other_vdso;
		if (answer->clock_jump_ns && !m->frozen_us)
			log_warn("pid %d: its clocks (CLOCK_MONOTONIC, CLOCK_BOOTTIME) jump by "
				 "%+.3f s: %s can make no time namespace",
				 move->state.pid, (double)answer->clock_jump_ns / 1e9,
				 move->link->name);
	} else {
		err = log_fail(EPROTO, "peer %s: its answer makes no sense", move->link->peer);
	}
	arena_reset(mark);
	return err;
}

/* What tells this very process from a later one with its number, and its state from what we make of it. */
static void read_identity(struct movestate *state)
{
	struct proc_status status;
	int fd = proc_open(state->pid);

	movestate_name_process(state, state->pid);
	if (fd < 0)
		return;
	state->stopped = !proc_status(fd, &status) && status.state == 'T';
	close(fd);
}

/* Another worker may have been faster with the same process: what it holds is a copy. */
static bool another_has_it(pid_t pid)
{
	struct movestate other;
	int err = movestate_find_pid(pid, &other);

	if (!err)
		log_fail(EBUSY, "pid %d is already being moved (move %s); see: baton status", pid,
			 other.id);
	return err != -ENOENT;
}

enum outcome source_offer(struct source_move *m)
{
	struct move *move = &m->move;
	int err;

	move_stage(move, "offer");
	text_copy(move->state.peer, sizeof(move->state.peer), move->link->peer);
	text_put_hex(move->state.fingerprint, move->link->fingerprint,
		     sizeof(move->link->fingerprint), '\0');
	read_identity(&move->state);
	err = move_probe(move->state.pid);
	if (err)
		return move_probe_outcome(err);
	/* Also finds out, while nothing is stopped, whether the state folder can be written. */
	err = movestate_write(&move->state, STAGE_OFFERED);
	if (err)
		return OUTCOME_SYSTEM;
	err = fault_point(FAULT_SOURCE_OFFERED);
	if (!err)
		err = send_offer(m);
	if (err)
		return outcome_of(err);
	files_begin();
	err = files_send(&move->link->fast, move->state.pid, false, SEND_TIMEOUT_MS);
	if (err < 0)
		return outcome_of(link_last_words(move->link, err));
	err = ask_answer(m, ANSWER_TIMEOUT_MS);
	if (err)
		return outcome_of(err);
	if (another_has_it(move->state.pid))
		return OUTCOME_REFUSED;
	text_copy(move->state.mode, sizeof(move->state.mode), move_mode_name(move->mode));
	link_tell(move->link, LINK_TELL_ACCEPTED);
	if (fault_point(FAULT_SOURCE_ANSWERED))
		return OUTCOME_FAILED;
	return OUTCOME_DONE;
}

/* Files that were mapped, opened or changed after the answer. */
int source_check_again(struct source_move *m)
{
	/* The link's patience bounds both. */
	int sent = files_send(&m->move.link->fast, m->move.state.pid, true, -1);

	if (sent <= 0)
		return sent;
	log_debug("%d files changed since they were compared", sent);
	return ask_answer(m, -1);
}
