/* SPDX-License-Identifier: MIT */
/*
 * An image as the peer of a move.
 *
 *     lane 0   HELLO OFFER FILE.. CHECK, the rest of the head; after READY: GO; FETCH is answered; after COMPLETE: DONE
 *     lane 1   PUSH is answered, at low priority
 *
 * A lane that is opened again begins with GO, as a source does that lost its link.
 */
#include "engine/image/peer.h"

#include "arch/arch.h"
#include "engine/move/move.pb.h"
#include "engine/paging/serve.h"
#include "lib/clock.h"
#include "lib/kernel.h"
#include "lib/log.h"
#include "lib/text.h"

#include <errno.h>
#include <pb_encode.h>
#include <string.h>
#include <unistd.h>

/* ioprio_set(2): best effort, from 0 to 7; linux/ioprio.h is younger than our oldest headers. */
#define IOPRIO_WHO_PROCESS 1
#define IOPRIO_BEST_EFFORT(level) (2 << 13 | (level))
#define IOPRIO_USUAL 4
#define IOPRIO_LOWEST 7

struct push {
	uint64_t pos, end;
	uint16_t number;
	bool ended;
};

/* What is being given on a lane: a header, and a body that lies elsewhere. */
struct gift {
	uint8_t header[FRAME_HEADER_BYTES];
	const uint8_t *body;
	uint32_t len, given; /* len 0: nothing */
};

static struct peer {
	struct image *image;
	struct gift gifts[ROUTE_LANES];
	uint64_t next_head;
	bool head_given, go, pong, complete, over;
	uint64_t fetch_pos, fetch_end;
	struct push pushes[PUSH_MAX];
	unsigned int first_push, nr_pushes;
	int64_t begun_us, started_us;
	bool low; /* our priority is lowered */
	uint8_t small[64];
} peer;

/* What is read ahead must not stand in the way of others, and what is waited for not behind them. */
static void set_priority(bool low)
{
	if (peer.low == low)
		return;
	peer.low = low;
	syscall(SYS_ioprio_set, IOPRIO_WHO_PROCESS, 0,
		IOPRIO_BEST_EFFORT(low ? IOPRIO_LOWEST : IOPRIO_USUAL));
}

/* ---- what comes ---- */

static int nonsense(const struct lane *lane, const struct frame *frame)
{
	return log_fail(EPROTO, "%s was asked for what makes no sense (%s)", lane->peer,
			frame_name(frame->type));
}

static void take_push(const struct frame *frame, const uint8_t *body)
{
	struct push *push = &peer.pushes[(peer.first_push + peer.nr_pushes++) % PUSH_MAX];

	for (unsigned int i = 0; i < PUSH_MAX && !(frame->space & PUSH_BEHIND); i++)
		peer.pushes[i].ended = true;
	*push = (struct push){.pos = frame->addr,
			      .end = frame_get_u64(body),
			      .number = frame->space & PUSH_NUMBER_MASK};
}

/* One frame. 1: taken; 0: not before others are answered; -EPROTO. */
static int take_frame(const struct lane *lane, const struct frame *frame, const uint8_t *body)
{
	switch (frame->type) {
	case FRAME_FETCH:
		if (peer.fetch_pos < peer.fetch_end)
			return 0;
		peer.fetch_pos = frame->addr;
		peer.fetch_end = frame->addr + frame_get_u64(body);
		return 1;
	case FRAME_PUSH:
		if (peer.nr_pushes == PUSH_MAX)
			return 0;
		take_push(frame, body);
		return 1;
	case FRAME_READY:
		peer.go = true;
		return 1;
	case FRAME_STARTED:
		if (!peer.started_us)
			peer.started_us = clock_now_us();
		return 1;
	case FRAME_PING:
		peer.pong = true;
		return 1;
	case FRAME_COMPLETE:
		peer.complete = true;
		return 1;
	case FRAME_ABORT:
		peer.over = true;
		return 1;
	case FRAME_ANSWER:
	case FRAME_PONG:
		return 1;
	default:
		return nonsense(lane, frame);
	}
}

static ssize_t take(struct lane *lane, const uint8_t *buf, size_t len)
{
	size_t done = 0;

	while (done + FRAME_HEADER_BYTES <= len) {
		struct frame frame;
		int err = frame_decode(buf + done, &frame);

		if (err || frame.len > len - done - FRAME_HEADER_BYTES)
			return nonsense(lane, &frame);
		err = take_frame(lane, &frame, buf + done + FRAME_HEADER_BYTES);
		if (err < 0)
			return err;
		if (!err)
			break;
		done += FRAME_HEADER_BYTES + frame.len;
	}
	return (ssize_t)done;
}

/* ---- what is given ---- */

static int give(struct gift *gift, const struct frame *frame, const uint8_t *body)
{
	frame_encode(frame, gift->header);
	gift->body = body;
	gift->len = FRAME_HEADER_BYTES + frame->len;
	gift->given = 0;
	return 0;
}

static int give_head(struct gift *gift)
{
	struct frame frame;
	const uint8_t *body;
	int err = image_read_head(peer.image, peer.next_head++, &frame, &body);

	if (err == -ENOENT)
		return log_fail(EBADMSG, "%s is damaged: its description has no end",
				peer.image->path);
	if (err)
		return err;
	peer.head_given = frame.type == FRAME_DESCRIBED;
	return give(gift, &frame, body);
}

static int give_zeros(struct gift *gift, uint64_t upto)
{
	struct frame frame = {.type = FRAME_ZERO, .len = 8, .addr = peer.fetch_pos};

	frame_put_u64(upto - peer.fetch_pos, peer.small);
	peer.fetch_pos = upto;
	return give(gift, &frame, peer.small);
}

