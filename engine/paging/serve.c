/* SPDX-License-Identifier: MIT */
/* The source's answering of page requests from the frozen process: faults first. */
#include "engine/paging/serve.h"

#include "arch/arch.h"
#include "engine/paging/source.h"
#include "lib/arena.h"
#include "lib/clock.h"
#include "lib/fault.h"
#include "lib/io.h"
#include "lib/log.h"
#include "transport/pace.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>

#define TICK_MS 100
/* Bulk data the kernel may hold unsent: a redirected push and a fault's answer wait behind it. */
#define BULK_UNSENT_BYTES 131072
/* The same on a slow link: what it carries in a few milliseconds. */
#define SLOW_UNSENT_BYTES 8192
/* So long bulk data is worked on before faults are looked for again. */
#define LOOK_NS 5000
/* So long after a fault the next one is expected: then records of the push are short. */
#define FRESH_NS 10000000
/* How far a push may run ahead of its rate after a pause. */
#define RATE_BURST_NS 50000000
/* So much longer may a run be that becomes shorter before it is sent. */
#define PACKED_PART 4

struct serve_push {
	uint64_t pos, end;
	uint16_t number;
	bool ended; /* by a newer one */
};

struct serve {
	struct source source;
	struct pagemap fetch_map, push_map;
	uint64_t fetch_start;          /* of the FETCH that is being answered */
	uint64_t fetch_pos, fetch_end; /* what is left of it; equal when there is none */
	struct serve_push pushes[PUSH_MAX];
	unsigned int first_push, nr_pushes;
	int64_t push_not_before_ns; /* rate limit */
	struct pace pace;           /* of the push, so that faults do not wait behind it */
	int most_unsent;            /* of the push, in the socket */
	int pace_wait_ms;           /* until it may go on, when it is held */
	struct lane_watch watch;
	int64_t tick_ms, signals_ms;
	int64_t fault_ns; /* when the last FETCH came */
	bool sending;     /* a frame of the push that the socket has room for */
	uint64_t faults, bytes_before, bytes_base;
	struct lane *lane_faults, *lane_bulk; /* while running */
	bool fresh;                           /* the next link begins without requests */
};

int serve_init(struct serve **serve)
{
	struct serve *s = arena_alloc(ARENA_TABLES, sizeof(*s), 16);
	int err;

	if (!s)
		return log_no_room("the page server");
	s->source.mem_fd = -1;
	err = pagemap_init(&s->fetch_map);
	if (!err)
		err = pagemap_init(&s->push_map);
	*serve = s;
	return err;
}

int serve_attach(struct serve *s, pid_t pid)
{
	int err;

	serve_detach(s);
	s->source.pages_sent = s->source.pages_zero = 0;
	s->faults = s->bytes_before = 0;
	s->fault_ns = 0;
	err = source_open(&s->source, pid);
	if (!err)
		err = pagemap_open(&s->fetch_map, pid);
	if (!err)
		err = pagemap_open(&s->push_map, pid);
	if (err)
		serve_detach(s);
	return err;
}

void serve_detach(struct serve *s)
{
	source_close(&s->source);
	pagemap_close(&s->fetch_map);
	pagemap_close(&s->push_map);
	s->fresh = true;
}

static uint64_t lanes_bytes(const struct serve *s)
{
	return s->lane_faults->bytes_rx + s->lane_faults->bytes_tx + s->lane_bulk->bytes_rx +
	       s->lane_bulk->bytes_tx;
}

void serve_counters(const struct serve *s, struct serve_counters *counters)
{
	*counters = (struct serve_counters){
		.pages_sent = s->source.pages_sent,
		.pages_zero = s->source.pages_zero,
		.faults = s->faults,
		.bytes_wire =
			s->bytes_before + (s->lane_faults ? lanes_bytes(s) - s->bytes_base : 0),
	};
}

/* ---- requests ---- */

static bool range_is_sane(const struct serve *s, uint64_t start, uint64_t end)
{
	uint64_t mask = s->source.page_bytes - 1;

	return !(start & mask) && !(end & mask) && start <= end && end <= arch_user_top();
}

static int bad_request(const struct lane *lane)
{
	return log_fail(EPROTO, "%s sent a request for memory that makes no sense (%s at %#llx)",
			lane->peer, frame_name(lane->rx.type), (unsigned long long)lane->rx.addr);
}

