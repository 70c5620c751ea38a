/* SPDX-License-Identifier: MIT */
/*
 * The state folder: what survives a process. For each move and role one small text file
 * `<id>-<role>.move`, replaced atomically and synced before what depends on it is said, and beside it
 * `<id>-<role>.stat`, counters for `baton status`, never synced, and `<id>-<role>.lock`, locked by
 * whoever works on the move. The first two hold lines "key value".
 *
 *     source   offered -> committed -> serving -> drained -> (removed)
 *     target   building -> ready -> started -> complete -> (removed)
 */
#ifndef BATON_MOVESTATE_H
#define BATON_MOVESTATE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#define MOVESTATE_ID_BYTES 8
#define MOVESTATE_FILE_MAX 2048 /* bytes of a file */
#define MOVESTATE_BOOT_TEXT 37
#define MOVESTATE_ID_TEXT (2 * MOVESTATE_ID_BYTES + 1)

enum move_stage {
	STAGE_OFFERED,   /* source: nothing was handed over; it runs here */
	STAGE_COMMITTED, /* source: the target may run it */
	STAGE_SERVING,   /* source: the target was seen to run it */
	STAGE_DRAINED,   /* source: the target has all of it */
	STAGE_BUILDING,  /* target: nobody has been told of what is being built */
	STAGE_READY,     /* target: the source may have committed; it has not run */
	STAGE_STARTED,   /* target: it runs, or did */
	STAGE_COMPLETE,  /* target: it has all its memory */
	STAGE_NR,
};

struct movestate {
	char id[MOVESTATE_ID_TEXT]; /* hexadecimal */
	bool source;
	pid_t pid; /* as seen from here; 0: not known yet */
	uint64_t
		pid_start; /* start time in clock ticks (/proc/PID/stat), against a pid used again */
	char comm[20];
	char peer[64];   /* address */
	char token[33];  /* of the link, hexadecimal */
	char dial[80];   /* the peer's HOST:PORT when we dial; "" when we listen */
	char listen[64]; /* source of dump --serve: where; else "" */
	char boot
		[MOVESTATE_BOOT_TEXT]; /* of the system that wrote it: pids mean nothing in another */
	char freezer[256];             /* source: control group that holds it still; "" */
	char reason[200];              /* why it does not go on; "" */
	char keys[128];                /* keys folder, for whoever goes on */
	bool decide;                   /* only an operator can say how it goes on */
	bool stopped;                  /* source: it was in group-stop before the move */
	char fingerprint[65];          /* of the peer's certificate, hexadecimal */
	char mode[12];
	enum move_stage stage;         /* at least as far as the one on disk */
	enum move_stage written_stage; /* at most as far, or none was; not kept in the file */
	pid_t engine;                  /* the baton process that works on it */
	int64_t begun_s, changed_s;    /* CLOCK_REALTIME */
	bool written; /* by us: its files are ours to remove; not kept in the file */
	int lock_fd;  /* while we work on it; 0: we do not; not kept in the file */
};

/* Counters as they are shown; a zero pages_total means unknown. */
struct movestate_counters {
	uint64_t pages_done, pages_left, pages_zero, pages_predicted, faults, bytes_wire;
	uint64_t bytes_packed,
		bytes_packed_wire; /* of pages that went packed; and what they became */
	uint32_t fault_p50_us, fault_p99_us;
	uint64_t rate_kib_s;
	uint64_t peak_rss_kib;
	uint32_t
		starving_s; /* target: so long there has been no memory for the process; 0: there is */
};

/* Opens (and makes, mode 0700) the state folder. Says why it fails: -EACCES, -EROFS, -ENOTDIR, ... */
int movestate_folder_open(const char *path);
/* The open folder; -EBADF before. */
int movestate_folder(void);

/*
 * Writes the state and syncs it: what it says holds from here on. Whoever dies
 * in here leaves a stage in memory that is at least as far as the one on disk. -ENOSPC, -EROFS, ... with
 * the reason said; memory and disk then hold what they held before, or, when it was the sync that failed,
 * the disk may hold either, and what is in memory holds for both.
 */
