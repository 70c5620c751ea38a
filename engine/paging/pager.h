/* SPDX-License-Identifier: MIT */
/* The target's filling of a started process through userfaultfd. See docs/design.md, "The target pulls". */
#ifndef BATON_PAGER_H
#define BATON_PAGER_H

#include "transport/lane.h"
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

enum pager_mode {
	PAGER_LAZY,      /* push in the background, faults first */
	PAGER_ON_DEMAND, /* faults only */
	PAGER_EAGER,     /* push, before the start */
};

struct pager_counters {
	uint64_t pages_sent, pages_zero;     /* received in PAGES; told to be zero */
	uint64_t pages_predicted;            /* of both: the push brought them first */
	uint64_t faults;                     /* that had to be asked of the source */
	uint32_t fault_p50_us, fault_p99_us; /* of those, from a fixed histogram */
	uint64_t bytes_wire;
	uint64_t todo_bytes; /* left */
	int64_t starving_ms; /* so long there has been no memory for a page; 0: there is */
};

struct pager;

/* Takes tables from the arena; before arena_seal. -ENOMEM. */
int pager_init(struct pager **pager);

/*
 * Adds a lazy range of the restored process (target address = source address), page-aligned. -E2BIG
 * when it is in more pieces than CONFIG_TODO_NODES, -EINVAL for a range that makes no sense.
 */
int pager_add(struct pager *pager, uint64_t start, uint64_t end);

/*
 * A thread of the process stands at this address, or has it in a register: PAGER_LAZY pushes its page first,
 * if it is to come. Whatever it is, it cannot be wrong. False: there was no need or no room to note it.
 */
bool pager_predict(struct pager *pager, uint64_t addr);

/*
 * The process' userfaultfd, taken over (closed by the pager, also on failure). Its layout is complete:
 * by that, and by memory that is watched, the process and those that fork from it are found again.
 */
int pager_attach(struct pager *pager, pid_t pid, int uffd);

/* Forgets all ranges and closes all userfaultfds: what is missing then reads as zeros. For a process
 * that was killed, and before the next one. */
void pager_reset(struct pager *pager);

/* In place of a process that died: what it had in the arena's tables is ours. Between two runs. 0. */
int pager_take_over(struct pager *pager);

/*
 * Called often while filling (at least every 200 ms): progress, and may ask to stop by returning
 * non-zero, which pager_run passes on.
 */
typedef int pager_tick_fn(void *data, const struct pager_counters *counters);

/*
 * Fills until the todo lists of all spaces are empty or all their memories are gone: 0. Then every
 * userfaultfd is closed, and nothing more is on its way on either lane. On a failure of a lane
 * (-ECONNRESET, -EPROTO, ...; -ETIME when the patience of `faults` is over) returns it with all
 * userfaultfds still open and the todo lists exact: call again with new lanes to go on. Without
 * memory on this device it waits until there is some; before the start it says -ENOMEM.
 * Handles frames PAGES, ZERO, REACHED, PING, PONG; ABORT from the source is -ECONNABORTED, and stays
 * in faults->rx; others -EPROTO.
 */
int pager_run(struct pager *pager, struct lane *faults, struct lane *bulk, enum pager_mode mode,
	      pager_tick_fn *tick, void *data);

void pager_counters(const struct pager *pager, struct pager_counters *counters);

/* False when every process that waited for memory has ended or runs another program. Between two runs. */
bool pager_is_needed(struct pager *pager);

#endif
