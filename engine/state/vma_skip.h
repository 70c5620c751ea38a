/* SPDX-License-Identifier: MIT */
/*
 * What smaps need not look through while the process stands still: its largest mappings. Before the freeze smaps
 * is read up to behind each of them, on a descriptor of its own. In the frozen state reading goes on there, and
 * the flags of a large mapping itself are read of its first MiBs, which are parted from the rest for that moment.
 * So all flags are those of the stopped process. Where something does not fit any more, smaps is read from its
 * beginning: slow, and right as well.
 */
#ifndef BATON_VMA_SKIP_H
#define BATON_VMA_SKIP_H

#include "engine/process/smaps.h"

struct dump;

/* Each costs a descriptor; and before the freeze a look at all that is below it. */
#define VMA_SKIPS 8

struct vma_skip {
	struct vma_skip_point {
		uint64_t start, end; /* the mapping */
		/* Starts of its neighbours, the second one before it first; UINT64_MAX: none. */
		uint64_t second, before, after;
		int smaps_fd;    /* in its text, and goes on behind it */
		bool looked;     /* at its first part */
		bool not_dumped; /* MADV_DONTDUMP, when it was looked at last */
	} points[VMA_SKIPS];
	unsigned int nr, at; /* at: the next one on the way */
	uint64_t last;       /* start of the mapping that was taken last; UINT64_MAX: none yet */
	uint64_t expected;   /* of the one that has to come now; 0: whichever, UINT64_MAX: none */
	uint64_t part_start; /* what is parted just now; 0: nothing */
	int part_back;       /* the advice that undoes it */
};

/* Before the freeze. Best effort. */
void vma_skip_prepare(struct vma_skip *skip, int proc_fd);
/* Idempotent. */
void vma_skip_close(struct vma_skip *skip);

/*
 * Frozen, with an open leader: opens smaps; then takes mapping after mapping, as smaps_next does. Of a large one
 * `kib` is what it was when it was looked at, and `has_pages` true.
 */
int vma_skip_begin(struct dump *d, struct smaps *s);
int vma_skip_next(struct dump *d, struct smaps *s);

/* With an open leader: joins what somebody who died has left parted. */
void vma_skip_mend(struct dump *d);

#endif
