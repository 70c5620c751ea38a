/* SPDX-License-Identifier: MIT */
/*
 * Lanes: frames over one TLS session, sent from a queue that is filled in place, received whole.
 *
 *     tx   0 ......... tx_sent ........... tx_len ............ tx_cap
 *          sent        to be sent          room
 *
 * What was sent is reclaimed when the queue is empty, or by moving the rest when room is needed.
 */
#include "transport/lane.h"

#include "lib/arena.h"
#include "lib/clock.h"
#include "lib/config.h"
#include "lib/fault.h"
#include "lib/io.h"
#include "lib/log.h"
#include "lib/text.h"
#include "transport/tls.h"
#include "transport/traffic.h"
#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

/* Room for small frames beside one of the largest. */
#define TX_SLACK_BYTES 4096 /* not a page */
/* A wait looks this often whether anything moves at all. */
#define LOOK_MS 250

int lane_init(struct lane *lane)
{
	*lane = (struct lane){
		.fd = -1, .tx_cap = FRAME_BODY_MAX + TX_SLACK_BYTES, .tx_allowed = UINT64_MAX};
	lane->rx_body = arena_alloc(ARENA_FRAMES, PACK_ROOM_BYTES, 64);
	lane->tx = arena_alloc(ARENA_FRAMES, lane->tx_cap, 64);
	if (!lane->rx_body || !lane->tx)
		return log_fail(ENOMEM, "the memory budget holds no more lanes; "
					"raise CONFIG_MEMORY_BUDGET_KIB");
	return 0;
}

/* NULL wherever that is not built in. */
static const struct lane_local *local_of(const struct lane *lane)
{
	return IS_ENABLED(CONFIG_IMAGE) ? lane->local : NULL;
}

static ssize_t put_bytes(struct lane *lane, const uint8_t *buf, size_t len)
{
	return local_of(lane) ? lane->local->put(lane, buf, len) : tls_write(lane, buf, len);
}

static ssize_t get_bytes(struct lane *lane, uint8_t *buf, size_t len)
{
	return local_of(lane) ? lane->local->get(lane, buf, len) : tls_read(lane, buf, len);
}

bool lane_has_room(const struct lane *lane, uint32_t len)
{
	uint32_t queued = lane->tx_len - lane->tx_sent;

	return len <= FRAME_BODY_MAX && queued + FRAME_HEADER_BYTES + len <= lane->tx_cap;
}

/* Makes the room that lane_has_room promised contiguous behind tx_len. */
static void make_room(struct lane *lane, uint32_t len)
{
	if (lane->tx_len + FRAME_HEADER_BYTES + len <= lane->tx_cap)
		return;
	/* TLS has its own copy of a record it could not send: moving these bytes is safe. */
	memmove(lane->tx, lane->tx + lane->tx_sent, lane->tx_len - lane->tx_sent);
	lane->tx_len -= lane->tx_sent;
	lane->tx_sent = 0;
}

uint8_t *lane_body(struct lane *lane, uint32_t len)
{
	if (!lane_has_room(lane, len))
		return NULL;
	make_room(lane, len);
	return lane->tx + lane->tx_len + FRAME_HEADER_BYTES;
}

int lane_queue(struct lane *lane, const struct frame *frame, const void *body)
{
	if (!lane_has_room(lane, frame->len))
		return -ENOBUFS;
	make_room(lane, frame->len);
	frame_encode(frame, lane->tx + lane->tx_len);
	if (body && frame->len > 0)
		memcpy(lane->tx + lane->tx_len + FRAME_HEADER_BYTES, body, frame->len);
	lane->tx_len += FRAME_HEADER_BYTES + frame->len;
	lane->bytes_tx += FRAME_HEADER_BYTES + frame->len;
	return 0;
}

static bool is_over(int64_t until_ns)
{
	return until_ns != INT64_MAX && clock_now_ns() >= until_ns;
}

/* What does not fill a record may wait for the next frame, as far as both have room. */
static bool may_wait(const struct lane *lane, uint32_t len)
{
	return len < tls_record_bytes(lane) && lane_has_room(lane, FRAME_BODY_MAX);
}

int lane_flush_bulk(struct lane *lane, bool more, int64_t until_ns)
{
	if (lane->fd < 0)
		return -ENOTCONN;
	while (lane->tx_sent < lane->tx_len) {
		uint32_t len = lane->tx_len - lane->tx_sent;
		ssize_t put;

		if (!lane->tx_allowed)
			return 0;
		if (more && may_wait(lane, len))
			return 1;
		if (len > lane->tx_allowed)
			len = (uint32_t)lane->tx_allowed;
		put = put_bytes(lane, lane->tx + lane->tx_sent, len);
		if (put <= 0)
			return (int)put;
		if (fault_point(FAULT_LANE_SEND))
			return -ECONNRESET;
		lane->tx_sent += (uint32_t)put;
		if (lane->tx_allowed != UINT64_MAX)
			lane->tx_allowed -=
				(uint64_t)put < lane->tx_allowed ? (uint64_t)put : lane->tx_allowed;
		if (lane->tx_sent < lane->tx_len && is_over(until_ns))
			return LANE_AGAIN;
	}
	lane->tx_sent = 0;
	lane->tx_len = 0;
	return 1;
}

