/* SPDX-License-Identifier: MIT */
/*
 * System calls of the process that is being built, made many at a time: they are queued here, and run by a
 * loop in its scratch area (arch_batch_code), in the order in which they were queued. Whatever else is
 * asked of a thread (remote_run) is queued behind them and runs in the same go. There is one queue: when
 * calls of another thread come, those that wait are run.
 *
 * A call that fails ends the building, with its own `fail` to say why, and what was queued behind it is not
 * made. So a failure shows late: what needs a call's effect from outside of the process asks for batch_flush.
 */
#ifndef BATON_BATCH_H
#define BATON_BATCH_H

#include "arch/arch.h"
#include "engine/process/remote.h"

#define BATCH_CALLS 64
#define BATCH_DATA_BYTES 4864 /* a path, and the name of a mapping beside it */

struct batch;

/* Says by log_fail what `call` failed at; err as the kernel gave it. Returns -errno. */
typedef int batch_fail_fn(const struct batch *b, const struct arch_batch_call *call, int err);

struct batch {
	uint64_t code, at; /* in the process: arch_batch_code; calls, and their data behind */
	pid_t pid_inside;
	void *owner; /* for `fail` */
	unsigned int nr;
	struct remote *whose; /* the thread that shall run them */
	uint32_t used;
	int err;          /* it has failed; nothing is done any more */
	const char *file; /* the path of the file that is open; NULL: none is */
	uint32_t file_flags;
	batch_fail_fn *fail[BATCH_CALLS];
	struct arch_batch_call calls[BATCH_CALLS + 1]; /* with the end */
	char data[BATCH_DATA_BYTES];
};

/* Bytes that it takes at `at`. */
#define BATCH_BYTES (sizeof(((struct batch *)0)->calls) + BATCH_DATA_BYTES)

/*
 * Sees to room for some more calls and their data, 8 bytes more for each piece of it: runs what is there if
 * need be. 0 or -errno.
 */
int batch_room(struct remote *r, unsigned int calls, size_t bytes);

/* Data of a call; its address in the process. For its text later: batch_text. */
uint64_t batch_push(struct remote *r, const void *data, size_t len);
uint64_t batch_push_str(struct remote *r, const char *text);
const char *batch_text(const struct batch *b, uint64_t addr);

/*
 * Queues a call. `flags` as arch_batch_code knows them; `fail` says what it failed at; NULL with
 * ARCH_BATCH_ANY.
 */
void batch_add(struct remote *r, uint32_t flags, batch_fail_fn *fail, long nr,
	       const uint64_t args[static 6]);
#define batch_call(r, fail, nr, ...)                                                               \
	batch_add((r), 0, (fail), (nr), (const uint64_t[6]){__VA_ARGS__})
/* The same where a failure means nothing. */
#define batch_try(r, nr, ...)                                                                      \
	batch_add((r), ARCH_BATCH_ANY, NULL, (nr), (const uint64_t[6]){__VA_ARGS__})

/*
 * Queues the opening of a file, unless it is the one that is open. The next calls take it for an argument
 * (ARCH_BATCH_FIRST, ARCH_BATCH_FIFTH) until another one is opened, or batch_room has run them. Needs room for
 * two calls and the path.
 */
void batch_open(struct remote *r, batch_fail_fn *fail, const char *path, uint32_t flags);

/* Runs what was queued, of whichever thread. 0 or -errno, its reason said. */
int batch_flush(struct remote *r);

/* One call, behind what was queued: see remote_run. */
int64_t batch_run(struct remote *r, long nr, const uint64_t args[static 6]);

#endif