/* The part of a run from *pos on and up to `end`, behind which *pos is then. */
static int give_run(struct gift *gift, const struct image_entry *entry, uint64_t *pos, uint64_t end,
		    uint16_t space)
{
	struct frame frame;
	const uint8_t *body;
	uint64_t start, skip;
	int err = image_read(peer.image, entry, &frame, &body);

	if (err)
		return err;
	start = frame.addr;
	if (*pos < start)
		*pos = start;
	skip = *pos - start;
	frame.addr = *pos;
	frame.space = space;
	frame.len = (uint32_t)((end - *pos < frame.len - skip) ? end - *pos : frame.len - skip);
	*pos += frame.len;
	return give(gift, &frame, body + skip);
}

static int give_fetched(struct gift *gift)
{
	struct image_entry entry;
	int err = image_find_memory(peer.image, peer.fetch_pos, peer.fetch_end, &entry);

	if (err == -ENOENT)
		return give_zeros(gift, peer.fetch_end);
	if (err)
		return err;
	if ((entry.key ^ IMAGE_MEMORY) > peer.fetch_pos)
		return give_zeros(gift, entry.key ^ IMAGE_MEMORY);
	return give_run(gift, &entry, &peer.fetch_pos, peer.fetch_end, 0);
}

static int give_done(struct gift *gift)
{
	const struct image_seal *seal = &peer.image->seal;
	baton_MoveDone done = {.pages_total = (seal->head_bytes + seal->memory_bytes) >>
					      arch_page_shift()};
	struct frame frame = {.type = FRAME_DONE};
	pb_ostream_t stream = pb_ostream_from_buffer(peer.small, sizeof(peer.small));

	peer.complete = false;
	if (peer.started_us)
		done.downtime_us = (uint64_t)(peer.started_us - peer.begun_us);
	if (!pb_encode(&stream, baton_MoveDone_fields, &done))
		return -EMSGSIZE;
	frame.len = (uint32_t)stream.bytes_written;
	return give(gift, &frame, peer.small);
}

/* What is next on lane 0, if anything is. */
static int prepare_fast(struct gift *gift)
{
	struct frame frame = {0};

	if (peer.over)
		return -ECONNRESET;
	if (!peer.head_given)
		return give_head(gift);
	if (peer.fetch_pos < peer.fetch_end)
		return give_fetched(gift);
	if (peer.complete)
		return give_done(gift);
	if (peer.go)
		frame.type = FRAME_GO;
	else if (peer.pong)
		frame.type = FRAME_PONG;
	else
		return 0;
	*(peer.go ? &peer.go : &peer.pong) = false;
	return give(gift, &frame, NULL);
}

static int prepare_bulk(struct gift *gift)
{
	struct push *push = &peer.pushes[peer.first_push];
	struct frame frame = {.type = FRAME_REACHED, .space = push->number};
	struct image_entry entry;
	int err;

	if (!peer.nr_pushes)
		return 0;
	if (!push->ended && push->pos < push->end) {
		err = image_find_memory(peer.image, push->pos, push->end, &entry);
		if (!err)
			return give_run(gift, &entry, &push->pos, push->end, push->number);
		if (err != -ENOENT)
			return err;
		push->pos = push->end;
	}
	frame.addr = push->pos;
	peer.first_push = (peer.first_push + 1) % PUSH_MAX;
	peer.nr_pushes--;
	return give(gift, &frame, NULL);
}

static ssize_t get(struct lane *lane, uint8_t *buf, size_t len)
{
	bool bulk = lane->local_data == &peer.gifts[1];
	struct gift *gift = lane->local_data;
	uint32_t part;
	int err;

	if (!gift->len) {
		set_priority(bulk);
		err = bulk ? prepare_bulk(gift) : prepare_fast(gift);
		if (err || !gift->len)
			return err;
	}
	/* The header, then the body: more than one of them is never asked for at once. */
	part = gift->given < FRAME_HEADER_BYTES ? FRAME_HEADER_BYTES - gift->given
						: gift->len - gift->given;
	if (part > len)
		part = (uint32_t)len;
	memcpy(buf,
	       gift->given < FRAME_HEADER_BYTES ? gift->header + gift->given
						: gift->body + (gift->given - FRAME_HEADER_BYTES),
	       part);
	gift->given += part;
	if (gift->given == gift->len)
		gift->len = 0;
	return (ssize_t)part;
}

static bool has_pending(const struct lane *lane)
{
	if (lane->local_data == &peer.gifts[1])
		return peer.nr_pushes;
	return peer.over || !peer.head_given || peer.fetch_pos < peer.fetch_end || peer.complete ||
	       peer.go || peer.pong;
}

static const struct lane_local ends = {.put = take, .get = get, .has_pending = has_pending};

/* Of a link: both lanes. `again`: it was open before, and what the head says is known. */
static int open_lanes(struct link *link, bool again)
{
	struct image *image = peer.image;
	int64_t begun_us = peer.begun_us ? peer.begun_us : clock_now_us();
	int err;

	peer = (struct peer){.image = image,
			     .begun_us = begun_us,
			     .started_us = peer.started_us,
			     .head_given = again,
			     .go = again,
			     .low = peer.low};
	err = lane_open_local(&link->fast, &ends, &peer.gifts[0], image->path);
	if (!err)
		err = lane_open_local(&link->bulk, &ends, &peer.gifts[1], image->path);
	return err;
}

int image_peer_link(struct link *link, struct image *image)
{
	peer.image = image;
	link->open_local = open_lanes;
	text_copy(link->peer, sizeof(link->peer), image->path);
	text_copy(link->name, sizeof(link->name), image->signer);
	memcpy(link->fingerprint, image->fingerprint, sizeof(link->fingerprint));
	link->known = true;
	return route_make_token(link->token);
}
