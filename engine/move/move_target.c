/* SPDX-License-Identifier: MIT */
/*
 * The target's side of a move.
 *
 *               offer, files, answer: nothing exists yet; a refusal ends here
 *     BUILDING  the description comes, the process is built as it is read
 *     READY     complete and stopped. Dies with us; discarded when GO does not come
 *     STARTED   on disk before the first thread runs. From here on it is never given up
 *     FILLING   pages come
 *     COMPLETE  the source is told, kills its copy and answers DONE
 */
#include <errno.h>
#include <time.h>
#include <unistd.h>

#include "arch/arch.h"
#include "engine/move/move_roles.h"
#include "engine/paging/pager.h"
#include "engine/move/policy.h"
#include "engine/process/restore.h"
#include "engine/state/fd.h"
#include "lib/log.h"
#include "transport/message.h"

/* Up to the first frame of the description the source may still compare files. */
#define FREEZE_TIMEOUT_MS 300000
#define BUILD_TIMEOUT_MS 30000
/* How long a process that is ready waits for a source that went away before GO. */
#define READY_PATIENCE_MS 30000
/* A process that waits for its memory is looked after so often while the source is away. */
#define LOOK_AGAIN_MS 30000
#define DONE_TIMEOUT_MS 15000
#define DONE_PATIENCE_MS 15000

static struct {
	struct restore restore;
	struct pager *pager;
} engine;

int move_target_init(void)
{
	int err = restore_init(&engine.restore);

	if (!err)
		err = pager_init(&engine.pager);
	return err ? err : fd_init();
}

/* ---- building ---- */

static int on_lazy(void *data, uint64_t start, uint64_t end)
{
	struct target_move *m = data;

	m->lazy_bytes += end - start;
	return pager_add(engine.pager, start, end);
}

/* One frame of the description. 1: it is complete. */
static int build_frame(struct target_move *m)
{
	struct lane *lane = &m->move.link->fast;
	int refused = 0, err;

	switch (lane->rx.type) {
	case FRAME_FILE:
	case FRAME_CHECK:
		/* While frozen the source tells of files that have changed since the answer. */
		err = target_answer_check(m, &refused);
		return err ? err : refused;
	case FRAME_DESCRIBED:
		if (lane->rx.addr != engine.restore.nr_state)
			return log_fail(EPROTO, "the description is not complete");
		lane_receive_done(lane);
		return 1;
	case FRAME_PAGES:
		m->nr_eager += lane->rx.len >> arch_page_shift();
		break;
	default:
		break;
	}
	err = restore_frame(&engine.restore, lane);
	lane_receive_done(lane);
	return err;
}

static int read_description(struct target_move *m)
{
	struct restore_options options = {.stdio = m->move.options->stdio,
					  .pidns = m->move.options->pidns};
	int err;

	/* The wait for the first frame is the source's freeze. */
	err = link_receive(m->move.link, FREEZE_TIMEOUT_MS, true);
	if (err)
		return err;
	move_stage(&m->move, "build");
	restore_on_lazy(&engine.restore, on_lazy, m);
	restore_begin(&engine.restore, &options);
	m->built = true;
	for (;;) {
		err = build_frame(m);
		if (err)
			return err < 0 ? err : 0;
		err = link_receive(m->move.link, BUILD_TIMEOUT_MS, true);
		if (err)
			return err;
	}
}

static int fill_tick(void *data, const struct pager_counters *pager)
{
	struct target_move *m = data;
	struct movestate_counters counters = {.pages_done = pager->pages_sent + pager->pages_zero,
					      .pages_left = pager->todo_bytes >> arch_page_shift(),
					      .pages_zero = pager->pages_zero,
					      .faults = pager->faults,
					      .fault_p50_us = pager->fault_p50_us,
					      .fault_p99_us = pager->fault_p99_us};

	move_count(&m->move, &counters);
	return 0;
}

