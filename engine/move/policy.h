/* SPDX-License-Identifier: MIT */
/* What this device accepts: the file `policy` in the keys folder. */
#ifndef BATON_POLICY_H
#define BATON_POLICY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

/*
 * Lines of the file; empty lines and lines that begin with # count for nothing. Where there is a
 * line of a sort, one of that sort has to match. No file: everything of trusted peers is accepted.
 *
 *     allow-uid N       real, effective, saved and file system uid; without "allow-uid 0" the process may
 *                       hold no capabilities, its groups are asked for as well, and it gets only those
 *                       files that it may open itself
 *     allow-gid N       the same of groups, supplementary ones included
 *     allow-exe PATH    the program's file
 *     allow-peer NAME   the name in the sender's certificate
 *
 * And, without which nobody may:
 *
 *     allow-recall NAME that peer may fetch back what came from it
 */
struct policy_subject {
	const char *peer; /* NULL: only whether the file can be understood is asked for */
	const char *exe;  /* NULL: only the peer is */
	const uint32_t *uids, *gids;
	size_t nr_uids, nr_gids;
	bool privileged; /* holds capabilities */
	bool limited;    /* answer: users are restricted, and root is not among them */
	bool may_recall; /* answer: the peer may fetch back what came from it, whatever else */
};

/* 0; -EPERM when the policy does not allow it; -EINVAL when the file cannot be understood, which
 * allows nothing. The reason is said. */
int policy_check(const char *keys_dir, struct policy_subject *subject);

/* The same for a process that was built here, from /proc: an offer can say anything. */
int policy_check_process(const char *keys_dir, const char *peer, pid_t pid);

#endif
