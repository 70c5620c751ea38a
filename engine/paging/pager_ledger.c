/* SPDX-License-Identifier: MIT */
/*
 * The pager's tables, kept so that a worker that takes the place of a dead one finds them whole. All of
 * this lies in the arena's tables, which the processes of a move share.
 *
 *     live tables      what the worker works on; its death may leave them half changed
 *     entries          what was changed since the checkpoint, written down before it is done
 *     checkpoint       the tables as they were before the first entry
 *
 * Each change is a function of the tables and its entry alone, so doing the entries once more on the
 * checkpoint gives the tables. While a checkpoint is being made the live tables are whole.
 *
 * A userfaultfd event is read straight into its entry, which counts already: the kernel forgets the
 * event in the same system call. An entry that holds no event was counted in vain.
 */
#include "engine/paging/pager_internal.h"

#include "engine/paging/uffd.h"
#include "lib/arena.h"
#include "lib/fault.h"
#include "lib/io.h"
#include "lib/log.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define ENTRIES 256
#define TABLES_BYTES (offsetof(struct pager, tables_end) - offsetof(struct pager, pool))

struct pager_ledger {
	bool copying; /* the live tables are the truth, not checkpoint and entries */
	uint32_t nr;
	struct pager_entry entries[ENTRIES];
	struct todo_node nodes[CONFIG_TODO_NODES];
	_Alignas(16) uint8_t tables[TABLES_BYTES];
};

/* Other processes see what was written before in this order: we may be killed between any two. */
static void then(void)
{
	__atomic_signal_fence(__ATOMIC_SEQ_CST);
}

int pager_ledger_init(struct pager *p)
{
	p->ledger = arena_alloc(ARENA_TABLES, sizeof(*p->ledger), 16);
	return p->ledger ? 0 : -ENOMEM;
}

void pager_ledger_checkpoint(struct pager *p)
{
	struct pager_ledger *ledger = p->ledger;

	ledger->copying = true;
	then();
	memcpy(ledger->tables, &p->pool, TABLES_BYTES);
	memcpy(ledger->nodes, p->pool.nodes, sizeof(ledger->nodes));
	ledger->nr = 0;
	then();
	ledger->copying = false;
}

struct pager_entry *pager_ledger_begin(struct pager *p, enum pager_change change,
				       unsigned int index)
{
	struct pager_ledger *ledger = p->ledger;
	struct pager_entry *entry;

	if (ledger->nr == ENTRIES) {
		pager_ledger_checkpoint(p);
		(void)fault_point(FAULT_PAGER_CHECKPOINT);
	}
	entry = &ledger->entries[ledger->nr];
	*entry = (struct pager_entry){.change = (uint16_t)change, .index = (uint16_t)index};
	return entry;
}

void pager_ledger_count(struct pager *p)
{
	then();
	p->ledger->nr++;
	then();
}

void pager_ledger_forget(struct pager *p)
{
	p->ledger->nr--;
}

/* ---- after a worker that died ---- */

static void replay(struct pager *p)
{
	struct pager_ledger *ledger = p->ledger;

	if (ledger->copying)
		return;
	memcpy(&p->pool, ledger->tables, TABLES_BYTES);
	memcpy(p->pool.nodes, ledger->nodes, sizeof(ledger->nodes));
	for (uint32_t i = 0; i < ledger->nr; i++)
		pager_apply(p, &ledger->entries[i]);
}

/*
 * What is counted as listed though it is there is not in the ledger, and the last run that was filled may be
 * neither cut nor counted. Too much makes that be sent again at the end; with too little the end never comes.
 */
static void replay_present(struct pager *p)
{
	uint64_t present[PAGER_SPACES];

	for (unsigned int i = 0; i < PAGER_SPACES; i++)
		present[i] = p->lists[i].present_bytes;
	replay(p);
	for (unsigned int i = 0; i < PAGER_SPACES; i++) {
		struct pager_list *list = &p->lists[i];

		if (present[i] > list->present_bytes)
			list->present_bytes = present[i];
		list->present_bytes += FRAME_BODY_MAX;
	}
}

static bool is_listed(const struct pager *p, int fd)
{
	for (unsigned int i = 0; i < PAGER_SPACES; i++)
		if (p->spaces[i].uffd == fd)
			return true;
	return false;
}

/* A memory that was let go, whose descriptor the dead one had not closed: nobody reads it. */
static void close_unlisted(const struct pager *p)
{
	struct dir_reader reader;
	const char *name;
	char target[64];

	if (dir_reader_open(&reader, AT_FDCWD, "/proc/self/fd"))
		return;
	while (dir_reader_next(&reader, &name, NULL) > 0) {
		int fd = atoi(name);

		if (io_read_link(reader.fd, name, target, sizeof(target)) > 0 &&
		    !strcmp(target, "anon_inode:[userfaultfd]") && !is_listed(p, fd))
			close(fd);
	}
	dir_reader_close(&reader);
}

int pager_take_over(struct pager *p)
{
	unsigned int nr = 0;

	replay_present(p);
	pager_ledger_checkpoint(p);
	for (unsigned int i = 0; i < PAGER_SPACES; i++) {
		if (p->spaces[i].uffd < 0)
			continue;
		(void)uffd_adopt(p->spaces[i].uffd);
		nr++;
	}
	close_unlisted(p);
	p->faults = p->bulk = NULL;
	p->nr_faults = 0;
	/* Threads that it had stopped went on when it died. */
	p->relief.halted = p->relief.settling = false;
	p->relief.halt.nr = p->relief.halt.nr_discards = 0;
	log_info("%u memor%s taken over, %llu KiB to come", nr, nr == 1 ? "y" : "ies",
		 (unsigned long long)pager_left(p) >> 10);
	return 0;
}