static int fill(struct target_move *m)
{
	static const enum pager_mode modes[] = {[MOVE_ANY] = PAGER_LAZY,
						[MOVE_LAZY] = PAGER_LAZY,
						[MOVE_ON_DEMAND] = PAGER_ON_DEMAND,
						[MOVE_EAGER] = PAGER_EAGER};
	struct link *link = m->move.link;
	int err;

	move_stage(&m->move, "fill");
	err = pager_run(engine.pager, &link->fast, &link->bulk, modes[m->move.mode], fill_tick, m);
	if (!err)
		m->filled = true;
	return err;
}

static int build(struct target_move *m)
{
	struct move *move = &m->move;
	int uffd, err;

	err = read_description(m);
	if (!err)
		err = restore_finish(&engine.restore, &uffd);
	if (err)
		return err;
	/* The pager owns the descriptor from here on, in every case. */
	err = pager_attach(engine.pager, engine.restore.pid, uffd);
	if (err)
		return err;
	move->state.pid = engine.restore.pid;
	/* The offer said who it would be; this is who it is. */
	err = policy_check_process(move->options->keys_dir, move->link->name, engine.restore.pid);
	if (!err && move->mode == MOVE_EAGER)
		err = fill(m);
	if (!err)
		move_stage(move, "ready");
	return err;
}

/* ---- GO ---- */

/* Says READY and waits for GO, over more than one link if need be. */
static int wait_go(struct target_move *m)
{
	struct link *link = m->move.link;
	int err;

	err = link_send(link, FRAME_READY, 0);
	for (;;) {
		if (!err)
			err = link_expect(link, FRAME_GO, -1, false);
		if (!err) {
			lane_receive_done(&link->fast);
			return 0;
		}
		/* The source's word that it gave up; or nonsense. */
		if (err == -ECONNABORTED || err == -EACCES || err == -EPROTO)
			return err;
		/* It may have committed: then it comes back, and says GO again. Not for ever: what is
		 * built here has not run, so giving it up loses nothing. */
		err = move_reconnect(&m->move, READY_PATIENCE_MS, false);
		if (err)
			return err;
	}
}

static int start(struct target_move *m)
{
	int err;

	err = movestate_write(&m->move.state, STAGE_STARTED);
	if (err)
		return err;
	err = restore_start(&engine.restore);
	if (!err)
		m->built = false; /* no longer ours to discard */
	return err;
}

/* ---- running ---- */

/* The link was cut: the source says GO again when it has found us, and learns how far we are. With a
 * patience below 0 for as long as somebody needs the pages: -ESRCH when nobody does any more. */
static int meet_again(struct target_move *m, int patience_ms)
{
	struct timespec pause = {0, 500000000};
	struct link *link = m->move.link;
	int err;

	for (;;) {
		err = move_reconnect(&m->move, patience_ms < 0 ? LOOK_AGAIN_MS : patience_ms,
				     false);
		if (patience_ms < 0 && !m->filled && !pager_is_needed(engine.pager))
			return log_fail(ESRCH, "pid %d ended before its memory was here",
					m->move.state.pid);
		if (err && patience_ms < 0)
			continue;
		if (err)
			return err;
		err = link_expect(link, FRAME_GO, BUILD_TIMEOUT_MS, false);
		if (!err) {
			lane_receive_done(&link->fast);
			err = link_send(link, FRAME_STARTED, 0);
		}
		if (!err)
			return 0;
		/* It was there, but not as the source of this move. */
		nanosleep(&pause, NULL);
	}
}

static void fill_to_the_end(struct target_move *m)
{
	while (!m->filled) {
		/* Whatever it is that failed: giving up would end the process' memory. */
		if (fill(m) && meet_again(m, -1))
			break;
	}
	m->move.state.stage = STAGE_COMPLETE;
}

