/* SPDX-License-Identifier: MIT */
/*
 * Lanes over real TLS: two processes joined by loopback TCP; trust in every combination, peers that
 * misbehave, frames of all sizes through a socket that takes little.
 *
 * needs: transport/keys.c transport/keymake.c transport/tls.c transport/tls_session.c transport/ktls.c
 * needs: transport/socket.c
 * needs: transport/address.c transport/lane.c transport/pack.c transport/traffic.c transport/frame.c transport/message.c
 * needs: transport/wire.pb.c
 * needs: lib/arena.c lib/io.c lib/readers.c lib/text.c lib/log.c nanopb mbedtls
 */
#include "transport/lane.h"

#include "lib/arena.h"
#include "lib/clock.h"
#include "lib/log.h"
#include "tests/unit/unit.h"
#include "transport/keys.h"
#include "transport/message.h"
#include "transport/socket.h"
#include "transport/tls.h"
#include "transport/wire.pb.h"
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

static char folder[] = "/tmp/baton-test-lane-XXXXXX";
/* a and b trust each other; a trusts c, which trusts nobody; nobody trusts d, which trusts a. */
static char dirs[4][64];
static uint8_t prints[4][32];
static struct lane lane;
static int listener;
static char address[SOCKET_NAME_MAX];

static const char *dir(char who)
{
	return dirs[who - 'a'];
}

static int trust(char who, char whom)
{
	char cert[96], name[KEYS_NAME_MAX];
	uint8_t print[32];

	snprintf(cert, sizeof(cert), "%s/cert.pem", dir(whom));
	return keys_trust(dir(who), cert, name, print);
}

static int setup(void **state)
{
	char name[2] = "";

	UNUSED(state);
	if (!mkdtemp(folder) || arena_init() || tls_init() || lane_init(&lane))
		return -1;
	for (int i = 0; i < 4; i++) {
		snprintf(dirs[i], sizeof(dirs[i]), "%s/%c", folder, 'a' + i);
		name[0] = (char)('a' + i);
		if (keys_create(dirs[i], name, prints[i]))
			return -1;
	}
	if (trust('a', 'b') || trust('b', 'a') || trust('a', 'c') || trust('d', 'a'))
		return -1;
	listener = socket_listen("127.0.0.1:0", 0, address, NULL);
	return listener < 0 ? -1 : 0;
}

static int teardown(void **state)
{
	char command[128];

	UNUSED(state);
	close(listener);
	snprintf(command, sizeof(command), "rm -rf '%s'", folder);
	return system(command);
}

static int clear(void **state)
{
	UNUSED(state);
	log_reason_clear();
	return 0;
}

static void reason_has(const char *text)
{
	if (!strstr(log_reason(), text))
		fail_msg("'%s' is not in the reason: %s", text, log_reason());
}

/* ---- the other process ---- */

static int take_connection(char *peer)
{
	struct pollfd pfd = {.fd = listener, .events = POLLIN};

	if (poll(&pfd, 1, 5000) != 1)
		_exit(90);
	return socket_accept(listener, peer);
}

/* Answers every frame with itself until the peer closes. Exits with the errno of accepting. */
static int run_echo(const char *keys, int delay_ms)
{
	char peer[SOCKET_NAME_MAX];
	int fd = take_connection(peer), err, small = 4096;

	if (tls_setup(keys))
		return 91;
	setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &small, sizeof(small));
	err = tls_accept(&lane, fd, peer, 5000);
	if (err)
		return -err;
	while (lane_receive_wait(&lane, 10000) == 0) {
		struct frame frame = lane.rx;

		if (delay_ms)
			usleep((useconds_t)delay_ms * 1000);
		if (lane_queue_wait(&lane, &frame, lane.rx_body, 10000))
			return 92;
		lane_receive_done(&lane);
	}
	lane_close(&lane);
	return 0;
}

enum stranger { GARBAGE, SILENT, CLOSES };

static int run_stranger(enum stranger kind)
{
	static const char garbage[] =
		"HTTP/1.1 200 OK\r\nServer: something else altogether\r\n\r\n";
	char peer[SOCKET_NAME_MAX];
	int fd = take_connection(peer);

	if (kind == GARBAGE)
		send(fd, garbage, sizeof(garbage), MSG_NOSIGNAL);
	if (kind != CLOSES)
		usleep(600000);
	close(fd);
	return 0;
}

