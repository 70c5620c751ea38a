/* SPDX-License-Identifier: MIT */
/*
 * How long a lane waits for a peer that is silent, deaf or slow: over loopback TCP, with the peer's end
 * in this process.
 * emulator: no
 * needs: transport/lane.c transport/pack.c transport/traffic.c transport/frame.c tests/unit/fake_tls.c
 * needs: lib/arena.c lib/io.c lib/readers.c lib/text.c lib/log.c
 */
#include "transport/lane.h"

#include "lib/arena.h"
#include "lib/clock.h"
#include "lib/log.h"
#include "tests/unit/unit.h"
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

static struct lane lane;
static int peer;

static int setup(void **state)
{
	UNUSED(state);
	return arena_init() || lane_init(&lane) ? -1 : 0;
}

static int connect_lane(void **state)
{
	struct sockaddr_in addr = {.sin_family = AF_INET,
				   .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	socklen_t len = sizeof(addr);
	int listener = socket(AF_INET, SOCK_STREAM, 0), small = 4096;

	UNUSED(state);
	/* What the peer does not read soon fills both buffers. */
	setsockopt(listener, SOL_SOCKET, SO_RCVBUF, &small, sizeof(small));
	if (bind(listener, (struct sockaddr *)&addr, len) || listen(listener, 1) ||
	    getsockname(listener, (struct sockaddr *)&addr, &len))
		return -1;
	lane.fd = socket(AF_INET, SOCK_STREAM, 0);
	setsockopt(lane.fd, SOL_SOCKET, SO_SNDBUF, &small, sizeof(small));
	if (connect(lane.fd, (struct sockaddr *)&addr, len))
		return -1;
	peer = accept(listener, NULL, NULL);
	close(listener);
	snprintf(lane.peer, sizeof(lane.peer), "the peer");
	lane.patience = (struct lane_patience){0};
	log_reason_clear();
	return peer < 0 ? -1 : 0;
}

static int disconnect_lane(void **state)
{
	UNUSED(state);
	lane_close(&lane);
	close(peer);
	return 0;
}

static void pause_ms(int ms)
{
	usleep((useconds_t)ms * 1000);
}

static void test_silence_ends_a_wait(void **state)
{
	UNUSED(state);
	lane.patience.silence_ms = 800;
	assert_int_equal(lane_receive_wait(&lane, 10000), -ETIME);
	assert_non_null(strstr(log_reason(), "no byte has moved between the peer and here"));
}

static void test_short_waits_add_up(void **state)
{
	int err = -ETIMEDOUT;

	UNUSED(state);
	lane.patience.silence_ms = 800;
	for (int i = 0; i < 40 && err == -ETIMEDOUT; i++)
		err = lane_receive_wait(&lane, 100);
	assert_int_equal(err, -ETIME);
}

static void test_time_spent_elsewhere_is_no_silence(void **state)
{
	UNUSED(state);
	lane.patience.silence_ms = 1200;
	assert_int_equal(lane_receive_wait(&lane, 300), -ETIMEDOUT);
	pause_ms(1500);
	assert_int_equal(lane_receive_wait(&lane, 100), -ETIMEDOUT);
}

static void test_bytes_that_are_not_read_count(void **state)
{
	struct lane_watch watch = {0};
	int err = 0;

	UNUSED(state);
	lane.patience.silence_ms = 800;
	for (int i = 0; i < 24; i++, pause_ms(50)) {
		if (i % 6 == 0)
			assert_int_equal(send(peer, "x", 1, 0), 1);
		assert_int_equal(lane_look(&watch, &lane, NULL), 0);
	}
	/* Then there are none any more. */
	for (int i = 0; i < 100 && !err; i++, pause_ms(50))
		err = lane_look(&watch, &lane, NULL);
	assert_int_equal(err, -ETIME);
}

static void test_other_lane_counts(void **state)
{
	struct lane_watch watch = {0};
	static struct lane silent;

	UNUSED(state);
	silent = (struct lane){.fd = -1, .patience.silence_ms = 800};
	for (int i = 0; i < 24; i++, pause_ms(50)) {
		if (i % 6 == 0)
			assert_int_equal(send(peer, "x", 1, 0), 1);
		assert_int_equal(lane_look(&watch, &silent, &lane), 0);
	}
}

static void test_who_asks_is_acknowledged(void **state)
{
	struct frame frame;
	uint8_t header[FRAME_HEADER_BYTES];

	UNUSED(state);
	/* The peer's kernel answers for a process that does nothing. */
	lane.patience = (struct lane_patience){.silence_ms = 800, .ask_ms = 200};
	assert_int_equal(lane_receive_wait(&lane, 2000), -ETIMEDOUT);
	assert_int_equal(recv(peer, header, sizeof(header), MSG_WAITALL), sizeof(header));
	assert_int_equal(frame_decode(header, &frame), 0);
	assert_int_equal(frame.type, FRAME_PING);
	/* But the whole has an end. */
	log_reason_clear();
	lane.patience.until_ms = clock_now_ms() + 300;
	assert_int_equal(lane_receive_wait(&lane, 5000), -ETIME);
	assert_non_null(strstr(log_reason(), "too long"));
}

static void test_slow_reader_is_not_silent(void **state)
{
	struct frame frame = {.type = FRAME_STATE, .len = 60000};
	char buf[2048];

	UNUSED(state);
	lane.patience.silence_ms = 800;
	assert_int_equal(lane_queue(&lane, &frame, lane.rx_body), 0);
	/* All of it takes several times the patience. */
	for (int i = 0; lane.tx_len > lane.tx_sent; i++) {
		int err = lane_flush_wait(&lane, 100);

		assert_true(!err || err == -ETIMEDOUT);
		assert_true(recv(peer, buf, sizeof(buf), 0) > 0);
		assert_true(i < 1000);
	}
}

static void test_deaf_reader_is(void **state)
{
	struct frame frame = {.type = FRAME_STATE, .len = 60000};

	UNUSED(state);
	lane.patience = (struct lane_patience){.silence_ms = 800, .ask_ms = 200};
	assert_int_equal(lane_queue(&lane, &frame, lane.rx_body), 0);
	assert_int_equal(lane_flush_wait(&lane, -1), -ETIME);
}

static void test_only_what_is_allowed_is_sent(void **state)
{
	struct frame frame = {.type = FRAME_STATE, .len = 2000};
	char buf[4096];

	UNUSED(state);
	assert_int_equal(lane_queue(&lane, &frame, lane.rx_body), 0);
	lane.tx_allowed = 0;
	assert_int_equal(lane_flush(&lane), 0);
	assert_int_equal(recv(peer, buf, sizeof(buf), MSG_DONTWAIT), -1);
	lane.tx_allowed = 1000;
	assert_int_equal(lane_flush(&lane), 0);
	assert_int_equal(lane.tx_allowed, 0);
	assert_int_equal(recv(peer, buf, 1000, MSG_WAITALL), 1000);
	assert_int_equal(recv(peer, buf, sizeof(buf), MSG_DONTWAIT), -1);
	lane.tx_allowed = UINT64_MAX;
	assert_int_equal(lane_flush(&lane), 1);
	assert_int_equal(recv(peer, buf, FRAME_HEADER_BYTES + 1000, MSG_WAITALL),
			 FRAME_HEADER_BYTES + 1000);
}

#define ON_A_LANE(test) cmocka_unit_test_setup_teardown(test, connect_lane, disconnect_lane)

int main(void)
{
	const struct CMUnitTest tests[] = {
		ON_A_LANE(test_silence_ends_a_wait),
		ON_A_LANE(test_short_waits_add_up),
		ON_A_LANE(test_time_spent_elsewhere_is_no_silence),
		ON_A_LANE(test_bytes_that_are_not_read_count),
		ON_A_LANE(test_other_lane_counts),
		ON_A_LANE(test_who_asks_is_acknowledged),
		ON_A_LANE(test_slow_reader_is_not_silent),
		ON_A_LANE(test_deaf_reader_is),
		ON_A_LANE(test_only_what_is_allowed_is_sent),
	};

	return cmocka_run_group_tests(tests, setup, NULL);
}
