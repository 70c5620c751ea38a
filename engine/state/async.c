/* SPDX-License-Identifier: MIT */
/* Signal-driven I/O of open files: owner, signal, O_ASYNC. Restored once all threads are there. */
#include "engine/state/fd_check.h"

#include "engine/state/async.pb.h"
#include "engine/process/proc.h"
#include "lib/kernel.h"
#include "lib/log.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <unistd.h>

/* Kernel interface, linux/fcntl.h; libc may name it differently. */
struct owner {
	int type;
	int32_t pid;
};
#define OWNER_TID 0
#define OWNER_PID 1
#define OWNER_PGRP 2

/* The owner's number as the process knows it, or -ENOENT: it is no part of the process. */
static int owner_inside(struct dump *d, const struct owner *owner)
{
	if (owner->type != OWNER_PGRP) {
		for (unsigned int i = 0; i < d->freeze->nr; i++)
			if (d->freeze->threads[i].tid == owner->pid)
				return d->freeze->threads[i].tid_inside;
		return -ENOENT;
	}
	/* Its own group is what it will be in again. */
	if (getpgid(d->pid) == owner->pid && d->status.pgid_inside > 0)
		return d->status.pgid_inside;
	return -ENOENT;
}

static int dump_one(struct dump *d, const struct fd_entry *entry, int copy)
{
	baton_Async msg = {.fd = entry->fd, .enabled = entry->flags & O_ASYNC};
	struct owner owner = {0, 0};
	int signal_nr = fcntl(copy, F_GETSIG);

	if (fcntl(copy, F_GETOWN_EX, &owner) < 0 || signal_nr < 0)
		return log_fail(errno, "cannot read the owner of fd %d: %m", entry->fd);
	msg.signal = signal_nr;
	msg.owner_type = owner.type;
	if (owner.pid)
		msg.owner = owner_inside(d, &owner);
	if (msg.owner < 0) {
		if (msg.enabled)
			return log_fail(EOPNOTSUPP,
					"fd %d sends signals to process %d, which stays behind "
					"(F_SETOWN)",
					entry->fd, owner.pid);
		msg.owner = 0; /* never told: O_ASYNC is off */
	}
	return msg.enabled || msg.owner || msg.signal ? dump_emit(d, &kind_async, &msg) : 0;
}

/* After the last thread, which is the leader. */
static int async_dump(struct dump *d, const struct state_kind *kind,
		      const struct freeze_thread *thread)
{
	int err = 0;
	const struct fd_table *table;

	(void)kind;
	if (thread->tid != d->pid)
		return 0;
	table = fd_table_of(d, &err);
	for (unsigned int i = 0; table && i < table->nr && !err; i++) {
		const struct fd_entry *entry = &table->fds[i];
		int copy;

		if (entry->of != entry->fd || entry->type == FD_STDIO || (entry->flags & O_PATH))
			continue;
		copy = fd_take(d->pidfd, entry->fd);
		if (copy < 0)
			return log_fail(copy, "cannot look at fd %d: %m", entry->fd);
		err = dump_one(d, entry, copy);
		close(copy);
	}
	return err;
}

static int64_t set_owner(struct restore *r, const baton_Async *msg)
{
	struct owner owner = {msg->owner_type, msg->owner};
	uint64_t addr = remote_push(&r->leader, &owner, sizeof(owner));
	int64_t err =
		addr ? remote_call(&r->leader, SYS_fcntl, (uint64_t)msg->fd, F_SETOWN_EX, addr)
		     : -EFAULT;

	remote_reset(&r->leader);
	return err;
}

static int async_restore(struct restore *r, const void *data)
{
	const baton_Async *msg = data;
	int64_t err = 0;
	int copy, flags;

	if (msg->owner < 0 || msg->signal < 0 || msg->signal > 64 || msg->owner_type < OWNER_TID ||
	    msg->owner_type > OWNER_PGRP)
		return log_fail(EPROTO, "fd %d: an owner that cannot be", msg->fd);
	copy = fd_restore_take(r, msg->fd);
	if (copy < 0)
		return copy;
	flags = fcntl(copy, F_GETFL);
	close(copy);
	if (msg->owner)
		err = set_owner(r, msg);
	if (!err && msg->signal)
		err = remote_call(&r->leader, SYS_fcntl, (uint64_t)msg->fd, F_SETSIG,
				  (uint64_t)msg->signal);
	/* Remotely: the number that a signal tells is the one it is switched on with. */
	if (!err && msg->enabled)
		err = remote_call(&r->leader, SYS_fcntl, (uint64_t)msg->fd, F_SETFL,
				  (uint64_t)(flags | O_ASYNC));
	return err ? log_fail((int)err, "cannot set the signals of fd %d: %m", msg->fd) : 0;
}

const struct state_kind kind_async = {
	.id = KIND_ASYNC,
	.name = "signal-driven descriptor",
	.fields = &baton_Async_msg,
	.size = sizeof(baton_Async),
	.dump_thread = async_dump,
	.restore = async_restore,
};