static pid_t start(int (*run)(const char *, int), const char *keys, int number)
{
	pid_t pid = fork();

	if (pid == 0)
		_exit(run(keys, number));
	return pid;
}

static int run_stranger_thunk(const char *keys, int number)
{
	UNUSED(keys);
	return run_stranger((enum stranger)number);
}

static int exit_code(pid_t pid)
{
	int status = 0;

	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFEXITED(status));
	return WEXITSTATUS(status);
}

static int dial_with(const char *keys, int timeout_ms)
{
	char peer[SOCKET_NAME_MAX];
	int fd;

	assert_int_equal(tls_setup(keys), 0);
	fd = socket_dial(address, 0, 1000, peer);
	assert_true(fd >= 0);
	return tls_connect(&lane, fd, peer, timeout_ms);
}

static int dial(char who, int timeout_ms)
{
	return dial_with(dir(who), timeout_ms);
}

/* ---- trust ---- */

static void test_trusted(void **state)
{
	pid_t pid = start(run_echo, dir('a'), 0);
	uint8_t print[32];

	UNUSED(state);
	assert_int_equal(dial('b', 5000), 0);
	assert_int_equal(tls_fingerprint(&lane, print), 0);
	assert_memory_equal(print, prints[0], 32);
	assert_string_equal(tls_peer_name(&lane), "a");
	assert_string_equal(lane.peer, address);
	lane_close(&lane);
	lane_close(&lane);
	assert_int_equal(lane.fd, -1);
	assert_int_equal(tls_fingerprint(&lane, print), -ENOTCONN);
	assert_int_equal(exit_code(pid), 0);
}

static void test_server_not_trusted_here(void **state)
{
	pid_t pid = start(run_echo, dir('a'), 0);

	UNUSED(state);
	assert_int_equal(dial('c', 5000), -EKEYREJECTED);
	reason_has("shows a certificate that is not trusted here");
	reason_has("name a");
	reason_has("baton trust");
	reason_has(address);
	assert_int_equal(lane.fd, -1);
	/* And the other side knows that it was turned away. */
	assert_int_equal(exit_code(pid), EKEYREJECTED);
}

static void test_client_not_trusted_there(void **state)
{
	pid_t pid = start(run_echo, dir('a'), 0);

	UNUSED(state);
	assert_int_equal(dial('d', 5000), -EKEYREJECTED);
	reason_has("does not trust this device's certificate");
	assert_int_equal(exit_code(pid), EKEYREJECTED);
}

/*
 * A folder whose certificate is signed by a CA of its own years; both are valid in them alone. False
 * without openssl(1).
 */
static int make_signed(const char *name, unsigned int from_year, unsigned int to_year)
{
	static const char ca_config[] =
		"[ca]\\ndefault_ca=d\\n[d]\\ndatabase=$c.idx\\nserial=$c.ser\\nnew_certs_dir=.\\n"
		"default_md=sha256\\nunique_subject=no\\npolicy=p\\n[p]\\ncommonName=supplied\\n"
		"[v]\\nbasicConstraints=CA:TRUE\\n";
	char script[2048];

	snprintf(script, sizeof(script),
		 "cd %s && umask 077 && n=%s && c=ca%u && mkdir $n && exec 2>/dev/null && "
		 "when='-startdate %u0101000000Z -enddate %u0101000000Z' && "
		 "make_key() { openssl ecparam -name prime256v1 -genkey -noout -out $1; } && "
		 "sign() { openssl ca -batch -config $c.cnf -keyfile $c.key $when -notext \"$@\"; "
		 "} && "
		 "{ test -f $c.pem || { printf \"%s\" >$c.cnf && :>$c.idx && echo 01 >$c.ser && "
		 "make_key $c.key && openssl req -new -key $c.key -subj /CN=fleet -out $c.csr && "
		 "sign -selfsign -extensions v -in $c.csr -out $c.pem; }; } && make_key $n/key.pem "
		 "&& "
		 "openssl req -new -key $n/key.pem -subj /CN=$n -out $n/csr && "
		 "sign -cert $c.pem -in $n/csr -out $n/cert.pem && cp $c.pem $n/ca.pem",
		 folder, name, from_year, from_year, to_year, ca_config);
	return system(script) == 0;
}

