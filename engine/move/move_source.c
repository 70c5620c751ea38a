/* SPDX-License-Identifier: MIT */
/*
 * The source's side of a move.
 *
 *     RUNNING   offer, files, answer: nothing is stopped; a refusal ends here
 *     FROZEN    dump_open; from here on hand_over owns "let the process run again"
 *     DESCRIBED the target builds
 *     COMMITTED held, on disk; then GO. Only the target's word that it never ran lets it thaw now
 *     SERVING   STARTED came; pages are served
 *     DRAINED   COMPLETE came; the copy is killed
 */
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "engine/process/dump.h"
#include "engine/move/files.h"
#include "engine/process/freeze.h"
#include "engine/process/freezer.h"
#include "engine/move/move_roles.h"
#include "engine/move/twin.h"
#include "engine/process/proc.h"
#include "engine/paging/serve.h"
#include "engine/state/fd.h"
#include "lib/arena.h"
#include "lib/clock.h"
#include "lib/fault.h"
#include "lib/io.h"
#include "lib/kernel.h"
#include "lib/log.h"
#include "lib/text.h"
#include "transport/message.h"

/* How long the target may take to say that it has forgotten the move; and to be found for that. */
#define DONE_TIMEOUT_MS 5000
#define DONE_PATIENCE_MS 15000
#define GAVE_UP_PATIENCE_MS 5000
#define LISTENER_PATIENCE_MS 30000
/* How long a copy may take to stop when its tracer has died; that often it may look as if it ran. */
#define STOP_PATIENCE_MS 1000
#define STOP_LOOKS 3

/* In the arena's tables: whoever comes after a worker that died finds what it had. */
static struct source_engine {
	struct source_move m;
	struct freeze freeze;
	struct dump dump;
	struct serve *serve;
} * engine;

int move_source_init(void)
{
	int err;

	engine = arena_alloc(ARENA_TABLES, sizeof(*engine), 16);
	if (!engine)
		return -ENOMEM;
	err = freeze_init(&engine->freeze);

	if (!err)
		err = dump_init(&engine->dump, &engine->freeze);
	if (!err)
		err = serve_init(&engine->serve);
	if (!err)
		err = files_init();
	return err ? err : fd_init();
}

/* ---- serving ---- */

/* Without a freezer: a SIGCONT would end the stop that outlives us, and wakes a copy that nobody traces. */
static void watch_stop(const struct source_move *m)
{
	const struct movestate *state = &m->move.state;

	if (!m->held || state->stopped || state->freezer[0] ||
	    !freeze_signal_deliverable(state->pid, ~(1ULL << (SIGCONT - 1))))
		return;
	log_warn("pid %d: somebody sent a SIGCONT to the copy that stands still here; it stays so",
		 state->pid);
	kill(state->pid, SIGSTOP);
}

static int serve_tick(void *data, const struct serve_counters *serve)
{
	struct source_move *m = data;
	struct movestate_counters counters = {.pages_done = serve->pages_sent + serve->pages_zero,
					      .pages_zero = serve->pages_zero,
					      .faults = serve->faults};

	if (m->pages_resident > counters.pages_done)
		counters.pages_left = m->pages_resident - counters.pages_done;
	move_count(&m->move, &counters);
	watch_stop(m);
	if (!m->committed && link_stopping())
		return log_fail(EINTR, "ended by a signal");
	return 0;
}

/* Answers requests until a frame of this type comes; it then lies in the fast lane. */
static int serve_until(struct source_move *m, uint8_t type)
{
	struct link *link = m->move.link;
	int got = serve_run(engine->serve, &link->fast, &link->bulk,
			    m->move.options->max_rate_mib_s, serve_tick, m);

	if (got != 1)
		return got < 0 ? got : -EPROTO;
	return link_check(link, type);
}

/* ---- frozen, not committed ---- */

