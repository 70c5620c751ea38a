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
#include <signal.h>
#include <string.h>
#include <unistd.h>

#include "arch/arch.h"
#include "engine/move/move_roles.h"
#include "engine/move/twin.h"
#include "engine/paging/pager.h"
#include "engine/move/policy.h"
#include "engine/process/proc.h"
#include "engine/process/restore.h"
#include "engine/state/fd.h"
#include "lib/arena.h"
#include "lib/clock.h"
#include "lib/config.h"
#include "lib/fault.h"
#include "lib/io.h"
#include "lib/log.h"
#include "lib/text.h"
#include "transport/message.h"

/* Up to the first frame of the description the source may still compare files. */
#define FREEZE_TIMEOUT_MS 300000
#define BUILD_TIMEOUT_MS 30000
/* While the process is stopped for us, so often a sign that we are at work. */
#define SIGN_MS 500
/* How long a process that is ready waits for a source that went away before GO. */
#define READY_PATIENCE_MS 30000
/* A process that waits for its memory is looked after so often while the source is away. */
#define LOOK_AGAIN_MS 30000
#define DONE_TIMEOUT_MS 15000
#define DONE_PATIENCE_MS 15000
/* Between two lines in the log about memory that is missing here. */
#define TELL_AGAIN_MS 60000
/* Between two looks whether anybody waits for a page that is damaged. */
#define LOOK_DAMAGED_MS 20

/* In the arena's tables: whoever comes after a worker that died finds what it had. */
static struct target_engine {
	struct target_move m;
	struct restore restore;
	struct pager *pager;
	/* An operator's word that what runs here is to be given up, see cmd/abort.c. It binds the next worker, too. */
	volatile sig_atomic_t give_up;
} * engine;

int move_target_init(void)
{
	int err;

	engine = arena_alloc(ARENA_TABLES, sizeof(*engine), 16);
	if (!engine)
		return -ENOMEM;
	err = restore_init(&engine->restore);

	if (!err)
		err = pager_init(&engine->pager);
	return err ? err : fd_init();
}

static bool is_given_up(void)
{
	return engine->give_up;
}

static void on_give_up(int signal)
{
	(void)signal;
	engine->give_up = 1;
}

/* ---- building ---- */

static int on_lazy(void *data, uint64_t start, uint64_t end)
{
	struct target_move *m = data;

	m->lazy_bytes += end - start;
	return pager_add(engine->pager, start, end);
}

static bool on_touch(void *data, uint64_t addr)
{
	(void)data;
	return pager_predict(engine->pager, addr);
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
		if (lane->rx.addr != engine->restore.nr_state)
			return log_fail(EPROTO, "the description is not complete");
		lane_receive_done(lane);
		return 1;
	case FRAME_PAGES:
		m->nr_eager += lane->rx.len >> arch_page_shift();
		break;
	default:
		break;
	}
	err = restore_frame(&engine->restore, lane);
	lane_receive_done(lane);
	return err;
}