int movestate_write(struct movestate *state, enum move_stage stage);

/* Removes the files of a move, if movestate_write made them, and gives its lock back. */
void movestate_remove(struct movestate *state);

/* Replaces the counters, without sync; at most every 200 ms, else it does nothing. */
void movestate_count(const struct movestate *state, const struct movestate_counters *counters);

/* Reads one `.move` file by its name in the folder. -EPROTO when it is none. */
int movestate_read(int folder, const char *name, struct movestate *state);
/* Its counters, zeros when there are none. */
void movestate_read_counters(int folder, const struct movestate *state,
			     struct movestate_counters *counters);

/* Takes the move for us, until movestate_remove or the end of all that have our descriptors. -EBUSY:
 * another process works on it. movestate_write does it by itself. */
int movestate_lock(struct movestate *state);
/* True when a living process works on it. */
bool movestate_is_held(int folder, const struct movestate *state);
/* True when the system was booted since it was written: no process that it names is there any more. False also when
 * this one cannot be asked. */
bool movestate_is_of_another_boot(const struct movestate *state);
/* True for the target of a move that has no peer: out of an image file. */
bool movestate_is_of_file(const struct movestate *state);
/* Names a process that is there: its number, and what tells it from a later one with that number. */
void movestate_name_process(struct movestate *state, pid_t pid);
/* True when the very process that it names is there (not a zombie). */
bool movestate_process_lives(const struct movestate *state);

/* A pidfd of that very process: what has its number later is never meant. -1: it is not there. */
int movestate_pidfd(const struct movestate *state);

/* To the baton process that works on it. -ESRCH, -EPERM with the reason said. */
int movestate_signal_engine(const struct movestate *state, int signal);

/* Calls `fn` for each move in the folder until it returns non-zero, which is passed on. */
int movestate_each(int folder, int (*fn)(void *data, struct movestate *state), void *data);
/*
 * The same for the processes that came here and still run here: `fingerprint` and `peer` say from where.
 * With CONFIG_CMD_EVACUATE what is complete leaves such a file, `<id>-target.came`, until the process has ended
 * or has moved on.
 */
int movestate_each_came(int folder, int (*fn)(void *data, struct movestate *state), void *data);

/*
 * A move of this very process, as its source, that was committed. 0 with *found; -ENOENT: none; -EBUSY,
 * with the reason said: somebody works on it.
 */
int movestate_find_pid(pid_t pid, struct movestate *found);
/*
 * Whether another move of this very process, as its source, is committed or being worked on: then the process
 * is that one's, whatever became of this one, which was only offered.
 */
bool movestate_is_superseded(const struct movestate *offered);
/* The move whose id begins with `text`: -ENOENT, -EEXIST (more than one), each with its reason. */
int movestate_find_id(const char *text, struct movestate *found);

/* Removes what batons that died left of moves of which nobody else can know any more. */
void movestate_sweep(void);

/* Locks a pid against a second move while this process lives. -EBUSY: it is being moved. */
int movestate_lock_pid(pid_t pid);
void movestate_unlock_pid(void);
/* True while a process has it, from before its offer to the end of the move. */
bool movestate_pid_is_locked(pid_t pid);

/* Locks a name in the folder (of a socket, of a work that is done once at a time) while this process lives. -EBUSY:
 * another one has it. */
int movestate_lock_door(const char *door);
/* Who has it; 0: it has not said so yet. */
pid_t movestate_door_holder(const char *door);
void movestate_unlock_door(void);
/* In a child: the lock is its parent's alone. */
void movestate_close_door_lock(void);

const char *movestate_stage_name(enum move_stage stage);

/* Name of a file of a move: suffix "move" or "stat". */
void movestate_file_name(const struct movestate *state, const char *suffix, char *out, size_t cap);

#endif