static int describe(struct source_move *m)
{
	/* The process stands still: neither a dead link nor an endless description may keep it so. */
	struct lane_patience patience = {.silence_ms = CONFIG_FREEZE_SILENCE_MS,
					 .until_ms =
						 clock_deadline_ms(CONFIG_FREEZE_LIMIT_S * 1000)};
	struct link *link = m->move.link;
	int err;

	link_patience(link, patience);
	move_stage(&m->move, "describe");
	err = fault_point(FAULT_SOURCE_FROZEN);
	if (!err)
		err = source_check_again(m);
	move_part_end(&m->move, PART_FILES);
	if (!err)
		err = dump_describe(&engine->dump, &link->fast);
	if (!err)
		err = link_send(link, FRAME_DESCRIBED, engine->dump.nr_state);
	if (err)
		return link_last_words(link, err);
	m->described = true;
	move_part_end(&m->move, PART_DESCRIBE);
	err = fault_point(FAULT_SOURCE_DESCRIBED);
	if (!err)
		err = serve_attach(engine->serve, m->move.state.pid);
	if (err)
		return err;
	if (m->move.mode == MOVE_EAGER) {
		/* That takes as long as there is memory. */
		patience.until_ms = 0;
		link_patience(link, patience);
		move_stage(&m->move, "fill");
	}
	err = serve_until(m, FRAME_READY);
	move_part_end(&m->move, PART_READY);
	if (!err)
		lane_receive_done(&link->fast);
	return err;
}

/*
 * A control group of its own, while it runs: that takes its time. It is written down first, so that it is
 * taken out again whatever happens.
 */
static void enter_group(struct source_move *m)
{
	struct movestate *state = &m->move.state;
	int err = freezer_find(state->pid, state->id, state->freezer, sizeof(state->freezer));

	if (!err)
		err = movestate_write(state, STAGE_OFFERED);
	if (!err)
		err = freezer_enter(state->freezer, state->pid);
	if (err) {
		log_debug("no control group holds pid %d still (%s); a SIGCONT from elsewhere is "
			  "watched for",
			  state->pid, strerror(-err));
		state->freezer[0] = '\0';
		log_reason_clear();
	}
}

/* From here on a SIGCONT does not wake it. Its threads are traced, which counts as frozen. */
static void freeze_group(struct source_move *m)
{
	int err = freezer_freeze(m->move.state.freezer);

	if (!err)
		return;
	log_warn("pid %d cannot be frozen in %s (%s); a SIGCONT from elsewhere is watched for",
		 m->move.state.pid, m->move.state.freezer, strerror(-err));
	freezer_leave(m->move.state.freezer, m->move.state.pid);
	m->move.state.freezer[0] = '\0';
}

/* Held first: if we die between the two, the process stands still and its file says why. */
static int commit(struct source_move *m)
{
	int err;

	err = fault_point(FAULT_SOURCE_READY);
	if (err)
		return err;
	if (link_stopping())
		return log_fail(EINTR, "ended by a signal");
	/* What was sent after its description would end with the copy. */
	if (signal_came(&engine->dump))
		return log_fail(EAGAIN,
				"pid %d was sent a signal while it was being moved, and gets it "
				"here; try again",
				m->move.state.pid);
	m->held = true;
	err = freeze_hold(&engine->freeze);
	if (!err && m->move.state.freezer[0])
		freeze_group(m);
	if (!err)
		err = movestate_write(&m->move.state, STAGE_COMMITTED);
	if (!err)
		m->committed = true;
	move_part_end(&m->move, PART_COMMIT);
	(void)fault_point(FAULT_SOURCE_COMMITTED); /* too late to fail */
	return err;
}

static bool is_alive(pid_t pid)
{
	struct proc_status status;

	return !proc_status_of(pid, &status) && status.state != 'Z';
}

/*
 * Lets the process run on, as if nothing had been. After COMMITTED only on the target's word that it
 * never ran there, or an operator's that it does not.
 */
