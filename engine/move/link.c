/* SPDX-License-Identifier: MIT */
/* Opening the two lanes of a move, and the small talk on lane 0. */
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "engine/move/link.h"
#include "engine/move/move.pb.h"
#include "engine/move/offer.h"
#include "lib/arena.h"
#include "lib/clock.h"
#include "lib/config.h"
#include "lib/fault.h"
#include "lib/io.h"
#include "lib/log.h"
#include "lib/text.h"
#include "transport/message.h"
#include "transport/wire.pb.h"
#include "version.h"

/* Between two looks for a new supervisor. */
#define DOOR_PAUSE_MS 200

#define WIRE_MAJOR 1
#define WIRE_MINOR 1
/* Between two attempts to be taken by a crowded listener: doubled up to the longest. */
#define REDIAL_FIRST_MS 20
#define REDIAL_LONGEST_MS 320

static volatile sig_atomic_t stopping;

static void on_signal(int signal)
{
	(void)signal;
	stopping = 1;
}

bool link_stopping(void)
{
	return stopping;
}

void link_catch_signals(void)
{
	struct sigaction action = {.sa_handler = on_signal};

	sigaction(SIGINT, &action, NULL);
	sigaction(SIGTERM, &action, NULL);
	sigaction(SIGHUP, &action, NULL);
	signal(SIGPIPE, SIG_IGN);
}

int link_init(struct link *link)
{
	int err;

	memset(link, 0, sizeof(*link));
	link->supervisor_fd = -1;
	link->first_fd = -1;
	link->fds = arena_alloc(ARENA_TABLES, sizeof(*link->fds), 16);
	if (!link->fds)
		return -ENOMEM;
	*link->fds = (struct link_fds){.lane = {-1, -1}, .supervisor = -1};
	err = lane_init(&link->fast);
	return err ? err : lane_init(&link->bulk);
}

int link_dial(struct link *link, const char *address)
{
	link->address = address;
	text_copy(link->peer, sizeof(link->peer), address);
	return route_make_token(link->token);
}

void link_accept(struct link *link, int first_fd, int supervisor_fd, const char *peer,
		 const uint8_t token[static ROUTE_TOKEN_BYTES])
{
	link->address = NULL;
	link->first_fd = first_fd;
	link->supervisor_fd = link->fds->supervisor = supervisor_fd;
	link->fds->introduced = true;
	text_copy(link->peer, sizeof(link->peer), peer);
	memcpy(link->token, token, sizeof(link->token));
}

void link_tell(const struct link *link, char what)
{
	if (link->supervisor_fd >= 0)
		(void)!send(link->supervisor_fd, &what, 1, MSG_NOSIGNAL | MSG_DONTWAIT);
}

void link_tell_end(const struct link *link, int outcome)
{
	char what[2] = {LINK_TELL_ENDED, (char)outcome};

	if (link->supervisor_fd >= 0)
		(void)!send(link->supervisor_fd, what, sizeof(what), MSG_NOSIGNAL | MSG_DONTWAIT);
}

/* ---- a supervisor that has died, and the next one ---- */

static void set_supervisor(struct link *link, int fd)
{
	int old = link->supervisor_fd;

	/* In this order: whoever goes on after us must not take a number for it that means something else. */
	link->supervisor_fd = link->fds->supervisor = fd;
	if (old >= 0)
		close(old);
}

/* Says to a new supervisor which move comes to it. */
static bool introduce(const struct link *link)
{
	char hello[1 + ROUTE_TOKEN_BYTES + SOCKET_NAME_MAX];

	hello[0] = LINK_TELL_MOVE;
	memcpy(hello + 1, link->token, ROUTE_TOKEN_BYTES);
	text_copy(hello + 1 + ROUTE_TOKEN_BYTES, SOCKET_NAME_MAX, link->peer);
	if (send(link->supervisor_fd, hello, sizeof(hello), MSG_NOSIGNAL) < 0)
		return false;
	(void)fault_point(FAULT_LINK_DOOR);
	link->fds->introduced = true;
	return true;
}

/*
 * True while a supervisor is there: the one that made us, or a new one that was found behind the door. Its
 * connection is noted before anybody hears of it: of two, the supervisor would ask the one that nobody reads.
 */
