/* SPDX-License-Identifier: MIT */
/* What a mapping is, and whether it can be moved: the part that probe and dump share. */
#ifndef BATON_VMA_CLASS_H
#define BATON_VMA_CLASS_H

#include "engine/process/proc.h"
#include "engine/state/vma.pb.h"
#include <stdbool.h>
#include <stdint.h>

/* Flags of "VmFlags:" in smaps that are set again on the target, in the order of the wire. */
struct vma_flag {
	char name[3];
	int advice;    /* for madvise(2); 0: handled by mmap or mlock2 */
	int map_flag;  /* for mmap(2) */
	uint32_t prot; /* for mmap(2) and mprotect(2), beside the usual ones */
};
extern const struct vma_flag vma_flags[];
extern const unsigned int vma_nr_flags;

/* Set of flags of a "VmFlags:" line; bits above VMA_BAD_FIRST are those that cannot be carried. */
#define VMA_BAD_FIRST 32
uint64_t vma_flags_parse(const char *text);
/* True when the flag with this name is in the set. */
bool vma_has(uint64_t flags, const char *name);
/* True when all of the mapping is locked, not only what has been touched (mlock2's MLOCK_ONFAULT). */
bool vma_is_locked(uint64_t flags);

/* The very object behind a mapping, as a descriptor of ours; -1 with errno. */
int vma_open_object(int proc_fd, uint64_t start, uint64_t len, int flags);

/*
 * Calls `fn` for each mapping whose pages are not in the description (Vma.lazy), in order of address, until it returns
 * non-zero, which is passed on. The process stands still.
 */
int vma_each_lazy(int proc_fd, int (*fn)(void *data, uint64_t start, uint64_t end), void *data);

struct restore;
int vma_restore(struct restore *r, const void *data);
int vma_finish(struct restore *r);

enum vma_class {
	VMA_SKIP,   /* vdso and the like */
	VMA_CARRY,  /* *backing says how */
	VMA_REFUSE, /* *why says why */
};
enum vma_class vma_classify(const struct proc_map *map, uint64_t flags, baton_VmaBacking *backing,
			    const char **why);

#endif
