/* SPDX-License-Identifier: MIT */
/*
 * The lane's receiving half: any bytes, in any pieces, where TLS would deliver them.
 *
 * needs: transport/lane.c transport/pack.c transport/traffic.c transport/frame.c lib/arena.c lib/io.c lib/readers.c lib/text.c lib/log.c
 */
#include "transport/lane.h"

#include "lib/arena.h"
#include "lib/log.h"
#include "transport/tls.h"
#include <errno.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const uint8_t *input;
static size_t input_left;
static unsigned int piece;

/* In the place of transport/tls_session.c transport/ktls.c. */
ssize_t tls_read(struct lane *lane, void *buf, size_t len)
{
	size_t take = 1 + (piece++ * 7919) % 5000;

	(void)lane;
	if (input_left == 0)
		return -ECONNRESET;
	if (take % 5 == 0)
		return 0;
	if (take > len)
		take = len;
	if (take > input_left)
		take = input_left;
	memcpy(buf, input, take);
	input += take;
	input_left -= take;
	return (ssize_t)take;
}

ssize_t tls_write(struct lane *lane, const void *buf, size_t len)
{
	(void)lane;
	(void)buf;
	return (ssize_t)len;
}

size_t tls_record_bytes(const struct lane *lane)
{
	(void)lane;
	return CONFIG_TLS_RECORD_KIB * 1024;
}

bool tls_has_pending(const struct lane *lane)
{
	(void)lane;
	return false;
}

void tls_forget(struct lane *lane)
{
	(void)lane;
}

void tls_close(struct lane *lane)
{
	lane->tls = NULL;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct lane lane;
	static volatile uint8_t sum;
	int got;

	if (!lane.rx_body && (arena_init() || lane_init(&lane)))
		abort();
	input = data;
	input_left = size;
	piece = (unsigned int)size;
	lane.fd = 1000; /* never used: what touches the socket is above */
	lane.rx_got = 0;
	lane.takes_packed = true;
	while ((got = lane_receive(&lane)) >= 0) {
		if (got == 0)
			continue;
		if (lane.rx.len > FRAME_BODY_MAX ||
		    lane.rx_got != FRAME_HEADER_BYTES + lane.rx_wire)
			abort();
		for (uint32_t at = 0; at < lane.rx.len; at++)
			sum = sum ^ lane.rx_body[at];
		/* What was received, back into the queue. */
		if (lane_queue(&lane, &lane.rx, lane.rx_body) || lane_flush(&lane) != 1)
			abort();
		lane_receive_done(&lane);
	}
	lane.fd = -1;
	log_reason_clear();
	return 0;
}
