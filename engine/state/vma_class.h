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
	int advice;   /* for madvise(2); 0: handled by mmap or mlock2 */
	int map_flag; /* for mmap(2) */
};
extern const struct vma_flag vma_flags[];
extern const unsigned int vma_nr_flags;

/* Set of flags of a "VmFlags:" line; bits above VMA_BAD_FIRST are those that cannot be carried. */
#define VMA_BAD_FIRST 32
uint64_t vma_flags_parse(const char *text);
/* True when the flag with this name is in the set. */
bool vma_has(uint64_t flags, const char *name);

enum vma_class {
	VMA_SKIP,   /* vdso and the like */
	VMA_CARRY,  /* *backing says how */
	VMA_REFUSE, /* *why says why */
};
enum vma_class vma_classify(const struct proc_map *map, uint64_t flags, baton_VmaBacking *backing,
			    const char **why);

#endif