int lane_flush(struct lane *lane)
{
	return lane_flush_bulk(lane, false, INT64_MAX);
}

/* The header is complete: may the body come? */
static int check_header(struct lane *lane)
{
	int err = frame_decode(lane->rx_raw, &lane->rx);

	lane->rx_wire = lane->rx.len;
	if (!err && (lane->rx.type != FRAME_PACKED || lane->takes_packed))
		return 0;
	if (!err)
		err = -EPROTO;
	/* A length that failed its check must not be met again by a caller that goes on. */
	lane->rx_got = 0;
	return log_fail(
		-err, "%s sent a frame that does not fit: type %u (%s), flags 0x%x, %u bytes",
		lane->peer, lane->rx.type, frame_name(lane->rx.type), lane->rx.flags, lane->rx.len);
}

/* Where the body begins that is being received. */
static uint8_t *wire_body(const struct lane *lane)
{
	return lane->rx_body +
	       (lane->rx.type == FRAME_PACKED ? PACK_ROOM_BYTES - lane->rx_wire : 0);
}

/* A whole frame is there. A packed one becomes what it was made of. */
static int unpack(struct lane *lane)
{
	int err;

	if (lane->rx.type != FRAME_PACKED)
		return 0;
	err = pack_open(lane->rx_body, lane->rx_wire, &lane->rx.len);
	if (err) {
		lane->rx_got = 0;
		return log_fail(-err, "%s sent pages that cannot be unpacked (%u bytes at %#llx)",
				lane->peer, lane->rx_wire, (unsigned long long)lane->rx.addr);
	}
	lane->rx.type = FRAME_PAGES;
	lane->packed_raw += lane->rx.len;
	lane->packed_wire += lane->rx_wire;
	return 0;
}

int lane_receive_bulk(struct lane *lane, int64_t until_ns)
{
	bool moved = false;

	if (lane->fd < 0)
		return -ENOTCONN;
	for (;; moved = true) {
		uint8_t *at;
		uint32_t want;
		ssize_t got;

		if (lane->rx_got < FRAME_HEADER_BYTES) {
			at = lane->rx_raw + lane->rx_got;
			want = FRAME_HEADER_BYTES - lane->rx_got;
		} else {
			uint32_t have = lane->rx_got - FRAME_HEADER_BYTES;

			if (have == lane->rx_wire) {
				int err = unpack(lane);

				if (err)
					return err;
				return fault_point(FAULT_LANE_RECEIVE) ? -ECONNRESET : 1;
			}
			at = wire_body(lane) + have;
			want = lane->rx_wire - have;
		}
		/* What ends here has one buffer for all lanes, and gives a frame whole. */
		if (moved && !local_of(lane) && is_over(until_ns))
			return LANE_AGAIN;
		got = get_bytes(lane, at, want);
		if (got <= 0)
			return (int)got;
		lane->rx_got += (uint32_t)got;
		if (lane->rx_got == FRAME_HEADER_BYTES) {
			int err = check_header(lane);

			if (err)
				return err;
		}
	}
}

int lane_receive(struct lane *lane)
{
	return lane_receive_bulk(lane, INT64_MAX);
}

void lane_receive_done(struct lane *lane)
{
	lane->bytes_rx += lane->rx_got;
	lane->rx_got = 0;
}

bool lane_has_pending(const struct lane *lane)
{
	if (lane->fd < 0)
		return false;
	return local_of(lane) ? lane->local->has_pending(lane) : tls_has_pending(lane);
}

/* Bytes that have moved in either direction, as the kernels of both ends know it. */
static uint64_t bytes_moved(const struct lane *lane)
{
	struct traffic traffic;

	if (lane->fd < 0)
		return 0;
	return traffic_read(lane->fd, &traffic) ? traffic.received + traffic.acked
						: lane->bytes_rx + lane->rx_got;
}

int lane_ask(struct lane *lane)
{
	struct frame ping = {.type = FRAME_PING};
	int64_t now_ms = clock_now_ms();
	int err;

	/* What waits to be sent asks as well. */
	if (!lane->patience.ask_ms || now_ms < lane->asked_ms + lane->patience.ask_ms ||
	    lane->tx_len > lane->tx_sent)
		return 0;
	lane->asked_ms = now_ms;
	err = lane_queue(lane, &ping, NULL);
	if (!err)
		err = lane_flush(lane);
	return err < 0 ? err : 0;
}

