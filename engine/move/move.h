/* SPDX-License-Identifier: MIT */
/*
 * A move: the sequence that hands a process over. Two roles, whoever dialed; see docs/design.md.
 *
 *     source   RUNNING → FROZEN → DESCRIBED → COMMITTED → SERVING → DRAINED → DONE
 *     target              BUILDING → READY → STARTED → FILLING → COMPLETE
 */
#ifndef BATON_MOVE_H
#define BATON_MOVE_H

#include "engine/move/link.h"
#include "engine/move/move.pb.h"
#include "engine/move/movestate.h"
#include "lib/outcome.h"
#include <stdbool.h>
#include <stdint.h>

enum move_role { MOVE_SOURCE, MOVE_TARGET, MOVE_SAVE /* into a file: engine/image/save.h */ };

enum move_mode { MOVE_ANY, MOVE_LAZY, MOVE_ON_DEMAND, MOVE_EAGER };

/* How far a move is; told at each change of stage and every 200 ms while pages travel. */
struct move_report;

struct move_progress {
	const char *stage;
	uint64_t pages_done, pages_left; /* both 0: nothing to tell yet */
	uint64_t rate_kib_s;
};

struct move_options {
	const char *keys_dir;        /* of the policy */
	enum move_mode mode;         /* MOVE_ANY: the other side decides */
	pid_t pid;                   /* source: the process */
	unsigned int max_rate_mib_s; /* source: limit of the push, 0: none */
	unsigned int keepalive_s;    /* a link is dead on which nothing has moved for so long */
	int patience_ms;   /* source: how long it waits for a target that is away after GO;
				      * < 0: for ever */
	const char *stdio; /* target: see struct restore_options */
	bool pidns;
	bool allow_clock_jump; /* a target without time namespaces may take the process */
	void (*progress)(const struct move_progress *progress); /* NULL: nobody looks */
	const char *listen;                                     /* dump --serve: where; NULL */
	/*
	 * Target: begins to send a process that came from the peer back to it, in a process of its own. NULL: not
	 * built in.
	 */
	void (*send_back)(pid_t pid, const char *address);
	/* At the end, once, in the process that ends the move: says what came of it. */
	void (*finish)(const struct move_report *report, enum outcome outcome);
};

/* What a downtime is made of, in its order; the source's, then the target's, which are most of its READY and START. */
enum move_part {
	PART_FREEZE,   /* all threads are stopped, the first of them is ours */
	PART_FILES,    /* files that changed since the answer */
	PART_DESCRIBE, /* its state is read and sent */
	PART_READY,    /* until the target says so */
	PART_COMMIT,   /* held, and on disk */
	PART_START,    /* until the target says STARTED */
	PART_BUILD,    /* target: from the first message to the last */
	PART_ARM,      /* its memory is watched, it is complete */
	PART_RECORD,   /* `ready` is on disk */
	PART_GO,       /* until the source says so */
	PART_RUN,      /* `started` is on disk, and it runs */
	NR_PARTS
};

/* What the result says; the names are those of the JSON object. */
struct move_report {
	char id[MOVESTATE_ID_TEXT];
	pid_t pid;
	char comm[20];
	char peer[SOCKET_NAME_MAX];
	uint64_t downtime_us; /* freeze to STARTED, measured at the source */
	uint64_t freeze_us;   /* to stop all threads */
	uint32_t part_us[NR_PARTS];
	uint64_t total_us;
	uint64_t pages_total, pages_sent, pages_zero, bytes_wire, faults;
	uint64_t pages_predicted; /* target: where its threads stood, so that they came first */
	uint64_t bytes_packed,
		bytes_packed_wire; /* of pages that went packed; and what they became */
	uint32_t fault_p50_us, fault_p99_us;
	uint32_t reconnects;
	bool check_only; /* the peer only wanted to know: no move was asked for */
};

/* Takes what the role needs from the arena; before arena_seal. -ENOMEM. */
int move_init(enum move_role role);
int move_source_init(void);
int move_target_init(void);

