/* SPDX-License-Identifier: MIT */
/* What this kernel can and what we may do, each tried for real, never taken from a version number. */
#ifndef BATON_SYSTEM_H
#define BATON_SYSTEM_H

enum system_level {
	SYSTEM_OK,
	SYSTEM_OPTIONAL, /* not there; moves work without it, `text` says what is lost */
	SYSTEM_MISSING,  /* no move without it; `text` says how to mend it */
};

struct system_probe {
	/* Called for each fact. `name` is one word and stays what it is from release to release. */
	void (*report)(struct system_probe *probe, enum system_level level, const char *name,
		       const char *text);
	unsigned int nr_missing;
	void *data; /* the caller's */
};

/*
 * Tries everything a move needs. Makes children of its own and ends them; nothing else is touched.
 * Takes about 10 ms. What is missing is counted in nr_missing.
 */
void system_probe(struct system_probe *probe);

#endif