static bool have_supervisor(struct link *link)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	struct pollfd watch = {link->supervisor_fd, 0, 0};

	if (link->supervisor_fd >= 0 && io_poll(&watch, 1, 0) == 0 &&
	    (link->fds->introduced || introduce(link)))
		return true;
	set_supervisor(link, -1);
	if (!link->door)
		return false;
	snprintf(address.sun_path, sizeof(address.sun_path), "/proc/self/fd/%d/%s",
		 link->door_folder, link->door);
	link->fds->introduced = false;
	set_supervisor(link, socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0));
	if (link->supervisor_fd < 0 ||
	    connect(link->supervisor_fd, (struct sockaddr *)&address, sizeof(address)) ||
	    !introduce(link)) {
		set_supervisor(link, -1);
		return false;
	}
	log_info("a new receiver takes the connections of the move");
	return true;
}

/* ---- opening ---- */

static int dial_once(struct link *link, struct lane *lane, uint8_t number, int64_t deadline)
{
	struct route route = {.lane = number};
	uint8_t preamble[ROUTE_BYTES];
	int fd, err;

	fd = socket_dial(link->address, LINK_PORT, clock_left_ms(deadline), link->peer);
	if (fd < 0)
		return fd;
	link->fds->lane[number] = fd;
	memcpy(route.token, link->token, sizeof(route.token));
	route_encode(&route, preamble);
	/* 24 bytes always fit into a fresh socket. */
	err = io_write_full(fd, preamble, sizeof(preamble));
	if (err) {
		close(fd);
		log_fail(-err, "peer %s: %m", link->peer);
	} else {
		err = tls_connect(lane, fd, link->peer, clock_left_ms(deadline));
	}
	if (err)
		link->fds->lane[number] = -1;
	return err;
}

/*
 * A listener that is crowded drops connections before it knows whose they are: another one may be
 * luckier. Who is refused or not understood, or finds nobody listening, gains nothing by that. Later
 * in the move there is move_reconnect.
 */
static bool may_redial(const struct link *link, int err)
{
	return !link->was_open && !stopping && (err == -ECONNRESET || err == -EPIPE);
}

static int dial_lane(struct link *link, struct lane *lane, uint8_t number, int64_t deadline)
{
	int wait_ms = REDIAL_FIRST_MS;

	for (;;) {
		int err = dial_once(link, lane, number, deadline);

		if (!err || !may_redial(link, err) || clock_left_ms(deadline) < wait_ms)
			return err;
		log_debug("%s dropped the connection; trying again", link->peer);
		log_reason_clear();
		io_sleep_ms(wait_ms);
		if (wait_ms < REDIAL_LONGEST_MS)
			wait_ms *= 2;
	}
}

/* Takes the connection that the supervisor sends for this lane. */
static int take_connection(struct link *link, uint8_t number, int64_t deadline)
{
	char text[1 + SOCKET_NAME_MAX] = {0};
	union {
		struct cmsghdr header;
		char room[CMSG_SPACE(sizeof(int))];
	} control;
	struct iovec part = {text, sizeof(text) - 1};
	struct msghdr msg = {.msg_iov = &part,
			     .msg_iovlen = 1,
			     .msg_control = &control,
			     .msg_controllen = sizeof(control)};
	/* A peer that is about to dial lane 1 says nothing on lane 0; one that gave up closes it. */
	struct pollfd wait[2] = {{link->supervisor_fd, POLLIN, 0},
				 {number ? link->fast.fd : -1, POLLIN, 0}};
	struct cmsghdr *header;
	int fd = -1, got;

	got = io_poll(wait, 2, clock_left_ms(deadline));
	if (got <= 0)
		return got ? got : -ETIMEDOUT;
	if (!wait[0].revents)
		return -ECONNRESET;
	if (recvmsg(link->supervisor_fd, &msg, MSG_CMSG_CLOEXEC) <= 0)
		return -EPIPE;
	header = CMSG_FIRSTHDR(&msg);
	if (header && header->cmsg_level == SOL_SOCKET && header->cmsg_type == SCM_RIGHTS)
		memcpy(&fd, CMSG_DATA(header), sizeof(fd));
	if (fd >= 0 && text[0] != '0' + number) {
		close(fd);
		return -EAGAIN;
	}
	if (fd >= 0 && text[1])
		text_copy(link->peer, sizeof(link->peer), text + 1);
	return fd >= 0 ? fd : -EAGAIN;
}

