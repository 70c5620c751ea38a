/* SPDX-License-Identifier: MIT */
/* What a mapping is, and whether it can be moved. Source: proc(5) smaps, fs/proc/task_mmu.c. */
#include "engine/state/vma_class.h"

#include "arch/arch.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>

#ifndef MADV_WIPEONFORK
#define MADV_WIPEONFORK 18
#endif

/* The order is the wire format: append only, less than VMA_BAD_FIRST. */
const struct vma_flag vma_flags[] = {
	{"gd", 0, MAP_GROWSDOWN, 0},
	{"nr", 0, MAP_NORESERVE, 0},
	{"lo", 0, 0, 0},
	{"lf", 0, 0, 0},
	{"dc", MADV_DONTFORK, 0, 0},
	{"dd", MADV_DONTDUMP, 0, 0},
	{"mg", MADV_MERGEABLE, 0, 0},
	{"hg", MADV_HUGEPAGE, 0, 0},
	{"nh", MADV_NOHUGEPAGE, 0, 0},
	{"sr", MADV_SEQUENTIAL, 0, 0},
	{"rr", MADV_RANDOM, 0, 0},
	{"wf", MADV_WIPEONFORK, 0, 0},
	{"mw", 0, 0, 0},
	{"ac", 0, 0, 0},
	{"bt", 0, 0, ARCH_PROT_GUARDED},
};
const unsigned int vma_nr_flags = sizeof(vma_flags) / sizeof(vma_flags[0]);

static const struct {
	char name[3];
	const char *why;
} bad_flags[] = {
	{"ht", "huge pages of hugetlbfs, which are not carried; use transparent huge pages"},
	{"io", "memory of a device, which cannot be moved; close the device first"},
	{"pf", "memory of a device, which cannot be moved; close the device first"},
	{"um", "watched by a userfaultfd of the process, which cannot be moved"},
	{"uw", "watched by a userfaultfd of the process, which cannot be moved"},
	{"ui", "watched by a userfaultfd of the process, which cannot be moved"},
	{"ss", "a shadow stack, which is not carried; start the program without it"},
	{"sl", "a sealed mapping (mseal), which is not carried"},
	{"mt", "memory with tags, which is not carried"},
	{"sf", "a mapping with MAP_SYNC, which is not carried; map it without"},
	/* No flag of the kernel's: vma.c makes it of the line "ProtectionKey:". */
	{"pk", "memory with a protection key (pkey_mprotect), which is not carried"},
	{"dp", "memory that is dropped under pressure (MAP_DROPPABLE), which is not carried"},
};

/* Kernels of old have no name for "on fault" beside "lo", and no other flag without one there. */
static uint64_t unnamed_flag(uint64_t set)
{
	unsigned int i;

	for (i = 0; vma_has(set, "lo") && i < vma_nr_flags; i++)
		if (strcmp(vma_flags[i].name, "lf") == 0)
			return 1ULL << i;
	return 0;
}

uint64_t vma_flags_parse(const char *text)
{
	bool unnamed = false;
	uint64_t set = 0;
	unsigned int i;

	for (; *text; text++) {
		if (*text == ' ')
			continue;
		for (i = 0; i < vma_nr_flags; i++)
			if (strncmp(text, vma_flags[i].name, 2) == 0)
				set |= 1ULL << i;
		for (i = 0; i < sizeof(bad_flags) / sizeof(bad_flags[0]); i++)
			if (strncmp(text, bad_flags[i].name, 2) == 0)
				set |= 1ULL << (VMA_BAD_FIRST + i);
		unnamed |= strncmp(text, "??", 2) == 0;
		if (!*++text)
			break;
	}
	return unnamed ? set | unnamed_flag(set) : set;
}

bool vma_has(uint64_t flags, const char *name)
{
	unsigned int i;

	for (i = 0; i < vma_nr_flags; i++)
		if (strcmp(vma_flags[i].name, name) == 0)
			return (flags >> i) & 1;
	return false;
}

static bool ends_with(const char *text, const char *end)
{
	size_t len = strlen(text), end_len = strlen(end);

	return len >= end_len && strcmp(text + len - end_len, end) == 0;
}

static bool begins_with(const char *text, const char *begin)
{
	return strncmp(text, begin, strlen(begin)) == 0;
}

static enum vma_class classify_path(const struct proc_map *map, baton_VmaBacking *backing,
				    const char **why)
{
	const char *name = map->name;

	if (begins_with(name, "/memfd:") && ends_with(name, " (deleted)")) {
		*backing = baton_VmaBacking_VMA_MEMFD;
		return VMA_CARRY;
	}
	if (strcmp(name, "/dev/zero (deleted)") == 0 && map->shared) {
		*backing = baton_VmaBacking_VMA_SHARED_ANONYMOUS;
		return VMA_CARRY;
	}
	*why = NULL;
	if (begins_with(name, "/SYSV"))
		*why = "System V shared memory, which is not carried yet; detach it first";
	else if (begins_with(name, "/[aio]"))
		*why = "a ring of io_setup(2), which is not carried; io_destroy it first";
	else if (begins_with(name, "/secretmem"))
		*why = "secret memory (memfd_secret), which nobody else may read";
	else if (begins_with(name, "anon_inode:"))
		*why = "memory shared with the kernel (io_uring, perf, ...), which is not carried; "
		       "close it first";
	else if (name[0] != '/')
		*why = "a mapping of an unknown sort, which cannot be moved";
	else if (ends_with(name, " (deleted)"))
		*why = "a file that was deleted or replaced; restart the program, or put the file "
		       "back";
	else if (begins_with(name, "/dev/") && strcmp(name, "/dev/zero") != 0 &&
		 !begins_with(name, "/dev/shm/"))
		*why = "memory of a device, which cannot be moved; close the device first";
	*backing = baton_VmaBacking_VMA_FILE;
	return *why ? VMA_REFUSE : VMA_CARRY;
}

enum vma_class vma_classify(const struct proc_map *map, uint64_t flags, baton_VmaBacking *backing,
			    const char **why)
{
	unsigned int i;

	*why = NULL;
	if (arch_vdso_is_part(map->name) || arch_vdso_is_fixed(map->name))
		return VMA_SKIP;
	for (i = 0; i < sizeof(bad_flags) / sizeof(bad_flags[0]); i++) {
		if ((flags >> (VMA_BAD_FIRST + i)) & 1) {
			*why = bad_flags[i].why;
			return VMA_REFUSE;
		}
	}
	if (map->inode || map->name[0] == '/' || begins_with(map->name, "anon_inode:"))
		return classify_path(map, backing, why);
	if (map->shared) {
		*why = "shared memory of an unknown sort, which cannot be moved";
		return VMA_REFUSE;
	}
	*backing = baton_VmaBacking_VMA_ANONYMOUS;
	return VMA_CARRY;
}

bool vma_is_locked(uint64_t flags)
{
	return vma_has(flags, "lo") && !vma_has(flags, "lf");
}

int vma_open_object(int proc_fd, uint64_t start, uint64_t len, int flags)
{
	unsigned long long end = start + len;
	char path[64];

	snprintf(path, sizeof(path), "map_files/%llx-%llx", (unsigned long long)start, end);
	return openat(proc_fd, path, flags | O_CLOEXEC);
}
