/* SPDX-License-Identifier: MIT */
/*
 * Frame headers and the routing preamble: layout, and what is refused.
 *
 * needs: transport/frame.c transport/route.c
 */
#include "transport/frame.h"
#include "transport/route.h"

#include "tests/unit/unit.h"
#include <errno.h>
#include <string.h>

static int decode(uint8_t type, uint8_t flags, uint32_t len, struct frame *out)
{
	const struct frame frame = {.type = type,
				    .flags = flags,
				    .len = len,
				    .space = 0x1234,
				    .addr = 0x8877665544332211};
	uint8_t raw[FRAME_HEADER_BYTES];

	frame_encode(&frame, raw);
	return frame_decode(raw, out);
}

static void test_layout(void **state)
{
	const struct frame frame = {FRAME_PAGES, 0, 0x0201, 4096, 0x0807060504030201};
	const uint8_t expected[] = {FRAME_PAGES, 0, 1, 2, 0, 0x10, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8};
	uint8_t raw[FRAME_HEADER_BYTES];
	struct frame back;

	UNUSED(state);
	frame_encode(&frame, raw);
	assert_memory_equal(raw, expected, sizeof(raw));
	assert_int_equal(frame_decode(raw, &back), 0);
	assert_int_equal(back.type, frame.type);
	assert_int_equal(back.space, frame.space);
	assert_int_equal(back.len, frame.len);
	assert_true(back.addr == frame.addr);
}

static void test_every_type_has_a_name(void **state)
{
	UNUSED(state);
	for (int type = 1; type <= FRAME_SEAL; type++) {
		int is_one = type <= FRAME_PACKED || type >= FRAME_INDEX;

		/* Those in between are nobody's, and refused. */
		assert_int_equal(strcmp(frame_name((uint8_t)type), "?") != 0, is_one);
	}
	assert_string_equal(frame_name(0), "?");
	assert_string_equal(frame_name(FRAME_TYPE_END), "?");
	assert_string_equal(frame_name(255), "?");
}

static void test_bounds(void **state)
{
	struct frame out;

	UNUSED(state);
	assert_int_equal(decode(0, 0, 0, &out), -EPROTO);
	assert_int_equal(decode(FRAME_TYPE_END, 0, 0, &out), -EPROTO);
	assert_int_equal(decode(255, 0, 0, &out), -EPROTO);
	for (int type = 1; type < FRAME_TYPE_END; type++) {
		assert_int_equal(decode((uint8_t)type, 0, FRAME_BODY_MAX + 4096, &out), -EPROTO);
		assert_int_equal(decode((uint8_t)type, 0, UINT32_MAX, &out), -EPROTO);
		assert_int_equal(decode((uint8_t)type, 0x80, 8, &out), -EPROTO);
	}
	assert_int_equal(decode(FRAME_PAGES, 0, FRAME_BODY_MAX, &out), 0);
	assert_int_equal(decode(FRAME_PAGES, 0, 0, &out), -EPROTO);
	assert_int_equal(decode(FRAME_PAGES, 0, 4095, &out), -EPROTO);
	assert_int_equal(decode(FRAME_PAGES, 0, 4097, &out), -EPROTO);
	assert_int_equal(decode(FRAME_FETCH, 0, 8, &out), 0);
	assert_int_equal(decode(FRAME_FETCH, 0, 7, &out), -EPROTO);
	assert_int_equal(decode(FRAME_GO, 0, 0, &out), 0);
	assert_int_equal(decode(FRAME_GO, 0, 1, &out), -EPROTO);
	assert_int_equal(decode(FRAME_STATE, 0, FRAME_BODY_MAX, &out), 0);
	assert_int_equal(decode(FRAME_HELLO, 0, 1025, &out), -EPROTO);
	assert_int_equal(decode(FRAME_PING, FRAME_PING_QUIET, FRAME_BODY_MAX, &out), 0);
	assert_int_equal(decode(FRAME_PING, 0x02, 8, &out), -EPROTO);
	assert_int_equal(decode(FRAME_PONG, FRAME_PING_QUIET, 0, &out), -EPROTO);
	assert_int_equal(decode(FRAME_PONG, 0, 65, &out), -EPROTO);
}

static void test_u64(void **state)
{
	uint8_t raw[8];

	UNUSED(state);
	frame_put_u64(0x0807060504030201, raw);
	assert_int_equal(raw[0], 1);
	assert_int_equal(raw[7], 8);
	assert_true(frame_get_u64(raw) == 0x0807060504030201);
}

static void test_route(void **state)
{
	struct route route = {.lane = 1}, back;
	uint8_t raw[ROUTE_BYTES];

	UNUSED(state);
	assert_int_equal(route_make_token(route.token), 0);
	route_encode(&route, raw);
	assert_memory_equal(raw, "BATON\1\1\0", 8);
	assert_int_equal(route_decode(raw, &back), 0);
	assert_int_equal(back.lane, 1);
	assert_memory_equal(back.token, route.token, ROUTE_TOKEN_BYTES);
	raw[6] = 2;
	assert_int_equal(route_decode(raw, &back), -EPROTO);
	raw[6] = 0;
	raw[7] = 1;
	assert_int_equal(route_decode(raw, &back), -EPROTO);
	raw[7] = 0;
	raw[5] = 2;
	assert_int_equal(route_decode(raw, &back), -EPROTONOSUPPORT);
	memcpy(raw, "GET /", 5);
	assert_int_equal(route_decode(raw, &back), -EPROTO);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_layout), cmocka_unit_test(test_every_type_has_a_name),
		cmocka_unit_test(test_bounds), cmocka_unit_test(test_u64),
		cmocka_unit_test(test_route),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