int lane_look(struct lane_watch *watch, struct lane *lane, const struct lane *other)
{
	const struct lane_patience *patience = &lane->patience;
	int64_t now_ms = clock_now_ms(), passed_ms = now_ms - watch->looked_ms;
	uint64_t moved;

	if (patience->until_ms && now_ms >= patience->until_ms)
		return log_fail(ETIME, "%s has taken too long", lane->peer);
	if (!patience->silence_ms || passed_ms < LOOK_MS / 2)
		return 0;
	moved = bytes_moved(lane) + (other ? bytes_moved(other) : 0);
	/* Time in which nobody looked (we worked, or did not get the processor) says nothing. */
	watch->silent_ms += passed_ms < 2 * LOOK_MS ? (int)passed_ms : 2 * LOOK_MS;
	if (moved != watch->moved)
		watch->silent_ms = 0;
	watch->moved = moved;
	watch->looked_ms = now_ms;
	if (watch->silent_ms >= patience->silence_ms)
		return log_fail(ETIME, "no byte has moved between %s and here for %d seconds",
				lane->peer, patience->silence_ms / 1000);
	return watch->silent_ms >= patience->ask_ms ? lane_ask(lane) : 0;
}

/* Waits for the socket. 0, -ETIMEDOUT, -ETIME, -EINTR. */
static int wait_socket(struct lane *lane, short events, int64_t deadline)
{
	struct pollfd pfd = {.fd = lane->fd, .events = events};

	for (;;) {
		int left_ms = clock_left_ms(deadline), ready, err;

		err = lane_look(&lane->watch, lane, NULL);
		if (err)
			return err;
		ready = io_poll(&pfd, 1, left_ms < 0 || left_ms > LOOK_MS ? LOOK_MS : left_ms);
		if (ready)
			return ready < 0 ? ready : 0;
		if (!clock_left_ms(deadline))
			return log_fail(ETIMEDOUT, "%s does not answer in time", lane->peer);
	}
}

int lane_room_wait(struct lane *lane, uint32_t len, int timeout_ms)
{
	int64_t deadline = clock_deadline_ms(timeout_ms);

	if (len > FRAME_BODY_MAX)
		return -EMSGSIZE;
	while (!lane_has_room(lane, len)) {
		int err = lane_flush(lane);

		if (err == 0)
			err = wait_socket(lane, POLLOUT, deadline);
		if (err < 0)
			return err;
	}
	return 0;
}

int lane_queue_wait(struct lane *lane, const struct frame *frame, const void *body, int timeout_ms)
{
	int err = lane_room_wait(lane, frame->len, timeout_ms);

	return err ? err : lane_queue(lane, frame, body);
}

int lane_flush_wait(struct lane *lane, int timeout_ms)
{
	int64_t deadline = clock_deadline_ms(timeout_ms);

	for (;;) {
		int err = lane_flush(lane);

		if (err != 0)
			return err < 0 ? err : 0;
		err = wait_socket(lane, POLLOUT, deadline);
		if (err)
			return err;
	}
}

int lane_receive_wait(struct lane *lane, int timeout_ms)
{
	int64_t deadline = clock_deadline_ms(timeout_ms);

	for (;;) {
		int flushed = lane_flush(lane);
		int err = lane_receive(lane);

		/* What was received counts even when nothing can be sent any more. */
		if (err == 1)
			return 0;
		if (err < 0 || flushed < 0)
			return err < 0 ? err : flushed;
		err = wait_socket(lane, flushed == 1 ? POLLIN : POLLIN | POLLOUT, deadline);
		if (err)
			return err;
	}
}

static void reset(struct lane *lane)
{
	lane->fd = -1;
	lane->local = NULL;
	lane->rx_got = 0;
	lane->tx_len = 0;
	lane->tx_sent = 0;
	lane->tx_allowed = UINT64_MAX;
	lane->tx_packet = 0;
	lane->tx_short = false;
	lane->watch = (struct lane_watch){0};
	lane->asked_ms = 0;
}

void lane_close(struct lane *lane)
{
	if (lane->fd < 0)
		return;
	if (!local_of(lane))
		tls_close(lane);
	close(lane->fd);
	reset(lane);
}

int lane_open_local(struct lane *lane, const struct lane_local *local, void *data, const char *peer)
{
	int fd = eventfd(0, EFD_CLOEXEC);

	if (fd < 0)
		return -errno;
	reset(lane);
	lane->fd = fd;
	lane->local = local;
	lane->local_data = data;
	text_copy(lane->peer, sizeof(lane->peer), peer);
	return 0;
}

void lane_forget(struct lane *lane)
{
	/* There is a session without a descriptor while its handshake is under way. */
	if (lane->tls)
		tls_forget(lane);
	reset(lane);
}
