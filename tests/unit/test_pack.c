/* SPDX-License-Identifier: MIT */
/*
 * Packing of pages: there and back, when it is done, and what a peer may send instead.
 * needs: transport/pack.c transport/lane.c transport/traffic.c transport/frame.c tests/unit/fake_tls.c
 * needs: lib/arena.c lib/io.c lib/readers.c lib/text.c lib/log.c
 */
#include "transport/pack.h"

#include "lib/arena.h"
#include "lib/log.h"
#include "transport/lane.h"

#include "tests/unit/unit.h"
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define PIECE 4096 /* not a page: the smallest one of any kernel */
#define MOST (FRAME_BODY_MAX / PIECE)

static uint8_t body[FRAME_BODY_MAX], before[FRAME_BODY_MAX], room[PACK_ROOM_BYTES];

static uint32_t next_random(void)
{
	static uint32_t seed = 1;

	seed = seed * 1664525 + 1013904223;
	return seed >> 8;
}

/* `part` of 256 bytes are random, the rest is text. */
static struct frame fill(unsigned int nr_pages, unsigned int part)
{
	struct frame frame = {.type = FRAME_PAGES, .len = nr_pages * PIECE, .addr = 0x10000};

	for (uint32_t i = 0; i < frame.len; i++)
		body[i] = i % 256 < part ? (uint8_t)next_random() : (uint8_t)("field"[i % 5]);
	memcpy(before, body, frame.len);
	return frame;
}

static int setup(void **state)
{
	UNUSED(state);
	return arena_init();
}

static void test_there_and_back(void **state)
{
	UNUSED(state);
	for (unsigned int part = 0; part <= 256; part += 16) {
		for (unsigned int n = 1; n <= MOST; n = n < 3 ? n + 1 : n * 2) {
			struct packer packer = {.rule = PACK_ALWAYS};
			struct frame frame = fill(n, part);
			uint32_t raw = 0;

			pack_shrink(&packer, &frame, body);
			if (frame.type == FRAME_PAGES) {
				assert_true(part > 128);
				assert_int_equal(frame.len, n * PIECE);
				assert_memory_equal(body, before, frame.len);
				continue;
			}
			assert_true(part < 240);
			assert_true(frame.len <= n * PIECE - n * PIECE / 8);
			memcpy(room + PACK_ROOM_BYTES - frame.len, body, frame.len);
			assert_int_equal(pack_open(room, frame.len, &raw), 0);
			assert_int_equal(raw, n * PIECE);
			assert_memory_equal(room, before, raw);
		}
	}
}

static void test_scratch_is_given_back(void **state)
{
	struct packer packer = {.rule = PACK_ALWAYS};
	struct frame frame = fill(MOST, 16);
	size_t mark = arena_mark();

	UNUSED(state);
	pack_shrink(&packer, &frame, body);
	assert_int_equal(frame.type, FRAME_PACKED);
	assert_int_equal(arena_mark(), mark);
	/* Without room it is not packed. */
	while (arena_alloc(ARENA_SCRATCH, 1024, 16))
		;
	frame = fill(MOST, 16);
	pack_shrink(&packer, &frame, body);
	assert_int_equal(frame.type, FRAME_PAGES);
	assert_memory_equal(body, before, frame.len);
	arena_reset(mark);
}

static void test_when_it_pays(void **state)
{
	struct packer packer = {.rule = PACK_AUTO};

	UNUSED(state);
	/* A link of which nothing is known may be a fast one. */
	assert_false(pack_pays(&packer, 0));
	assert_true(pack_pays(&packer, 1250000));
	packer.ns_kib = 4000; /* 256 MB/s */
	assert_true(pack_pays(&packer, 1250000));
	assert_true(pack_pays(&packer, 100000000));
	assert_false(pack_pays(&packer, 130000000));
	packer.rule = PACK_NEVER;
	assert_false(pack_pays(&packer, 8000));
	packer.rule = PACK_ALWAYS;
	assert_true(pack_pays(&packer, 0));
	assert_true(pack_pays(&packer, 1000000000));
}

/* How many of `nr` runs were tried. */
static unsigned int tries(struct packer *packer, unsigned int nr)
{
	unsigned int tried = 0;

	for (unsigned int i = 0; i < nr; i++) {
		struct frame frame = fill(1, 256);

		tried += packer->nr_skip == 0;
		pack_shrink(packer, &frame, body);
		assert_int_equal(frame.type, FRAME_PAGES);
	}
	return tried;
}

static void test_what_does_not_shrink_is_left_alone(void **state)
{
	struct packer packer = {.rule = PACK_AUTO};
	struct frame frame;

	UNUSED(state);
	assert_in_range(tries(&packer, 1000), 2, 30);
	/* The next that does is found, and then all are. */
	for (unsigned int i = 0, nr = 0; nr < 10; i++) {
		frame = fill(1, 16);
		pack_shrink(&packer, &frame, body);
		nr += frame.type == FRAME_PACKED;
		assert_true(i < 100);
		assert_true(nr == 0 || frame.type == FRAME_PACKED);
	}
	packer = (struct packer){.rule = PACK_ALWAYS};
	assert_int_equal(tries(&packer, 50), 50);
}

