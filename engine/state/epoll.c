/* SPDX-License-Identifier: MIT */
/*
 * epoll: the instance, and what it watches. An item is a pair of an open file and the number it
 * was added under; the number may have been closed or given to something else since, while the
 * open file lives on under another number.
 */
#include "engine/state/fd_check.h"

#include "engine/state/epoll.pb.h"
#include "lib/arena.h"
#include "lib/kernel.h"
#include "lib/log.h"
#include "lib/text.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/kcmp.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

/* One instance may watch this many: each open file once, and some numbers that were closed. */
#define SEEN_MAX (2 * CONFIG_MAX_FDS)
#define ITEMS_MAX (sizeof(((baton_EpollWatch *)0)->items) / sizeof(baton_EpollItem))

bool epoll_check(struct fd_look *look)
{
	fd_say(look, "an epoll instance");
	return true;
}

static int dump_instance(struct dump *d, const struct fd_table *table, const struct fd_entry *entry,
			 int copy)
{
	baton_Epoll msg = {.fd = entry->fd};

	(void)table;
	(void)copy;
	return dump_emit(d, &kind_epoll, &msg);
}

static int epoll_dump(struct dump *d, const struct state_kind *kind)
{
	(void)kind;
	return fd_dump_type(d, FD_EPOLL, dump_instance);
}

struct collect {
	struct dump *d;
	const struct fd_table *table;
	baton_EpollWatch *msg;
	int32_t *seen; /* numbers of the items so far, at most SEEN_MAX */
	unsigned int nr_seen;
	unsigned int repeat; /* how many items before this one have the same number */
};

/* Is descriptor `fd` the open file that item `repeat` of this number watches? */
static bool watches(const struct collect *c, int number, int fd)
{
	struct kcmp_epoll_slot slot = {(__u32)c->msg->fd, (__u32)number, c->repeat};

	return syscall(SYS_kcmp, c->table->pid, c->table->pid, KCMP_EPOLL_TFD, fd, &slot) == 0;
}

static int find_target(const struct collect *c, int number)
{
	if (fd_find(c->table, number) && watches(c, number, number))
		return number;
	for (unsigned int i = 0; i < c->table->nr; i++)
		if (c->table->fds[i].of == c->table->fds[i].fd &&
		    watches(c, number, c->table->fds[i].fd))
			return c->table->fds[i].fd;
	return log_fail(EOPNOTSUPP,
			"fd %d (epoll) watches something that is no longer open here (its number "
			"was %d) but lives on in another process; remove it first",
			c->msg->fd, number);
}

static int flush(struct collect *c)
{
	int err = c->msg->items_count ? dump_emit(c->d, &kind_epoll_watch, c->msg) : 0;

	c->msg->items_count = 0;
	return err;
}

/* "       5 events: 80000019 data:  7f...  pos:0 ino:61 sdev:7" */
static int take_item(void *data, const char *text)
{
	struct collect *c = data;
	baton_EpollItem *item = &c->msg->items[c->msg->items_count];
	uint64_t number, events, value;
	const char *at = text;

	if (!text_take_u64(&at, 10, &number) || !(at = strstr(at, "events:")) ||
	    !(text = text_after(at, "events:")) || !text_take_u64(&text, 16, &events) ||
	    !(at = strstr(text, "data:")) || !(text = text_after(at, "data:")) ||
	    !text_take_u64(&text, 16, &value))
		return log_fail(EPROTO, "fd %d (epoll): cannot read what it watches", c->msg->fd);
	if (c->nr_seen == SEEN_MAX)
		return log_fail(E2BIG, "fd %d (epoll) watches more than %d things", c->msg->fd,
				SEEN_MAX);
	/* kcmp(2) counts items of one number in the order that they are listed in. */
	c->repeat = 0;
	for (unsigned int i = 0; i < c->nr_seen; i++)
		c->repeat += c->seen[i] == (int32_t)number;
	c->seen[c->nr_seen++] = (int32_t)number;
	*item = (baton_EpollItem){
		.number = (int32_t)number,
		.events = (uint32_t)events,
		.data = value,
	};
	item->target = find_target(c, item->number);
	if (item->target < 0)
		return item->target;
	c->msg->items_count++;
	return c->msg->items_count == ITEMS_MAX ? flush(c) : 0;
}

