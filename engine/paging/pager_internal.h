/* SPDX-License-Identifier: MIT */
/*
 * The pager's insides, shared by its files:
 *
 *   pager.c        the loop: userfaultfds, then the fault lane, then one frame of the bulk lane
 *   pager_space.c  spaces: the memory of the process and of children it forked; their events
 *   pager_fault.c  faults, and what is asked of the source for them
 *   pager_fill.c   content that has arrived goes into every memory that still lists it
 *   pager_halt.c   the program is stopped for a moment, and its memory settled
 *   pager_relief.c when the tables of fixed size run short
 *   pager_starve.c when this device has no memory left for the program
 *   pager_push.c   the background push: what is asked next, what arrives
 *   pager_predict.c what is pushed first
 *   pager_ledger.c the tables, kept for whoever takes the place of a worker that died
 *
 * A memory ("space") has a userfaultfd and a todo list. After a fork both memories share one list
 * until one of them changes its layout: so a fork costs no nodes, and fork and exec nothing at all.
 *
 * Nobody's fault is forgotten, though what is known of faults is bounded: whatever takes a page
 * off a list either fills it (which wakes) or wakes, and who is woken without a page faults again.
 *
 * The kernel's rule that makes the lists exact: from the moment a layout changes until its event
 * was read and acknowledged, every fill says EAGAIN. So a decision made from a list that is behind
 * never takes effect: on EAGAIN the events are read, and all is looked up again.
 */
#ifndef BATON_PAGER_INTERNAL_H
#define BATON_PAGER_INTERNAL_H

#include "engine/paging/histogram.h"
#include "engine/paging/pager.h"
#include "engine/paging/serve.h"
#include "engine/paging/todo.h"
#include <linux/userfaultfd.h>
#include "engine/process/halt.h"

/* Some more than are filled while the program runs: a fork may be among what it announces at the last. */
#define PAGER_SPACES (CONFIG_MAX_SPACES + 8)
/* Faults known at a time; more wait in the kernel. */
#define PAGER_FAULTS 64
/* FETCH under way. */
#define PAGER_ASKS 64
/* Pages that are pushed first, see pager_predict.c. */
#define PAGER_PREDICTED 256
/* A fault brings the pages behind it along, up to this. */
#define PAGER_FETCH_BYTES 16384
/*
 * Nodes kept free, beside a copy of the largest list, for what is still announced while the program is
 * being halted. Half of them are left when the list was copied: one for each thread that discards at that
 * moment, two for one that moves.
 */
#define PAGER_LAST_NODES (CONFIG_TODO_NODES / 8 + 16)
/* So many more must be free, or what was filled stays listed where taking it off would split. */
#define PAGER_SPARE_NODES 32
/* The most one event takes. */
#define PAGER_CHANGE_NODES TODO_NODES_PER_CHANGE

struct pager_list {
	struct todo_list todo;
	uint16_t refs;        /* spaces; 0: free */
	int64_t postponed_ms; /* when it last could not be filled: an event waits that cannot be read */
	uint64_t present_bytes; /* listed though it is there: at most so much */
};

struct pager_space {
	int uffd; /* -1: free */
	uint16_t list;
};

struct pager_fault {
	uint64_t addr; /* of the page, at the target */
	int64_t seen_ns;
	uint16_t space;
	bool asked; /* the source was; else it has not been looked at */
};

/* See pager_relief.c. */
struct pager_relief {
	struct halt halt;
	bool halted;        /* the program is, or is about to be */
	bool settling;      /* the last changes are being read: for them the reserve is */
	int64_t since_us;   /* since when */
	int64_t again_ms;   /* no look at the threads before */
	int64_t until_ms;   /* not let go before */
	bool tidied;        /* gaps were closed since then */
	int64_t failing_ms; /* since when; 0: it is not failing */
	bool warned;
	unsigned int nr_gaps; /* closed since it is halted */
	uint64_t most;        /* the largest intervals that are fetched at present */
	uint16_t list;        /* where the next one is looked for: list and target address */
	uint64_t cursor;
};

/* See pager_starve.c. */
struct pager_starve {
	int64_t since_ms; /* since when no page can be had; 0: it can */
	int64_t again_ms; /* no try before */
	int pause_ms;     /* between two tries */
};

