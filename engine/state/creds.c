/* SPDX-License-Identifier: MIT */
/* Who a thread is: ids, groups, capabilities, securebits, no_new_privs, parent-death signal. */
#include "engine/state/creds.h"
#include "engine/process/batch.h"
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

static const struct question securebits = {.nr = SYS_prctl, .args = {PR_GET_SECUREBITS}};
static const struct question death_signal = {
	.nr = SYS_prctl,
	.args = {PR_GET_PDEATHSIG},
	.rooms = 1 << 1,
	.len = sizeof(int),
};

static void creds_ask(struct dump *d)
{
	ask_ahead(&d->thread, &securebits);
	ask_ahead(&d->thread, &death_signal);
}

static int fill(struct dump *d, pid_t tid, baton_Creds *msg)
{
	struct proc_status status = {0};
	int64_t bits = ask_for(&d->thread, &securebits, NULL);
	int death = 0, err = read_status(d, tid, &status);

	if (err)
		return err;
	if (bits < 0)
		return (int)bits;
	if (ask_for(&d->thread, &death_signal, &death) < 0)
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

	return err ? log_fail(-err, "thread %d: its identity cannot be read: %m", thread->tid)
		   : dump_emit(d, kind, &msg);
}

/* ---- restore ---- */

/* The most that one step of creds_apply queues, and the data of set_caps. */
#define CALLS 12
#define CAPS_BYTES 64

static int fail_creds(const struct batch *b, const struct arch_batch_call *call, int err)
{
	static const struct {
		long call;
		uint64_t what; /* of prctl(2) */
		const char *name;
	} names[] = {
		{SYS_prctl, PR_CAPBSET_DROP, "capability bounding set"},
		{SYS_prctl, PR_CAP_AMBIENT, "ambient capabilities"},
		{SYS_prctl, PR_SET_SECUREBITS, "securebits"},
		{SYS_prctl, PR_SET_NO_NEW_PRIVS, "no_new_privs"},
		{SYS_prctl, PR_SET_PDEATHSIG, "parent-death signal"},
		{SYS_capset, 0, "capabilities"},
	};
	const char *name = "ids";

	(void)b;
	for (unsigned int i = 0; i < sizeof(names) / sizeof(names[0]); i++)
		if (call->nr == names[i].call &&
		    (call->nr != SYS_prctl || call->args[0] == names[i].what))
			name = names[i].name;
	return log_fail(-err, "%s of the process: %m", name);
}

static void set(struct remote *t, uint64_t what, uint64_t value)
{
	batch_call(t, fail_creds, SYS_prctl, what, value);
}

static void set_ids(struct remote *t, const baton_Creds *msg)
{
	batch_call(t, fail_creds, SYS_setgroups, msg->groups_count,
		   batch_push(t, msg->groups, msg->groups_count * 4));
	batch_call(t, fail_creds, SYS_setresgid, msg->gids[0], msg->gids[1], msg->gids[2]);
	batch_call(t, fail_creds, SYS_setresuid, msg->uids[0], msg->uids[1], msg->uids[2]);
	batch_try(t, SYS_setfsgid, msg->gids[3]);
	batch_try(t, SYS_setfsuid, msg->uids[3]);
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

static void set_caps(struct remote *t, uint64_t inheritable, uint64_t permitted, uint64_t effective)
{
	struct __user_cap_header_struct head = {_LINUX_CAPABILITY_VERSION_3, 0};
	struct __user_cap_data_struct caps[2] = {
		{(uint32_t)effective, (uint32_t)permitted, (uint32_t)inheritable},
		{(uint32_t)(effective >> 32), (uint32_t)(permitted >> 32),
		 (uint32_t)(inheritable >> 32)},
	};

	batch_call(t, fail_creds, SYS_capset, batch_push(t, &head, sizeof(head)),
		   batch_push(t, caps, sizeof(caps)));
}

/* Calls for the capabilities in `set`, one each. -errno. */
static int each_cap(struct remote *t, uint64_t set, uint64_t what, uint64_t how, bool ambient)
{
	int err = 0;

	for (uint64_t cap = 0; cap < 64 && !err; cap++) {
		if (!((set >> cap) & 1))
			continue;
		err = batch_room(t, 1, 0);
		if (!err)
			batch_call(t, fail_creds, SYS_prctl, what, ambient ? how : cap,
				   ambient ? cap : 0);
	}
	return err;
}

/*
 * While SECBIT_NO_SETUID_FIXUP is set, changing ids changes no capability. The final securebits
 * need CAP_SETPCAP, so they come before the capabilities; ambient ones need theirs permitted and
 * inheritable, so they come in between.
 */
int creds_apply(struct restore *r, struct remote *t, const baton_Creds *msg)
{
	uint64_t all = msg->cap_permitted | 1ULL << CAP_SETPCAP;
	int err = 0;

	if (msg->uids_count != 4 || msg->gids_count != 4)
		return -EPROTO;
	/* Each thread begins with what the leader has until the end. */
	if (!r->own.tgid)
		err = proc_status_of(r->leader.tid, &r->own);
	if (err || is_same(&r->own, msg))
		return err;
	err = each_cap(t, r->own.cap_bnd & ~msg->cap_bounding, PR_CAPBSET_DROP, 0, false);
	if (!err)
		err = batch_room(t, CALLS, sizeof(msg->groups) + CAPS_BYTES);
	if (err)
		return err;
	set(t, PR_SET_SECUREBITS, SECBIT_NO_SETUID_FIXUP);
	set_ids(t, msg);
	set_caps(t, msg->cap_inheritable, all, all);
	err = each_cap(t, msg->cap_ambient, PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, true);
	if (!err)
		err = batch_room(t, CALLS, CAPS_BYTES);
	if (err)
		return err;
	set(t, PR_SET_SECUREBITS, msg->securebits);
	set_caps(t, msg->cap_inheritable, msg->cap_permitted, msg->cap_effective);
	if (msg->no_new_privs)
		set(t, PR_SET_NO_NEW_PRIVS, 1);
	if (msg->death_signal)
		set(t, PR_SET_PDEATHSIG, (uint64_t)msg->death_signal);
	return 0;
}

static int creds_restore(struct restore *r, const void *data)
{
	if (!r->thread.tid)
		return -EPROTO;
	if (r->thread_is_leader) {
		r->leader_creds = *(const baton_Creds *)data;
		return 0;
	}
	return creds_apply(r, &r->thread, data);
}

const struct state_kind kind_creds = {
	.id = KIND_CREDS,
	.name = "identity",
	.fields = baton_Creds_fields,
	.size = sizeof(baton_Creds),
	.ask_thread = ASKS(creds_ask),
	.dump_thread = creds_dump_thread,
	.restore = creds_restore,
};
