/* SPDX-License-Identifier: MIT */
/*
 * The processes that have memory of the moved process: itself, and whatever forked from it since,
 * whoever is the parent of that by now. What all of them have in common is where their program and
 * its stack begin, which a fork copies and an exec changes.
 */
#ifndef BATON_FAMILY_H
#define BATON_FAMILY_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

/* Memories, and processes that share one (vfork). */
#define FAMILY_MAX (CONFIG_MAX_SPACES + 32)

struct family_member {
	pid_t pid;
	pid_t tid;  /* a thread of it that has its memory: not always the leader has */
	bool first; /* of those that share their memory */
};

struct family {
	uint64_t start_time, start_code, start_stack; /* of the moved process */
	struct family_member members[FAMILY_MAX];
	unsigned int nr, nr_memories;
};

/* Remembers what makes the family of `pid`, whose layout is complete. -ESRCH, -EACCES. */
int family_init(struct family *f, pid_t pid);

/*
 * Looks through /proc for the members whose memory is watched by a userfaultfd: `nr_watched` memories
 * are; f->nr_memories were found. A process that was there when this began is found. -E2BIG: more
 * than FAMILY_MAX; -errno.
 */
int family_find(struct family *f, unsigned int nr_watched);

/*
 * True when some of their memory may vanish without a word (MADV_FREE), or when that cannot be told.
 * Walks through all their page tables.
 */
bool family_has_lazyfree(const struct family *f);

#endif
