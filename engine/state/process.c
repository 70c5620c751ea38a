/* SPDX-License-Identifier: MIT */
/* The process as a whole: its creation, with an empty address space, and what belongs to no thread. */
#include "engine/process/batch.h"
#include "engine/process/proc.h"
#include "engine/process/space.h"
#include "engine/process/spawn.h"
#include "engine/state/process.pb.h"
#include "engine/state/process_probe.h"
#include "engine/state/state.h"
#include "lib/arena.h"
#include "lib/fault.h"
#include "lib/kernel.h"
#include "lib/log.h"
#include "lib/text.h"
#include "transport/lane.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/keyctl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/personality.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <unistd.h>

#define NR_RLIMITS 16
#define LIMIT_NAME_COLUMNS 26
#define PERSONALITY_QUERY 0xffffffff

/* ---- dump ---- */

static int dump_links(struct dump *d, baton_Process *msg)
{
	ssize_t n = io_read_link(d->proc_fd, "cwd", msg->cwd, sizeof(msg->cwd));

	if (n >= 0)
		n = io_read_link(d->proc_fd, "root", msg->root, sizeof(msg->root));
	return n < 0 ? log_fail((int)-n, "pid %d: its working folder cannot be read: %m", d->pid)
		     : 0;
}

/* "unlimited" or a number. */
static bool take_limit(const char **c, uint64_t *limit)
{
	char word[24];

	*limit = UINT64_MAX;
	return text_take_word(c, word, sizeof(word)) &&
	       (strcmp(word, "unlimited") == 0 || text_parse_u64(word, 10, limit) == 0);
}

/*
 * From /proc: prlimit(2) on a process of another user needs CAP_SYS_RESOURCE. The lines come in the
 * order of the numbers, below a headline, and the names are 26 columns wide (fs/proc/base.c).
 */
static int dump_rlimits(struct dump *d, baton_Process *msg)
{
	struct line_reader reader;
	char buf[256], *line;
	int err = line_reader_open(&reader, d->proc_fd, "limits", buf, sizeof(buf));
	int got = err ? err : line_reader_next(&reader, &line);

	while (got > 0 && msg->rlimits_count < NR_RLIMITS &&
	       (got = line_reader_next(&reader, &line)) > 0) {
		const char *c = line + LIMIT_NAME_COLUMNS;
		baton_Rlimit *limit = &msg->rlimits[msg->rlimits_count++];

		if (strlen(line) < LIMIT_NAME_COLUMNS || !take_limit(&c, &limit->cur) ||
		    !take_limit(&c, &limit->max))
			got = -EPROTO;
	}
	if (!err)
		line_reader_close(&reader);
	if (got < 0 || msg->rlimits_count != NR_RLIMITS)
		return log_fail(got < 0 ? -got : EPROTO, "pid %d: its limits cannot be read",
				d->pid);
	return 0;
}

static const struct question is_dumpable = {.nr = SYS_prctl, .args = {PR_GET_DUMPABLE}};
static const struct question has_thp_disabled = {.nr = SYS_prctl, .args = {PR_GET_THP_DISABLE}};
static const struct question personality_is = {.nr = SYS_personality, .args = {PERSONALITY_QUERY}};
static const struct question is_subreaper = {
	.nr = SYS_prctl,
	.args = {PR_GET_CHILD_SUBREAPER},
	.rooms = 1 << 1,
	.len = sizeof(int),
};

static void process_ask(struct dump *d)
{
	ask_ahead(&d->leader, &is_dumpable);
	ask_ahead(&d->leader, &has_thp_disabled);
	ask_ahead(&d->leader, &personality_is);
	ask_ahead(&d->leader, &is_subreaper);
}

static int dump_prctl(struct dump *d, baton_Process *msg)
{
	int64_t dumpable = ask_for(&d->leader, &is_dumpable, NULL);
	int64_t thp = ask_for(&d->leader, &has_thp_disabled, NULL);
	int64_t persona = ask_for(&d->leader, &personality_is, NULL);
	int subreaper = 0;
	char text[16];
	int64_t adj = 0;

	if (ask_for(&d->leader, &is_subreaper, &subreaper) < 0 || persona < 0)
		return -EFAULT;
	msg->dumpable = dumpable > 0 ? (uint32_t)dumpable : 0;
	msg->thp_disabled = thp > 0 ? (uint32_t)thp : 0;
	msg->personality = (uint32_t)persona;
	msg->child_subreaper = subreaper != 0;
	if (io_read_file(d->proc_fd, "oom_score_adj", text, sizeof(text)) > 0) {
		const char *c = text;

		text_take_i64(&c, 10, &adj);
	}
	msg->oom_score_adj = (int32_t)adj;
	return 0;
}

/* One may have come since the probe: it would be left behind. */
static int fail_child(void *data, pid_t child)
{
	const struct dump *d = data;

	return log_fail(EBUSY,
			"pid %d has made a child process (%d) meanwhile; trees are not moved "
			"yet",
			d->pid, child);
}

