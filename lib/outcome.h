/* SPDX-License-Identifier: MIT */
/* How a command ends: the exit codes, which are part of the interface. */
#ifndef BATON_OUTCOME_H
#define BATON_OUTCOME_H

enum outcome {
	OUTCOME_DONE = 0,    /* done */
	OUTCOME_FAILED = 1,  /* failed; the process runs on where it was */
	OUTCOME_USAGE = 2,   /* wrong usage */
	OUTCOME_REFUSED = 3, /* refused before anything was stopped */
	OUTCOME_HELD = 4,    /* committed but not complete: held, waiting for the peer */
	OUTCOME_PEER = 5,    /* peer not trusted or not reachable */
	OUTCOME_SYSTEM = 6,  /* this system cannot: kernel feature, right, budget */
};

#endif
