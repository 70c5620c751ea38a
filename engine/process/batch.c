/* SPDX-License-Identifier: MIT */
/*
 * Queued system calls, and the loop in the process that runs them.
 *
 *     queue   call ── call ── call ──────────────── end: tgkill(2) of SIGSTOP to itself
 *                         └─ fails ─────────────────┘
 *
 * It ends with a signal and no trap instruction: that is a forced SIGTRAP, and where it is blocked or
 * ignored the kernel resets the program's handler. SIGSTOP can be neither, and a tracer keeps it from having
 * any effect.
 */
#include "engine/process/batch.h"

#include "lib/log.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stddef.h>
#include <string.h>
#include <sys/syscall.h>

int batch_room(struct remote *r, unsigned int calls, size_t bytes)
{
	const struct batch *b = r->batch;

	/* One is for the closing of the file. */
	if (b->nr + calls < BATCH_CALLS && bytes <= BATCH_DATA_BYTES - b->used &&
	    (!b->nr || b->whose->tid == r->tid))
		return b->err;
	return batch_flush(r);
}

uint64_t batch_push(struct remote *r, const void *data, size_t len)
{
	struct batch *b = r->batch;
	uint32_t at = b->used;

	if (len > BATCH_DATA_BYTES - at) {
		b->err = b->err ? b->err : -ENOBUFS;
		return 0;
	}
	memcpy(b->data + at, data, len);
	b->used = at + (uint32_t)((len + 7) & ~(size_t)7);
	b->used = b->used < BATCH_DATA_BYTES ? b->used : BATCH_DATA_BYTES;
	return b->at + offsetof(struct batch, data) - offsetof(struct batch, calls) + at;
}

uint64_t batch_push_str(struct remote *r, const char *text)
{
	return batch_push(r, text, strlen(text) + 1);
}

const char *batch_text(const struct batch *b, uint64_t addr)
{
	return b->data +
	       (addr - b->at - offsetof(struct batch, data) + offsetof(struct batch, calls));
}

void batch_add(struct remote *r, uint32_t flags, batch_fail_fn *fail, long nr,
	       const uint64_t args[static 6])
{
	struct batch *b = r->batch;
	struct arch_batch_call *call = &b->calls[b->nr];

	if (!b->nr)
		b->whose = r;
	if (b->nr == BATCH_CALLS || b->whose->tid != r->tid)
		b->err = b->err ? b->err : -ENOBUFS; /* batch_room was not asked */
	if (b->err)
		return;
	call->nr = (uint32_t)nr;
	call->flags = flags;
	memcpy(call->args, args, sizeof(call->args));
	/* cppcheck-suppress AssignmentAddressToInteger; an array of functions it is */
	b->fail[b->nr++] = fail;
}

/* A single call has closed it, and so has the end of a queue. */
static void close_file(struct remote *r)
{
	struct batch *b = r->batch;

	if (b->file)
		batch_add(r, ARCH_BATCH_FIRST | ARCH_BATCH_ANY, NULL, SYS_close,
			  (const uint64_t[6]){0});
	b->file = NULL;
}

void batch_open(struct remote *r, batch_fail_fn *fail, const char *path, uint32_t flags)
{
	struct batch *b = r->batch;
	uint64_t addr;

	if (b->file && b->file_flags == flags && !strcmp(b->file, path))
		return;
	close_file(r);
	addr = batch_push_str(r, path);
	batch_add(r, ARCH_BATCH_KEEP, fail, SYS_openat,
		  (const uint64_t[6]){(uint64_t)AT_FDCWD, addr, flags});
	if (b->err)
		return;
	b->file = batch_text(b, addr);
	b->file_flags = flags;
}

/* Runs the first `nr` calls, and one behind them that stops it. *failed: the index of one that did; nr: none. */
static int run(struct remote *r, unsigned int nr, unsigned int *failed, int64_t *kept)
{
	struct batch *b = r->batch;
	const size_t size = sizeof(b->calls[0]);
	uint64_t end = b->at + nr * size, at;
	struct arch_regs regs = r->saved;
	int err;

	b->calls[nr] = (struct arch_batch_call){
		.nr = SYS_tgkill,
		.flags = ARCH_BATCH_END,
		.args = {(uint64_t)b->pid_inside, (uint64_t)r->tid_inside, SIGSTOP}};
	err = remote_write(r, b->at, b->calls, (nr + 1) * size);
	if (!err && b->used)
		err = remote_write(r, b->at + sizeof(b->calls), b->data, b->used);
	if (err)
		return err;
	arch_batch_load(&regs, b->code, b->at, end);
	r->cloned = 0;
	/* Another SIGSTOP, from anybody, stops it on the way. */
	do
		err = remote_go(r, &regs, SIGSTOP);
	while (!err && !arch_batch_ended(&regs, end, &at, kept));
	if (err)
		return err;
	*failed = at ? (unsigned int)((at - b->at) / size) : nr;
	return *failed > nr ? -EPROTO : 0;
}

static int say(struct remote *r, unsigned int failed)
{
	struct batch *b = r->batch;
	struct arch_batch_call *call = &b->calls[failed];
	int err = remote_read(
		r, b->at + failed * sizeof(*call) + offsetof(struct arch_batch_call, result),
		&call->result, sizeof(call->result));

	return err ? err : b->fail[failed](b, call, (int)call->result);
}

/* *kept: of the last call that wanted it. */
static int run_all(struct batch *b, int64_t *kept)
{
	struct remote *r = b->whose;
	unsigned int nr = b->nr, failed = nr;

	if (!b->err)
		b->err = run(r, nr, &failed, kept);
	if (!b->err && failed < nr)
		b->err = say(r, failed);
	b->nr = 0;
	b->used = 0;
	b->file = NULL;
	return b->err;
}

int batch_flush(struct remote *r)
{
	struct batch *b = r->batch;
	int64_t kept;

	if (!b->nr || b->err)
		return b->err;
	close_file(b->whose);
	return run_all(b, &kept);
}

int64_t batch_run(struct remote *r, long nr, const uint64_t args[static 6])
{
	int64_t kept = 0;
	int err = batch_room(r, 1, 0);

	close_file(r);
	batch_add(r, ARCH_BATCH_KEEP | ARCH_BATCH_ANY, NULL, nr, args);
	if (!err)
		err = run_all(r->batch, &kept);
	return err ? err : kept;
}