static int dump_clocks(struct dump *d, baton_Process *msg)
{
	struct clocks inside;
	int err;

	clocks_now(&d->clocks);
	inside = d->clocks;
	err = clocks_of_process(d->proc_fd, &inside);
	msg->has_clocks = true;
	msg->clocks = (baton_Clocks){inside.ns[CLOCKS_MONOTONIC], inside.ns[CLOCKS_BOOTTIME],
				     clocks_coarse_behind(&d->clocks)};
	return err;
}

static int process_dump(struct dump *d, const struct state_kind *kind)
{
	size_t mark = arena_mark();
	baton_Process *msg = arena_alloc(ARENA_SCRATCH, sizeof(*msg), 16);
	int err;

	if (!msg)
		return -ENOMEM;
	err = proc_each_child(d->proc_fd, fail_child, d);
	if (!err)
		err = dump_links(d, msg);
	if (!err)
		err = dump_rlimits(d, msg);
	if (!err)
		err = dump_prctl(d, msg);
	if (!err)
		err = space_describe(d, msg);
	if (!err) {
		msg->pid = d->status.pid_inside;
		msg->pgid = d->status.pgid_inside;
		msg->sid = d->status.sid_inside;
		msg->umask = d->status.umask;
		msg->stopped = freeze_is_stopped(d->freeze);
		err = dump_clocks(d, msg);
	}
	if (!err)
		err = dump_emit(d, kind, msg);
	/* As long as it is under way its clocks stand still. */
	if (!err)
		err = lane_flush(d->out);
	arena_reset(mark);
	return err < 0 ? err : 0;
}

/* ---- restore ---- */

static int seize(struct restore *r)
{
	const long options = PTRACE_O_TRACESYSGOOD | PTRACE_O_EXITKILL | PTRACE_O_TRACECLONE |
			     PTRACE_O_SUSPEND_SECCOMP;
	const uint64_t all = ~0ULL;
	int status, err;

	if (ptrace(PTRACE_SEIZE, r->pid, 0, options) < 0)
		return log_fail(errno, "the new process cannot be traced: %m; run as root");
	if (ptrace(PTRACE_INTERRUPT, r->pid, 0, 0) < 0)
		return -errno;
	err = remote_wait_stop(r->pid, &status, -1);
	if (!err && ptrace(PTRACE_SETSIGMASK, r->pid, sizeof(all), &all) < 0)
		err = -errno;
	return err ? err : remote_open(&r->leader, r->pid, r->pid);
}

/*
 * From which moment on time is counted, and with which clocks: its own go on in a namespace, with the time
 * that the move takes, unless ours are as good. *ahead: how far they are ahead of ours.
 */
static int begin_clocks(struct restore *r, const baton_Process *msg, bool *shifted,
			struct clocks *ahead)
{
	const struct clocks theirs = {{msg->clocks.monotonic_ns, msg->clocks.boottime_ns}};

	clocks_now(&r->clocks);
	r->clocks_inside = r->clocks;
	*shifted = false;
	if (!msg->has_clocks)
		return 0;
	if (!clocks_are_sane(&theirs) || msg->clocks.coarse_behind_ns < 0)
		return log_fail(EPROTO, "the peer's clocks make no sense");
	/* Where they fitted before, this message was under way for long: the time that a slow link takes. */
	if (!clocks_jump(&theirs, &r->clocks, r->clocks_fit ? INT64_MAX : CLOCKS_BOUND_NS)) {
		r->clocks = r->clocks_inside = theirs;
		return 0;
	}
	*shifted = !r->may_jump;
	if (*shifted)
		r->clocks_inside = theirs;
	for (int i = 0; i < CLOCKS_NR; i++)
		ahead->ns[i] = theirs.ns[i] - r->clocks.ns[i];
	return 0;
}

static int create(struct restore *r, const baton_Process *msg)
{
	struct spawn s = {.want = msg->pid, .sid = msg->sid, .pidns = r->pidns};
	struct clocks ahead;
	bool shifted;
	int err;

	err = begin_clocks(r, msg, &shifted, &ahead);
	if (!err && shifted)
		s.ahead = &ahead;
	if (!err)
		err = spawn_process(&s);
	if (err)
		return err;
	r->pid = s.pid;
	r->init = s.init;
	r->pid_inside = msg->pid;
	r->stopped = msg->stopped;
	r->tids[0] = s.pid;
	r->nr_threads = 1;
	r->proc_fd = proc_open(s.pid);
	r->pidfd = (int)syscall(SYS_pidfd_open, s.pid, 0);
	if (r->proc_fd < 0 || r->pidfd < 0)
		return log_fail(ESRCH, "the new process died at once");
	remote_pin(s.pid);
	err = seize(r);
	if (err)
		return err;
	r->in_session = s.in_session;
	return 0;
}

