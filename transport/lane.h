/* SPDX-License-Identifier: MIT */
/*
 * A lane: one authenticated TLS connection that carries frames. The socket is non-blocking; the
 * *_wait functions block up to a deadline, the others return at once.
 */
#ifndef BATON_LANE_H
#define BATON_LANE_H

#include "transport/frame.h"
#include "transport/pack.h"
#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

struct tls_session; /* transport/tls.h */
struct lane;

/* What whoever waits for a peer puts up with, beside the limit of the one wait. */
struct lane_patience {
	int silence_ms;   /* so long no byte may have moved, in either direction; 0: no limit */
	int64_t until_ms; /* the whole, as clock_deadline_ms says; 0: no limit */
	int ask_ms;       /* PING after so much silence, so that bytes move where a link stands;
			   * 0: never */
};

/* How long nothing has moved, as far as somebody was looking. Begins with all zeros. */
struct lane_watch {
	uint64_t moved; /* bytes, at the last look */
	int64_t looked_ms;
	int silent_ms;
};

/*
 * What a lane ends in when that is in this process: an image file that is written or read. Bytes taken or given, as
 * tls_write and tls_read do; 0: not now. `put` gets whole frames, from the beginning of one on.
 */
struct lane_local {
	ssize_t (*put)(struct lane *lane, const uint8_t *buf, size_t len);
	ssize_t (*get)(struct lane *lane, uint8_t *buf, size_t len);
	bool (*has_pending)(const struct lane *lane);
};

struct lane {
	int fd; /* -1 when closed */
	struct tls_session *tls;
	const struct lane_local *local; /* in place of a session; NULL */
	void *local_data;
	char peer[64]; /* address and port, for messages */

	/* Receiving: header, then body. Complete when lane_receive says 1; PACKED is then PAGES. */
	uint8_t rx_raw[FRAME_HEADER_BYTES];
	uint32_t rx_got;  /* bytes of header + body received */
	uint32_t rx_wire; /* bytes of the body as it comes */
	struct frame rx;  /* valid once 16 bytes are there */
	uint8_t *
		rx_body; /* PACK_ROOM_BYTES; a packed body comes to its end, and is unpacked to its start */

	/* Sending: whole frames, back to back. */
	uint8_t *tx; /* tx_cap bytes: FRAME_BODY_MAX + room for headers */
	uint32_t tx_len, tx_sent, tx_cap;

	uint64_t bytes_rx, bytes_tx; /* plaintext counted in frames, headers included */
	bool takes_packed;           /* we have told the peer that it may send PACKED */
	enum pack_rule pack;         /* whether we send it, as both sides have said */
	uint64_t packed_raw,
		packed_wire; /* bytes of pages that went packed, in either direction, and
					   * of what they were packed to */
	/* Bytes that the socket may still be given, for who paces it; UINT64_MAX: no limit. */
	uint64_t tx_allowed;
	/* Each record in a packet of its own, of at most so many bytes; 0: as large as they may be. */
	uint32_t tx_packet;
	/* Short records: who receives looks up from one after about 10 us. */
	bool tx_short;

	struct lane_patience patience; /* kept while the lane is closed and opened again */
	struct lane_watch watch;
	int64_t asked_ms;
};

/*
 * Takes the lane's buffers from the arena (before arena_seal). `lane` is then closed (fd -1) and
 * can be opened, closed and opened again.
 */
int lane_init(struct lane *lane);

/* True when a frame with a body of `len` bytes fits behind what is queued. */
bool lane_has_room(const struct lane *lane, uint32_t len);

/*
 * Puts a frame into the queue; `body` is copied (NULL when it was written in place, see lane_body).
 * Returns 0, or -ENOBUFS without room.
 */
int lane_queue(struct lane *lane, const struct frame *frame, const void *body);

/*
 * Where the body of the next frame will lie in the queue: write up to `len` bytes there, then call
 * lane_queue with body NULL, and nothing else on this lane in between. NULL without room.
 */
uint8_t *lane_body(struct lane *lane, uint32_t len);

/* Sends of the queue what the socket takes and tx_allowed allows. 1: the queue is empty; 0: would
 * block (poll for POLLOUT); < 0: the link is gone, the reason says how. */
int lane_flush(struct lane *lane);

/*
 * The same for what must not keep something more urgent from being looked for. LANE_AGAIN: until_ns (as
 * clock_now_ns says) has passed, and it can be called again at once. `more`: another frame follows at once,
 * and so what does not fill a TLS record may stay in the queue: also then it says 1.
 */
#define LANE_AGAIN 2
int lane_flush_bulk(struct lane *lane, bool more, int64_t until_ns);

/*
 * Receives. 1: a whole frame is in lane->rx and lane->rx_body, and stays there until
 * lane_receive_done; 0: would block; -EPROTO, -ECONNRESET, ... : the link is gone.
 */
int lane_receive(struct lane *lane);
/* The same; LANE_AGAIN: it is not whole yet, until_ns has passed, and it can be called again at once. */
int lane_receive_bulk(struct lane *lane, int64_t until_ns);
void lane_receive_done(struct lane *lane);

/* True when received bytes wait inside TLS, so that poll(2) on the socket would not tell. */
bool lane_has_pending(const struct lane *lane);

/*
 * The patience of `lane`, for a loop that waits for its peer and calls this often (at least every
 * 250 ms): -ETIME when it is over, with the reason. A byte that the peer's kernel has acknowledged
 * counts, so a slow link is not taken for a cut one. `other`: its second lane, or NULL.
 */
int lane_look(struct lane_watch *watch, struct lane *lane, const struct lane *other);

/* PING as a sign of life, if the lane's patience asks at all and the last one is so long ago. */
int lane_ask(struct lane *lane);

/*
 * Blocking forms for the stages with one thing to do. timeout_ms < 0: for ever. -ETIMEDOUT; -ETIME
 * when the lane's patience is over; -EINTR when a signal handler ran. lane_receive_wait also sends what is queued, so that a question is
 * never left unsent while its answer is waited for. It returns 0 with a whole frame received.
 */
int lane_room_wait(struct lane *lane, uint32_t len, int timeout_ms);
int lane_queue_wait(struct lane *lane, const struct frame *frame, const void *body, int timeout_ms);
int lane_flush_wait(struct lane *lane, int timeout_ms);
int lane_receive_wait(struct lane *lane, int timeout_ms);

/* Ends TLS (close_notify, best effort) and the socket. Safe on a closed lane. */
void lane_close(struct lane *lane);

/*
 * Opens a lane that ends in this process. A descriptor of its own, which is never readable, stands for it in poll(2):
 * lane_has_pending tells. -errno of eventfd(2).
 */
int lane_open_local(struct lane *lane, const struct lane_local *local, void *data,
		    const char *peer);

/* Frees its session and nothing else: the descriptor may mean something else by now. */
void lane_forget(struct lane *lane);

#endif
