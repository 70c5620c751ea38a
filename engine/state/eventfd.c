/* SPDX-License-Identifier: MIT */
/* eventfd(2): a counter. */
#include "engine/state/fd_check.h"

#include "engine/state/eventfd.pb.h"
#include "lib/kernel.h"
#include "lib/log.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

bool eventfd_check(struct fd_look *look)
{
	fd_say(look, "an eventfd");
	return true;
}

/*
 * Kernels before 6.5 do not tell whether a counter is a semaphore. A read of a count above 1 does:
 * a semaphore gives 1 and keeps the rest. What was read is written back.
 */
static int find_semaphore(int fd, uint64_t count, bool *semaphore)
{
	uint64_t value, add = count < 2 ? 2 : 0;
	int flags = fcntl(fd, F_GETFL), err = 0;

	fcntl(fd, F_SETFL, flags | O_NONBLOCK);
	if (add && write(fd, &add, 8) != 8)
		err = -errno;
	if (!err && read(fd, &value, 8) != 8)
		err = -errno;
	if (!err) {
		*semaphore = value == 1;
		/* Back to what it was. */
		if (*semaphore) {
			for (uint64_t left = count + add - 1; left > count && !err; left--)
				err = read(fd, &value, 8) == 8 ? 0 : -errno;
			value = count + add - 1 < count ? 1 : 0;
		} else {
			value = count;
		}
		if (!err && value && write(fd, &value, 8) != 8)
			err = -errno;
	}
	fcntl(fd, F_SETFL, flags);
	return err;
}

static int dump_one(struct dump *d, const struct fd_table *table, const struct fd_entry *entry,
		    int copy)
{
	baton_Eventfd msg = {.fd = entry->fd};
	uint64_t semaphore;
	int err;

	err = fd_info_u64(table, entry->fd, "eventfd-count:", 16, &msg.count);
	if (!err && fd_info_u64(table, entry->fd, "eventfd-semaphore:", 10, &semaphore) == 0)
		msg.semaphore = semaphore != 0;
	else if (!err)
		err = find_semaphore(copy, msg.count, &msg.semaphore);
	if (err)
		return log_fail(err, "cannot read the counter of fd %d (an eventfd): %m",
				entry->fd);
	return dump_emit(d, &kind_eventfd, &msg);
}

static int eventfd_dump(struct dump *d, const struct state_kind *kind)
{
	(void)kind;
	return fd_dump_type(d, FD_EVENTFD, dump_one);
}

static int eventfd_restore(struct restore *r, const void *data)
{
	const baton_Eventfd *msg = data;
	int err, copy;

	if (msg->count == UINT64_MAX)
		return log_fail(EPROTO, "fd %d: a count that no eventfd can have", msg->fd);
	err = fd_place_begin(r);
	if (err)
		return err;
	err = fd_place(r,
		       remote_call(&r->leader, SYS_eventfd2, (uint32_t)msg->count,
				   msg->semaphore ? EFD_SEMAPHORE : 0),
		       msg->fd);
	if (err)
		return log_fail(err, "cannot restore fd %d (an eventfd): %m", msg->fd);
	if (msg->count >> 32) {
		uint64_t rest = msg->count & ~(uint64_t)UINT32_MAX;

		copy = fd_restore_take(r, msg->fd);
		if (copy < 0)
			return copy;
		if (write(copy, &rest, 8) != 8)
			err = log_fail(errno, "cannot set the counter of fd %d: %m", msg->fd);
		close(copy);
	}
	return err;
}

const struct state_kind kind_eventfd = {
	.id = KIND_EVENTFD,
	.name = "eventfd",
	.fields = &baton_Eventfd_msg,
	.size = sizeof(baton_Eventfd),
	.dump = eventfd_dump,
	.restore = eventfd_restore,
};