static int fail_begin(const struct batch *b, const struct arch_batch_call *call, int err)
{
	(void)b;
	return log_fail(-err, "%s: %m",
			call->nr == SYS_prctl ? "PR_SET_CHILD_SUBREAPER" : "session and group");
}

/* Session and group, where the numbers can be had: a leader's always, another's when it was free. */
static void join_groups(struct restore *r, const baton_Process *msg)
{
	if (msg->sid == msg->pid)
		batch_call(&r->leader, fail_begin, SYS_setsid, 0);
	else if (msg->pgid == msg->pid || !r->in_session)
		batch_call(&r->leader, fail_begin, SYS_setpgid, 0, 0);
	if (msg->sid != msg->pid && !r->in_session)
		log_debug("session %d is not to be had here; the process is in ours", msg->sid);
}

static int process_restore(struct restore *r, const void *data)
{
	const baton_Process *msg = data;
	int err;

	if (r->pid || msg->pid <= 1 || msg->rlimits_count != NR_RLIMITS)
		return log_fail(EPROTO, "the peer described no process (pid %d, %u limits)",
				msg->pid, msg->rlimits_count);
	err = create(r, msg);
	if (!err)
		err = space_empty(r, msg);
	if (!err)
		err = fault_point(FAULT_RESTORE_SPACE);
	if (err)
		return err;
	batch_try(&r->leader, SYS_close_range, 3, ~0U);
	err = rights_lend(&r->leader, r->rights);
	if (err)
		return err;
	join_groups(r, msg);
	if (msg->child_subreaper)
		batch_call(&r->leader, fail_begin, SYS_prctl, PR_SET_CHILD_SUBREAPER, 1);
	/* The keys of our own session are none of its business. */
	batch_try(&r->leader, SYS_keyctl, KEYCTL_JOIN_SESSION_KEYRING, 0);
	r->process = *msg;
	return 0;
}

int process_limit(struct restore *r)
{
	const baton_Process *msg = &r->process;
	int i;

	for (i = 0; i < NR_RLIMITS; i++) {
		struct {
			uint64_t cur, max;
		} want = {msg->rlimits[i].cur, msg->rlimits[i].max}, have;

		if (syscall(SYS_prlimit64, r->pid, i, &want, NULL) == 0)
			continue;
		/* Raising a hard limit needs CAP_SYS_RESOURCE; the nearest to it is what we have. */
		if (syscall(SYS_prlimit64, r->pid, i, NULL, &have) < 0)
			return -errno;
		want.max = have.max < want.max ? have.max : want.max;
		want.cur = want.cur < want.max ? want.cur : want.max;
		log_warn("limit %d: %llu is more than this device allows; it stays at %llu", i,
			 (unsigned long long)msg->rlimits[i].max, (unsigned long long)want.max);
		if (syscall(SYS_prlimit64, r->pid, i, &want, NULL) < 0)
			return -errno;
	}
	return 0;
}

static int fail_enter(const struct batch *b, const struct arch_batch_call *call, int err)
{
	const struct restore *r = b->owner;
	bool root = call->nr == SYS_chroot;
	const char *path = root ? r->process.root : r->process.cwd;

	return log_fail(-rights_denied(r->rights, err, path), "its %s folder %s: %s",
			root ? "root" : "working", path, strerror(-err));
}

static int enter_folder(struct restore *r, long nr, const char *path)
{
	int err = batch_room(&r->leader, 1, strlen(path) + 8);

	if (!err)
		batch_call(&r->leader, fail_enter, nr, batch_push_str(&r->leader, path));
	return err;
}

static int enter_folders(struct restore *r)
{
	const baton_Process *msg = &r->process;
	int err = strcmp(msg->root, "/") ? enter_folder(r, SYS_chroot, msg->root) : 0;

	/* The kernel tells the working folder from outside of the root: relative to ours. */
	return err ? err : enter_folder(r, SYS_chdir, space_inside_root(msg->cwd, msg->root));
}

static int process_finish(struct restore *r)
{
	const baton_Process *msg = &r->process;
	char text[16];
	int err, len;

	len = snprintf(text, sizeof(text), "%d", msg->oom_score_adj);
	err = io_write_existing(r->proc_fd, "oom_score_adj", text, (size_t)len);
	if (err)
		log_warn("oom_score_adj %d cannot be set here: %s", msg->oom_score_adj,
			 strerror(-err));
	err = enter_folders(r);
	if (!err)
		err = batch_room(&r->leader, 1, 0);
	if (!err)
		batch_try(&r->leader, SYS_umask, msg->umask);
	return err;
}

const struct state_kind kind_process = {
	.id = KIND_PROCESS,
	.name = "process",
	.fields = baton_Process_fields,
	.size = sizeof(baton_Process),
	.probe = process_probe,
	.ask = ASKS(process_ask),
	.dump = process_dump,
	.restore = process_restore,
	.finish = process_finish,
};
