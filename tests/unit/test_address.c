/* SPDX-License-Identifier: MIT */
/*
 * Addresses as people write them; listening and dialing.
 *
 * needs: transport/address.c transport/socket.c lib/io.c lib/readers.c lib/text.c lib/log.c
 */
#include "lib/log.h"
#include "transport/socket.h"

#include "tests/unit/unit.h"
#include <errno.h>
#include <poll.h>
#include <string.h>
#include <unistd.h>

static void check(const char *text, int listening, const char *expected)
{
	char name[SOCKET_NAME_MAX];
	struct sockaddr_storage addr;

	assert_int_equal(socket_parse(text, 7117, listening, &addr), 0);
	socket_name(&addr, name);
	assert_string_equal(name, expected);
}

static void test_parse(void **state)
{
	UNUSED(state);
	check("10.0.0.2", 0, "10.0.0.2:7117");
	check("10.0.0.2:99", 0, "10.0.0.2:99");
	check("fe80::1", 0, "[fe80::1]:7117");
	check("[fe80::1]", 0, "[fe80::1]:7117");
	check("[fe80::1]:99", 0, "[fe80::1]:99");
	check("fe80::1%lo", 0, "[fe80::1]:7117");
	check(":99", 1, "0.0.0.0:99");
	check("", 1, "0.0.0.0:7117");
	check("[::]:0", 1, "[::]:0");
}

static void test_refused(void **state)
{
	static const struct {
		const char *text;
		int err;
	} cases[] = {
		{"10.0.0.2:65536", -EINVAL},
		{"10.0.0.2:", -EINVAL},
		{"10.0.0.2:-1", -EINVAL},
		{"[fe80::1", -EINVAL},
		{"[fe80::1]x", -EINVAL},
		{":99", -EINVAL},
		{"", -EINVAL},
		{"fe80::1%none", -EINVAL},
		{"no.such.host.invalid", -ENOENT},
		{"1.2.3.4.5", -ENOENT},
	};
	struct sockaddr_storage addr;

	UNUSED(state);
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		log_reason_clear();
		assert_int_equal(socket_parse(cases[i].text, 7117, 0, &addr), cases[i].err);
		assert_string_not_equal(log_reason(), "");
	}
}

static void test_listen_and_dial(void **state)
{
	char name[SOCKET_NAME_MAX], peer[SOCKET_NAME_MAX];
	uint16_t port = 0;
	int listener, dialed, accepted;
	struct pollfd pfd;

	UNUSED(state);
	listener = socket_listen("127.0.0.1:0", 7117, name, &port);
	assert_true(listener >= 0);
	assert_int_not_equal(port, 0);
	assert_int_equal(socket_accept(listener, peer), -EAGAIN);
	dialed = socket_dial(name, 1, 1000, peer);
	assert_true(dialed >= 0);
	assert_string_equal(peer, name);
	pfd = (struct pollfd){.fd = listener, .events = POLLIN};
	assert_int_equal(poll(&pfd, 1, 1000), 1);
	accepted = socket_accept(listener, peer);
	assert_true(accepted >= 0);
	assert_memory_equal(peer, "127.0.0.1:", 10);
	log_reason_clear();
	assert_int_equal(socket_listen(name, 0, NULL, NULL), -EADDRINUSE);
	assert_non_null(strstr(log_reason(), name));
	close(dialed);
	close(accepted);
	close(listener);
	log_reason_clear();
	assert_int_equal(socket_dial(name, 0, 1000, peer), -ECONNREFUSED);
	assert_non_null(strstr(log_reason(), name));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_parse),
		cmocka_unit_test(test_refused),
		cmocka_unit_test(test_listen_and_dial),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
