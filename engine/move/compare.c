/* SPDX-License-Identifier: MIT */
/* A check between two devices: both of its ends. */
#include "engine/move/compare.h"

#include "arch/arch.h"
#include "engine/move/files.h"
#include "engine/process/system.h"
#include "lib/arena.h"
#include "lib/clock.h"
#include "lib/config.h"
#include "lib/log.h"
#include "lib/text.h"
#include "transport/message.h"
#include "version.h"

#include <errno.h>
#include <string.h>
#include <sys/utsname.h>
#include <unistd.h>

/* Reasons told: nobody reads the ANSWERs before all FILEs are sent, so they have to fit a socket. */
#define REASONS_MAX 32
#define SEND_TIMEOUT_MS 20000
/* The peer may have to read large files before it answers. */
#define ANSWER_TIMEOUT_MS 300000
#define PONG_TIMEOUT_MS 20000

#define NR_ROUND_TRIPS 15
#define RATE_US 500000
/* Bodies under way: grows with each answer, so that a slow link is not filled for minutes. */
#define WINDOW_FIRST 2
#define WINDOW_MAX 64

/* ---- measuring ---- */

static int pong_wait(struct lane *lane)
{
	int err;

	do {
		err = lane_receive_wait(lane, PONG_TIMEOUT_MS);
	} while (err == -EINTR && !link_stopping());
	if (err)
		return log_fail(-err, "peer %s has not answered: %m", lane->peer);
	if (lane->rx.type != FRAME_PONG)
		return log_fail(EPROTO, "peer %s: said %s where PONG was due", lane->peer,
				frame_name(lane->rx.type));
	lane_receive_done(lane);
	return 0;
}

static int round_trip(struct lane *lane, uint32_t *us)
{
	struct frame ping = {.type = FRAME_PING};
	int64_t begun = clock_now_us();
	int err = lane_queue_wait(lane, &ping, NULL, SEND_TIMEOUT_MS);

	if (!err)
		err = pong_wait(lane);
	*us = (uint32_t)(clock_now_us() - begun);
	return err;
}

static int measure_round_trip(struct lane *lane, uint32_t *median)
{
	uint32_t sorted[NR_ROUND_TRIPS] = {0}, us;

	for (unsigned int i = 0; i < NR_ROUND_TRIPS; i++) {
		unsigned int at = i;
		int err = round_trip(lane, &us);

		if (err)
			return err;
		for (; at > 0 && sorted[at - 1] > us; at--)
			sorted[at] = sorted[at - 1];
		sorted[at] = us;
	}
	*median = sorted[NR_ROUND_TRIPS / 2];
	return 0;
}

static int send_body(struct lane *lane)
{
	struct frame ping = {.type = FRAME_PING, .flags = FRAME_PING_QUIET, .len = FRAME_BODY_MAX};
	uint8_t *body;
	int err = lane_room_wait(lane, ping.len, SEND_TIMEOUT_MS);

	body = err ? NULL : lane_body(lane, ping.len);
	if (!body)
		return err ? err : -ENOBUFS;
	memset(body, 0, ping.len);
	err = lane_queue(lane, &ping, NULL);
	if (!err)
		err = lane_flush(lane);
	return err < 0 ? err : 0;
}

static int measure_rate(struct lane *lane, uint64_t *rate_kib_s)
{
	unsigned int sent = 0, answered = 0, window = WINDOW_FIRST;
	int64_t begun = clock_now_us(), passed = 0;
	int err = 0;

	while (!err && (passed < RATE_US || answered < sent)) {
		if (passed < RATE_US && sent - answered < window) {
			err = send_body(lane);
			sent++;
		} else {
			err = pong_wait(lane);
			answered++;
			window += window < WINDOW_MAX;
		}
		passed = clock_now_us() - begun;
	}
	if (!err)
		*rate_kib_s = (uint64_t)answered * (FRAME_BODY_MAX / 1024) * 1000000 /
			      (uint64_t)(passed ? passed : 1);
	return err;
}

int compare_measure(struct link *link, struct compare_speed *speed)
{
	int err = measure_round_trip(&link->fast, &speed->round_trip_us);

	return err ? err : measure_rate(&link->fast, &speed->rate_kib_s);
}

/* ---- who asks ---- */

static int send_offer(struct link *link, pid_t pid)
{
	size_t mark = arena_mark();
	baton_MoveOffer *offer = arena_alloc(ARENA_SCRATCH, sizeof(*offer), 16);
	int err;

	if (!offer)
		return log_no_room("the offer");
	err = offer_collect(pid ? pid : getpid(), offer);
	if (!err) {
		offer->check_only = true;
		/* Without a process it is this device that is compared: no thread is named. */
		if (!pid)
			offer->tids_count = 0;
		err = link_send_message(link, FRAME_OFFER, baton_MoveOffer_fields, offer);
	}
	arena_reset(mark);
	return err;
}

