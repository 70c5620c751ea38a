/* SPDX-License-Identifier: MIT */
/* What both roles of a move share: set-up, progress, reconnecting, totals. */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <fcntl.h>

#include "arch/arch.h"
#include "engine/move/move.h"
#include "engine/move/offer.h"
#include "engine/move/twin.h"
#include "lib/clock.h"
#include "lib/io.h"
#include "lib/log.h"
#include "lib/text.h"

#define TICK_US 200000
/* Between two attempts to reconnect: doubled up to the longest. */
#define RETRY_FIRST_MS 100
#define RETRY_LONGEST_MS 2000
/* A link that was there for so long was a good one: the next attempt is made at once. */
#define STEADY_MS 3000
/* Between two lines in the log about a peer that is away. */
#define TELL_AGAIN_MS 60000

const char *move_mode_name(enum move_mode mode)
{
	static const char *const names[] = {"any", "lazy", "on-demand", "eager"};

	return mode < sizeof(names) / sizeof(names[0]) ? names[mode] : "?";
}

int move_init(enum move_role role)
{
	const uint32_t page = 1u << arch_page_shift();
	int err;

	if (page > FRAME_BODY_MAX)
		return log_fail(EINVAL,
				"a page of this kernel (%u bytes) is larger than a run; raise "
				"CONFIG_RUN_KIB to %u",
				page, page / 1024);
	if (role == MOVE_SAVE)
		return 0;
	err = role == MOVE_SOURCE ? move_source_init() : move_target_init();
	if (!err)
		err = twin_init();
	return err ? log_fail(ENOMEM,
			      "the memory budget is too small; raise CONFIG_MEMORY_BUDGET_KIB")
		   : 0;
}

void move_begin(struct move *move, struct link *link, const struct move_options *options)
{
	*move = (struct move){.link = link, .options = options, .report = {.pid = options->pid}};
	move->begun_us = clock_now_us();
	move->ticked_us = move->begun_us;
	move->mode = options->mode;
	link->source = options->pid != 0;
	move->state.source = link->source;
	move->state.pid = options->pid;
	/* The token names the move on both sides; half of it is enough for people. */
	for (int i = 0; i < MOVESTATE_ID_BYTES; i++)
		snprintf(move->state.id + 2 * i, 3, "%02x", link->token[i]);
	text_put_hex(move->state.token, link->token, sizeof(link->token), '\0');
	text_copy(move->state.dial, sizeof(move->state.dial), link->address ? link->address : "");
	text_copy(move->state.listen, sizeof(move->state.listen),
		  options->listen ? options->listen : "");
	text_copy(move->state.keys, sizeof(move->state.keys), options->keys_dir);
	text_copy(move->report.id, sizeof(move->report.id), move->state.id);
	log_reason_clear();
}

void move_begin_again(struct move *move, const struct movestate *state)
{
	struct link *link = move->link;

	move->state = *state;
	move->state.written = true;
	move->state.written_stage = state->stage;
	link->source = state->source;
	link->known = true;
	(void)text_parse_hex(state->token, link->token, sizeof(link->token));
	(void)text_parse_hex(state->fingerprint, link->fingerprint, sizeof(link->fingerprint));
	text_copy(link->peer, sizeof(link->peer), state->peer);
	text_copy(move->report.id, sizeof(move->report.id), state->id);
	move->report.pid = state->pid;
}

void move_stage(struct move *move, const char *stage)
{
	struct move_progress progress = {.stage = stage};

	move->stage = stage;
	log_debug("%s", stage);
	if (move->options->progress)
		move->options->progress(&progress);
}

void move_part_begin(struct move *move)
{
	move->part_us = clock_now_us();
}

void move_part_end(struct move *move, enum move_part part)
{
	int64_t now_us = clock_now_us();

	move->report.part_us[part] = (uint32_t)(now_us - move->part_us);
	move->part_us = now_us;
}

void move_look_after(struct move *move, int ask_ms)
{
	int silence_ms = (int)move->options->keepalive_s * 1000;

	if (!ask_ms || ask_ms > silence_ms / 4)
		ask_ms = silence_ms / 4;
	link_patience(move->link,
		      (struct lane_patience){.silence_ms = silence_ms, .ask_ms = ask_ms});
}

void move_count(struct move *move, struct movestate_counters *counters)
{
	uint64_t bytes = move->link->fast.bytes_rx + move->link->bulk.bytes_rx +
			 move->link->fast.bytes_tx + move->link->bulk.bytes_tx;
	int64_t now_us = clock_now_us(), passed_us = now_us - move->ticked_us;
	struct move_progress progress = {.stage = move->stage};

	if (passed_us < TICK_US)
		return;
	counters->bytes_wire = bytes;
	counters->bytes_packed = move->link->fast.packed_raw + move->link->bulk.packed_raw;
	counters->bytes_packed_wire = move->link->fast.packed_wire + move->link->bulk.packed_wire;
	if (bytes > move->ticked_bytes)
		counters->rate_kib_s =
			(bytes - move->ticked_bytes) * 1000000 / 1024 / (uint64_t)passed_us;
	counters->peak_rss_kib = move_peak_rss_kib();
	move->ticked_us = now_us;
	move->ticked_bytes = bytes;
	movestate_count(&move->state, counters);
	progress.pages_done = counters->pages_done;
	progress.pages_left = counters->pages_left;
	progress.rate_kib_s = counters->rate_kib_s;
	if (move->options->progress)
		move->options->progress(&progress);
}