static void test_signed_by_ca(void **state)
{
	char dir_e[64], dir_f[64];
	pid_t pid;

	UNUSED(state);
	if (!make_signed("e", 2020, 2099) || !make_signed("f", 2020, 2099))
		skip();
	snprintf(dir_e, sizeof(dir_e), "%s/e", folder);
	snprintf(dir_f, sizeof(dir_f), "%s/f", folder);
	pid = start(run_echo, dir_e, 0);
	assert_int_equal(dial_with(dir_f, 5000), 0);
	assert_string_equal(tls_peer_name(&lane), "e");
	lane_close(&lane);
	assert_int_equal(exit_code(pid), 0);

	/* Neither pinned nor signed: refused by the side with a CA, and the other way round. */
	pid = start(run_echo, dir_e, 0);
	assert_int_equal(dial('a', 5000), -EKEYREJECTED);
	assert_int_equal(exit_code(pid), EKEYREJECTED);
	pid = start(run_echo, dir('a'), 0);
	assert_int_equal(dial_with(dir_f, 5000), -EKEYREJECTED);
	assert_int_equal(exit_code(pid), EKEYREJECTED);
}

/* To a device without a clock every certificate is of another time, and trusted all the same. */
static void test_signed_in_another_time(void **state)
{
	static const struct {
		unsigned int from, to;
		const char *names[2];
	} times[] = {{1970, 1971, {"g", "h"}}, {2097, 2098, {"i", "j"}}};

	UNUSED(state);
	for (unsigned int t = 0; t < 2; t++) {
		char there[64], here[64];
		pid_t pid;

		for (unsigned int n = 0; n < 2; n++)
			if (!make_signed(times[t].names[n], times[t].from, times[t].to))
				skip();
		snprintf(there, sizeof(there), "%s/%s", folder, times[t].names[0]);
		snprintf(here, sizeof(here), "%s/%s", folder, times[t].names[1]);
		pid = start(run_echo, there, 0);
		assert_int_equal(dial_with(here, 5000), 0);
		assert_string_equal(tls_peer_name(&lane), times[t].names[0]);
		lane_close(&lane);
		assert_int_equal(exit_code(pid), 0);
	}
}

/* ---- strangers ---- */

static void test_garbage(void **state)
{
	pid_t pid = start(run_stranger_thunk, NULL, GARBAGE);

	UNUSED(state);
	assert_int_equal(dial('b', 5000), -EPROTO);
	reason_has("does not speak TLS 1.3");
	exit_code(pid);
}

static void test_silent(void **state)
{
	pid_t pid = start(run_stranger_thunk, NULL, SILENT);
	int64_t begin = clock_now_ms();

	UNUSED(state);
	assert_int_equal(dial('b', 300), -ETIMEDOUT);
	assert_true(clock_now_ms() - begin < 2000);
	reason_has("in time");
	exit_code(pid);
}

/* What a copy of this process finds that was made in the middle of a handshake. */
static sigjmp_buf in_the_middle;

static void leave_handshake(int signal)
{
	UNUSED(signal);
	siglongjmp(in_the_middle, 1);
}

static void test_handshake_of_a_process_that_died(void **state)
{
	struct sigaction action = {.sa_handler = leave_handshake};
	struct itimerval soon = {.it_value.tv_usec = 200000};
	struct arena_usage before, after;
	pid_t pid = start(run_stranger_thunk, NULL, SILENT);

	UNUSED(state);
	assert_int_equal(tls_setup(dir('b')), 0);
	arena_usage(ARENA_TLS, &before);
	sigaction(SIGALRM, &action, NULL);
	if (!sigsetjmp(in_the_middle, 1)) {
		setitimer(ITIMER_REAL, &soon, NULL);
		dial('b', 5000);
		fail();
	}
	arena_usage(ARENA_TLS, &after);
	assert_true(after.used_bytes > before.used_bytes + 2 * CONFIG_TLS_RECORD_KIB * 1024);
	/* Everything is there again for the next one. */
	lane_forget(&lane);
	arena_usage(ARENA_TLS, &after);
	assert_true(after.used_bytes <= before.used_bytes + 1024);
	exit_code(pid);
}