static int handle_fetch(struct serve *s, const struct lane *lane)
{
	uint64_t len;

	if (lane->rx.len != 8)
		return bad_request(lane);
	len = frame_get_u64(lane->rx_body);
	if (!len || len > FRAME_BODY_MAX || !range_is_sane(s, lane->rx.addr, lane->rx.addr + len))
		return bad_request(lane);
	s->fetch_start = s->fetch_pos = lane->rx.addr;
	s->fetch_end = lane->rx.addr + len;
	s->faults++;
	s->fault_ns = clock_now_ns();
	return fault_point(FAULT_SOURCE_SERVING);
}

static int handle_push(struct serve *s, const struct lane *lane)
{
	struct serve_push *push;
	uint64_t end;

	if (lane->rx.len != 8 || s->nr_pushes == PUSH_MAX)
		return bad_request(lane);
	end = frame_get_u64(lane->rx_body);
	if (!range_is_sane(s, lane->rx.addr, end))
		return bad_request(lane);
	if (!(lane->rx.space & PUSH_BEHIND)) {
		for (unsigned int i = 0; i < s->nr_pushes; i++)
			s->pushes[(s->first_push + i) % PUSH_MAX].ended = true;
	}
	push = &s->pushes[(s->first_push + s->nr_pushes++) % PUSH_MAX];
	*push = (struct serve_push){
		.pos = lane->rx.addr, .end = end, .number = lane->rx.space & PUSH_NUMBER_MASK};
	return 0;
}

static int answer_ping(struct lane *lane)
{
	struct frame frame = {.type = FRAME_PONG, .addr = lane->rx.addr, .len = lane->rx.len};

	if (lane->rx.len > PING_MAX)
		return bad_request(lane);
	return lane_queue(lane, &frame, lane->rx_body);
}

/* Takes one frame from a lane. 1: taken; 0: none there; 2: it is the caller's (`faults` only). */
static int take_request(struct serve *s, struct lane *lane, bool is_faults)
{
	int err = lane_receive(lane);

	if (err <= 0)
		return err;
	if (lane->rx.type == FRAME_PING)
		err = answer_ping(lane);
	else if (lane->rx.type == FRAME_PONG)
		err = 0;
	else if (is_faults && lane->rx.type == FRAME_FETCH)
		err = handle_fetch(s, lane);
	else if (!is_faults && lane->rx.type == FRAME_PUSH)
		err = handle_push(s, lane);
	else
		return is_faults ? 2 : bad_request(lane);
	if (err)
		return err;
	lane_receive_done(lane);
	return 1;
}

/* ---- answers ---- */

/*
 * How far the next frame may go: not further than may be under way on a slow link, and with the first page
 * of a fault, which the program waits for, not further than that (`urgent`).
 */
static uint64_t frame_end(const struct serve *s, uint64_t window, uint64_t pos, uint64_t end,
			  bool urgent)
{
	uint64_t most = window / s->source.page_bytes * s->source.page_bytes;

	if (urgent || most < s->source.page_bytes)
		most = s->source.page_bytes;
	return end - pos < most ? end : pos + most;
}

/* 1: something was done; 0: nothing to do, or no room. */
static int serve_faults(struct serve *s, struct lane *lane, bool *foreign)
{
	uint64_t len = s->fetch_end - s->fetch_pos;
	int err;

	if (len) {
		if (!lane_has_room(lane, (uint32_t)len))
			return 0;
		s->source.pack = pack_pays(&s->source.packer, s->pace.rate);
		err = source_emit(&s->source, lane, &s->fetch_map, &s->fetch_pos,
				  frame_end(s, s->pace.window, s->fetch_pos, s->fetch_end,
					    s->fetch_pos == s->fetch_start),
				  0, true);
		return err ? err : 1;
	}
	if (!lane_has_room(lane, PING_MAX))
		return 0;
	err = take_request(s, lane, true);
	*foreign = err == 2;
	return err;
}

/* Fails on what is no TCP socket; the queue is then as long as the socket's buffer. */
static void set_unsent(struct serve *s, const struct lane *bulk)
{
	int most = pace_is_slow(&s->pace) ? SLOW_UNSENT_BYTES : BULK_UNSENT_BYTES;

	if (most == s->most_unsent)
		return;
	s->most_unsent = most;
	(void)setsockopt(bulk->fd, IPPROTO_TCP, TCP_NOTSENT_LOWAT, &most, sizeof(most));
}

/*
 * What both lanes have under way is counted together: while a fault's answer waits to leave over a slow
 * link the push stands still.
 */
