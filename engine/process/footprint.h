/* SPDX-License-Identifier: MIT */
/* How large a process is, and how much of it travels after the start. */
#ifndef BATON_FOOTPRINT_H
#define BATON_FOOTPRINT_H

#include <stdint.h>
#include <sys/types.h>

struct footprint {
	unsigned int threads, mappings;
	uint64_t resident_kib; /* all of it, files included */
	uint64_t lazy_kib; /* private anonymous memory, swapped out or not: moves after the start */
};

/* Of a running process, from /proc. 0 or -errno. */
int footprint_read(pid_t pid, struct footprint *footprint);

#endif