static void test_closes(void **state)
{
	pid_t pid = start(run_stranger_thunk, NULL, CLOSES);

	UNUSED(state);
	assert_int_equal(dial('b', 5000), -ECONNRESET);
	exit_code(pid);
}

/* ---- frames ---- */

static uint8_t pattern(uint64_t seed, uint32_t at)
{
	return (uint8_t)((seed * 0x9e3779b97f4a7c15ULL + at * 2654435761U) >> 13);
}

/* Sizes from nothing to the largest, in an order that makes records of every kind. */
static uint32_t size_of(int i)
{
	static const uint32_t sizes[] = {0,     1,     8,     100,   4096,
					 16368, 16384, 16385, 40000, FRAME_BODY_MAX};

	return sizes[i % 10] <= FRAME_BODY_MAX ? sizes[i % 10] : FRAME_BODY_MAX;
}

static void fill(uint8_t *body, uint64_t seed, uint32_t len)
{
	for (uint32_t at = 0; at < len; at++)
		body[at] = pattern(seed, at);
}

static void check_received(uint64_t seed, uint32_t len)
{
	assert_int_equal(lane.rx.type, FRAME_STATE);
	assert_int_equal(lane.rx.addr, seed);
	assert_int_equal(lane.rx.len, len);
	for (uint32_t at = 0; at < len; at++)
		if (lane.rx_body[at] != pattern(seed, at))
			fail_msg("frame %d differs at byte %u", (int)seed, at);
}

/* The exchange stops after every record, and may leave in the queue what does not fill one. */
static bool in_slices;

static int flush_some(bool more)
{
	return in_slices ? lane_flush_bulk(&lane, more, 0) : lane_flush(&lane);
}

static int receive_some(void)
{
	return in_slices ? lane_receive_bulk(&lane, 0) : lane_receive(&lane);
}

/* Sends and receives at once, so that both directions block on full sockets. */
static void exchange(int count)
{
	int sent = 0, received = 0;

	while (received < count) {
		struct pollfd pfd = {.fd = lane.fd, .events = POLLIN};
		struct frame frame = {
			.type = FRAME_STATE, .addr = (uint64_t)sent, .len = size_of(sent)};
		int flushed, got;

		while (sent < count && lane_has_room(&lane, frame.len)) {
			fill(lane_body(&lane, frame.len), frame.addr, frame.len);
			assert_int_equal(lane_queue(&lane, &frame, NULL), 0);
			sent++;
			frame.addr = (uint64_t)sent;
			frame.len = size_of(sent);
		}
		flushed = flush_some(sent < count);
		assert_true(flushed >= 0);
		got = receive_some();
		assert_true(got >= 0);
		if (got == 1) {
			check_received((uint64_t)received, size_of(received));
			lane_receive_done(&lane);
			received++;
			continue;
		}
		if (flushed == LANE_AGAIN || got == LANE_AGAIN)
			continue;
		assert_false(lane_has_pending(&lane));
		if (flushed == 0)
			pfd.events |= POLLOUT;
		if (flushed == 0 || sent == count)
			assert_int_equal(poll(&pfd, 1, 20000), 1);
	}
}

static void test_frames(void **state)
{
	pid_t pid = start(run_echo, dir('a'), 0);
	uint64_t bytes = 0;

	UNUSED(state);
	lane.bytes_tx = 0;
	lane.bytes_rx = 0;
	assert_int_equal(dial('b', 5000), 0);
	exchange(200);
	for (int i = 0; i < 200; i++)
		bytes += FRAME_HEADER_BYTES + size_of(i);
	assert_int_equal(lane.bytes_tx, bytes);
	assert_int_equal(lane.bytes_rx, bytes);
	lane_close(&lane);
	assert_int_equal(exit_code(pid), 0);
}