static int dump_items(struct dump *d, const struct fd_table *table, const struct fd_entry *entry,
		      int copy)
{
	size_t mark = arena_mark();
	struct collect c = {.d = d, .table = table};
	int err;

	(void)copy;
	c.msg = arena_alloc(ARENA_SCRATCH, sizeof(*c.msg), 16);
	c.seen = arena_alloc(ARENA_SCRATCH, SEEN_MAX * sizeof(*c.seen), 16);
	if (!c.msg || !c.seen)
		return log_fail(ENOMEM, "no room to describe fd %d; raise the memory budget",
				entry->fd);
	c.msg->fd = entry->fd;
	err = fd_info_each(table, entry->fd, "tfd:", take_item, &c);
	if (!err)
		err = flush(&c);
	arena_reset(mark);
	return err;
}

static int watch_dump(struct dump *d, const struct state_kind *kind)
{
	(void)kind;
	return fd_dump_type(d, FD_EPOLL, dump_items);
}

static int epoll_restore(struct restore *r, const void *data)
{
	const baton_Epoll *msg = data;
	int err = fd_place_begin(r);

	if (!err)
		err = fd_place(r, remote_call(&r->leader, SYS_epoll_create1, 0), msg->fd);
	return err ? log_fail(err, "cannot restore fd %d (epoll): %m", msg->fd) : 0;
}

static int64_t add_item(struct restore *r, int epfd, const baton_EpollItem *item)
{
	struct epoll_event event = {.events = item->events, .data.u64 = item->data};
	uint64_t addr;
	int64_t err;

	remote_reset(&r->leader);
	addr = remote_push(&r->leader, &event, sizeof(event));
	if (!addr)
		return -EFAULT;
	err = remote_call(&r->leader, SYS_epoll_ctl, (uint64_t)epfd, EPOLL_CTL_ADD,
			  (uint64_t)item->number, addr);
	remote_reset(&r->leader);
	return err;
}

/* Adds an open file under a number that is not its own: it gets that number for a moment. */
static int64_t add_as(struct restore *r, int epfd, const baton_EpollItem *item)
{
	struct remote *p = &r->leader;
	uint64_t number = (uint64_t)item->number;
	int64_t aside = -1, cloexec = 0, err;

	if (fd_is_placed(r, item->number)) {
		cloexec = remote_call(p, SYS_fcntl, number, F_GETFD);
		aside = remote_call(p, SYS_fcntl, number, F_DUPFD_CLOEXEC, 0);
		if (aside < 0)
			return aside;
	}
	err = fd_clear_number(r, item->number);
	if (!err)
		err = remote_call(p, SYS_dup3, (uint64_t)item->target, number, 0);
	if (err >= 0)
		err = add_item(r, epfd, item);
	if (aside < 0) {
		remote_call(p, SYS_close, number);
	} else {
		remote_call(p, SYS_dup3, (uint64_t)aside, number, cloexec > 0 ? O_CLOEXEC : 0);
		remote_call(p, SYS_close, (uint64_t)aside);
	}
	return err;
}

static int watch_restore(struct restore *r, const void *data)
{
	const baton_EpollWatch *msg = data;

	if (!fd_is_placed(r, msg->fd))
		return log_fail(EPROTO, "fd %d (epoll) is spoken of but was not restored", msg->fd);
	for (pb_size_t i = 0; i < msg->items_count; i++) {
		const baton_EpollItem *item = &msg->items[i];
		int64_t err;

		if (!fd_is_placed(r, item->target) || item->number < 0 ||
		    item->number >= FD_NUMBER_MAX)
			return log_fail(EPROTO, "fd %d (epoll) watches fd %d, which is not there",
					msg->fd, item->target);
		err = item->number == item->target ? add_item(r, msg->fd, item)
						   : add_as(r, msg->fd, item);
		if (err == -EPERM) {
			/* A standard stream that is a file here cannot be waited for. */
			log_warn("fd %d (epoll): fd %d cannot be watched on this device", msg->fd,
				 item->number);
			continue;
		}
		if (err < 0)
			return log_fail((int)err, "cannot make fd %d (epoll) watch fd %d: %m",
					msg->fd, item->number);
	}
	return 0;
}

const struct state_kind kind_epoll = {
	.id = KIND_EPOLL,
	.name = "epoll",
	.fields = &baton_Epoll_msg,
	.size = sizeof(baton_Epoll),
	.dump = epoll_dump,
	.restore = epoll_restore,
};

const struct state_kind kind_epoll_watch = {
	.id = KIND_EPOLL_WATCH,
	.name = "epoll watch",
	.fields = &baton_EpollWatch_msg,
	.size = sizeof(baton_EpollWatch),
	.dump = watch_dump,
	.restore = watch_restore,
};
