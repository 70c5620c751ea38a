/* SPDX-License-Identifier: MIT */
/* Who a thread is: ids, groups, capabilities, securebits, no_new_privs, parent-death signal. */
#include "engine/state/creds.h"
#include "engine/process/proc.h"
#include "engine/state/state.h"
#include "lib/arena.h"
#include "lib/kernel.h"
#include "lib/log.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <linux/securebits.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <unistd.h>

/* ---- dump ---- */

static int read_status(struct dump *d, pid_t tid, struct proc_status *status)
{
	char path[32];
	int fd, err;

	snprintf(path, sizeof(path), "task/%d", tid);
	fd = openat(d->proc_fd, path, O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	err = proc_status(fd, status);
	close(fd);
	return err;
}

static int fill(struct dump *d, pid_t tid, baton_Creds *msg)
{
	uint64_t room = remote_room(&d->thread, sizeof(int));
	struct proc_status status = {0};
	int64_t bits = remote_call(&d->thread, SYS_prctl, PR_GET_SECUREBITS);
	int death = 0, err = read_status(d, tid, &status);

	if (err)
		return err;
	if (bits < 0)
		return (int)bits;
	if (remote_call(&d->thread, SYS_prctl, PR_GET_PDEATHSIG, room) < 0 ||
	    remote_read(&d->thread, room, &death, sizeof(death)))
		return -EFAULT;
	if (status.nr_groups > PROC_GROUPS_MAX)
		return -E2BIG;
	msg->uids_count = msg->gids_count = 4;
	memcpy(msg->uids, status.uid, sizeof(status.uid));
	memcpy(msg->gids, status.gid, sizeof(status.gid));
	msg->groups_count = (pb_size_t)status.nr_groups;
	memcpy(msg->groups, status.groups, status.nr_groups * sizeof(status.groups[0]));
	msg->cap_inheritable = status.cap_inh;
	msg->cap_permitted = status.cap_prm;
	msg->cap_effective = status.cap_eff;
	msg->cap_bounding = status.cap_bnd;
	msg->cap_ambient = status.cap_amb;
	msg->securebits = (uint32_t)bits;
	msg->no_new_privs = status.no_new_privs;
	msg->death_signal = death;
	return 0;
}

static int creds_dump_thread(struct dump *d, const struct state_kind *kind,
			     const struct freeze_thread *thread)
{
	baton_Creds msg = baton_Creds_init_zero;
	int err = fill(d, thread->tid, &msg);

	return err ? log_fail(-err, "thread %d: its identity cannot be read: %s", thread->tid,
			      strerror(-err))
		   : dump_emit(d, kind, &msg);
}

/* ---- restore ---- */

static int64_t set_ids(struct remote *t, const baton_Creds *msg)
{
	int64_t ret = remote_call(t, SYS_setgroups, msg->groups_count,
				  remote_push(t, msg->groups, msg->groups_count * 4));

	if (ret >= 0)
		ret = remote_call(t, SYS_setresgid, msg->gids[0], msg->gids[1], msg->gids[2]);
	if (ret >= 0)
		ret = remote_call(t, SYS_setresuid, msg->uids[0], msg->uids[1], msg->uids[2]);
	if (ret >= 0) {
		remote_call(t, SYS_setfsgid, msg->gids[3]);
		remote_call(t, SYS_setfsuid, msg->uids[3]);
	}
	return ret;
}

static int64_t drop_bounding(struct remote *t, uint64_t have, uint64_t keep)
{
	int64_t ret = 0;

	for (int cap = 0; cap < 64 && ret >= 0; cap++)
		if (((have >> cap) & 1) && !((keep >> cap) & 1))
			ret = remote_call(t, SYS_prctl, PR_CAPBSET_DROP, (uint64_t)cap);
	return ret;
}

/*
 * Most services run as who we are: then there is nothing to do, and many calls a thread are saved. What status
 * does not tell a thread that was just made has from us.
 */
static bool is_same(const struct proc_status *own, const baton_Creds *msg)
{
	return !memcmp(own->uid, msg->uids, sizeof(own->uid)) &&
	       !memcmp(own->gid, msg->gids, sizeof(own->gid)) &&
	       own->nr_groups == msg->groups_count &&
	       !memcmp(own->groups, msg->groups, msg->groups_count * sizeof(own->groups[0])) &&
	       own->cap_inh == msg->cap_inheritable && own->cap_prm == msg->cap_permitted &&
	       own->cap_eff == msg->cap_effective && own->cap_bnd == msg->cap_bounding &&
	       own->cap_amb == msg->cap_ambient && !own->no_new_privs == !msg->no_new_privs &&
	       (int64_t)msg->securebits == prctl(PR_GET_SECUREBITS) && !msg->death_signal;
}

static int64_t set_caps(struct remote *t, uint64_t inheritable, uint64_t permitted,
			uint64_t effective)
{
	struct __user_cap_header_struct head = {_LINUX_CAPABILITY_VERSION_3, 0};
	struct __user_cap_data_struct caps[2] = {
		{(uint32_t)effective, (uint32_t)permitted, (uint32_t)inheritable},
		{(uint32_t)(effective >> 32), (uint32_t)(permitted >> 32),
		 (uint32_t)(inheritable >> 32)},
	};

	return remote_call(t, SYS_capset, remote_push(t, &head, sizeof(head)),
			   remote_push(t, caps, sizeof(caps)));
}

static int64_t raise_ambient(struct remote *t, uint64_t ambient)
{
	int64_t ret = 0;
	int cap;

	for (cap = 0; cap < 64 && ret >= 0; cap++)
		if ((ambient >> cap) & 1)
			ret = remote_call(t, SYS_prctl, PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE,
					  (uint64_t)cap, 0, 0);
	return ret;
}

static int said(int64_t ret, const char *what)
{
	return ret < 0 ? log_fail((int)-ret, "%s of the process: %s", what, strerror((int)-ret))
		       : 0;
}

/*
 * While SECBIT_NO_SETUID_FIXUP is set, changing ids changes no capability. The final securebits
 * need CAP_SETPCAP, so they come before the capabilities; ambient ones need theirs permitted and
 * inheritable, so they come in between.
 */
int creds_apply(struct remote *t, const baton_Creds *msg)
{
	uint64_t all = msg->cap_permitted | 1ULL << CAP_SETPCAP;
	struct proc_status own;
	int err;

	if (msg->uids_count != 4 || msg->gids_count != 4)
		return -EPROTO;
	err = proc_status_of(t->tid, &own);
	if (err || is_same(&own, msg))
		return err;
	remote_reset(t);
	err = said(drop_bounding(t, own.cap_bnd, msg->cap_bounding), "capability bounding set");
	if (!err)
		err = said(remote_call(t, SYS_prctl, PR_SET_SECUREBITS, SECBIT_NO_SETUID_FIXUP),
			   "securebits");
	if (!err)
		err = said(set_ids(t, msg), "ids");
	if (!err)
		err = said(set_caps(t, msg->cap_inheritable, all, all), "capabilities");
	if (!err)
		err = said(raise_ambient(t, msg->cap_ambient), "ambient capabilities");
	if (!err)
		err = said(remote_call(t, SYS_prctl, PR_SET_SECUREBITS, msg->securebits),
			   "securebits");
	if (!err)
		err = said(
			set_caps(t, msg->cap_inheritable, msg->cap_permitted, msg->cap_effective),
			"capabilities");
	if (!err && msg->no_new_privs)
		err = said(remote_call(t, SYS_prctl, PR_SET_NO_NEW_PRIVS, 1), "no_new_privs");
	if (!err && msg->death_signal)
		err = said(remote_call(t, SYS_prctl, PR_SET_PDEATHSIG, (uint64_t)msg->death_signal),
			   "parent-death signal");
	return err;
}

static int creds_restore(struct restore *r, const void *data)
{
	if (!r->thread.tid)
		return -EPROTO;
	if (r->thread_is_leader) {
		r->leader_creds = *(const baton_Creds *)data;
		return 0;
	}
	return creds_apply(&r->thread, data);
}

const struct state_kind kind_creds = {
	.id = KIND_CREDS,
	.name = "identity",
	.fields = baton_Creds_fields,
	.size = sizeof(baton_Creds),
	.dump_thread = creds_dump_thread,
	.restore = creds_restore,
};