/*
 * Whether the process can be moved at all; nothing is stopped. Each reason is logged. 0;
 * -EOPNOTSUPP, -ESRCH, -EINVAL: it cannot; -EPERM, -EACCES: we have no right to look.
 */
int move_probe(pid_t pid);
enum outcome move_probe_outcome(int err);

/*
 * One move from beginning to end, on a link that is ready for link_open. From the freeze or the building
 * on it is another process that does it (engine/move/twin.h). options->finish is called in all cases.
 */
enum outcome move_source(struct link *link, const struct move_options *options);
enum outcome move_target(struct link *link, const struct move_options *options);

/*
 * Goes on with a move of which this device is the source and whose engine is gone, from its state file.
 * The move is locked by the caller. With `peer_is_dead` an operator has decided: the process runs here
 * again, whatever the target does.
 */
enum outcome move_source_resume(struct link *link, const struct move_options *options,
				const struct movestate *state, bool peer_is_dead);
/*
 * The same for a move that was not committed: its process runs on here in any case. Then the target, which
 * may be ready and wait, can be told: on a link that is ready for link_open. Then it is forgotten.
 */
enum outcome move_source_let_run(struct link *link, const struct move_options *options,
				 const struct movestate *state);
enum outcome move_source_tell(struct link *link);

/*
 * Target that dialed: the source waits for a word on a move that has no worker here any more. Dials it and
 * answers from what is on disk.
 */
enum outcome move_target_resume(struct link *link, const struct move_options *options,
				const struct movestate *state);
/* An operator's word that the copy here is not needed any more: it is killed. */
enum outcome move_source_give_up(const struct move_options *options, const struct movestate *state);

const char *move_mode_name(enum move_mode mode);

/* ---- shared by both roles ---- */

/* What both roles keep of a move. */
struct move {
	struct link *link;
	const struct move_options *options;
	struct move_report report;
	struct movestate state;
	enum move_mode mode;
	const char *stage;
	int64_t begun_us, ticked_us, part_us; /* when: it began, it was told, a part ended */
	uint64_t ticked_bytes;
	int64_t lost_ms, told_ms; /* when the link was lost, and that last said; 0: it works */
	int64_t met_ms;           /* when the link was last there again */
	int retry_ms;             /* before the next attempt */
};

void move_begin(struct move *move, struct link *link, const struct move_options *options);

/* A new stage, for progress, log and status. */
void move_stage(struct move *move, const char *stage);

/* A part of the downtime ends here, and the next one begins. The first begins with move_part_begin. */
void move_part_begin(struct move *move);
void move_part_end(struct move *move, enum move_part part);

/* From here on the link is looked after: it is dead when nothing has moved for keepalive_s. `ask_ms`:
 * how soon we ask, 0: when a quarter of that is over. */
void move_look_after(struct move *move, int ask_ms);

/* Progress while pages travel; cheap, call it often. `counters` without rate and memory. */
void move_count(struct move *move, struct movestate_counters *counters);

/* The end: totals, closed link, options->finish. */
enum outcome move_end(struct move *move, enum outcome outcome);

/* Takes what identifies a move from its state file, instead of making it. */
void move_begin_again(struct move *move, const struct movestate *state);

/*
 * Opens the link anew after a cut: tries again until `patience_ms` is over (< 0: for ever) or
 * `is_stopped` says so (NULL: never), asked between attempts. 0 or the last error. The log gets a line for the
 * loss and one a minute; with move_met_again, once the peer has answered as it should, how long it took.
 * Meanwhile the reason is in the state file.
 */
int move_reconnect(struct move *move, int patience_ms, bool (*is_stopped)(void));
void move_met_again(struct move *move);

/* For whoever looks at the state folder: why the peer is away (""; it is there), and who works on the move. Nothing
 * depends on it, and the stage stays what it was. */
void move_write_reason(struct move *move, const char *reason);

/* What of `patience_ms` is left since the link was lost; < 0: for ever. */
int move_patience_left(const struct move *move, int patience_ms);

/* Largest resident memory of this process so far, in KiB; 0 when unknown. */
uint64_t move_peak_rss_kib(void);

#endif