/* Source addresses asked for and not yet answered. */
struct pager_ask {
	uint64_t pos, end;
	bool relief; /* not for a fault: to free nodes or spaces */
};

struct pager_push {
	uint64_t pos, end; /* source addresses; told up to pos */
	uint16_t number;
	bool ended;     /* by a newer one */
	bool predicted; /* of a page where the program stood */
};

/* Source addresses of pages where the program stood, each once; asked for up to `next`. */
struct pager_predict {
	uint64_t page[PAGER_PREDICTED];
	uint16_t nr, next;
};

struct pager {
	uint64_t page_bytes;
	void *unreadable; /* a page without access, see uffd_is_alive */

	/* The tables, which are changed through the ledger only. */
	struct todo_pool pool;
	struct pager_list lists[PAGER_SPACES];
	struct pager_space spaces[PAGER_SPACES];
	unsigned int nr_spaces;
	char tables_end[1]; /* no field: where the tables end */
	struct pager_ledger *ledger;

	uint64_t nr_events; /* read; faults are none */
	struct pager_relief relief;
	struct pager_starve starve;

	struct pager_fault fault[PAGER_FAULTS];
	unsigned int nr_faults;
	int64_t fault_ns;    /* when the last one was asked for or answered */
	bool faults_dropped; /* some were read and had no room: wake all */
	unsigned int nr_idle_drains;

	/* The link. */
	struct lane *faults, *bulk;
	enum pager_mode mode;
	struct pager_ask asks[PAGER_ASKS];
	unsigned int first_ask, nr_asks;
	struct pager_push pushes[PUSH_MAX];
	unsigned int first_push, nr_pushes;
	uint16_t push_number;
	uint16_t push_list; /* where the next push begins: list and target address */
	uint64_t push_cursor;
	uint64_t redirect_after; /* bulk->bytes_rx before which no fault moves the push */
	bool redirect;           /* a fault asks for it, at push_list and push_cursor */
	struct pager_predict predict;
	struct lane_watch watch;
	int64_t tick_ms;

	/* Since the start. */
	struct histogram latency;
	uint64_t pages_sent, pages_zero, pages_predicted, nr_fetched;
	uint64_t bytes_before, bytes_base;
};

/* ---- pager_ledger.c ---- */

enum pager_change {
	PAGER_EVENT, /* of space `index`: msg */
	PAGER_CUT,   /* of list `index`: start, end */
	PAGER_LIST,  /* into list `index`: start, end, source */
	PAGER_TAKE,  /* a memory with list `index`, descriptor `fd` */
	PAGER_DROP,  /* space `index` */
};

struct pager_entry {
	uint16_t change, index;
	int32_t fd;
	union {
		struct uffd_msg msg;
		struct {
			uint64_t start, end, source;
		};
	};
};

int pager_ledger_init(struct pager *p);
/* The tables as they are now are what everything begins with. */
void pager_ledger_checkpoint(struct pager *p);
/* Room for the next entry, filled in by the caller; it is written down with pager_ledger_count. */
struct pager_entry *pager_ledger_begin(struct pager *p, enum pager_change change,
				       unsigned int index);
void pager_ledger_count(struct pager *p);
/* Takes the last one back: nothing was changed. */
void pager_ledger_forget(struct pager *p);

/* Does what an entry says, to the tables and to nothing else. 0, -ENOSPC or another -errno. */
int pager_apply(struct pager *p, const struct pager_entry *entry);

/* Writes [start, end) down as cut from a list, or as added with this source, and does it. */
int pager_change_list(struct pager *p, enum pager_change change, unsigned int list, uint64_t start,
		      uint64_t end, uint64_t source);

/* Bytes still listed, in all lists. */
uint64_t pager_left(const struct pager *p);

/* ---- pager_space.c ---- */

/* Takes a descriptor over. -EMFILE without a slot. */
int pager_space_add(struct pager *p, int uffd, uint16_t list);
/* That memory is gone, or complete. Wakes who waits. */
void pager_space_drop(struct pager *p, unsigned int space);
/* The same for all whose process has ended or runs another program, which is only noticed by asking. */
void pager_space_drop_dead(struct pager *p);
/* True when there is room for whatever the next message may be: then it may be read. */
bool pager_space_readable(const struct pager *p, unsigned int space);
/* True when that may become true by a message. */
bool pager_space_promises(const struct pager *p, unsigned int space);
/* True when a change is announced: until that was read, every fill says EAGAIN. */
bool pager_space_is_changing(const struct pager *p, unsigned int space);
/* Reads one message and acts on it. 1, 0 when there is none, -errno with log_fail. */
int pager_space_read(struct pager *p, unsigned int space);
/*
 * After EAGAIN: reads what there is, or gives the program a moment to leave the call whose event
 * was read. 0: try again; -EBUSY: cannot be read now; -errno with log_fail.
 */
