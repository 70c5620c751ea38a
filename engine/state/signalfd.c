/* SPDX-License-Identifier: MIT */
/* signalfd(2): a set of signals. The signals themselves are pending on the process. */
#include "engine/state/fd_check.h"

#include "engine/state/signalfd.pb.h"
#include "lib/kernel.h"
#include "lib/log.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/signalfd.h>

bool signalfd_check(struct fd_look *look)
{
	fd_say(look, "a signalfd");
	return true;
}

static int dump_one(struct dump *d, const struct fd_table *table, const struct fd_entry *entry,
		    int copy)
{
	baton_Signalfd msg = {.fd = entry->fd};
	int err = fd_info_u64(table, entry->fd, "sigmask:", 16, &msg.mask);

	(void)copy;
	if (err)
		return log_fail(err, "cannot read the signals of fd %d (a signalfd)", entry->fd);
	return dump_emit(d, &kind_signalfd, &msg);
}

static int signalfd_dump(struct dump *d, const struct state_kind *kind)
{
	(void)kind;
	return fd_dump_type(d, FD_SIGNALFD, dump_one);
}

static int signalfd_restore(struct restore *r, const void *data)
{
	const baton_Signalfd *msg = data;
	uint64_t mask;
	int err = fd_place_begin(r);

	if (err)
		return err;
	mask = remote_push(&r->leader, &msg->mask, sizeof(msg->mask));
	err = fd_place(r,
		       mask ? remote_call(&r->leader, SYS_signalfd4, (uint64_t)-1, mask,
					  sizeof(msg->mask), 0)
			    : -EFAULT,
		       msg->fd);
	remote_reset(&r->leader);
	if (err)
		return log_fail(err, "cannot restore fd %d (a signalfd): %m", msg->fd);
	return 0;
}

const struct state_kind kind_signalfd = {
	.id = KIND_SIGNALFD,
	.name = "signalfd",
	.fields = &baton_Signalfd_msg,
	.size = sizeof(baton_Signalfd),
	.dump = signalfd_dump,
	.restore = signalfd_restore,
};
