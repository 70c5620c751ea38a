/* SPDX-License-Identifier: MIT */
/* Fetching back what a device has given away: both sides of the question. */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "engine/move/compare.h"
#include "engine/move/policy.h"
#include "engine/move/recall.h"
#include "lib/arena.h"
#include "lib/clock.h"
#include "lib/log.h"
#include "lib/text.h"
#include "transport/message.h"

#define PORT_MOST 65535

/* ---- who is asked ---- */

struct asked {
	struct link *link;
	const struct move_options *options;
	uint32_t port;
	unsigned int *nr_here;
	char fingerprint[65];
	char address[SOCKET_NAME_MAX + 8];
};

/* One that is still here. */
static int tell(struct asked *a, bool moving)
{
	size_t mark = arena_mark();
	baton_MoveAnswer *answer = arena_alloc(ARENA_SCRATCH, sizeof(*answer), 16);
	int err;

	if (!answer)
		return log_no_room("a message");
	(*a->nr_here)++;
	answer->more = true;
	answer->accepted = moving;
	text_copy(answer->reason, sizeof(answer->reason), log_reason());
	log_reason_clear();
	err = link_send_message(a->link, FRAME_ANSWER, baton_MoveAnswer_fields, answer);
	arena_reset(mark);
	return err;
}

static int give_back(void *data, struct movestate *came)
{
	struct asked *a = data;
	struct movestate begun;
	bool moving;

	if (strcmp(came->fingerprint, a->fingerprint) != 0)
		return 0;
	/* From before its offer on. */
	moving = movestate_pid_is_locked(came->pid) ||
		 movestate_find_pid(came->pid, &begun) == -EBUSY;
	log_reason_clear();
	if (!moving && a->port)
		a->options->send_back(came->pid, a->address);
	log_fail(EBUSY, "%s (pid %d)", came->comm, came->pid);
	return tell(a, moving);
}

/* One that is still coming: it can be sent when all of it is here. */
static int tell_coming(void *data, struct movestate *state)
{
	struct asked *a = data;

	if (state->source || state->stage < STAGE_STARTED ||
	    strcmp(state->fingerprint, a->fingerprint) != 0 || !movestate_process_lives(state))
		return 0;
	log_fail(EBUSY, "%s (pid %d), whose memory is not all here yet,", state->comm, state->pid);
	return tell(a, movestate_is_held(movestate_folder(), state));
}

/* The port stands behind the last colon; an IPv6 address has brackets then. */
static void make_address(struct asked *a)
{
	const char *colon = strrchr(a->link->peer, ':');
	int len = colon ? (int)(colon - a->link->peer) : (int)strlen(a->link->peer);

	snprintf(a->address, sizeof(a->address), "%.*s:%u", len, a->link->peer, a->port);
}

int recall_answer(struct link *link, const struct move_options *options, uint32_t port,
		  unsigned int *nr_here)
{
	struct asked asked = {.link = link, .options = options, .port = port, .nr_here = nr_here};
	struct policy_subject subject = {.peer = link->name};
	int err;

	/* What else the policy says is about processes that come. */
	(void)policy_check(options->keys_dir, &subject);
	log_reason_clear();
	/* The reason goes with the end of the answer. */
	if (!subject.may_recall) {
		log_fail(EPERM,
			 "%s may not fetch anything back there; it takes a line \"allow-recall "
			 "%s\" in "
			 "the policy of that device",
			 link->name, link->name);
		return 0;
	}
	if (port > PORT_MOST)
		return log_fail(EPROTO, "peer %s: there is no port %u", link->peer, port);
	text_put_hex(asked.fingerprint, link->fingerprint, sizeof(link->fingerprint), '\0');
	make_address(&asked);
	err = movestate_each(movestate_folder(), tell_coming, &asked);
	return err ? err : movestate_each_came(movestate_folder(), give_back, &asked);
}

/* ---- who asks ---- */

static int send_question(struct link *link, uint16_t port)
{
	size_t mark = arena_mark();
	baton_MoveOffer *offer = arena_alloc(ARENA_SCRATCH, sizeof(*offer), 16);
	int err;

	if (!offer)
		return log_no_room("the question");
	offer->check_only = offer->recall = true;
	offer->recall_port = port;
	err = link_send_message(link, FRAME_OFFER, baton_MoveOffer_fields, offer);
	if (!err)
		err = link_send(link, FRAME_CHECK, 0);
	arena_reset(mark);
	return err;
}

int recall_ask(struct link *link, uint16_t port, int timeout_ms,
	       void (*tell_user)(const char *what, bool moving), struct recall_result *result)
{
	int64_t deadline = clock_deadline_ms(timeout_ms);
	size_t mark = arena_mark();
	baton_MoveAnswer *answer = arena_alloc(ARENA_SCRATCH, sizeof(*answer), 16);
	int err;

	*result = (struct recall_result){0};
	if (!answer)
		return log_no_room("an answer");
	err = send_question(link, port);
	while (!err) {
		err = link_expect(link, FRAME_ANSWER, clock_left_ms(deadline), true);
		if (err)
			break;
		err = message_decode(&link->fast, baton_MoveAnswer_fields, answer);
		lane_receive_done(&link->fast);
		if (err) {
			log_fail(-err, "peer %s: its answer makes no sense", link->peer);
			break;
		}
		offer_clean_text(answer->reason);
		if (!answer->more) {
			if (answer->reason[0])
				err = log_fail(EPERM, "%s", answer->reason);
			else if (!answer->recall)
				err = log_fail(EOPNOTSUPP,
					       "baton on %s cannot give processes back "
					       "(CONFIG_CMD_EVACUATE)",
					       link->peer);
			break;
		}
		result->nr_here++;
		result->nr_moving += answer->accepted;
		tell_user(answer->reason, answer->accepted);
	}
	arena_reset(mark);
	return err;
}