static void undo(struct source_move *m)
{
	char reason[LOG_REASON_MAX];

	/* What failed is the reason, not what happens to the undoing of it. */
	text_copy(reason, sizeof(reason), log_reason());
	(void)fault_point(FAULT_SOURCE_UNDO);
	/* From here on whoever finds the file lets it run as well. */
	if (m->move.state.stage > STAGE_OFFERED && movestate_write(&m->move.state, STAGE_OFFERED))
		log_warn("move %s: %s", m->move.state.id, log_reason());
	serve_detach(engine->serve);
	m->committed = false;
	if (m->move.state.freezer[0])
		freezer_thaw(m->move.state.freezer);
	if (m->untraced && m->held && dump_take_over(&engine->dump))
		log_error("pid %d stays stopped here: %s; run: kill -CONT %d", m->move.state.pid,
			  log_reason(), m->move.state.pid);
	(void)fault_point(FAULT_DUMP_THAW);
	/* What a dead worker had begun has let itself go. */
	if (m->untraced && !m->held) {
		dump_mend(&engine->dump);
		dump_close(&engine->dump);
	} else {
		dump_release(&engine->dump);
	}
	m->held = false;
	freezer_leave(m->move.state.freezer, m->move.state.pid);
	if (is_alive(m->move.state.pid))
		log_info("pid %d runs on here", m->move.state.pid);
	log_reason_clear();
	if (reason[0])
		log_fail(EIO, "%s", reason);
}

/* ---- committed ---- */

static void note_started(struct source_move *m)
{
	move_met_again(&m->move);
	/* Not m->started: a worker may have died between that and the file. */
	if (m->move.state.written_stage != STAGE_COMMITTED)
		return;
	(void)fault_point(FAULT_SOURCE_STARTED);
	m->started = true;
	if (m->frozen_us) {
		move_part_end(&m->move, PART_START);
		m->move.report.downtime_us = (uint64_t)(m->move.part_us - m->frozen_us);
	}
	/* For status; after a crash COMMITTED leads to the same question to the target. */
	if (movestate_write(&m->move.state, STAGE_SERVING))
		log_reason_clear();
	(void)fault_point(FAULT_SOURCE_SERVING);
	move_stage(&m->move, m->move.mode == MOVE_ON_DEMAND ? "serve" : "fill");
}

static int take_complete(struct source_move *m)
{
	struct move_report *report = &m->move.report;
	struct link *link = m->move.link;
	baton_MoveComplete complete;
	int err = message_decode(&link->fast, baton_MoveComplete_fields, &complete);

	lane_receive_done(&link->fast);
	if (err)
		return log_fail(-err, "peer %s: its COMPLETE makes no sense", link->peer);
	report->faults = complete.faults;
	report->fault_p50_us = complete.fault_p50_us;
	report->fault_p99_us = complete.fault_p99_us;
	return 0;
}

/* From GO to COMPLETE over one link. All of it may be repeated over the next. */
static int serve_committed(struct source_move *m)
{
	struct link *link = m->move.link;
	int err;

	err = link_send(link, FRAME_GO, 0);
	if (!err)
		err = fault_point(FAULT_SOURCE_GO);
	while (!err) {
		int got = serve_run(engine->serve, &link->fast, &link->bulk,
				    m->move.options->max_rate_mib_s, serve_tick, m);

		if (got != 1)
			return got < 0 ? got : -EPROTO;
		if (link->fast.rx.type == FRAME_COMPLETE) {
			note_started(m);
			return take_complete(m);
		}
		err = link_check(link, FRAME_STARTED);
		if (!err) {
			lane_receive_done(&link->fast);
			note_started(m);
		}
	}
	return err;
}

/* Pages of its own that the copy has: what the kernel has counted, whatever the size of the mappings. */
static uint64_t count_pages(void)
{
	struct proc_status status;

	if (engine->dump.proc_fd < 0 || proc_status(engine->dump.proc_fd, &status))
		return 0;
	return status.own_kib * 1024 >> arch_page_shift();
}

/* What was sent so far; a page can travel twice, when it is touched while it is on its way. */
static void report_pages(struct source_move *m)
{
	struct move_report *report = &m->move.report;
	struct serve_counters counters;

	serve_counters(engine->serve, &counters);
	report->pages_sent = counters.pages_sent + engine->dump.nr_eager;
	report->pages_zero = counters.pages_zero;
	report->pages_total = count_pages();
	log_reason_clear();
}

