/* SPDX-License-Identifier: MIT */
/* The small talk on lane 0 of a link: waiting for frames, sending messages, giving up in words. */
#include <errno.h>
#include <string.h>

#include "engine/move/link.h"
#include "engine/move/move.pb.h"
#include "engine/move/offer.h"
#include "lib/arena.h"
#include "lib/clock.h"
#include "lib/log.h"
#include "lib/text.h"
#include "transport/message.h"

/* A wait looks this often whether it was asked to stop. */
#define SLICE_MS 250
/* How long a frame of ours may take to leave, and a last word to be read. */
#define SEND_TIMEOUT_MS 10000
#define LINGER_MS 2000
/* Longest body of a PING that is echoed. */
#define PING_ECHO_MAX 64

/* The peer has given up: its words become the reason. */
static int read_abort(struct link *link)
{
	size_t mark = arena_mark();
	baton_MoveAbort *abort = arena_alloc(ARENA_SCRATCH, sizeof(*abort), 16);
	int err = -ECONNABORTED;

	if (!abort || message_decode(&link->fast, baton_MoveAbort_fields, abort)) {
		log_fail(ECONNABORTED, "peer %s ended the move", link->peer);
	} else {
		offer_clean_text(abort->reason);
		if (abort->refused)
			err = -EACCES;
		if (abort->never_started)
			err = -ECANCELED;
		if (abort->lost)
			err = -EOWNERDEAD;
		if (abort->unknown)
			err = -ENODATA;
		log_fail(-err, "peer %s: %s", link->peer, abort->reason);
	}
	arena_reset(mark);
	lane_receive_done(&link->fast);
	return err;
}

void link_patience(struct link *link, struct lane_patience patience)
{
	link->fast.patience = patience;
	link->bulk.patience = patience;
}

/* Where nothing else bounds it, how long what we say may take to leave. */
static int send_timeout_ms(const struct link *link)
{
	return link->fast.patience.silence_ms ? -1 : SEND_TIMEOUT_MS;
}

/* Waits for one frame in slices. Nothing is interpreted. */
static int receive_raw(struct link *link, int64_t deadline, bool stoppable)
{
	for (;;) {
		int left = clock_left_ms(deadline), err;

		if (stoppable && link_stopping())
			return log_fail(EINTR, "ended by a signal");
		err = lane_receive_wait(&link->fast, left < 0 || left > SLICE_MS ? SLICE_MS : left);
		if (err == -EINTR)
			continue;
		if (err != -ETIMEDOUT)
			return err;
		if (!clock_left_ms(deadline))
			return log_fail(ETIMEDOUT, "peer %s has not answered in time", link->peer);
		log_reason_clear();
	}
}

int link_receive(struct link *link, int timeout_ms, bool stoppable)
{
	int64_t deadline = clock_deadline_ms(timeout_ms);
	struct lane *lane = &link->fast;
	int err;

	err = lane_ask(lane);
	if (err)
		return err;
	for (;;) {
		err = receive_raw(link, deadline, stoppable);
		if (err == -EINTR || err == -ETIMEDOUT || err == -ETIME)
			return err;
		if (err)
			return log_fail(-err, "peer %s: the connection was lost: %m", link->peer);
		if (lane->rx.type == FRAME_ABORT)
			return link_check(link, FRAME_ABORT);
		if (lane->rx.type != FRAME_PING && lane->rx.type != FRAME_PONG)
			return 0;
		if (lane->rx.type == FRAME_PING) {
			struct frame pong = {.type = FRAME_PONG, .addr = lane->rx.addr};

			if (!(lane->rx.flags & FRAME_PING_QUIET))
				pong.len = lane->rx.len;
			if (pong.len > PING_ECHO_MAX)
				return log_fail(EPROTO, "peer %s: its PING is too long",
						link->peer);
			err = lane_queue_wait(lane, &pong, lane->rx_body, send_timeout_ms(link));
			if (!err)
				err = lane_flush_wait(lane, send_timeout_ms(link));
			if (err)
				return err;
		}
		lane_receive_done(lane);
	}
}

int link_expect(struct link *link, uint8_t type, int timeout_ms, bool stoppable)
{
	int err = link_receive(link, timeout_ms, stoppable);

	return err ? err : link_check(link, type);
}

int link_check(struct link *link, uint8_t type)
{
	if (link->fast.rx.type == FRAME_ABORT)
		return read_abort(link);
	if (link->fast.rx.type == type)
		return 0;
	return log_fail(EPROTO, "peer %s: said %s where %s was due", link->peer,
			frame_name(link->fast.rx.type), frame_name(type));
}

int link_send(struct link *link, uint8_t type, uint64_t addr)
{
	struct frame frame = {.type = type, .addr = addr};
	int err = lane_queue_wait(&link->fast, &frame, NULL, send_timeout_ms(link));

	if (!err)
		err = lane_flush_wait(&link->fast, send_timeout_ms(link));
	if (err)
		log_fail(-err, "peer %s: the connection was lost: %m", link->peer);
	return err;
}

int link_send_message(struct link *link, uint8_t type, const pb_msgdesc_t *fields, const void *msg)
{
	struct frame frame = {.type = type};
	int err = message_queue(&link->fast, &frame, fields, msg, send_timeout_ms(link));

	if (!err)
		err = lane_flush_wait(&link->fast, send_timeout_ms(link));
	if (err)
		log_fail(-err, "peer %s: the connection was lost: %m", link->peer);
	return err;
}

/* Lets the peer read our last words: closing while its frames are unread would drop them. */
static bool linger(struct link *link)
{
	int64_t deadline = clock_deadline_ms(LINGER_MS);

	while (clock_left_ms(deadline)) {
		if (lane_receive_wait(&link->fast, clock_left_ms(deadline)))
			return false;
		if (link->fast.rx.type == FRAME_ABORT)
			return true;
		lane_receive_done(&link->fast);
	}
	return false;
}

bool link_abort(struct link *link, enum link_end end)
{
	struct frame frame = {.type = FRAME_ABORT};
	size_t mark = arena_mark();
	baton_MoveAbort *abort;
	int err;

	if (link->fast.fd < 0)
		return false;
	abort = arena_alloc(ARENA_SCRATCH, sizeof(*abort), 16);
	if (!abort)
		return false;
	text_copy(abort->reason, sizeof(abort->reason), log_reason());
	abort->refused = end == LINK_REFUSED;
	abort->never_started = end == LINK_NEVER_STARTED;
	abort->lost = end == LINK_LOST;
	abort->unknown = end == LINK_UNKNOWN;
	err = message_queue(&link->fast, &frame, baton_MoveAbort_fields, abort, LINGER_MS);
	arena_reset(mark);
	if (!err)
		err = lane_flush_wait(&link->fast, LINGER_MS);
	return !err && linger(link);
}

int link_last_words(struct link *link, int err)
{
	char reason[LOG_REASON_MAX];
	int said;

	if (link->fast.fd < 0)
		return err;
	text_copy(reason, sizeof(reason), log_reason());
	log_reason_clear();
	for (;;) {
		said = lane_receive_wait(&link->fast, SLICE_MS);
		if (!said && link->fast.rx.type == FRAME_ABORT)
			return read_abort(link);
		if (said)
			break;
		lane_receive_done(&link->fast);
	}
	log_reason_clear();
	log_fail(-err, "%s", reason);
	return err;
}
