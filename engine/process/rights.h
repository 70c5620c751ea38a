/* SPDX-License-Identifier: MIT */
/*
 * With whose rights the files of a process are opened while it is built. A policy that names users
 * would limit little if root opened them: a peer names the paths. Source: setfsuid(2).
 */
#ifndef BATON_RIGHTS_H
#define BATON_RIGHTS_H

#include "engine/process/proc.h"
#include "engine/process/remote.h"
#include "lib/config.h"

struct rights {
	bool limited; /* rights_limited; false: root's, and nothing below counts */
	uint32_t uid, gid;
	uint32_t groups[PROC_GROUPS_MAX];
	unsigned int nr_groups;
};

/* Only a policy limits them. */
static inline bool rights_limited(const struct rights *rights)
{
	return IS_ENABLED(CONFIG_POLICY) && rights->limited;
}

/* We ourselves look up, open and make files with these rights until rights_give_back, which belongs to
 * each that returned 0. -errno with log_fail. */
int rights_take(const struct rights *rights);
void rights_give_back(const struct rights *rights);

/* A thread that works for us does so from here on; with NULL as root again. */
int rights_lend(struct remote *thread, const struct rights *rights);

/* Says who may not do what, when that is what `err` (negative) means. Returns `err`. */
int rights_denied(const struct rights *rights, int err, const char *path);

#endif