/*
 * Ends the old copy and waits until it is gone: the parent, not we, gets to know of its end, once we
 * have heard of it as a tracer. The leader is reported last, when all other threads were.
 */
static void kill_copy(struct source_move *m)
{
	serve_detach(engine->serve);
	/* Whatever else was wrong with it, see find_copy. */
	if (engine->dump.pidfd < 0)
		engine->dump.pidfd = movestate_pidfd(&m->move.state);
	if (engine->dump.pidfd < 0) {
		freezer_leave(m->move.state.freezer, 0);
		return;
	}
	dump_kill(&engine->dump);
	/* What is frozen dies when it thaws, before anything else. */
	if (m->move.state.freezer[0])
		freezer_thaw(m->move.state.freezer);
	dump_reap(&engine->dump);
	freezer_leave(m->move.state.freezer, 0);
}

/* True when the target has heard that all is done, and has forgotten the move. */
static bool say_done(struct source_move *m)
{
	struct move_report *report = &m->move.report;
	struct link *link = m->move.link;
	baton_MoveDone done = {.downtime_us = report->downtime_us,
			       .freeze_us = report->freeze_us,
			       .pages_total = report->pages_total};
	int err;

	err = link_send_message(link, FRAME_DONE, baton_MoveDone_fields, &done);
	(void)fault_point(FAULT_SOURCE_DONE);
	if (!err)
		err = link_expect(link, FRAME_ABORT, DONE_TIMEOUT_MS, false);
	return err == -ENODATA;
}

/* Says GO over a new link, to a target that has all, or has forgotten the move. 1: it knows that it is over. */
static int ask_done(struct source_move *m)
{
	struct link *link = m->move.link;
	int err = link_send(link, FRAME_GO, 0);

	while (!err) {
		err = link_receive(link, DONE_TIMEOUT_MS, false);
		if (err || link->fast.rx.type == FRAME_COMPLETE)
			break;
		lane_receive_done(&link->fast);
	}
	if (err && err != -ENODATA)
		return 0;
	move_met_again(&m->move);
	if (err)
		return 1;
	lane_receive_done(&link->fast);
	return say_done(m);
}

static bool say_done_again(struct source_move *m)
{
	int64_t deadline = clock_deadline_ms(DONE_PATIENCE_MS);
	int left_ms;

	while ((left_ms = clock_left_ms(deadline)) > 0)
		if (!move_reconnect(&m->move, left_ms, link_stopping) && ask_done(m))
			return true;
	return false;
}

/* The target has everything. Its file goes when the target has heard that this is over. */
static enum outcome finish_committed(struct source_move *m)
{
	bool known = false;

	move_stage(&m->move, "end");
	link_patience(m->move.link, (struct lane_patience){0});
	(void)fault_point(FAULT_SOURCE_COMPLETE);
	if (m->move.state.written_stage != STAGE_DRAINED) {
		report_pages(m);
		if (movestate_write(&m->move.state, STAGE_DRAINED))
			log_warn("move %s: %s", m->move.state.id, log_reason());
	}
	(void)fault_point(FAULT_SOURCE_DRAINED);
	kill_copy(m);
	(void)fault_point(FAULT_SOURCE_KILLED);
	if (m->move.link->fast.fd >= 0)
		known = say_done(m);
	if (!known)
		known = say_done_again(m);
	log_reason_clear();
	if (!known)
		log_warn("move %s is complete; %s has not been told that the copy here is gone",
			 m->move.state.id, m->move.link->peer);
	/* A target that dials may have heard it and ended. One that has not keeps a file, and no more. */
	if (known || !m->move.link->address)
		movestate_remove(&m->move.state);
	(void)fault_point(FAULT_SOURCE_REMOVED);
	return OUTCOME_DONE;
}

/* Says that the process stands still here, why, and how to get on. */
static enum outcome hold(struct source_move *m, int err)
{
	struct movestate *state = &m->move.state;

