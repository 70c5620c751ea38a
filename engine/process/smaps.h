/* SPDX-License-Identifier: MIT */
/*
 * /proc/PID/smaps, one mapping at a time. For each that it tells of the kernel looks at all its pages, 15 ms a
 * GiB: when the text of the one before was read to its last byte. Source: proc(5), fs/proc/task_mmu.c,
 * fs/seq_file.c.
 */
#ifndef BATON_SMAPS_H
#define BATON_SMAPS_H

#include "engine/process/proc.h"

struct smaps {
	int fd;
	uint32_t at, len; /* what of `text` was read and not taken yet */
	/* The mapping that smaps_next found. */
	struct proc_map map;
	uint64_t kib;      /* in memory or swapped out, whoever's */
	bool has_pages;    /* of its own, in memory or swapped out */
	uint64_t key;      /* of its protection; 0: none */
	const char *flags; /* "rd wr ...", until the next call */
	char name[PROC_LINE_MAX];
	char text[3 * PROC_LINE_MAX]; /* two mappings, and the rest of one */
};

/* 0; -ESRCH; -errno. smaps_close is idempotent. */
int smaps_open(struct smaps *s, int proc_fd);
void smaps_close(struct smaps *s);

/* Takes the next mapping. 1; 0: there is none; -errno. */
int smaps_next(struct smaps *s);

/*
 * Goes on up to the first mapping that starts at `start` or behind, and into its text: 1, and `map` says which;
 * 0: there is none; -errno. Who takes s->fd and reads on from there, at any time, finds the rest of that text,
 * and then the mapping that is the first one behind it by then.
 */
int smaps_seek(struct smaps *s, uint64_t start);

/*
 * Reads the next `nr` mappings without taking them. When it returns, the kernel has looked at the one behind
 * them, and at none behind that. 0; -ENODATA: there are less; -EFBIG; -errno.
 */
int smaps_load(struct smaps *s, unsigned int nr);

/* Whether a mapping of exactly this range was read and not taken yet. */
bool smaps_has(const struct smaps *s, uint64_t start, uint64_t end);

#endif
