/* SPDX-License-Identifier: MIT */
/* The target before anything is built: whether this device can run what is offered, and may. */
#include <errno.h>

#include "engine/move/recall.h"
#include "engine/move/compare.h"
#include "engine/move/files.h"
#include "engine/move/move_roles.h"
#include "engine/move/offer.h"
#include "lib/arena.h"
#include "lib/config.h"
#include "lib/fault.h"
#include "lib/log.h"
#include "lib/text.h"
#include "transport/message.h"

/* The source identifies its files between two frames, which may be large ones. */
#define OFFER_TIMEOUT_MS 300000

/* The first reason counts and is kept; the frames that follow are still read. */
static int check_offer(struct target_move *m)
{
	struct move *move = &m->move;
	struct offer_limits limits = {.keys_dir = move->options->keys_dir,
				      .peer = move->link->name,
				      .pidns = move->options->pidns,
				      .allow_clock_jump = move->options->allow_clock_jump,
				      .rights = &m->rights,
				      .clocks = &m->clocks,
				      .other_vdso = &m->other_vdso};
	size_t mark = arena_mark();
	baton_MoveOffer *offer = arena_alloc(ARENA_SCRATCH, sizeof(*offer), 16);
	int err;

	if (!offer)
		return log_no_room("the offer");
	err = message_decode(&move->link->fast, baton_MoveOffer_fields, offer);
	if (err) {
		log_fail(-err, "peer %s: its offer makes no sense", move->link->peer);
	} else {
		offer_clean_text(offer->comm);
		offer_clean_text(offer->exe);
		offer_clean_text(offer->kernel);
		offer_clean_text(offer->arch);
		text_copy(move->state.comm, sizeof(move->state.comm), offer->comm);
		if (offer->mode >= baton_MoveMode_MOVE_MODE_LAZY &&
		    offer->mode <= baton_MoveMode_MOVE_MODE_EAGER)
			move->mode = (enum move_mode)offer->mode;
		else if (move->mode == MOVE_ANY)
			move->mode = MOVE_LAZY;
		log_info("%s (%s) %s %s (pid %u)", move->link->name, move->link->peer,
			 offer->check_only ? "asks about" : "offers", offer->comm,
			 offer->tids_count ? offer->tids[0] : 0);
		m->check_only = offer->check_only;
		m->recall = IS_ENABLED(CONFIG_CMD_EVACUATE) && offer->recall && m->check_only &&
			    move->options->send_back;
		if (m->recall)
			err = recall_answer(move->link, move->options, offer->recall_port,
					    &m->nr_refused);
		else
			err = m->check_only
				      ? compare_offer(move->link, offer, &limits, &m->nr_refused)
				      : offer_check(offer, &limits);
	}
	arena_reset(mark);
	return err;
}

static int check_file(struct target_move *m)
{
	size_t mark = arena_mark();
	baton_MoveFile *file = arena_alloc(ARENA_SCRATCH, sizeof(*file), 16);
	int err;

	if (!file)
		return log_no_room("a message");
	err = message_decode(&m->move.link->fast, baton_MoveFile_fields, file);
	if (err)
		log_fail(-err, "peer %s: what it says of a file makes no sense",
			 m->move.link->peer);
	else
		err = files_check(file, &m->rights);
	arena_reset(mark);
	return err;
}

/* `refused`: 0, or why not; the reason is then the last failure's. */
static int send_answer(struct target_move *m, int refused)
{
	size_t mark = arena_mark();
	baton_MoveAnswer *answer = arena_alloc(ARENA_SCRATCH, sizeof(*answer), 16);
	int err;

	if (!answer)
		return log_no_room("a message");
	answer->accepted = !refused;
	answer->mode = (baton_MoveMode)m->move.mode;
	answer->other_vdso = m->other_vdso;
	answer->clock_jump_ns = m->clocks.jump_ns;
	if (refused)
		text_copy(answer->reason, sizeof(answer->reason), log_reason());
	err = link_send_message(m->move.link, FRAME_ANSWER, baton_MoveAnswer_fields, answer);
	arena_reset(mark);
	return err;
}

/* One FILE. A check wants to hear of each that is refused, a move of the first. */
static int judge_file(struct target_move *m, int *refused)
{
	if (!m->check_only) {
		if (!*refused)
			*refused = check_file(m);
		return 0;
	}
	return check_file(m) ? compare_tell(m->move.link, &m->nr_refused) : 0;
}

/* Reads FILE frames up to CHECK and answers; `*refused` becomes the first reason against it. */
int target_answer_check(struct target_move *m, int *refused)
{
	struct lane *lane = &m->move.link->fast;
	int err;

	while (lane->rx.type == FRAME_FILE) {
		err = judge_file(m, refused);
		lane_receive_done(lane);
		if (!err)
			err = link_receive(m->move.link, OFFER_TIMEOUT_MS, true);
		if (err)
			return err;
	}
	err = link_check(m->move.link, FRAME_CHECK);
	if (err)
		return err;
	lane_receive_done(lane);
	return m->check_only ? compare_answer(m->move.link, m->nr_refused, m->recall)
			     : send_answer(m, *refused);
}

enum outcome target_take_offer(struct target_move *m)
{
	struct move *move = &m->move;
	struct link *link = move->link;
	bool unable;
	int refused, err;

	move_stage(move, "offer");
	text_copy(move->state.peer, sizeof(move->state.peer), link->peer);
	/* A file is no device: nobody asks it, and it asks nothing back. */
	if (!link->open_local)
		text_put_hex(move->state.fingerprint, link->fingerprint, sizeof(link->fingerprint),
			     '\0');
	err = link_receive(link, OFFER_TIMEOUT_MS, true);
	if (!err && link->fast.rx.type == FRAME_GO)
		return target_answer_for_dead(m);
	/* It gave up, and has come back to say so to a worker that is not there any more. */
	if (err == -ECONNABORTED)
		target_forget_dead(m);
	if (!err)
		err = link_check(link, FRAME_OFFER);
	if (err)
		return err == -EACCES ? OUTCOME_REFUSED : OUTCOME_FAILED;
	(void)fault_point(FAULT_TARGET_OFFERED);
	refused = check_offer(m);
	lane_receive_done(&link->fast);
	text_copy(move->state.mode, sizeof(move->state.mode), move_mode_name(move->mode));
	unable = !refused && movestate_write(&move->state, STAGE_BUILDING);
	if (unable)
		refused = -EIO;
	if (refused && m->check_only)
		refused = compare_tell(link, &m->nr_refused);
	err = link_receive(link, OFFER_TIMEOUT_MS, true);
	if (!err)
		err = target_answer_check(m, &refused);
	if (err)
		return err == -EACCES ? OUTCOME_REFUSED : OUTCOME_FAILED;
	if (refused)
		return unable ? OUTCOME_SYSTEM : OUTCOME_REFUSED;
	if (m->check_only)
		return OUTCOME_DONE;
	m->accepted = true;
	(void)fault_point(FAULT_TARGET_BUILDING);
	link_tell(link, LINK_TELL_ACCEPTED);
	return OUTCOME_DONE;
}
