/* SPDX-License-Identifier: MIT */
/*
 * What confines a process or entitles it and is not carried: Landlock, keyrings, a core scheduling
 * cookie. Some of it only the process itself can ask for, and so it is found while it is stopped.
 * Source: landlock(7), keyrings(7), prctl(2) PR_SCHED_CORE.
 */
#include "engine/process/landlock.h"
#include "engine/process/proc.h"
#include "engine/state/state.h"
#include "lib/kernel.h"
#include "lib/log.h"

#include <errno.h>
#include <linux/keyctl.h>
#include <stdio.h>
#include <stdint.h>
#include <string.h>

#define MAX_KEYS 32
#define DESCRIPTION_MAX 128

/* ---- probe ---- */

static int check_cookie(void *data, pid_t tid)
{
	struct probe *p = data;
	uint64_t cookie = 0;
	char item[32];

	/* 0: the thread alone */
	if (prctl(PR_SCHED_CORE, PR_SCHED_CORE_GET, tid, 0, (uintptr_t)&cookie) < 0 || !cookie)
		return 0;
	snprintf(item, sizeof(item), "thread %d", tid);
	probe_refused(p, item,
		      "shares processor cores only with others of its cookie (PR_SCHED_CORE), "
		      "which is not carried");
	return 1;
}

static int confine_probe(struct probe *p)
{
	int ret = proc_each_thread(p->proc_fd, check_cookie, p);

	return ret < 0 ? ret : 0;
}

/* ---- keyrings ---- */

static int64_t keyctl(struct remote *thread, uint64_t what, uint64_t key, uint64_t buf,
		      uint64_t len)
{
	return remote_call(thread, SYS_keyctl, what, key, buf, len);
}

#define KEYRING(special)                                                                           \
	{                                                                                          \
		.nr = SYS_keyctl, .args = { KEYCTL_GET_KEYRING_ID, (uint64_t)(int64_t)(special) }  \
	}
static const struct question thread_keyring = KEYRING(KEY_SPEC_THREAD_KEYRING);
static const struct question process_keyring = KEYRING(KEY_SPEC_PROCESS_KEYRING);
static const struct question session_keyring = KEYRING(KEY_SPEC_SESSION_KEYRING);

static void confine_ask(struct dump *d)
{
	ask_ahead(&d->leader, &process_keyring);
	ask_ahead(&d->leader, &session_keyring);
}

static void confine_ask_thread(struct dump *d)
{
	ask_ahead(&d->thread, &thread_keyring);
	landlock_ask(&d->thread);
}

/* Of every login and every service: links to the user's keyrings, and the name systemd gives a start. */
static bool is_usual_key(const char *description)
{
	const char *name = strrchr(description, ';');

	return name &&
	       (strncmp(description, "keyring;", 8) == 0 ? strncmp(name, ";_uid", 5) == 0
							 : strcmp(name, ";invocation_id") == 0);
}

static int check_key(struct dump *d, int32_t key)
{
	char description[DESCRIPTION_MAX] = "";
	uint64_t room = remote_room(&d->leader, sizeof(description));
	int64_t len =
		keyctl(&d->leader, KEYCTL_DESCRIBE, (uint32_t)key, room, sizeof(description) - 1);

	/* Revoked, expired, unlinked meanwhile: nothing that it could use. */
	if (len == -EKEYREVOKED || len == -EKEYEXPIRED || len == -ENOKEY)
		return 0;
	if (len > 0)
		remote_read(&d->leader, room, description,
			    (size_t)len < sizeof(description) ? (size_t)len
							      : sizeof(description) - 1);
	if (is_usual_key(description))
		return 0;
	return log_fail(EOPNOTSUPP,
			"pid %d has a key in its session keyring (%#x: %s), which is not carried; "
			"unlink it: keyctl unlink %#x @s",
			d->pid, (uint32_t)key, description, (uint32_t)key);
}

/* What others find under the user's keyrings belongs to the device, as files do. */
static int check_session_keyring(struct dump *d)
{
	int32_t keys[MAX_KEYS];
	int64_t session = ask_for(&d->leader, &session_keyring, NULL);
	uint64_t room = remote_room(&d->leader, sizeof(keys));
	int64_t len;
	int err;

	if (session < 0)
		return 0;
	len = keyctl(&d->leader, KEYCTL_READ, (uint64_t)session, room, sizeof(keys));
	if (len <= 0)
		return 0;
	if (len > (int64_t)sizeof(keys))
		return log_fail(EOPNOTSUPP,
				"pid %d has more than %d keys in its session keyring, which are "
				"not carried",
				d->pid, MAX_KEYS);
	err = remote_read(&d->leader, room, keys, (size_t)len);
	for (size_t i = 0; i < (size_t)len / sizeof(keys[0]) && !err; i++) {
		remote_reset(&d->leader);
		err = check_key(d, keys[i]);
	}
	return err;
}

static int confine_dump(struct dump *d, const struct state_kind *kind)
{
	(void)kind;
	if (ask_for(&d->leader, &process_keyring, NULL) >= 0)
		return log_fail(EOPNOTSUPP,
				"pid %d has a process keyring, whose keys are not carried", d->pid);
	return check_session_keyring(d);
}

static int confine_dump_thread(struct dump *d, const struct state_kind *kind,
			       const struct freeze_thread *thread)
{
	int got;

	(void)kind;
	if (ask_for(&d->thread, &thread_keyring, NULL) >= 0)
		return log_fail(EOPNOTSUPP,
				"pid %d: thread %d has a keyring, whose keys are not carried",
				d->pid, thread->tid);
	got = landlock_restricts(&d->thread);
	if (got < 0)
		return log_fail(-got,
				"pid %d: whether thread %d is restricted by Landlock cannot be "
				"told: %m",
				d->pid, thread->tid);
	return got ? log_fail(EOPNOTSUPP,
			      "pid %d: thread %d has restricted itself with Landlock, which is "
			      "not carried",
			      d->pid, thread->tid)
		   : 0;
}

const struct state_kind kind_confine = {
	.name = "confinement",
	.probe = confine_probe,
	.ask = ASKS(confine_ask),
	.ask_thread = ASKS(confine_ask_thread),
	.dump = confine_dump,
	.dump_thread = confine_dump_thread,
};
