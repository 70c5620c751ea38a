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
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "engine/process/dump.h"
#include "engine/move/files.h"
#include "engine/process/freeze.h"
#include "engine/move/move_roles.h"
#include "engine/paging/pagemap.h"
#include "engine/process/proc.h"
#include "engine/paging/serve.h"
#include "engine/state/fd.h"
#include "lib/clock.h"
#include "lib/kernel.h"
#include "lib/log.h"
#include "transport/message.h"

/* How long a committed move waits for its peer before the command says that it is held. */
#define PATIENCE_MS 30000
#define KILL_TIMEOUT_MS 10000

static struct {
	struct freeze freeze;
	struct dump dump;
	struct serve *serve;
	struct pagemap count; /* to count what exists */
} engine;

int move_source_init(void)
{
	int err = freeze_init(&engine.freeze);

	if (!err)
		err = dump_init(&engine.dump, &engine.freeze);
	if (!err)
		err = serve_init(&engine.serve);
	if (!err)
		err = pagemap_init(&engine.count);
	if (!err)
		err = files_init();
	return err ? err : fd_init();
}

/* ---- serving ---- */

static int serve_tick(void *data, const struct serve_counters *serve)
{
	struct source_move *m = data;
	struct movestate_counters counters = {.pages_done = serve->pages_sent + serve->pages_zero,
					      .pages_zero = serve->pages_zero,
					      .faults = serve->faults};

	if (m->pages_resident > counters.pages_done)
		counters.pages_left = m->pages_resident - counters.pages_done;
	move_count(&m->move, &counters);
	if (!m->committed && link_stopping())
		return log_fail(EINTR, "ended by a signal");
	return 0;
}

/* Answers requests until a frame of this type comes; it then lies in the fast lane. */
static int serve_until(struct source_move *m, uint8_t type)
{
	struct link *link = m->move.link;
	int got = serve_run(engine.serve, &link->fast, &link->bulk, m->move.options->max_rate_mib_s,
			    serve_tick, m);

	if (got != 1)
		return got < 0 ? got : -EPROTO;
	return link_check(link, type);
}

/* ---- frozen, not committed ---- */

static int describe(struct source_move *m)
{
	struct link *link = m->move.link;
	int err;

	move_stage(&m->move, "describe");
	err = source_check_again(m);
	if (!err)
		err = dump_describe(&engine.dump, &link->fast);
	if (!err)
		err = link_send(link, FRAME_DESCRIBED, engine.dump.nr_state);
	if (err)
		return link_last_words(link, err);
	err = serve_attach(engine.serve, m->move.state.pid);
	if (err)
		return err;
	if (m->move.mode == MOVE_EAGER)
		move_stage(&m->move, "fill");
	err = serve_until(m, FRAME_READY);
	if (!err)
		lane_receive_done(&link->fast);
	return err;
}

/* Held first: if we die between the two, the process stands still and its file says why. */
static int commit(struct source_move *m)
{
	int err;

	if (link_stopping())
		return log_fail(EINTR, "ended by a signal");
	/* What was sent after its description would end with the copy. */
	if (signal_came(&engine.dump))
		return log_fail(EAGAIN,
				"pid %d was sent a signal while it was being moved, and gets it "
				"here; try again",
				m->move.state.pid);
	err = freeze_hold(&engine.freeze);
	if (!err)
		err = movestate_write(&m->move.state, STAGE_COMMITTED);
	if (!err)
		m->committed = true;
	return err;
}

static bool is_alive(pid_t pid)
{
	struct proc_status status;
	int fd = proc_open(pid);
	bool alive = fd >= 0 && !proc_status(fd, &status) && status.state != 'Z';

	if (fd >= 0)
		close(fd);
	return alive;
}

/* Lets the process run on, as if nothing had been. */
static void undo(struct source_move *m)
{
	serve_detach(engine.serve);
	dump_release(&engine.dump);
	if (is_alive(m->move.state.pid))
		log_info("pid %d runs on here", m->move.state.pid);
	movestate_remove(&m->move.state);
}

/* ---- committed ---- */

static void note_started(struct source_move *m)
{
	m->cut_ms = 0;
	if (m->started)
		return;
	m->started = true;
	m->move.report->downtime_us = (uint64_t)(clock_now_us() - m->frozen_us);
	/* For status; after a crash COMMITTED leads to the same question to the target. */
	if (movestate_write(&m->move.state, STAGE_SERVING))
		log_reason_clear();
	move_stage(&m->move, m->move.mode == MOVE_ON_DEMAND ? "serve" : "fill");
}