/* One ANSWER. 1: another one follows. */
static int take_answer(struct link *link, baton_MoveAnswer *answer)
{
	int err = link_expect(link, FRAME_ANSWER, ANSWER_TIMEOUT_MS, true);

	if (err)
		return err;
	err = message_decode(&link->fast, baton_MoveAnswer_fields, answer);
	lane_receive_done(&link->fast);
	if (err)
		return log_fail(-err, "peer %s: its answer makes no sense", link->peer);
	offer_clean_text(answer->reason);
	offer_clean_text(answer->arch);
	offer_clean_text(answer->kernel);
	offer_clean_text(answer->software);
	return answer->more;
}

int compare_ask(struct link *link, pid_t pid, compare_refused_fn *refused, void *data,
		struct compare_result *result)
{
	baton_MoveAnswer *answer = &result->answer;
	int own = 0, err, got;

	memset(result, 0, sizeof(*result));
	err = send_offer(link, pid);
	if (!err && pid) {
		files_begin();
		got = files_send(&link->fast, pid, false, SEND_TIMEOUT_MS);
		/* A file that cannot be told is a reason of our own; the peer is asked all the same. */
		if (got < 0) {
			own++;
			refused(data, log_reason());
			log_reason_clear();
		} else {
			result->nr_files = (unsigned int)got;
		}
	}
	if (!err)
		err = link_send(link, FRAME_CHECK, 0);
	while (!err) {
		got = take_answer(link, answer);
		if (got < 0)
			return got;
		if (!got)
			break;
		refused(data, answer->reason);
	}
	result->nr_refused = answer->nr_refused + (unsigned int)own;
	return err;
}

/* ---- who is asked ---- */

static int send_answer(struct link *link, baton_MoveAnswer *answer)
{
	return link_send_message(link, FRAME_ANSWER, baton_MoveAnswer_fields, answer);
}

static baton_MoveAnswer *make_answer(void)
{
	baton_MoveAnswer *answer = arena_alloc(ARENA_SCRATCH, sizeof(*answer), 16);

	if (!answer)
		log_no_room("a message");
	return answer;
}

int compare_tell(struct link *link, unsigned int *nr_refused)
{
	size_t mark = arena_mark();
	baton_MoveAnswer *answer;
	int err = 0;

	if ((*nr_refused)++ < REASONS_MAX) {
		answer = make_answer();
		if (!answer)
			return -ENOMEM;
		answer->more = true;
		text_copy(answer->reason, sizeof(answer->reason), log_reason());
		log_reason_clear();
		err = send_answer(link, answer);
		arena_reset(mark);
	}
	if (!err)
		log_reason_clear();
	return err;
}

struct tell_system {
	struct link *link;
	unsigned int *nr_refused;
	int err;
};

static void tell_missing(struct system_probe *p, enum system_level level, const char *name,
			 const char *text)
{
	struct tell_system *tell = p->data;

	if (level != SYSTEM_MISSING || tell->err)
		return;
	log_fail(EOPNOTSUPP, "the peer's system lacks %s: %s", name, text);
	tell->err = compare_tell(tell->link, tell->nr_refused);
}

int compare_offer(struct link *link, const baton_MoveOffer *offer,
		  const struct offer_limits *limits, unsigned int *nr_refused)
{
	struct tell_system tell = {link, nr_refused, 0};
	struct system_probe probe = {.report = tell_missing, .data = &tell};

	for (unsigned int step = 0; step < OFFER_NR_STEPS; step++) {
		if (!offer_check_step(step, offer, limits))
			continue;
		tell.err = compare_tell(link, nr_refused);
		if (tell.err)
			return tell.err;
	}
	if (IS_ENABLED(CONFIG_CMD_CHECK)) {
		system_probe(&probe);
	} else if (!offer->recall) {
		log_fail(EOPNOTSUPP, "the peer's kernel cannot be looked at: baton there is built "
				     "without CONFIG_CMD_CHECK");
		tell.err = compare_tell(link, nr_refused);
	}
	return tell.err;
}

int compare_answer(struct link *link, unsigned int nr_refused, bool recall)
{
	size_t mark = arena_mark();
	baton_MoveAnswer *answer = make_answer();
	struct utsname uts;
	int err;

	if (!answer)
		return -ENOMEM;
	uname(&uts);
	answer->accepted = !nr_refused;
	answer->nr_refused = nr_refused;
	/* Why a question is refused as a whole; what was told already has left none. */
	if (recall)
		text_copy(answer->reason, sizeof(answer->reason), log_reason());
	answer->recall = recall;
	answer->page_size = 1u << arch_page_shift();
	text_copy(answer->arch, sizeof(answer->arch), arch_name());
	text_copy(answer->kernel, sizeof(answer->kernel), uts.release);
	text_copy(answer->software, sizeof(answer->software), BATON_VERSION);
	err = send_answer(link, answer);
	arena_reset(mark);
	return err;
}