/* Waits for connections until one of them shows the right certificate. */
static int accept_lane(struct link *link, struct lane *lane, uint8_t number, int64_t deadline)
{
	uint8_t shown[TLS_FINGERPRINT_BYTES];
	int fd = link->first_fd, err;

	link->first_fd = -1;
	link->fds->lane[number] = fd;
	if (number == 0 && fd >= 0)
		return tls_accept(lane, fd, link->peer, CONFIG_HANDSHAKE_TIMEOUT_MS);
	while (!have_supervisor(link)) {
		if (!clock_left_ms(deadline))
			return log_fail(ENOLINK,
					"no baton listens here any more for %s to come back",
					link->peer);
		io_sleep_ms(DOOR_PAUSE_MS);
	}
	/* For lane 1 it was told before HELLO. */
	if (number == 0)
		link_tell(link, '0');
	for (;;) {
		fd = take_connection(link, number, deadline);
		/* Not the one that was wanted, or one for which there was no descriptor. */
		if (fd == -EAGAIN)
			link_tell(link, (char)('0' + number));
		if (fd == -EAGAIN || (fd == -EINTR && !stopping))
			continue;
		if (fd < 0)
			return log_fail(-fd, "peer %s: its connection for lane %u did not come",
					link->peer, number);
		link->fds->lane[number] = fd;
		/* It may have come late; the handshake has its own time. */
		err = tls_accept(lane, fd, link->peer, CONFIG_HANDSHAKE_TIMEOUT_MS);
		if (!err && !tls_fingerprint(lane, shown) &&
		    !memcmp(shown, link->fingerprint, sizeof(shown)))
			return 0;
		/* Whoever it was, it does not end the move. */
		log_warn("peer %s: dropped: %s", link->peer,
			 err ? log_reason() : "another certificate than that of the move's peer");
		log_reason_clear();
		lane_close(lane);
		link->fds->lane[number] = -1;
		link_tell(link, (char)('0' + number));
	}
}

static int check_hello(const struct link *link, const baton_Hello *hello)
{
	if (hello->version_major != WIRE_MAJOR)
		return log_fail(EPROTO,
				"peer %s speaks version %u of the protocol (baton %s), we speak %u "
				"(baton %s); install the same release on both devices",
				link->peer, hello->version_major, hello->software, WIRE_MAJOR,
				BATON_VERSION);
	if (hello->role != (link->source ? baton_Role_ROLE_TARGET : baton_Role_ROLE_SOURCE))
		return log_fail(
			EPROTO,
			"peer %s wants to %s a process, and so do we; use send with receive, or "
			"restore --from with dump --serve",
			link->peer, link->source ? "give" : "take");
	if (link->open_local && hello->body_max > FRAME_BODY_MAX)
		return log_fail(EPROTO,
				"%s has frames of up to %u bytes, this build takes %u; raise "
				"CONFIG_RUN_KIB",
				link->peer, hello->body_max, FRAME_BODY_MAX);
	if (link->source && hello->body_max < FRAME_BODY_MAX)
		return log_fail(
			EPROTO,
			"peer %s takes frames of %u bytes, ours have up to %u; build both with "
			"the same CONFIG_RUN_KIB",
			link->peer, hello->body_max, FRAME_BODY_MAX);
	return 0;
}

/* What we take, for HELLO. */
static uint32_t packing_bits(enum pack_rule rule)
{
	if (!IS_ENABLED(CONFIG_COMPRESS_LZ4) || rule == PACK_NEVER)
		return 0;
	return PACK_TAKES_LZ4 | (rule == PACK_ALWAYS ? PACK_WANTS_ALWAYS : 0);
}

/* Either side can forbid it, and, when neither does, ask for it always. */
static void agree_packing(struct lane *lane, uint32_t ours, uint32_t theirs)
{
	lane->takes_packed = ours & PACK_TAKES_LZ4;
	lane->pack = PACK_NEVER;
	if (ours & theirs & PACK_TAKES_LZ4)
		lane->pack = (ours | theirs) & PACK_WANTS_ALWAYS ? PACK_ALWAYS : PACK_AUTO;
}

int link_say_hello(const struct link *link, struct lane *lane, int timeout_ms)
{
	struct frame frame = {.type = FRAME_HELLO};
	baton_Hello hello = {.version_major = WIRE_MAJOR,
			     .version_minor = WIRE_MINOR,
			     .body_max = FRAME_BODY_MAX,
			     .packing = packing_bits(link->compress)};
	int err;

	hello.role = link->source ? baton_Role_ROLE_SOURCE : baton_Role_ROLE_TARGET;
	text_copy(hello.software, sizeof(hello.software), BATON_VERSION);
	err = message_queue(lane, &frame, baton_Hello_fields, &hello, timeout_ms);
	return err ? err : lane_flush_wait(lane, timeout_ms);
}

