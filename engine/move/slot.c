/* SPDX-License-Identifier: MIT */
/* The table of the supervisor: who is connected, who works, who has to go. */
#include <errno.h>
#include <signal.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "engine/move/link.h"
#include "engine/move/slot.h"
#include "lib/arena.h"
#include "lib/clock.h"
#include "lib/log.h"
#include "lib/text.h"

struct slot *slots;

int slot_init(void)
{
	slots = arena_alloc(ARENA_TABLES, NR_SLOTS * sizeof(*slots), 16);
	if (!slots)
		return -ENOMEM;
	for (unsigned int i = 0; i < NR_SLOTS; i++)
		slots[i] = (struct slot){.fd = -1};
	return 0;
}

void slot_free(struct slot *slot)
{
	if (slot->fd >= 0)
		close(slot->fd);
	*slot = (struct slot){.fd = -1};
}

struct slot *slot_find_free(void)
{
	for (unsigned int i = 0; i < NR_SLOTS; i++)
		if (slots[i].kind == SLOT_FREE)
			return &slots[i];
	return NULL;
}

bool slot_is_stranger(const struct slot *slot)
{
	return slot->kind == SLOT_CALLER || slot->kind == SLOT_STRANGER;
}

/* Length of the address in "address:port". */
static size_t address_len(const char *peer)
{
	const char *colon = strrchr(peer, ':');

	return colon ? (size_t)(colon - peer) : strlen(peer);
}

bool slot_same_address(const struct slot *a, const struct slot *b)
{
	size_t len = address_len(a->peer);

	return len == address_len(b->peer) && !strncmp(a->peer, b->peer, len);
}

/* True for one that may be dropped for another of this kind. */
static bool is_in_the_way(const struct slot *slot, enum slot_kind kind)
{
	return slot->kind == kind && slot->deadline_ms != INT64_MAX;
}

static unsigned int count_from(const struct slot *of)
{
	unsigned int nr = 0;

	for (unsigned int i = 0; i < NR_SLOTS; i++)
		nr += is_in_the_way(&slots[i], of->kind) && slot_same_address(&slots[i], of);
	return nr;
}

/* So many lines about strangers in this time; the rest is counted. */
#define LINES_MAX 60
#define LINES_MS 10000

static void say_dropped(const struct slot *slot, const char *why)
{
	static unsigned int nr_said, nr_unsaid;
	static int64_t begun_ms;
	int64_t now_ms = clock_now_ms();

	if (now_ms >= begun_ms + LINES_MS) {
		if (nr_unsaid)
			log_warn("%u more connections of strangers were dropped", nr_unsaid);
		begun_ms = now_ms;
		nr_said = nr_unsaid = 0;
	}
	if (nr_said < LINES_MAX) {
		nr_said++;
		log_warn("stranger %s: dropped: %s", slot->peer, why);
	} else {
		nr_unsaid++;
	}
}

/* A stranger goes: a worker that has not authenticated its peer has touched nothing. */
void slot_drop(struct slot *slot, const char *why)
{
	say_dropped(slot, why);
	if (slot->kind == SLOT_STRANGER) {
		kill(slot->worker, SIGKILL);
		slot->deadline_ms = INT64_MAX; /* freed when it is reaped */
		return;
	}
	slot_free(slot);
}

void slot_make_room(const struct slot *newest)
{
	/* Nobody outside can foresee the nanoseconds. */
	uint32_t dice = (uint32_t)clock_now_ns() * 2654435761u >> 8;
	struct slot *victim = NULL;
	unsigned int nr = 0, most = 0, nr_of_most = 0;

	for (unsigned int i = 0; i < NR_SLOTS; i++) {
		struct slot *slot = &slots[i];
		unsigned int from;

		if (!is_in_the_way(slot, newest->kind))
			continue;
		nr++;
		from = count_from(slot);
		if (slot == newest || from < most)
			continue;
		if (from > most)
			nr_of_most = 0;
		most = from;
		/* Each of them is as likely. */
		if (dice % ++nr_of_most == 0)
			victim = slot;
		dice = dice * 1664525u + 1013904223u;
	}
	if (nr > CONFIG_MAX_CONNECTIONS && victim)
		slot_drop(victim, "too many connections that have not shown a certificate");
}

/* Reads what a worker tells. */
void slot_hear_worker(struct slot *slot)
{
	char what[1 + ROUTE_TOKEN_BYTES + SOCKET_NAME_MAX];
	ssize_t got;

	while ((got = recv(slot->fd, what, sizeof(what), MSG_DONTWAIT)) > 0) {
		if (what[0] == LINK_TELL_KNOWN) {
			slot->kind = SLOT_MOVE;
			slot->deadline_ms = INT64_MAX;
		} else if (what[0] == LINK_TELL_ACCEPTED) {
			slot->accepted = true;
		} else if (what[0] == LINK_TELL_ENDED && got == 2) {
			slot->told = true;
			slot->outcome = (uint8_t)what[1];
		} else if (what[0] == LINK_TELL_MOVE && got == (ssize_t)sizeof(what)) {
			memcpy(slot->token, what + 1, sizeof(slot->token));
			what[sizeof(what) - 1] = '\0';
			text_copy(slot->peer, sizeof(slot->peer), what + 1 + ROUTE_TOKEN_BYTES);
			log_info("the move from %s goes on here", slot->peer);
		} else if (what[0] >= '0' && what[0] < '0' + ROUTE_LANES) {
			slot->wants |= (uint8_t)(1u << (what[0] - '0'));
		}
	}
	slot->closed |= got == 0 || (errno != EAGAIN && errno != EINTR);
}

struct slot *slot_find_worker(const uint8_t *token)
{
	for (unsigned int i = 0; i < NR_SLOTS; i++)
		if (slots[i].kind > SLOT_CALLER &&
		    !memcmp(slots[i].token, token, sizeof(slots[i].token)))
			return &slots[i];
	return NULL;
}

/* Passes a connection to the worker of its move. */
void slot_hand_over(struct slot *worker, struct slot *caller, unsigned int lane)
{
	char text[1 + SOCKET_NAME_MAX];
	union {
		struct cmsghdr header;
		char room[CMSG_SPACE(sizeof(int))];
	} control = {{.cmsg_len = CMSG_LEN(sizeof(int)),
		      .cmsg_level = SOL_SOCKET,
		      .cmsg_type = SCM_RIGHTS}};
	struct iovec part = {text, 0};
	struct msghdr msg = {.msg_iov = &part,
			     .msg_iovlen = 1,
			     .msg_control = &control,
			     .msg_controllen = CMSG_SPACE(sizeof(int))};

	memcpy(CMSG_DATA(&control.header), &caller->fd, sizeof(int));
	text[0] = (char)('0' + lane);
	text_copy(text + 1, sizeof(text) - 1, caller->peer);
	part.iov_len = 1 + strlen(text + 1);
	if (sendmsg(worker->fd, &msg, MSG_DONTWAIT | MSG_NOSIGNAL) < 0) {
		slot_drop(caller, "its move takes no connection now");
		return;
	}
	worker->wants &= (uint8_t) ~(1u << lane);
	slot_free(caller);
}