	/* What the target has said will not change by asking again. */
	state->decide =
		err == -EOWNERDEAD || err == -ENODATA || err == -ESTALE || !is_alive(state->pid);
	text_copy(state->reason, sizeof(state->reason), log_reason());
	if (!is_alive(state->pid))
		log_error("move %s cannot be completed: the copy here (pid %d), which has the rest "
			  "of its memory, was killed; end pid %d on %s, then run here: "
			  "baton abort %s",
			  state->id, state->pid, state->pid, m->move.link->peer, state->id);
	else
		log_error("move %s is committed but not complete: pid %d stays stopped here (%s); "
			  "to try again run: baton resume %s; when %s will never run it again: "
			  "baton resume %s --peer-is-dead",
			  state->id, state->pid, log_reason(), state->id, m->move.link->peer,
			  state->id);
	if (movestate_write(state, state->stage))
		log_reason_clear();
	report_pages(m);
	return OUTCOME_HELD;
}

/* True when a new link can help. A peer that says that it does not have the move will not change. */
static bool may_reconnect(const struct source_move *m, int err)
{
	switch (-err) {
	case ESRCH:
	case ECONNABORTED:
	case ECANCELED:
	case EACCES:
	case EPROTO:
	case EOWNERDEAD:
	case ENODATA:
		return false;
	default:
		return !link_stopping() &&
		       move_patience_left(&m->move, m->move.options->patience_ms);
	}
}

/*
 * After undo: the target may be ready, and wait for a GO that does not come. The file stays until it has
 * been told, so that whoever comes after us tells it.
 */
static enum outcome end_undone(struct source_move *m, int err)
{
	/* Its own word, before it has said READY: then it keeps nothing, and has nothing to be told. */
	bool knows = err == -ECANCELED || err == -ECONNABORTED;
	char reason[LOG_REASON_MAX];

	link_patience(m->move.link, (struct lane_patience){0});
	text_copy(reason, sizeof(reason), log_reason());
	if (!link_abort(m->move.link, LINK_FAILED) && m->described && !knows &&
	    !move_reconnect(&m->move, GAVE_UP_PATIENCE_MS, link_stopping)) {
		log_reason_clear();
		log_fail(EIO, "%s", reason);
		link_abort(m->move.link, LINK_FAILED);
	}
	movestate_remove(&m->move.state);
	log_reason_clear();
	log_fail(EIO, "%s", reason);
	return OUTCOME_FAILED;
}

/*
 * A source that listens, and whose listener has died without another one, is given up sooner: then
 * somebody else may pick the move up, and listen for it.
 */
static int meet_target(struct source_move *m)
{
	int patience_ms = m->move.options->patience_ms, left_ms, err;

	do {
		left_ms = move_patience_left(&m->move, patience_ms);
		if (left_ms < 0 || left_ms > LISTENER_PATIENCE_MS)
			left_ms = LISTENER_PATIENCE_MS;
		err = move_reconnect(&m->move, left_ms, link_stopping);
	} while (err && err != -ENOLINK && !link_stopping() &&
		 move_patience_left(&m->move, patience_ms));
	return err;
}

static enum outcome serve_to_the_end(struct source_move *m)
{
	move_look_after(&m->move, 0);
	for (;;) {
		int err = m->move.link->fast.fd >= 0
				  ? serve_committed(m)
				  : log_fail(ENOTCONN, "no process has it open any more");

		if (!err)
			return finish_committed(m);
		if (err == -ECANCELED && !m->started) {
			/* The target's own word that nothing of it ever ran: nobody else has it. It
			 * keeps what it answered with until it is told. */
			undo(m);
			return end_undone(m, 0);
		}
		if (!may_reconnect(m, err) || meet_target(m))
			return hold(m, err);
	}
}

/* From the freeze to the end. The one place that lets the process run again. */
static enum outcome hand_over(struct source_move *m)
{
	struct move *move = &m->move;
	int err;

