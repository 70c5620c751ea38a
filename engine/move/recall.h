/* SPDX-License-Identifier: MIT */
/*
 * Fetching back what a device has given away: it asks the device that has it, which sends it. Only what came
 * from that very device (by its certificate), only where the policy there says `allow-recall`, and to the address
 * that it asks from. A question is an OFFER with `check_only` and `recall`; it can be asked again and again.
 */
#ifndef BATON_RECALL_H
#define BATON_RECALL_H

#include "engine/move/link.h"
#include "engine/move/move.h"

struct recall_result {
	unsigned int nr_here;   /* that are still there */
	unsigned int nr_moving; /* of them on their way */
};

/*
 * Asks over an open link. `port`: where this device receives, and what is not on its way yet is sent there; 0: only
 * asks. Each process that is still there goes to `tell`, in words; `moving`: it is on its way, or not all there yet.
 * The whole answer has to come in `timeout_ms`. -EPERM: the peer refuses; -EOPNOTSUPP: it does not know of
 * this; else 0 or -errno of the link, each with its reason.
 */
int recall_ask(struct link *link, uint16_t port, int timeout_ms,
	       void (*tell)(const char *what, bool moving), struct recall_result *result);

/*
 * The other side: begins to send (with options->send_back) and tells what there is, each as one ANSWER. 0 or
 * -errno of the link. Where it is refused nothing is told, and the reason is left for the end of the answer.
 */
int recall_answer(struct link *link, const struct move_options *options, uint32_t port,
		  unsigned int *nr_here);

#endif