/* ---- what a peer may send ---- */

static int open_bytes(const void *bytes, uint32_t len)
{
	uint32_t raw;

	memcpy(room + PACK_ROOM_BYTES - len, bytes, len);
	return pack_open(room, len, &raw);
}

static void test_wrong_lengths(void **state)
{
	static const uint32_t wrong[] = {0,          1,          PIECE - 1,
					 PIECE + 1,  3 * PIECE,  FRAME_BODY_MAX + PIECE,
					 0x80000000, 0xffffffff, 0xfffff000};
	struct packer packer = {.rule = PACK_ALWAYS};
	struct frame frame = fill(2, 16);

	UNUSED(state);
	pack_shrink(&packer, &frame, body);
	assert_int_equal(frame.type, FRAME_PACKED);
	assert_int_equal(open_bytes(body, frame.len), 0);
	for (unsigned int i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
		uint8_t copy[2 * PIECE];

		memcpy(copy, body, frame.len);
		for (int at = 0; at < 4; at++)
			copy[at] = (uint8_t)(wrong[i] >> (8 * at));
		assert_int_equal(open_bytes(copy, frame.len), -EPROTO);
	}
	/* Cut off anywhere. */
	for (uint32_t len = 0; len < frame.len; len++)
		assert_int_equal(open_bytes(body, len), -EPROTO);
}

static void test_noise(void **state)
{
	UNUSED(state);
	for (int n = 0; n < 20000; n++) {
		uint32_t len = 5 + next_random() % 300;
		uint8_t noise[305];

		for (uint32_t i = 0; i < len; i++)
			noise[i] = (uint8_t)next_random();
		memcpy(noise, (uint8_t[]){0, 0x10, 0, 0}, 4);
		(void)open_bytes(noise, len); /* the sanitizers look */
	}
}

/* A lane over a socket, and what its peer writes into it. */
static int receive(const struct frame *frame, const void *bytes, bool takes_packed,
		   struct lane *lane)
{
	uint8_t header[FRAME_HEADER_BYTES];
	int fds[2], got;

	assert_int_equal(arena_init(), 0);
	assert_int_equal(lane_init(lane), 0);
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, fds), 0);
	lane->fd = fds[0];
	lane->takes_packed = takes_packed;
	frame_encode(frame, header);
	assert_int_equal(write(fds[1], header, sizeof(header)), sizeof(header));
	assert_int_equal(write(fds[1], bytes, frame->len), frame->len);
	do {
		got = lane_receive(lane);
	} while (got == 0);
	close(fds[0]);
	close(fds[1]);
	return got;
}

static void test_lane_makes_pages_of_it(void **state)
{
	struct packer packer = {.rule = PACK_ALWAYS};
	struct frame frame = fill(4, 32);
	struct lane lane;

	UNUSED(state);
	frame.space = 7;
	pack_shrink(&packer, &frame, body);
	assert_int_equal(frame.type, FRAME_PACKED);
	assert_int_equal(receive(&frame, body, true, &lane), 1);
	assert_int_equal(lane.rx.type, FRAME_PAGES);
	assert_int_equal(lane.rx.space, 7);
	assert_int_equal(lane.rx.addr, 0x10000);
	assert_int_equal(lane.rx.len, 4 * PIECE);
	assert_memory_equal(lane.rx_body, before, lane.rx.len);
	assert_int_equal(lane.packed_raw, 4 * PIECE);
	assert_int_equal(lane.packed_wire, frame.len);
	/* It stays until it is done with. */
	assert_int_equal(lane_receive(&lane), 1);
	assert_int_equal(lane.packed_raw, 4 * PIECE);
	lane_receive_done(&lane);
	assert_int_equal(lane.bytes_rx, FRAME_HEADER_BYTES + frame.len);
}

static void test_lane_refuses(void **state)
{
	struct packer packer = {.rule = PACK_ALWAYS};
	struct frame frame = fill(4, 32);
	struct lane lane;

	UNUSED(state);
	pack_shrink(&packer, &frame, body);
	/* What it never said that it takes. */
	assert_int_equal(receive(&frame, body, false, &lane), -EPROTO);
	/* What is spoilt. */
	body[4 + frame.len / 2] ^= 0xff;
	frame.len--;
	log_reason_clear();
	assert_int_equal(receive(&frame, body, true, &lane), -EPROTO);
	assert_non_null(strstr(log_reason(), "cannot be unpacked"));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup(test_there_and_back, setup),
		cmocka_unit_test_setup(test_scratch_is_given_back, setup),
		cmocka_unit_test_setup(test_when_it_pays, setup),
		cmocka_unit_test_setup(test_what_does_not_shrink_is_left_alone, setup),
		cmocka_unit_test_setup(test_wrong_lengths, setup),
		cmocka_unit_test_setup(test_noise, setup),
		cmocka_unit_test(test_lane_makes_pages_of_it),
		cmocka_unit_test(test_lane_refuses),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