	enter_group(m);
	dump_prepare(&engine->dump, move->state.pid);
	move_stage(move, "freeze");
	move_part_begin(move);
	m->frozen_us = move->part_us;
	err = dump_open(&engine->dump, move->state.pid, m->other_vdso);
	move_part_end(move, PART_FREEZE);
	move->report.freeze_us = move->report.part_us[PART_FREEZE];
	if (!err)
		err = describe(m);
	if (!err)
		err = commit(m);
	if (err) {
		log_fail(-err, "%m"); /* if nothing was said */
		undo(m);
		return end_undone(m, err);
	}
	return serve_to_the_end(m);
}

/* ---- after another worker ---- */

static bool is_stopped(pid_t pid)
{
	struct proc_status status;

	return !proc_status_of(pid, &status) && status.state == 'T';
}

/*
 * Whoever traced it may have died just now: it is still traced then, or has the stop before it, and for an
 * instant neither.
 */
static bool comes_to_stop(pid_t pid)
{
	const uint64_t stop = 1ULL << (SIGSTOP - 1);
	int64_t deadline = clock_deadline_ms(STOP_PATIENCE_MS);
	unsigned int calm = 0;

	do {
		struct proc_status status = {0};

		(void)proc_status_of(pid, &status);
		if (status.state == 'T')
			return true;
		if (status.state != 't' && !((status.sig_pending | status.shared_pending) & stop))
			calm++;
		io_sleep_ms(1);
	} while (calm < STOP_LOOKS && clock_left_ms(deadline));
	return false;
}

/*
 * The copy is as it was left; it is only read. Without a freezer it is traced again, so that nobody wakes
 * it. -ESRCH: it is not there any more; -ESTALE: it has run meanwhile.
 */
static int find_copy(struct source_move *m)
{
	const struct movestate *state = &m->move.state;
	int err;

	dump_close(&engine->dump);
	if (!movestate_process_lives(state))
		return log_fail(ESRCH, "the copy here (pid %d) is gone", state->pid);
	if (!state->freezer[0] && !comes_to_stop(state->pid)) {
		kill(state->pid, SIGSTOP);
		return log_fail(
			ESTALE,
			"the copy here (pid %d) was woken by a SIGCONT while no baton held it, "
			"and is not what it was; it is stopped again",
			state->pid);
	}
	err = state->freezer[0] ? dump_find(&engine->dump, state->pid)
				: dump_take_over(&engine->dump);
	m->untraced = state->freezer[0];
	return err ? err : serve_attach(engine->serve, state->pid);
}

static enum outcome go_on(struct source_move *m)
{
	int err;

	m->untraced = true;
	m->move.lost_ms = 0;
	if (!m->committed) {
		log_fail(EIO, "the process that worked on the move was killed");
		undo(m);
		m->described = true; /* nobody knows */
		return end_undone(m, 0);
	}
	err = find_copy(m);
	if (m->move.state.stage == STAGE_DRAINED) {
		log_reason_clear();
		return finish_committed(m);
	}
	/* A GO would start what can never be filled. */
	if (err && !move_reconnect(&m->move, GAVE_UP_PATIENCE_MS, link_stopping))
		link_abort(m->move.link, LINK_LOST);
	return err ? hold(m, err) : serve_to_the_end(m);
}

static enum outcome run(void *data, bool again)
{
	struct source_move *m = &engine->m;

	(void)data;
	if (!again)
		return hand_over(m);
	link_take_over(m->move.link);
	/* For whoever looks for us: baton abort, resume, status. What is only frozen does not wait for that. */
	if (m->committed)
		move_write_reason(&m->move, m->move.state.reason);
	return go_on(m);
}

static enum outcome run_again(void *data, bool again)
{
	(void)data;
	if (again)
		link_take_over(engine->m.move.link);
	return go_on(&engine->m);
}

static void finish(void *data, enum outcome outcome)
{
	(void)data;
	move_end(&engine->m.move, outcome);
}

/* A move of the same process that was offered, and whose workers died: they may have left it stopped. */
static int end_older(void *data, struct movestate *state)
{
	static struct link nobody; /* what is known of its peer is not the new one's */
	const struct move_options *options = data;

	if (!state->source || state->pid != options->pid || state->stage != STAGE_OFFERED ||
	    !movestate_process_lives(state) || movestate_is_held(movestate_folder(), state) ||
	    movestate_lock(state))
		return 0;
	log_debug("move %s was only offered, and nobody works on it: it is forgotten", state->id);
	move_source_let_run(&nobody, options, state);
	state->written = true;
	movestate_remove(state);
	return 0;
}