static void in_slices_of(uint32_t packet, bool short_records)
{
	pid_t pid = start(run_echo, dir('a'), 0);

	assert_int_equal(dial('b', 5000), 0);
	in_slices = true;
	lane.tx_packet = packet;
	lane.tx_short = short_records;
	exchange(100);
	in_slices = false;
	lane_close(&lane);
	assert_int_equal(lane.tx_packet, 0);
	assert_false(lane.tx_short);
	assert_int_equal(exit_code(pid), 0);
}

static void test_frames_in_slices(void **state)
{
	UNUSED(state);
	in_slices_of(0, false);
}

static void test_frames_in_short_records(void **state)
{
	UNUSED(state);
	in_slices_of(0, true);
	in_slices_of(1448, true);
}

static void test_frames_in_packets(void **state)
{
	UNUSED(state);
	in_slices_of(1448, false);
	in_slices_of(1, false); /* makes no sense, and so does nothing */
}

/* What follows at once is sent together with what does not fill a record. */
static void test_records_are_full(void **state)
{
	struct frame frame = {.type = FRAME_STATE, .len = FRAME_BODY_MAX};
	pid_t pid = start(run_echo, dir('a'), 0);
	uint32_t record, all = FRAME_HEADER_BYTES + FRAME_BODY_MAX;

	UNUSED(state);
	assert_int_equal(dial('b', 5000), 0);
	record = (uint32_t)tls_record_bytes(&lane);
	assert_in_range(record, 512, FRAME_BODY_MAX);
	/* Of a short one never more, however fast the cipher is. */
	lane.tx_short = true;
	assert_in_range(tls_record_bytes(&lane), 512, record);
	lane.tx_short = false;
	assert_int_equal(lane_queue(&lane, &frame, lane.rx_body), 0);
	assert_int_equal(lane_flush_bulk(&lane, true, 0), LANE_AGAIN);
	assert_int_equal(lane.tx_sent, record);
	while (lane_flush_bulk(&lane, true, INT64_MAX) != 1)
		assert_int_equal(poll(&(struct pollfd){.fd = lane.fd, .events = POLLOUT}, 1, 20000),
				 1);
	assert_int_equal(lane.tx_len - lane.tx_sent, all % record);
	assert_true(lane_has_room(&lane, FRAME_BODY_MAX));
	assert_int_equal(lane_flush_wait(&lane, 20000), 0);
	assert_int_equal(lane.tx_len, 0);
	lane_close(&lane);
	exit_code(pid);
}

static void test_slow_reader(void **state)
{
	pid_t pid = start(run_echo, dir('a'), 2);
	int small = 4096;

	UNUSED(state);
	assert_int_equal(dial('b', 5000), 0);
	setsockopt(lane.fd, SOL_SOCKET, SO_SNDBUF, &small, sizeof(small));
	exchange(60);
	lane_close(&lane);
	assert_int_equal(exit_code(pid), 0);
}

static void test_room(void **state)
{
	struct frame frame = {.type = FRAME_STATE, .len = FRAME_BODY_MAX};

	UNUSED(state);
	assert_true(lane_has_room(&lane, FRAME_BODY_MAX));
	assert_false(lane_has_room(&lane, FRAME_BODY_MAX + 1));
	assert_false(lane_has_room(&lane, UINT32_MAX));
	assert_int_equal(lane_queue(&lane, &frame, NULL), 0);
	assert_false(lane_has_room(&lane, FRAME_BODY_MAX));
	assert_true(lane_has_room(&lane, 8)); /* small frames still fit beside it */
	assert_null(lane_body(&lane, FRAME_BODY_MAX));
	assert_int_equal(lane_queue(&lane, &frame, NULL), -ENOBUFS);
	assert_int_equal(lane_flush(&lane), -ENOTCONN);
	assert_int_equal(lane_receive(&lane), -ENOTCONN);
	lane.tx_len = 0;
}

static void test_bad_frame(void **state)
{
	pid_t pid = start(run_echo, dir('a'), 0);
	struct frame frame = {.type = FRAME_TYPE_END, .len = 0};

	UNUSED(state);
	assert_int_equal(dial('b', 5000), 0);
	/* The echo refuses it and closes. */
	assert_int_equal(lane_queue(&lane, &frame, NULL), 0);
	assert_int_equal(lane_receive_wait(&lane, 5000), -ECONNRESET);
	reason_has("closed the connection");
	assert_int_equal(lane_receive(&lane), -ECONNRESET);
	assert_int_equal(lane_queue(&lane, &frame, NULL), 0);
	assert_true(lane_flush(&lane) < 0);
	lane_close(&lane);
	assert_int_equal(exit_code(pid), 0);
}