static void set_pace(struct serve *s, const struct lane *faults, struct lane *bulk)
{
	struct traffic sum, other;

	traffic_read(bulk->fd, &sum);
	traffic_read(faults->fd, &other);
	sum.acked += other.acked;
	sum.under_way += other.under_way;
	bulk->tx_allowed = pace_allow(&s->pace, &sum, clock_now_us());
	set_unsent(s, bulk);
	if (other.unsent && !pace_is_free(&s->pace))
		bulk->tx_allowed = 0;
	/* The kernel lets two or three pieces of a socket wait for the device: small ones. */
	bulk->tx_packet = pace_is_slow(&s->pace) ? sum.packet : 0;
	s->pace_wait_ms = pace_wait_ms(&sum);
}

static void slow_down(struct serve *s, uint64_t bytes, unsigned int max_rate_mib_s, int64_t now)
{
	if (s->push_not_before_ns < now - RATE_BURST_NS)
		s->push_not_before_ns = now - RATE_BURST_NS;
	s->push_not_before_ns += (int64_t)(bytes * 1000000000 / ((uint64_t)max_rate_mib_s << 20));
}

/* One frame of the first push, or its end. 1: something was done. */
static int serve_push(struct serve *s, struct lane *lane, unsigned int max_rate_mib_s)
{
	struct serve_push *push = &s->pushes[s->first_push];
	uint64_t before = push->pos, bytes = lane->bytes_tx, window = s->pace.window;
	int64_t now;
	int err;

	if (!s->nr_pushes || !lane_has_room(lane, FRAME_BODY_MAX))
		return 0;
	if (push->ended || push->pos == push->end) {
		struct frame frame = {
			.type = FRAME_REACHED, .space = push->number, .addr = push->pos};

		err = lane_queue(lane, &frame, NULL);
		s->first_push = (s->first_push + 1) % PUSH_MAX;
		s->nr_pushes--;
		return err ? err : 1;
	}
	now = max_rate_mib_s ? clock_now_ns() : 0;
	if (now < s->push_not_before_ns && max_rate_mib_s)
		return 0;
	s->source.pack = pack_pays(&s->source.packer, s->pace.rate);
	if (s->source.pack)
		window *= PACKED_PART;
	err = source_emit(&s->source, lane, &s->push_map, &push->pos,
			  frame_end(s, window, push->pos, push->end, false), push->number, false);
	if (max_rate_mib_s)
		slow_down(s, lane->bytes_tx - bytes, max_rate_mib_s, now);
	return err ? err : push->pos != before;
}

static int serve_bulk(struct serve *s, struct lane *lane, unsigned int max_rate_mib_s)
{
	int err, busy = 0;

	/* Once a frame, not once a record. */
	if (lane_has_room(lane, PING_MAX) && !s->sending) {
		busy = take_request(s, lane, false);
		if (busy < 0)
			return busy;
	}
	err = serve_push(s, lane, max_rate_mib_s);
	return err < 0 ? err : err | busy;
}

/* ---- the loop ---- */

/* True when the pace, not the socket, keeps what is queued from being sent. */
static bool is_held(const struct lane *bulk)
{
	return bulk->tx_len > bulk->tx_sent && !bulk->tx_allowed;
}

static int wait_ms(const struct serve *s, const struct lane *bulk, unsigned int max_rate_mib_s)
{
	int64_t left_ns;

	if (is_held(bulk))
		return s->pace_wait_ms;
	if (!s->nr_pushes || !max_rate_mib_s)
		return TICK_MS;
	left_ns = s->push_not_before_ns - clock_now_ns();
	if (left_ns <= 0)
		return TICK_MS;
	return left_ns / 1000000 + 1 < TICK_MS ? (int)(left_ns / 1000000 + 1) : TICK_MS;
}

/* The last flush may have made the room that an answer had to wait for. */
static bool can_go_on(const struct serve *s, const struct lane *faults, const struct lane *bulk,
		      unsigned int max_rate_mib_s)
{
	uint64_t len = s->fetch_end - s->fetch_pos;

	if (len && lane_has_room(faults, (uint32_t)len))
		return true;
	return s->nr_pushes && lane_has_room(bulk, FRAME_BODY_MAX) &&
	       (!max_rate_mib_s || clock_now_ns() >= s->push_not_before_ns);
}