enum outcome move_source(struct link *link, const struct move_options *options)
{
	static struct twin_work work = {.run = run, .finish = finish, .pass_signals = true};
	struct source_move *m = &engine->m, begun;
	enum outcome outcome;

	*m = (struct source_move){0};
	move_begin(&m->move, link, options);
	log_context(NULL, 0);
	move_stage(&m->move, "connect");
	if (link_open(link, link->address ? LINK_DIAL_TIMEOUT_MS : CONFIG_HANDSHAKE_TIMEOUT_MS))
		return move_end(&m->move, link_stopping() ? OUTCOME_FAILED : OUTCOME_PEER);
	/* Not before: a stranger has no say in that. It takes our place. */
	begun = *m;
	movestate_each(movestate_folder(), end_older, (void *)options);
	log_reason_clear();
	*m = begun;
	outcome = source_offer(m);
	if (outcome == OUTCOME_DONE)
		return twin_run(&work);
	movestate_remove(&m->move.state);
	link_abort(link, outcome == OUTCOME_FAILED ? LINK_FAILED : LINK_REFUSED);
	return move_end(&m->move, outcome);
}

/* What a state file says becomes what a worker that died would have left. */
static void adopt(struct source_move *m, struct link *link, const struct move_options *options,
		  const struct movestate *state)
{
	*m = (struct source_move){.move = {.link = link, .options = options}};
	move_begin_again(&m->move, state);
	m->move.begun_us = m->move.ticked_us = clock_now_us();
	m->committed = state->stage != STAGE_OFFERED;
	/* What is frozen does not look stopped; it was stopped before. */
	m->held = !state->stopped && (m->committed || is_stopped(state->pid) ||
				      (state->freezer[0] && freezer_is_on(state->freezer)));
	m->started = state->stage == STAGE_SERVING || state->stage == STAGE_DRAINED;
	m->untraced = true;
	engine->dump.pid = state->pid;
	move_stage(&m->move, "resume");
}

enum outcome move_source_resume(struct link *link, const struct move_options *options,
				const struct movestate *state, bool peer_is_dead)
{
	static struct twin_work work = {.run = run_again, .finish = finish, .pass_signals = true};
	struct source_move *m = &engine->m;

	adopt(m, link, options, state);
	if (!peer_is_dead)
		return twin_run(&work);
	if (!movestate_process_lives(state)) {
		log_fail(ESRCH, "the copy here (pid %d) is gone: there is nothing to resume",
			 state->pid);
		return move_end(&m->move, OUTCOME_FAILED);
	}
	undo(m);
	movestate_remove(&m->move.state);
	m->move.report.check_only = true; /* nothing was moved: there is nothing to report */
	return move_end(&m->move, OUTCOME_DONE);
}

enum outcome move_source_let_run(struct link *link, const struct move_options *options,
				 const struct movestate *state)
{
	struct source_move *m = &engine->m;

	if (movestate_is_superseded(state))
		return OUTCOME_DONE;
	adopt(m, link, options, state);
	undo(m);
	return OUTCOME_DONE;
}

enum outcome move_source_tell(struct link *link)
{
	int err = link_open(link, CONFIG_HANDSHAKE_TIMEOUT_MS);

	log_reason_clear();
	log_fail(EIO, "the processes that worked on the move were killed");
	if (!err)
		link_abort(link, LINK_FAILED);
	log_reason_clear();
	movestate_remove(&engine->m.move.state);
	return OUTCOME_DONE;
}

enum outcome move_source_give_up(const struct move_options *options, const struct movestate *state)
{
	struct source_move *m = &engine->m;

	*m = (struct source_move){.move = {.options = options, .state = *state}};
	m->move.state.written = true;
	kill_copy(m);
	log_reason_clear();
	movestate_remove(&m->move.state);
	return OUTCOME_DONE;
}