static int read_description(struct target_move *m)
{
	struct restore_options options = {.stdio = m->move.options->stdio,
					  .pidns = m->move.options->pidns,
					  .other_vdso = m->other_vdso,
					  .clocks_fit = m->clocks.fit,
					  .may_jump = m->clocks.jump_ns != 0,
					  .rights = &m->rights};
	int err;

	/* The wait for the first frame is the source's freeze. */
	err = link_receive(m->move.link, FREEZE_TIMEOUT_MS, true);
	if (err)
		return err;
	move_stage(&m->move, "build");
	move_part_begin(&m->move);
	restore_on_lazy(&engine->restore, &(struct restore_lazy){on_lazy, on_touch, m});
	restore_begin(&engine->restore, &options);
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

/* Says that the process waits for memory of this device: at once, then once in a while. */
static void tell_starving(struct target_move *m, bool starving)
{
	int64_t now_ms = clock_now_ms();

	if (!starving && m->starving)
		log_info("there is memory for pid %d again", m->move.state.pid);
	m->starving &= starving;
	if (!starving || now_ms < m->starving_tell_ms)
		return;
	m->starving = true;
	m->starving_tell_ms = now_ms + TELL_AGAIN_MS;
	log_warn("no memory left for pid %d on this device, or in its memory control group: it "
		 "waits "
		 "for its pages, and goes on when there is some",
		 m->move.state.pid);
}

static int fill_tick(void *data, const struct pager_counters *pager)
{
	struct target_move *m = data;
	struct movestate_counters counters = {
		.pages_done = pager->pages_sent + pager->pages_zero,
		.pages_left = pager->todo_bytes >> arch_page_shift(),
		.pages_zero = pager->pages_zero,
		.pages_predicted = pager->pages_predicted,
		.faults = pager->faults,
		.fault_p50_us = pager->fault_p50_us,
		.fault_p99_us = pager->fault_p99_us,
		.starving_s = (uint32_t)((pager->starving_ms + 999) / 1000)};

	tell_starving(m, pager->starving_ms != 0);
	move_count(&m->move, &counters);
	guard_check(&m->guard, m->move.state.pid);
	return engine->give_up ? log_fail(EOWNERDEAD, "given up here by baton abort") : 0;
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
	err = pager_run(engine->pager, &link->fast, &link->bulk, modes[m->move.mode], fill_tick, m);
	if (!err)
		m->filled = true;
	return err;
}

static int build(struct target_move *m)
{
	struct move *move = &m->move;
	int uffd, err;

	err = read_description(m);
	move_part_end(move, PART_BUILD);
	if (!err)
		err = restore_finish(&engine->restore, &uffd);
	if (err)
		return err;
	/* The pager owns the descriptor from here on, in every case. */
	err = pager_attach(engine->pager, engine->restore.pid, uffd);
	if (!err)
		err = fault_point(FAULT_TARGET_BUILT);
	if (err)
		return err;
	movestate_name_process(&move->state, engine->restore.pid);
	/* The offer said who it would be; this is who it is. */
	err = policy_check_process(move->options->keys_dir, move->link->name, engine->restore.pid);
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

	move_part_end(&m->move, PART_ARM);
	/* From here on the source may commit, and what is on disk is the answer to its question. */
	err = movestate_write(&m->move.state, STAGE_READY);
	if (err)
		return err;
	m->said_ready = true;
	move_part_end(&m->move, PART_RECORD);
	err = link_send(link, FRAME_READY, 0);
	(void)fault_point(FAULT_TARGET_READY);
	for (;;) {
		if (!err)
			err = link_expect(link, FRAME_GO, -1, false);
		if (!err) {
			lane_receive_done(&link->fast);
			move_met_again(&m->move);
			return fault_point(FAULT_TARGET_GO);
		}
		/* The source's word that it gave up; or nonsense. */
		if (err == -ECONNABORTED)
			m->forgotten = true;
		if (err == -ECONNABORTED || err == -EACCES || err == -EPROTO)
			return err;
		/* It may have committed: then it comes back, and says GO again. Not for ever: what is
		 * built here has not run, so giving it up loses nothing. */
		err = move_reconnect(&m->move, READY_PATIENCE_MS, NULL);
		if (err)
			return err;
	}
}

static int start(struct target_move *m)
{
	int err;

	move_part_end(&m->move, PART_GO);
	err = movestate_write(&m->move.state, STAGE_STARTED);
	if (!err)
		err = fault_point(FAULT_TARGET_STARTED);
	if (!err)
		err = guard_start(&m->guard, m->move.state.pid);
	if (!err)
		err = restore_start(&engine->restore, &m->start);
	move_part_end(&m->move, PART_RUN);
	if (!err)
		m->built = false; /* no longer ours to discard */
	return err;
}

/* ---- running ---- */

/* The link was cut: the source says GO again when it has found us, and learns how far we are. With a
 * patience below 0 for as long as somebody needs the pages: -ESRCH when nobody does any more. */
static int meet_again(struct target_move *m, int patience_ms)
{
	struct link *link = m->move.link;
	bool said = false;
	int err;

	for (;;) {
		int left_ms = move_patience_left(&m->move, patience_ms);

		if (engine->give_up)
			return log_fail(EOWNERDEAD, "given up here by baton abort");
		err = move_reconnect(&m->move, left_ms < 0 ? LOOK_AGAIN_MS : left_ms, is_given_up);
		if (patience_ms < 0 && !m->filled && !pager_is_needed(engine->pager))
			return log_fail(ESRCH, "pid %d ended before its memory was here",
					m->move.state.pid);
		if (err && patience_ms < 0)
			continue;
		if (err)
			return err;
		err = link_expect(link, FRAME_GO, BUILD_TIMEOUT_MS, false);
		if (err == -EOWNERDEAD && !said)
			log_error("pid %d waits for memory that nobody has any more: %s; end it "
				  "with: "
				  "baton abort --kill %s",
				  m->move.state.pid, log_reason(), m->move.state.id);
		said |= err == -EOWNERDEAD;
		if (!err) {
			lane_receive_done(&link->fast);
			err = link_send(link, FRAME_STARTED, 0);
		}
		if (!err) {
			move_met_again(&m->move);
			return 0;
		}
		/* It was there, but not as the source of this move. */
		if (!left_ms)
			return err;
	}
}

/* What asking again does not mend, when a file is asked. */
static bool is_damage(int err)
{
	return err == -EBADMSG || err == -EIO || err == -EPROTO;
}

/*
 * An image has a page that is damaged: nobody has it any more. As long as anybody waits for it we stay, since our end would
 * make zeros of it.
 */
static enum outcome end_damaged(struct target_move *m)
{
	pid_t pid = m->move.state.pid;
	int64_t told_ms = clock_now_ms();

	log_error("pid %d is ended here: %s", pid, log_reason());
	if (movestate_process_lives(&m->move.state))
		proc_kill_tree(NULL, pid);
	while (pager_is_needed(engine->pager) && !engine->give_up) {
		if (clock_now_ms() >= told_ms + TELL_AGAIN_MS / 10) {
			log_error("a process that pid %d had forked waits for memory that is "
				  "damaged; "
				  "end it",
				  pid);
			told_ms = INT64_MAX / 2;
		}
		io_sleep_ms(LOOK_DAMAGED_MS);
	}
	guard_end(&m->guard);
	movestate_remove(&m->move.state);
	return OUTCOME_FAILED;
}

/*
 * The process is killed, and not as an end of its own: what is on disk says that it ran here, so the
 * source will hear that it is lost, and keeps its copy.
 */
static enum outcome end_lost(struct target_move *m)
{
	guard_end(&m->guard);
	if (movestate_process_lives(&m->move.state))
		kill(m->move.state.pid, SIGKILL);
	m->move.state.decide = true;
	text_copy(m->move.state.reason, sizeof(m->move.state.reason), log_reason());
	if (m->move.link->open_local)
		movestate_remove(&m->move.state);
	else if (movestate_write(&m->move.state, STAGE_STARTED))
		log_warn("move %s: %s", m->move.state.id, log_reason());
	link_abort(m->move.link, LINK_LOST);
	return OUTCOME_FAILED;
}

/* -EOWNERDEAD: it was given up. -EBADMSG: it comes from a file, which is damaged. */
static int fill_to_the_end(struct target_move *m)
{
	while (!m->filled) {
		int err = fill(m);

		if (IS_ENABLED(CONFIG_IMAGE) && m->move.link->open_local && is_damage(err))
			return -EBADMSG;
		/* Whatever it is that failed: giving up would end the process' memory. */
		if (err && meet_again(m, -1))
			break;
	}
	if (engine->give_up) {
		/* Not that the link was away, too. */
		log_reason_clear();
		return log_fail(EOWNERDEAD, "given up here by baton abort");
	}
	guard_end(&m->guard);
	if (movestate_write(&m->move.state, STAGE_COMPLETE))
		log_warn("move %s: %s", m->move.state.id, log_reason());
	log_reason_clear();
	(void)fault_point(FAULT_TARGET_COMPLETE);
	return 0;
}

static int say_complete(struct target_move *m)
{
	struct move_report *report = &m->move.report;
	baton_MoveComplete complete = {0};
	struct pager_counters counters;

	pager_counters(engine->pager, &counters);
	report->pages_sent = counters.pages_sent + m->nr_eager;
	report->pages_zero = counters.pages_zero;
	report->pages_predicted = counters.pages_predicted;
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
	struct move_report *report = &m->move.report;
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

/*
 * All is here, and the source is told. Until it has answered, what is on disk stays: it is the proof for a
 * source that was away. Then this device forgets the move, and says so.
 */
static void end_move(struct target_move *m)
{
	int err;

	move_stage(&m->move, "end");
	/* From here on the source may be silent: it ends its copy. */
	link_patience(m->move.link, (struct lane_patience){0});
	err = say_complete(m);
	(void)fault_point(FAULT_TARGET_SAID);
	if (!err)
		err = take_done(m);
	if (err && !meet_again(m, DONE_PATIENCE_MS)) {
		err = say_complete(m);
		if (!err)
			err = take_done(m);
	}
	(void)fault_point(FAULT_TARGET_DONE);
	if (err) {
		log_warn("move %s: complete here, but %s has not said that its copy is gone: %s",
			 m->move.state.id, m->move.link->peer, log_reason());
	} else {
		m->over = true;
		movestate_remove(&m->move.state);
		(void)fault_point(FAULT_TARGET_REMOVED);
		link_abort(m->move.link, LINK_UNKNOWN);
	}
	log_reason_clear();
}

/*
 * What was built has not run and is killed. Where the source may have committed, that is on disk and
 * stays there until the source has heard of it.
 */
static enum outcome discard(struct target_move *m)
{
	/* A file asks for no proof. */
	bool heard = m->forgotten || !m->said_ready || m->move.link->open_local;

	(void)fault_point(FAULT_TARGET_DISCARD);
	guard_end(&m->guard);
	if (m->built)
		restore_discard(&engine->restore);
	m->built = false;
	if (m->move.state.stage == STAGE_STARTED && movestate_write(&m->move.state, STAGE_READY))
		log_warn("move %s: %s", m->move.state.id, log_reason());
	(void)fault_point(FAULT_TARGET_DISCARDED);
	heard |= link_abort(m->move.link, LINK_NEVER_STARTED);
	if (heard)
		movestate_remove(&m->move.state);
	return OUTCOME_FAILED;
}

static enum outcome run_to_the_end(struct target_move *m)
{
	int err;

	(void)fault_point(FAULT_TARGET_RUNNING);
	move_look_after(&m->move, 0);
	if (m->move.link->fast.fd < 0)
		log_fail(ENOTCONN, "the process that had it was killed");
	if (m->move.link->fast.fd < 0 || link_send(m->move.link, FRAME_STARTED, 0))
		meet_again(m, m->filled ? DONE_PATIENCE_MS : -1);
	(void)fault_point(FAULT_TARGET_TOLD);
	err = m->move.state.stage != STAGE_COMPLETE ? fill_to_the_end(m) : 0;
	if (err)
		return err == -EBADMSG ? end_damaged(m) : end_lost(m);
	end_move(m);
	return OUTCOME_DONE;
}

/* From the first message of the description to the end. */
static enum outcome take_process(struct target_move *m)
{
	enum outcome outcome;
	int err;

	move_look_after(&m->move, SIGN_MS);
	err = build(m);
	if (!err)
		err = wait_go(m);
	if (!err)
		err = start(m);
	if (err) {
		log_fail(-err, "%m"); /* if nothing was said */
		outcome = discard(m);
		return err == -EBADMSG ? OUTCOME_REFUSED : outcome;
	}
	log_info("%s (pid %d) runs here", m->move.state.comm, m->move.state.pid);
	return run_to_the_end(m);
}

/* In place of a worker that died. */
static enum outcome go_on(struct target_move *m)
{
	int err;

	if (m->over) {
		movestate_remove(&m->move.state);
		return OUTCOME_DONE;
	}
	if (!m->start.released) {
		/* Its tracer was the worker, and took it along. */
		log_fail(EIO, "the process that worked on the move was killed");
		return discard(m);
	}
	/* For whoever looks for us: baton abort, status. */
	if (movestate_write(&m->move.state, m->move.state.stage))
		log_warn("move %s: %s", m->move.state.id, log_reason());
	err = restore_go_on(&engine->restore, &m->start);
	if (!err)
		err = pager_take_over(engine->pager);
	if (err)
		log_error("move %s: %s", m->move.state.id, log_reason());
	log_reason_clear();
	return run_to_the_end(m);
}

static enum outcome run(void *data, bool again)
{
	struct target_move *m = &engine->m;

	(void)data;
	signal(SIGUSR2, on_give_up);
	if (!again)
		return take_process(m);
	link_take_over(m->move.link);
	return go_on(m);
}

static void finish(void *data, enum outcome outcome)
{
	(void)data;
	move_end(&engine->m.move, outcome);
}

/* A check ends with the answer; the other side closes when it has read it. */
static enum outcome end_check(struct target_move *m, enum outcome outcome)
{
	movestate_remove(&m->move.state);
	link_receive(m->move.link, DONE_TIMEOUT_MS, true);
	log_reason_clear();
	return move_end(&m->move, outcome);
}

enum outcome move_target(struct link *link, const struct move_options *options)
{
	static struct twin_work work = {.run = run, .finish = finish};
	struct target_move *m = &engine->m;
	enum outcome outcome;

	*m = (struct target_move){0};
	engine->give_up = 0;
	move_begin(&m->move, link, options);
	move_stage(&m->move, "connect");
	if (link_open(link, link->address ? LINK_DIAL_TIMEOUT_MS : CONFIG_HANDSHAKE_TIMEOUT_MS))
		return move_end(&m->move, link_stopping()    ? OUTCOME_FAILED
					  : link->open_local ? OUTCOME_REFUSED
							     : OUTCOME_PEER);
	guard_reserve(&m->guard);
	outcome = target_take_offer(m);
	m->move.report.check_only = m->check_only || m->answered;
	if (m->check_only)
		return end_check(m, outcome);
	if (outcome == OUTCOME_DONE && !m->answered)
		return twin_run(&work);
	/* A file that makes no sense is none that failed. */
	if (link->open_local && outcome == OUTCOME_FAILED)
		outcome = OUTCOME_REFUSED;
	movestate_remove(&m->move.state);
	/* Not that nothing ever ran: of a move that another worker had, we know nothing. */
	if (!m->answered)
		link_abort(link, outcome == OUTCOME_FAILED ? LINK_FAILED : LINK_REFUSED);
	return move_end(&m->move, outcome);
}

enum outcome move_target_resume(struct link *link, const struct move_options *options,
				const struct movestate *state)
{
	struct target_move *m = &engine->m;
	enum outcome outcome = OUTCOME_PEER;

	*m = (struct target_move){.move = {.link = link, .options = options}};
	m->move.begun_us = clock_now_us();
	move_begin_again(&m->move, state);
	m->move.report.check_only = true;
	if (!link_open(link, LINK_DIAL_TIMEOUT_MS))
		outcome = link_expect(link, FRAME_GO, DONE_TIMEOUT_MS, true)
				  ? OUTCOME_FAILED
				  : target_answer_for_dead(m);
	return move_end(&m->move, outcome);
}
