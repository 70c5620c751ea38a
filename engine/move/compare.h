/* SPDX-License-Identifier: MIT */
/*
 * A check between two devices: the beginning of a move (OFFER, FILE, CHECK, ANSWER) that is said to
 * be no more than that. Nothing is stopped, nothing is built, and all reasons are told, not only the
 * first. Before it the one who asks may measure the link with PING.
 */
#ifndef BATON_COMPARE_H
#define BATON_COMPARE_H

#include "engine/move/link.h"
#include "engine/move/move.pb.h"
#include "engine/move/offer.h"
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

/* ---- who asks ---- */

struct compare_speed {
	uint32_t round_trip_us; /* median */
	uint64_t rate_kib_s;    /* from here to there, through TLS */
};

struct compare_result {
	baton_MoveAnswer answer; /* the last one: who the peer is */
	unsigned int nr_files;   /* that were compared */
	unsigned int nr_refused; /* reasons against a move */
};

/* Measures an open link for about half a second. 0 or -errno of the link. */
int compare_measure(struct link *link, struct compare_speed *speed);

/*
 * Asks the peer whether it could take process `pid`; 0: any process of this device. Each reason
 * against it goes to `refused`. 0 or -errno of the link.
 */
typedef void compare_refused_fn(void *data, const char *reason);
int compare_ask(struct link *link, pid_t pid, compare_refused_fn *refused, void *data,
		struct compare_result *result);

/* ---- who is asked ---- */

/* Counts the reason of the last failure and tells it, up to a bound. 0 or -errno of the link. */
int compare_tell(struct link *link, unsigned int *nr_refused);

/* Everything there is to say to an offer that only checks. 0 or -errno of the link. */
int compare_offer(struct link *link, const baton_MoveOffer *offer,
		  const struct offer_limits *limits, unsigned int *nr_refused);

/* The last ANSWER: what this device is. */
int compare_answer(struct link *link, unsigned int nr_refused, bool recall);

#endif