enum outcome move_end(struct move *move, enum outcome outcome)
{
	struct move_report *report = &move->report;
	struct link *link = move->link;

	report->total_us = (uint64_t)(clock_now_us() - move->begun_us);
	report->bytes_wire = link->fast.bytes_rx + link->fast.bytes_tx + link->bulk.bytes_rx +
			     link->bulk.bytes_tx;
	report->bytes_packed = link->fast.packed_raw + link->bulk.packed_raw;
	report->bytes_packed_wire = link->fast.packed_wire + link->bulk.packed_wire;
	report->pid = move->state.pid;
	text_copy(report->comm, sizeof(report->comm), move->state.comm);
	text_copy(report->peer, sizeof(report->peer), link->peer);
	link_close(link);
	move->options->finish(report, outcome);
	link_tell_end(link, (int)outcome);
	return outcome;
}

void move_write_reason(struct move *move, const char *reason)
{
	struct movestate *state = &move->state;
	bool said = log_reason()[0];

	if (reason != state->reason)
		text_copy(state->reason, sizeof(state->reason), reason);
	/* Where a write was cut short, whoever goes on with that comes before us. */
	if (state->written && state->written_stage == state->stage &&
	    movestate_write(state, state->stage) && !said)
		log_reason_clear();
}

/* Says that the peer is away: at once, then once in a while. */
static void tell_away(struct move *move)
{
	int64_t now_ms = clock_now_ms();

	if (!move->lost_ms) {
		move->lost_ms = now_ms;
		/* What ends at once, again and again, must not become a storm of handshakes. */
		if (now_ms >= move->met_ms + STEADY_MS)
			move->retry_ms = 0;
		log_warn("connection to %s lost in stage %s: %s; trying again", move->link->peer,
			 move->stage, log_reason());
	} else if (now_ms < move->told_ms + TELL_AGAIN_MS) {
		return;
	} else {
		log_warn("%s is away since %lld s: %s", move->link->peer,
			 (long long)(now_ms - move->lost_ms) / 1000, log_reason());
	}
	move->told_ms = now_ms;
}

int move_patience_left(const struct move *move, int patience_ms)
{
	int64_t gone_ms = move->lost_ms ? clock_now_ms() - move->lost_ms : 0;

	if (patience_ms < 0)
		return -1;
	return gone_ms < patience_ms ? (int)(patience_ms - gone_ms) : 0;
}

/* The wait before the next attempt; none before the first. A signal ends it: false when it is to be the last. */
static bool wait_for_retry(struct move *move, bool (*is_stopped)(void))
{
	if (move->retry_ms) {
		io_sleep_ms(move->retry_ms);
		if (is_stopped && is_stopped())
			return false;
	}
	if (!move->retry_ms)
		move->retry_ms = RETRY_FIRST_MS;
	else if (move->retry_ms < RETRY_LONGEST_MS / 2)
		move->retry_ms *= 2;
	else
		move->retry_ms = RETRY_LONGEST_MS;
	return true;
}

int move_reconnect(struct move *move, int patience_ms, bool (*is_stopped)(void))
{
	/* Where the peer dials, an attempt is how often it is looked whether to go on. */
	int longest_ms = move->link->address ? LINK_DIAL_TIMEOUT_MS : CONFIG_HANDSHAKE_TIMEOUT_MS;
	int64_t deadline = clock_deadline_ms(patience_ms);
	int left_ms, err;

	do {
		tell_away(move);
		link_close(move->link);
		if (!wait_for_retry(move, is_stopped))
			return log_fail(EINTR, "ended by a signal");
		log_reason_clear();
		left_ms = clock_left_ms(deadline);
		err = link_open(move->link,
				left_ms < 0 || left_ms > longest_ms ? longest_ms : left_ms);
		/* A link that is back at once is not worth a sync. */
		if (err && !move->state.reason[0])
			move_write_reason(move, log_reason());
	} while (err && clock_left_ms(deadline) && !(is_stopped && is_stopped()));
	return err;
}

void move_met_again(struct move *move)
{
	if (!move->lost_ms)
		return;
	move->report.reconnects++;
	log_info("connected to %s again after %lld s", move->link->peer,
		 (long long)(clock_now_ms() - move->lost_ms + 500) / 1000);
	move->lost_ms = 0;
	move->met_ms = clock_now_ms();
	if (move->state.reason[0])
		move_write_reason(move, "");
}

uint64_t move_peak_rss_kib(void)
{
	char buf[1024], *line;
	struct line_reader reader;
	uint64_t kib = 0;

	if (line_reader_open(&reader, AT_FDCWD, "/proc/self/status", buf, sizeof(buf)))
		return 0;
	while (line_reader_next(&reader, &line) > 0) {
		const char *value = text_after(line, "VmHWM:");

		if (value && text_take_u64(&value, 10, &kib))
			break;
	}
	line_reader_close(&reader);
	return kib;
}