static int wait_for_work(struct serve *s, struct lane *faults, struct lane *bulk,
			 unsigned int max_rate_mib_s)
{
	struct pollfd fds[2] = {{.fd = faults->fd, .events = POLLIN},
				{.fd = bulk->fd, .events = POLLIN}};
	int err;

	/* With an answer that waits for room, what comes in has to wait, too. */
	if (faults->tx_len > faults->tx_sent)
		fds[0].events = s->fetch_pos < s->fetch_end ? POLLOUT : POLLIN | POLLOUT;
	if (bulk->tx_len > bulk->tx_sent && !is_held(bulk))
		fds[1].events |= POLLOUT;
	/* Bytes inside TLS do not show in poll; they count where they would be taken. */
	if ((s->fetch_pos == s->fetch_end && lane_has_room(faults, PING_MAX) &&
	     lane_has_pending(faults)) ||
	    (lane_has_room(bulk, PING_MAX) && lane_has_pending(bulk)) ||
	    can_go_on(s, faults, bulk, max_rate_mib_s))
		return 0;
	err = io_poll_busy(fds, 2, wait_ms(s, bulk, max_rate_mib_s), s->fault_ns);
	return err < 0 && err != -EINTR ? err : 0;
}

/* True when the next turn has a frame for the push, whatever happens. */
static bool more_follows(const struct serve *s, unsigned int max_rate_mib_s)
{
	return s->nr_pushes && !max_rate_mib_s && pace_is_free(&s->pace);
}

static int serve_tick(struct serve *s, serve_tick_fn *tick, void *data)
{
	int64_t now_ms = clock_now_ms();
	struct serve_counters counters;
	int err;

	if (now_ms != s->signals_ms)
		io_let_signals_in();
	s->signals_ms = now_ms;
	if (now_ms < s->tick_ms)
		return 0;
	s->tick_ms = now_ms + TICK_MS;
	/* A link that was fast enough may have become slow. */
	if (pace_is_free(&s->pace))
		set_pace(s, s->lane_faults, s->lane_bulk);
	err = lane_look(&s->watch, s->lane_faults, s->lane_bulk);
	if (err || !tick)
		return err;
	serve_counters(s, &counters);
	return tick(data, &counters);
}

static int serve_loop(struct serve *s, struct lane *faults, struct lane *bulk,
		      unsigned int max_rate_mib_s, serve_tick_fn *tick, void *data)
{
	for (;;) {
		bool foreign = false;
		int64_t now_ns;
		int busy, err;

		busy = serve_faults(s, faults, &foreign);
		if (busy < 0)
			return busy;
		err = lane_flush(faults);
		if (err < 0)
			return err;
		if (foreign)
			return 1;
		/* While faults are being answered the push stands still, unless their lane is full. */
		if (!busy || faults->tx_len > faults->tx_sent) {
			if (!pace_is_free(&s->pace))
				set_pace(s, faults, bulk);
			err = serve_bulk(s, bulk, max_rate_mib_s);
			if (err < 0)
				return err;
			busy |= err;
			now_ns = clock_now_ns();
			bulk->tx_short = s->fault_ns && now_ns - s->fault_ns < FRESH_NS;
			err = lane_flush_bulk(bulk, more_follows(s, max_rate_mib_s),
					      now_ns + LOOK_NS);
			if (err < 0)
				return err;
			s->sending = err == LANE_AGAIN;
			busy |= s->sending;
		}
		err = serve_tick(s, tick, data);
		if (!err && !busy)
			err = wait_for_work(s, faults, bulk, max_rate_mib_s);
		if (err)
			return err;
	}
}

int serve_run(struct serve *s, struct lane *faults, struct lane *bulk, unsigned int max_rate_mib_s,
	      serve_tick_fn *tick, void *data)
{
	int err;

	if (s->fresh) {
		s->fetch_pos = s->fetch_end = 0;
		s->nr_pushes = 0;
		s->fresh = false;
		pace_begin(&s->pace);
	}
	s->most_unsent = 0;
	s->sending = false;
	set_unsent(s, bulk);
	s->source.packer.rule = bulk->pack;
	s->lane_faults = faults;
	s->lane_bulk = bulk;
	s->bytes_base = lanes_bytes(s);
	s->watch = (struct lane_watch){0};
	s->tick_ms = 0;
	err = serve_loop(s, faults, bulk, max_rate_mib_s, tick, data);
	s->bytes_before += lanes_bytes(s) - s->bytes_base;
	s->lane_faults = s->lane_bulk = NULL;
	bulk->tx_allowed = UINT64_MAX;
	bulk->tx_packet = 0;
	bulk->tx_short = false;
	if (err < 0)
		s->fresh = true;
	return err;
}