static void test_receive_times_out(void **state)
{
	pid_t pid = start(run_echo, dir('a'), 0);

	UNUSED(state);
	assert_int_equal(dial('b', 5000), 0);
	assert_int_equal(lane_receive_wait(&lane, 50), -ETIMEDOUT);
	assert_int_equal(lane_receive_wait(&lane, 0), -ETIMEDOUT);
	lane_close(&lane);
	exit_code(pid);
}

static void test_messages(void **state)
{
	pid_t pid = start(run_echo, dir('a'), 0);
	baton_Hello hello = {
		.version_major = 1, .role = baton_Role_ROLE_SOURCE, .body_max = FRAME_BODY_MAX};
	baton_Hello back = baton_Hello_init_zero;
	struct frame frame = {.type = FRAME_HELLO};

	UNUSED(state);
	strcpy(hello.software, "0.1");
	assert_int_equal(dial('b', 5000), 0);
	for (int i = 0; i < 1000; i++)
		assert_int_equal(message_queue(&lane, &frame, baton_Hello_fields, &hello, 5000), 0);
	for (int i = 0; i < 1000; i++) {
		assert_int_equal(lane_receive_wait(&lane, 5000), 0);
		assert_int_equal(message_decode(&lane, baton_Hello_fields, &back), 0);
		assert_int_equal(back.role, baton_Role_ROLE_SOURCE);
		assert_string_equal(back.software, "0.1");
		lane_receive_done(&lane);
	}
	/* A string longer than its bound, and a field cut short. */
	lane.rx = (struct frame){.type = FRAME_HELLO, .len = 80};
	memset(lane.rx_body, 'x', 80);
	memcpy(lane.rx_body, "\x22\x4e", 2);
	assert_int_equal(message_decode(&lane, baton_Hello_fields, &back), -EPROTO);
	lane.rx.len = 3;
	assert_int_equal(message_decode(&lane, baton_Hello_fields, &back), -EPROTO);
	lane_close(&lane);
	assert_int_equal(exit_code(pid), 0);
}

static void test_memory_of_two(void **state)
{
	struct arena_usage usage;

	UNUSED(state);
	arena_usage(ARENA_TLS, &usage);
	/* All sessions of this file, one after the other: nothing may leak, two must fit. */
	assert_in_range(usage.used_bytes, 0, 4096);
	assert_true(2 * usage.peak_bytes < usage.size_bytes + 8192);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup(test_trusted, clear),
		cmocka_unit_test_setup(test_server_not_trusted_here, clear),
		cmocka_unit_test_setup(test_client_not_trusted_there, clear),
		cmocka_unit_test_setup(test_signed_by_ca, clear),
		cmocka_unit_test_setup(test_signed_in_another_time, clear),
		cmocka_unit_test_setup(test_garbage, clear),
		cmocka_unit_test_setup(test_silent, clear),
		cmocka_unit_test_setup(test_handshake_of_a_process_that_died, clear),
		cmocka_unit_test_setup(test_closes, clear),
		cmocka_unit_test_setup(test_room, clear),
		cmocka_unit_test_setup(test_bad_frame, clear),
		cmocka_unit_test_setup(test_receive_times_out, clear),
		cmocka_unit_test_setup(test_messages, clear),
		cmocka_unit_test_setup(test_frames, clear),
		cmocka_unit_test_setup(test_frames_in_slices, clear),
		cmocka_unit_test_setup(test_frames_in_packets, clear),
		cmocka_unit_test_setup(test_frames_in_short_records, clear),
		cmocka_unit_test_setup(test_records_are_full, clear),
		cmocka_unit_test_setup(test_slow_reader, clear),
		cmocka_unit_test_setup(test_memory_of_two, clear),
	};

	return cmocka_run_group_tests(tests, setup, teardown);
}
