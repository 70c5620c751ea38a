/* SPDX-License-Identifier: MIT */
/*
 * Guard regions inside of mappings (MADV_GUARD_INSTALL, Linux 6.13): a touch of theirs is a fault. They
 * are marks in the page table, so only the page map tells of them. Source: madvise(2).
 */
#include "engine/state/guardpage.h"
#include "engine/paging/pagemap.h"
#include "engine/state/guardpage.pb.h"
#include "lib/kernel.h"
#include "lib/log.h"
#include "transport/lane.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>

/* From so much on a mapping is looked through last: it takes 45 us where all is present. */
#define LATER_BYTES ((uint64_t)64 << 20)

static int emit_pages(void *data, uint64_t start, uint64_t end)
{
	const baton_GuardPages msg = {.start = start, .len = end - start};

	return dump_emit(data, &kind_guardpage, &msg);
}

int guardpage_dump(struct dump *d, uint64_t start, uint64_t end)
{
	if (end - start >= LATER_BYTES && d->nr_unguarded < DUMP_UNGUARDED) {
		d->unguarded[d->nr_unguarded++] = (struct dump_range){start, end};
		return 0;
	}
	return pagemap_each_guard(&d->pagemap, start, end, emit_pages, d);
}

int guardpage_dump_noted(struct dump *d)
{
	int err = d->nr_unguarded ? lane_flush(d->out) : 0;

	for (unsigned int i = 0; i < d->nr_unguarded && err >= 0; i++)
		err = pagemap_each_guard(&d->pagemap, d->unguarded[i].start, d->unguarded[i].end,
					 emit_pages, d);
	return err < 0 ? err : 0;
}

/* Where memory is locked no guard can be installed, though one that is there can be locked. */
static int64_t install_locked(struct restore *r, const baton_GuardPages *msg)
{
	int64_t ret = remote_call(&r->leader, SYS_munlock, msg->start, msg->len);

	if (ret >= 0)
		ret = remote_call(&r->leader, SYS_madvise, msg->start, msg->len,
				  MADV_GUARD_INSTALL);
	if (ret >= 0)
		remote_call(&r->leader, SYS_mlock2, msg->start, msg->len, MLOCK_ONFAULT);
	return ret;
}

static int guardpage_restore(struct restore *r, const void *data)
{
	const baton_GuardPages *msg = data;
	int64_t ret;

	if (msg->start >= arch_user_top() || msg->len > arch_user_top() - msg->start ||
	    restore_is_scratch(r, msg->start, msg->len))
		return log_fail(EPROTO, "the peer described a guard region that cannot be");
	ret = remote_call(&r->leader, SYS_madvise, msg->start, msg->len, MADV_GUARD_INSTALL);
	if (ret == -EINVAL)
		ret = install_locked(r, msg);
	return ret < 0 ? log_fail((int)-ret,
				  "guard region at %#llx: %m; it needs Linux 6.13, and 6.15 in a "
				  "mapping of a file",
				  (unsigned long long)msg->start)
		       : 0;
}

const struct state_kind kind_guardpage = {
	.id = KIND_GUARDPAGE,
	.name = "guard region",
	.fields = baton_GuardPages_fields,
	.size = sizeof(baton_GuardPages),
	.restore = guardpage_restore,
};