int pager_space_drain(struct pager *p, unsigned int space);
/* Nodes that must stay free so that events can be read. */
unsigned int pager_reserve(const struct pager *p);
/* As many memories are filled as may be. */
static inline bool pager_is_full(const struct pager *p)
{
	return p->nr_spaces >= CONFIG_MAX_SPACES;
}
static inline struct todo_list *pager_todo(struct pager *p, unsigned int space)
{
	return &p->lists[p->spaces[space].list].todo;
}

/* ---- pager_fault.c ---- */

void pager_fault_add(struct pager *p, unsigned int space, uint64_t addr);
/* Pages [start, end) of a space (or of all that use `list`) need not be waited for any more;
 * `filled`: since their content is there. */
void pager_fault_clear(struct pager *p, unsigned int space, uint64_t start, uint64_t end,
		       bool filled);
/* Looks at faults that were not looked at yet: zero page, or FETCH. 1: some remain; 0; -errno. */
int pager_fault_start(struct pager *p);
/* Sends FETCH. -EBUSY: not now. */
int pager_ask(struct pager *p, uint64_t source, uint64_t len, bool relief);
/* One frame of the fault lane. */
int pager_fault_frame(struct pager *p);

/* ---- pager_halt.c ---- */

/*
 * Halts the program, for at least `stay_ms`; or looks again, while it is halted, what has changed. 1: its
 * memory is settled, no fill says EAGAIN but for a memory whose events have no room. 0: that is not to
 * be had now. -errno with log_fail.
 */
int pager_halt(struct pager *p, int stay_ms);
/* It runs on. As long as p->relief.halt.nr is not 0 some threads are still to be let go: halt_release. */
void pager_resume(struct pager *p);
/* The same, and waits for those, within reason. */
void pager_resume_all(struct pager *p);
/* True when any memory has a change announced. */
bool pager_is_changing(const struct pager *p);

/* ---- pager_relief.c ---- */

/* Halts the program or asks for intervals when nodes or spaces run short. 1: again, soon; 0; -errno. */
int pager_relieve(struct pager *p);

/* ---- pager_starve.c ---- */

/* How a fill went. After -ENOMEM one page at a time is asked for and tried, until one can be filled. */
void pager_starve_note(struct pager *p, int err);
static inline bool pager_is_starving(const struct pager *p)
{
	return p->starve.since_ms != 0;
}
/* True while no try is due. */
bool pager_starve_waits(const struct pager *p);
/* Asks for what is tried next. 0 or -errno. */
int pager_starve_try(struct pager *p);

/* ---- pager_fill.c ---- */

enum pager_content {
	PAGER_DATA,    /* there: fill with it */
	PAGER_ZERO,    /* zeros, somebody may wait: fill with zero pages */
	PAGER_NOTHING, /* zeros, or nothing: leave it to the fault, if there ever is one */
};

/* The source range [start, end) has this content. 0 or -errno with log_fail. */
int pager_fill(struct pager *p, uint64_t start, uint64_t end, enum pager_content content,
	       const uint8_t *data);
/* Address and length of the received PAGES or ZERO, checked. -EPROTO. */
int pager_frame_range(const struct pager *p, const struct lane *lane, uint64_t *start,
		      uint64_t *end);

/* ---- pager_predict.c ---- */

/* The next page, or the next few in a row, where the program stood and which is to come. False: no more. */
bool pager_predict_next(struct pager *p, struct todo_piece *piece);

/* ---- pager_push.c ---- */

/* A fault took `source` from the source: go on behind it. */
void pager_push_redirect(struct pager *p, uint16_t list, uint64_t target, uint64_t source);
/* Keeps the source busy; ends the push when nothing is left. */
int pager_push_continue(struct pager *p);
/* One frame of the bulk lane. */
int pager_push_frame(struct pager *p);

#endif