static int take_complete(struct source_move *m)
{
	struct move_report *report = m->move.report;
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
	while (!err) {
		int got = serve_run(engine.serve, &link->fast, &link->bulk,
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

static uint64_t count_range(uint64_t start, uint64_t end)
{
	uint64_t pages = 0, run_start, run_end, upto;

	while (start < end) {
		if (pagemap_next(&engine.count, start, end, &run_start, &run_end, &upto))
			return pages;
		pages += (run_end - run_start) >> arch_page_shift();
		start = upto;
	}
	return pages;
}

/* Pages of private anonymous memory that exist in the copy, each counted once. */
static uint64_t count_pages(const struct source_move *m)
{
	char buf[PROC_LINE_MAX], *line;
	struct line_reader reader;
	struct proc_map map;
	uint64_t pages = 0;

	if (pagemap_open(&engine.count, m->move.state.pid))
		return 0;
	if (!line_reader_open(&reader, engine.dump.proc_fd, "maps", buf, sizeof(buf))) {
		while (line_reader_next(&reader, &line) > 0)
			if (proc_map_parse(line, &map) && !map.shared && !map.inode)
				pages += count_range(map.start, map.end);
		line_reader_close(&reader);
	}
	pagemap_close(&engine.count);
	return pages;
}

/* What was sent so far; a page can travel twice, when it is touched while it is on its way. */
static void report_pages(struct source_move *m)
{
	struct move_report *report = m->move.report;
	struct serve_counters counters;

	serve_counters(engine.serve, &counters);
	report->pages_sent = counters.pages_sent + engine.dump.nr_eager;
	report->pages_zero = counters.pages_zero;
	report->pages_total = count_pages(m) + engine.dump.nr_eager;
	log_reason_clear();
}

/* Ends the old copy and waits until it is gone: the parent, not we, gets to know of its end. */
static void kill_copy(struct source_move *m)
{
	int64_t deadline = clock_deadline_ms(KILL_TIMEOUT_MS);
	pid_t pid = m->move.state.pid, got;
	struct timespec wait = {0, 1000000};
	int status;

	serve_detach(engine.serve);
	if (syscall(SYS_pidfd_send_signal, engine.dump.pidfd, SIGKILL, NULL, 0))
		log_warn("pid %d: could not be killed: %s", pid, strerror(errno));
	/* The leader is reported last, when all other threads were. */
	while (clock_left_ms(deadline)) {
		got = waitpid(-1, &status, __WALL | WNOHANG);
		if (got < 0 && errno != EINTR)
			break;
		if (got == pid && (WIFEXITED(status) || WIFSIGNALED(status)))
			break;
		if (got == 0)
			nanosleep(&wait, NULL);
	}
	dump_close(&engine.dump);
}

static void say_done(struct source_move *m)
{
	struct move_report *report = m->move.report;
	struct link *link = m->move.link;
	baton_MoveDone done = {.downtime_us = report->downtime_us,
			       .freeze_us = report->freeze_us,
			       .pages_total = report->pages_total};

	/* When this is lost the target asks again; what is left to do is done. */
	if (!link_send_message(link, FRAME_DONE, baton_MoveDone_fields, &done))
		link_receive(link, 1000, false);
	log_reason_clear();
}

static enum outcome finish_committed(struct source_move *m)
{
	move_stage(&m->move, "end");
	m->move.state.stage = STAGE_DRAINED;
	report_pages(m);
	kill_copy(m);
	movestate_remove(&m->move.state);
	say_done(m);
	return OUTCOME_DONE;
}

/* Says that the process stands still here, and how to get on. */
static enum outcome hold(struct source_move *m)
{
	if (!is_alive(m->move.state.pid)) {
		log_error("move %s cannot be completed: the copy here (pid %d), which has the rest "
			  "of its memory, was killed; end pid %d on %s",
			  m->move.state.id, m->move.state.pid, m->move.state.pid,
			  m->move.link->peer);
		return OUTCOME_HELD;
	}
	log_error(
		"move %s is committed but not complete: pid %d stays stopped here until %s answers "
		"(%s)",
		m->move.state.id, m->move.state.pid, m->move.link->peer, log_reason());
	report_pages(m);
	return OUTCOME_HELD;
}

/* True when a new link can help. A peer that says that it does not have the move will not change. */
static bool may_reconnect(struct source_move *m, int err)
{
	if (!m->cut_ms)
		m->cut_ms = clock_now_ms();
	switch (-err) {
	case ESRCH:
	case ECONNABORTED:
	case ECANCELED:
	case EACCES:
	case EPROTO:
		return false;
	default:
		return !link_stopping() && clock_now_ms() - m->cut_ms < PATIENCE_MS;
	}
}

static enum outcome serve_to_the_end(struct source_move *m)
{
	for (;;) {
		int err = serve_committed(m);

		if (!err)
			return finish_committed(m);
		if (err == -ECANCELED && !m->started) {
			/* The target's own word that nothing of it ever ran: nobody else has it. */
			undo(m);
			return OUTCOME_FAILED;
		}
		if (!may_reconnect(m, err) || move_reconnect(&m->move, PATIENCE_MS, true))
			return hold(m);
	}
}

/* From the freeze to the end. The one place that lets the process run again. */
static enum outcome hand_over(struct source_move *m)
{
	struct move *move = &m->move;
	int err;

	dump_prepare(&engine.dump, move->state.pid);
	move_stage(move, "freeze");
	m->frozen_us = clock_now_us();
	err = dump_open(&engine.dump, move->state.pid);
	move->report->freeze_us = (uint64_t)(clock_now_us() - m->frozen_us);
	if (!err)
		err = describe(m);
	if (!err)
		err = commit(m);
	if (err) {
		undo(m);
		link_abort(move->link, LINK_FAILED);
		return OUTCOME_FAILED;
	}
	return serve_to_the_end(m);
}

enum outcome move_source(struct link *link, const struct move_options *options,
			 struct move_report *report)
{
	struct source_move m = {0};
	enum outcome outcome;

	move_begin(&m.move, link, options, report);
	log_context(NULL, 0);
	move_stage(&m.move, "connect");
	if (link_open(link, link->address ? LINK_DIAL_TIMEOUT_MS : CONFIG_HANDSHAKE_TIMEOUT_MS)) {
		move_finish(&m.move);
		return link_stopping() ? OUTCOME_FAILED : OUTCOME_PEER;
	}
	outcome = source_offer(&m);
	if (outcome == OUTCOME_DONE) {
		outcome = hand_over(&m);
	} else {
		movestate_remove(&m.move.state);
		link_abort(link, outcome == OUTCOME_FAILED ? LINK_FAILED : LINK_REFUSED);
	}
	move_finish(&m.move);
	link_close(link);
	return outcome;
}
