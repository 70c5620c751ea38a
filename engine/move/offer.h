/* SPDX-License-Identifier: MIT */
/* What a process needs, collected at the source before it is stopped and compared at the target. */
#ifndef BATON_OFFER_H
#define BATON_OFFER_H

#include "engine/move/move.pb.h"
#include "engine/process/rights.h"
#include <stdbool.h>
#include <sys/types.h>

/*
 * Refuses what can never be moved: no such pid, a thread, a kernel thread, pid 1 of its own
 * namespace, baton itself; and what a move still fills, as the state folder says where it is open.
 * 0; -ESRCH, -EPERM, -EINVAL, -EBUSY, -errno of the folder with the reason said.
 */
int offer_check_pid(pid_t pid);

/* Fills everything but id and mode of an offer from the running process. 0 or -errno. */
int offer_collect(pid_t pid, baton_MoveOffer *offer);

struct offer_clocks {
	bool fit;        /* this device's are as good as those of the process */
	int64_t jump_ns; /* they jump by so much; 0: they go on */
};

struct offer_limits {
	const char *keys_dir;        /* of the policy */
	const char *peer;            /* name of the peer */
	bool pidns;                  /* pids need not be free */
	bool allow_clock_jump;       /* as the offer may say, too */
	struct rights *rights;       /* answer: with which its files are to be opened */
	struct offer_clocks *clocks; /* answer */
	bool *other_vdso;            /* answer: the kernel there has another vdso */
};

/* 0 when this device can run what is offered; else -errno and the reason, which names the thing. */
int offer_check(const baton_MoveOffer *offer, const struct offer_limits *limits);

/* The same in steps, for who wants to know of each: 0 .. OFFER_NR_STEPS - 1. */
#define OFFER_NR_STEPS 5
int offer_check_step(unsigned int step, const baton_MoveOffer *offer,
		     const struct offer_limits *limits);

/* Makes text that came from a peer fit for a terminal and a log. */
void offer_clean_text(char *text);

#endif
