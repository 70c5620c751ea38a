/* SPDX-License-Identifier: MIT */
/*
 * The state folder: what survives this process. For each move and role one small text file
 * `<id>-<role>.move`, replaced atomically and synced at every stage that matters, and beside it
 * `<id>-<role>.stat`, counters for `baton status`, never synced. Both hold lines "key value".
 *
 *     source   frozen -> committed -> serving -> drained -> (removed)
 *     target   building -> ready -> started -> complete -> (removed)
 */
#ifndef BATON_MOVESTATE_H
#define BATON_MOVESTATE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#define MOVESTATE_ID_BYTES 8
#define MOVESTATE_FILE_MAX 1024 /* bytes of a file */
#define MOVESTATE_ID_TEXT (2 * MOVESTATE_ID_BYTES + 1)

enum move_stage {
	STAGE_OFFERED, /* both: nothing is stopped, nothing is built */
	STAGE_FROZEN,
	STAGE_COMMITTED,
	STAGE_SERVING,
	STAGE_DRAINED,
	STAGE_BUILDING,
	STAGE_READY,
	STAGE_STARTED,
	STAGE_COMPLETE,
	STAGE_NR,
};

struct movestate {
	char id[MOVESTATE_ID_TEXT]; /* hexadecimal */
	bool source;
	pid_t pid; /* as seen from here; 0: not known yet */
	uint64_t
		pid_start; /* start time in clock ticks (/proc/PID/stat), against a pid used again */
	char comm[20];
	char peer[64];        /* address */
	char fingerprint[65]; /* of the peer's certificate, hexadecimal */
	char mode[12];
	enum move_stage stage;
	pid_t engine;               /* the baton process that works on it */
	int64_t begun_s, changed_s; /* CLOCK_REALTIME */
	bool written;               /* by us: its files are ours to remove; not kept in the file */
};

/* Counters as they are shown; a zero pages_total means unknown. */
struct movestate_counters {
	uint64_t pages_done, pages_left, pages_zero, faults, bytes_wire;
	uint32_t fault_p50_us, fault_p99_us;
	uint64_t rate_kib_s;
	uint64_t peak_rss_kib;
};

/* Opens (and makes, mode 0700) the state folder. Says why it fails: -EACCES, -EROFS, -ENOTDIR, ... */
int movestate_folder_open(const char *path);
/* The open folder; -EBADF before. */
int movestate_folder(void);

/*
 * Writes the state and syncs it: what it says holds from here on. The stage is set to `stage` first.
 * -ENOSPC, -EROFS, ... with the reason said; the file then holds what it held before.
 */
int movestate_write(struct movestate *state, enum move_stage stage);

/* Removes both files of a move, if movestate_write made them. */
void movestate_remove(const struct movestate *state);

/* Replaces the counters, without sync; at most every 200 ms, else it does nothing. */
void movestate_count(const struct movestate *state, const struct movestate_counters *counters);

/* Reads one `.move` file by its name in the folder. -EPROTO when it is none. */
int movestate_read(int folder, const char *name, struct movestate *state);
/* Its counters, zeros when there are none. */
void movestate_read_counters(int folder, const struct movestate *state,
			     struct movestate_counters *counters);

/* -EBUSY, with the reason said, when the folder holds a move of this very process. */
int movestate_find_pid(pid_t pid);

/* Removes what batons that died left of moves in which nothing was committed yet. */
void movestate_sweep(void);

/* Locks a pid against a second move while this process lives. -EBUSY: it is being moved. */
int movestate_lock_pid(pid_t pid);
void movestate_unlock_pid(void);

const char *movestate_stage_name(enum move_stage stage);

/* Name of a file of a move: suffix "move" or "stat". */
void movestate_file_name(const struct movestate *state, const char *suffix, char *out, size_t cap);

#endif