static int say_complete(struct target_move *m)
{
	struct move_report *report = m->move.report;
	baton_MoveComplete complete = {0};
	struct pager_counters counters;

	pager_counters(engine.pager, &counters);
	report->pages_sent = counters.pages_sent + m->nr_eager;
	report->pages_zero = counters.pages_zero;
	report->pages_total = report->pages_sent + report->pages_zero;
	report->faults = complete.faults = counters.faults;
	report->fault_p50_us = complete.fault_p50_us = counters.fault_p50_us;
	report->fault_p99_us = complete.fault_p99_us = counters.fault_p99_us;
	complete.pages_sent = counters.pages_sent;
	complete.pages_zero = counters.pages_zero;
	return link_send_message(m->move.link, FRAME_COMPLETE, baton_MoveComplete_fields,
				 &complete);
}

/* Waits for DONE; what the push still had under way is passed over. */
static int take_done(struct target_move *m)
{
	struct move_report *report = m->move.report;
	struct link *link = m->move.link;
	baton_MoveDone done;
	int err;

	for (;;) {
		err = link_receive(link, DONE_TIMEOUT_MS, false);
		if (err)
			return err;
		if (link->fast.rx.type != FRAME_PAGES && link->fast.rx.type != FRAME_ZERO)
			break;
		lane_receive_done(&link->fast);
	}
	err = link_check(link, FRAME_DONE);
	if (!err)
		err = message_decode(&link->fast, baton_MoveDone_fields, &done);
	if (err)
		return err;
	lane_receive_done(&link->fast);
	report->downtime_us = done.downtime_us;
	report->freeze_us = done.freeze_us;
	report->pages_total = done.pages_total;
	return 0;
}

/* All is here. The source is told until it has answered, within reason: nothing here depends on it. */
static void end_move(struct target_move *m)
{
	int err;

	move_stage(&m->move, "end");
	err = say_complete(m);
	if (!err)
		err = take_done(m);
	if (err && !meet_again(m, DONE_PATIENCE_MS)) {
		err = say_complete(m);
		if (!err)
			err = take_done(m);
	}
	if (err)
		log_warn("move %s: complete here, but %s has not said that its copy is gone: %s",
			 m->move.state.id, m->move.link->peer, log_reason());
	log_reason_clear();
	movestate_remove(&m->move.state);
}

/* From the first message of the description to the end. The one place that discards. */
static enum outcome take_process(struct target_move *m)
{
	struct link *link = m->move.link;
	int err;

	err = build(m);
	if (!err)
		err = wait_go(m);
	if (!err)
		err = start(m);
	if (err) {
		if (m->built)
			restore_discard(&engine.restore);
		movestate_remove(&m->move.state);
		link_abort(link, LINK_NEVER_STARTED);
		return OUTCOME_FAILED;
	}
	if (link_send(link, FRAME_STARTED, 0))
		meet_again(m, -1);
	log_info("%s (pid %d) runs here", m->move.state.comm, m->move.state.pid);
	fill_to_the_end(m);
	end_move(m);
	return OUTCOME_DONE;
}

enum outcome move_target(struct link *link, const struct move_options *options,
			 struct move_report *report)
{
	struct target_move m = {0};
	enum outcome outcome;

	move_begin(&m.move, link, options, report);
	move_stage(&m.move, "connect");
	if (link_open(link, link->address ? LINK_DIAL_TIMEOUT_MS : CONFIG_HANDSHAKE_TIMEOUT_MS)) {
		move_finish(&m.move);
		return link_stopping() ? OUTCOME_FAILED : OUTCOME_PEER;
	}
	outcome = target_take_offer(&m);
	report->check_only = m.check_only;
	if (m.check_only) {
		movestate_remove(&m.move.state);
		/* The other side closes when it has read the answer. */
		link_receive(link, DONE_TIMEOUT_MS, true);
		log_reason_clear();
	} else if (outcome == OUTCOME_DONE) {
		outcome = take_process(&m);
	} else {
		movestate_remove(&m.move.state);
		/* Not that nothing ever ran: of a move that another worker had, we know nothing. */
		link_abort(link, outcome == OUTCOME_FAILED ? LINK_FAILED : LINK_REFUSED);
	}
	move_finish(&m.move);
	link_close(link);
	return outcome;
}
