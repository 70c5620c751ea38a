/* SPDX-License-Identifier: MIT */
/*
 * The file system uid, gid and groups of a thread. Root that takes another file system uid loses the
 * capabilities over files for as long (capabilities(7), "Effect of user ID changes").
 */
#include "engine/process/rights.h"

#include "lib/kernel.h"
#include "lib/log.h"

#include <errno.h>
#include <stdint.h>
#include <string.h>
#include <unistd.h>

#define ASK ((uint32_t)-1) /* no id: the call tells the present one */

static struct {
	uint32_t groups[PROC_GROUPS_MAX];
	long nr;
} own;

static int set_files_ids(uint32_t uid, uint32_t gid, const uint32_t *groups, long nr)
{
	if (syscall(SYS_setgroups, nr, groups) < 0)
		return -errno;
	syscall(SYS_setfsgid, gid);
	syscall(SYS_setfsuid, uid);
	return (uint32_t)syscall(SYS_setfsgid, ASK) == gid &&
			       (uint32_t)syscall(SYS_setfsuid, ASK) == uid
		       ? 0
		       : -EPERM;
}

int rights_take(const struct rights *rights)
{
	int err;

	if (!rights_limited(rights))
		return 0;
	own.nr = syscall(SYS_getgroups, PROC_GROUPS_MAX, own.groups);
	err = own.nr < 0 ? -errno
			 : set_files_ids(rights->uid, rights->gid, rights->groups,
					 (long)rights->nr_groups);
	if (err) {
		rights_give_back(rights);
		return log_fail(-err, "the rights of uid %u cannot be taken: %m; run as root",
				rights->uid);
	}
	return 0;
}

void rights_give_back(const struct rights *rights)
{
	int err;

	if (!rights_limited(rights))
		return;
	/* First the uid: the other two need the capabilities that come back with it. */
	syscall(SYS_setfsuid, geteuid());
	err = own.nr < 0 ? 0 : set_files_ids(geteuid(), getegid(), own.groups, own.nr);
	if (err)
		log_error("our own rights cannot be taken back: %s", strerror(-err));
}

int rights_lend(struct remote *thread, const struct rights *rights)
{
	static const struct rights root = {.limited = true};
	int64_t ret;

	if (!rights)
		rights = &root;
	if (!rights_limited(rights))
		return 0;
	remote_reset(thread);
	ret = remote_call(thread, SYS_setgroups, rights->nr_groups,
			  remote_push(thread, rights->groups, sizeof(rights->groups)));
	remote_reset(thread);
	if (ret >= 0) {
		remote_call(thread, SYS_setfsgid, rights->gid);
		remote_call(thread, SYS_setfsuid, rights->uid);
		if ((uint32_t)remote_call(thread, SYS_setfsgid, ASK) != rights->gid ||
		    (uint32_t)remote_call(thread, SYS_setfsuid, ASK) != rights->uid)
			ret = -EPERM;
	}
	return ret < 0 ? log_fail((int)-ret,
				  "the rights of uid %u cannot be given: %m; run as root",
				  rights->uid)
		       : 0;
}

int rights_denied(const struct rights *rights, int err, const char *path)
{
	if (rights_limited(rights) && (err == -EACCES || err == -EPERM))
		log_fail(
			-err,
			"%s: uid %u may not open, search or make it on this device, and its policy "
			"lets no other rights count",
			path, rights->uid);
	return err;
}