static int hear_hello(const struct link *link, struct lane *lane, int timeout_ms)
{
	baton_Hello hello;
	int err = lane_receive_wait(lane, timeout_ms);

	if (err)
		return log_fail(-err, "peer %s: no greeting came: %m", link->peer);
	if (lane->rx.type != FRAME_HELLO)
		return log_fail(EPROTO, "peer %s: said %s instead of HELLO", link->peer,
				frame_name(lane->rx.type));
	err = message_decode(lane, baton_Hello_fields, &hello);
	lane_receive_done(lane);
	offer_clean_text(hello.software);
	agree_packing(lane, packing_bits(link->compress), hello.packing);
	return err ? log_fail(-err, "peer %s: its HELLO makes no sense", link->peer)
		   : check_hello(link, &hello);
}

static int greet(const struct link *link, struct lane *lane, int64_t deadline)
{
	int err = link_say_hello(link, lane, clock_left_ms(deadline));

	return err ? log_fail(-err, "peer %s: it cannot be greeted: %m", link->peer)
		   : hear_hello(link, lane, clock_left_ms(deadline));
}

/* The certificate of lane 0 is that of the move; a later one must be the same. */
static int check_fingerprint(struct link *link, const struct lane *lane)
{
	uint8_t shown[TLS_FINGERPRINT_BYTES];
	int err = tls_fingerprint(lane, shown);

	if (err)
		return err;
	if (link->known && memcmp(shown, link->fingerprint, sizeof(shown)))
		return log_fail(
			EKEYREJECTED,
			"peer %s shows another certificate than at the beginning of the move",
			link->peer);
	memcpy(link->fingerprint, shown, sizeof(shown));
	text_copy(link->name, sizeof(link->name), tls_peer_name(lane));
	link->known = true;
	return 0;
}

static int open_lane(struct link *link, struct lane *lane, uint8_t number, int64_t deadline)
{
	int err;

	err = link->address ? dial_lane(link, lane, number, deadline)
			    : accept_lane(link, lane, number, deadline);
	if (!err)
		err = check_fingerprint(link, lane);
	/* A process waits for what goes over lane 0, and nobody for the other. */
	if (!err && !number)
		socket_urgent(lane->fd);
	return err;
}

static int open_local(struct link *link)
{
	int err = link->open_local(link, link->was_open);

	link->fds->lane[0] = link->fast.fd;
	link->fds->lane[1] = link->bulk.fd;
	return err || link->was_open ? err : hear_hello(link, &link->fast, -1);
}

static int open_remote(struct link *link, int timeout_ms)
{
	int64_t deadline = clock_deadline_ms(timeout_ms);
	int err;

	err = open_lane(link, &link->fast, 0, deadline);
	/* Whoever has waited for lane 0 gives the rest the time that it needs. */
	if (!link->address)
		deadline = clock_deadline_ms(CONFIG_HANDSHAKE_TIMEOUT_MS);
	if (!err) {
		link_tell(link, LINK_TELL_KNOWN);
		/* Before HELLO: the peer dials the second lane when it has read ours. */
		if (!link->address)
			link_tell(link, '1');
		err = greet(link, &link->fast, deadline);
	}
	if (!err)
		err = open_lane(link, &link->bulk, 1, deadline);
	if (!err)
		err = greet(link, &link->bulk, deadline);
	return err;
}

int link_open(struct link *link, int timeout_ms)
{
	int err = IS_ENABLED(CONFIG_IMAGE) && link->open_local ? open_local(link)
							       : open_remote(link, timeout_ms);

	if (err)
		link_close(link);
	else
		link->was_open = true;
	return err;
}

void link_close(struct link *link)
{
	lane_close(&link->fast);
	lane_close(&link->bulk);
	link->fds->lane[0] = link->fds->lane[1] = -1;
}

void link_take_over(struct link *link)
{
	lane_forget(&link->fast);
	lane_forget(&link->bulk);
	for (unsigned int i = 0; i < ROUTE_LANES; i++) {
		if (link->fds->lane[i] >= 0)
			close(link->fds->lane[i]);
		link->fds->lane[i] = -1;
	}
	link->supervisor_fd = link->fds->supervisor;
	link->first_fd = -1;
}
