/* SPDX-License-Identifier: MIT */
/* The target's half: build a process from the stream of state messages, arm it, let it run. */
#include "engine/process/restore.h"

#include "engine/process/batch.h"
#include "engine/process/proc.h"
#include "engine/process/restart.h"
#include "engine/process/space.h"
#include "engine/state/creds.h"
#include "lib/arena.h"
#include "lib/fault.h"
#include "lib/kernel.h"
#include "lib/io.h"
#include "lib/log.h"
#include "transport/message.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <signal.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#define UFFD_FEATURES                                                                              \
	(UFFD_FEATURE_EVENT_FORK | UFFD_FEATURE_EVENT_REMAP | UFFD_FEATURE_EVENT_REMOVE |          \
	 UFFD_FEATURE_EVENT_UNMAP)

int restore_init(struct restore *r)
{
	memset(r, 0, sizeof(*r));
	r->proc_fd = r->pidfd = r->leader.mem_fd = r->object_fd = -1;
	r->tids = arena_alloc(ARENA_TABLES, CONFIG_MAX_THREADS * sizeof(*r->tids), 16);
	r->batch = arena_alloc(ARENA_TABLES, sizeof(*r->batch), 16);
	return r->tids && r->batch ? 0 : -ENOMEM;
}

void restore_begin(struct restore *r, const struct restore_options *options)
{
	pid_t *tids = r->tids;
	struct batch *batch = r->batch;
	struct restore_lazy lazy = r->lazy;

	memset(r, 0, sizeof(*r));
	r->proc_fd = r->pidfd = r->leader.mem_fd = r->object_fd = -1;
	r->tids = tids;
	r->batch = batch;
	memset(batch, 0, sizeof(*batch));
	batch->owner = r;
	r->lazy = lazy;
	r->stdio = options->stdio;
	r->pidns = options->pidns;
	r->other_vdso = options->other_vdso;
	r->clocks_fit = options->clocks_fit;
	r->may_jump = options->may_jump;
	r->rights = options->rights;
}

void restore_on_lazy(struct restore *r, const struct restore_lazy *lazy)
{
	r->lazy = *lazy;
}

static int restore_state(struct restore *r, const struct lane *lane)
{
	const struct state_kind *kind = state_kind_find(lane->rx.space);
	size_t mark = arena_mark();
	void *msg;
	int err;

	if (kind && kind->id && !kind->restore)
		return log_fail(EOPNOTSUPP, "%s", kind->name);
	if (!kind || !kind->restore)
		return log_fail(EPROTO, "the peer sent state of a kind (%u) unknown here",
				lane->rx.space);
	if (lane->rx.addr != r->nr_state)
		return log_fail(EPROTO, "state message %llu came where %llu was due",
				(unsigned long long)lane->rx.addr, (unsigned long long)r->nr_state);
	if (!r->pid && kind->id != KIND_PROCESS)
		return log_fail(EPROTO, "the peer sent %s before the process", kind->name);
	r->nr_state++;
	msg = arena_alloc(ARENA_SCRATCH, kind->size, 16);
	if (!msg)
		return log_fail(ENOMEM, "no room for a message of %zu bytes (%s)", kind->size,
				kind->name);
	err = message_decode(lane, kind->fields, msg);
	if (err)
		log_fail(-err, "the peer sent a damaged message (%s)", kind->name);
	else
		err = kind->restore(r, msg);
	if (!err)
		err = fault_point(FAULT_RESTORE_STATE);
	if (err)
		log_fail(-err, "%s could not be restored: %m", kind->name);
	remote_reset(&r->leader);
	remote_reset(&r->thread);
	arena_reset(mark);
	return err;
}

bool restore_is_scratch(const struct restore *r, uint64_t addr, uint64_t len)
{
	return addr < r->scratch + r->scratch_len && addr + len > r->scratch;
}

/* The last page may reach beyond the end: what is there is nobody's, and would make the object longer. */
static int write_object(const struct restore *r, uint64_t at, const struct lane *lane)
{
	uint64_t left = at < r->object_len ? r->object_len - at : 0;

	return io_pwrite_full(r->object_fd, lane->rx_body,
			      lane->rx.len < left ? lane->rx.len : left, at);
}

static int write_memory(struct restore *r, const struct lane *lane)
{
	int err = batch_flush(&r->leader);

	return err ? err : remote_write(&r->leader, lane->rx.addr, lane->rx_body, lane->rx.len);
}

static int restore_pages(struct restore *r, const struct lane *lane)
{
	uint64_t addr = lane->rx.addr;
	int err;

	if (!r->pid || addr >= arch_user_top() || lane->rx.len > arch_user_top() - addr ||
	    restore_is_scratch(r, addr, lane->rx.len))
		return log_fail(EPROTO, "the peer sent pages for no memory of the process");
	if (r->object_fd >= 0 && addr >= r->object_start && addr < r->object_end)
		err = lane->rx.len > r->object_end - addr
			      ? -EPROTO
			      : write_object(r, addr - r->object_start + r->object_offset, lane);
	else
		err = write_memory(r, lane);
	if (!err)
		err = fault_point(FAULT_RESTORE_PAGES);
	if (err)
		log_fail(-err, "%u bytes at %#llx could not be written: %m", lane->rx.len,
			 (unsigned long long)addr);
	return err;
}

int restore_frame(struct restore *r, const struct lane *lane)
{
	switch (lane->rx.type) {
	case FRAME_STATE:
		return restore_state(r, lane);
	case FRAME_PAGES:
		return restore_pages(r, lane);
	case FRAME_ZERO:
		return 0;
	default:
		return log_fail(EPROTO, "the peer sent %s inside a description",
				frame_name(lane->rx.type));
	}
}

/* ---- arming ---- */

static int take_uffd(struct restore *r, int *uffd)
{
	struct uffdio_api api = {.api = UFFD_API, .features = UFFD_FEATURES};
	int64_t fd;
	int here, err = 0;
	struct rlimit limit, wide;

	/* The program's own limit may leave no descriptor free. */
	if (prlimit(r->pid, RLIMIT_NOFILE, NULL, &limit) < 0)
		return -errno;
	wide = limit;
	wide.rlim_cur = wide.rlim_max;
	prlimit(r->pid, RLIMIT_NOFILE, &wide, NULL);
	fd = remote_call(&r->leader, SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK);
	prlimit(r->pid, RLIMIT_NOFILE, &limit, NULL);

	if (fd < 0)
		return log_fail((int)-fd, "userfaultfd: %m; it needs CONFIG_USERFAULTFD and root");
	here = (int)syscall(SYS_pidfd_getfd, r->pidfd, (int)fd, 0);
	if (here < 0)
		err = -errno;
	if (!err)
		err = batch_room(&r->leader, 1, 0);
	batch_try(&r->leader, SYS_close, (uint64_t)fd);
	if (!err && ioctl(here, UFFDIO_API, &api) < 0)
		err = -errno;
	if (err) {
		if (here >= 0)
			close(here);
		return log_fail(-err, "userfaultfd with its events: %m; it needs Linux 4.11");
	}
	*uffd = here;
	return 0;
}

static bool is_lazy(const struct restore *r, const struct proc_map *map)
{
	if (map->shared || map->inode || map->start == r->scratch ||
	    (map->start > r->scratch && map->start < r->scratch + r->scratch_len))
		return false;
	return !arch_vdso_is_part(map->name) && !arch_vdso_is_fixed(map->name);
}

struct run {
	uint64_t start, end; /* end 0: none */
};

static int arm_run(int uffd, struct run *run)
{
	struct uffdio_register reg = {.range = {run->start, run->end - run->start},
				      .mode = UFFDIO_REGISTER_MODE_MISSING};

	if (run->end && ioctl(uffd, UFFDIO_REGISTER, &reg) < 0)
		return log_fail(errno, "userfaultfd cannot watch %#llx-%#llx: %m",
				(unsigned long long)run->start, (unsigned long long)run->end);
	run->end = 0;
	return 0;
}

/* Arms every private anonymous mapping: last, so that nothing we did could wait for a page. */
static int arm_mappings(struct restore *r, int uffd)
{
	size_t mark = arena_mark();
	char *buf = arena_alloc(ARENA_SCRATCH, PROC_LINE_MAX, 16), *line;
	struct line_reader reader;
	struct proc_map map;
	struct run run = {0, 0};
	int err, got;

	if (!buf)
		return -ENOMEM;
	err = line_reader_open(&reader, r->proc_fd, "maps", buf, PROC_LINE_MAX);
	if (err) {
		arena_reset(mark);
		return err;
	}
	/* All that lie behind one another with none in between that is not to be watched, in one go. */
	do {
		got = line_reader_next(&reader, &line);
		if (got < 0 || (got && !proc_map_parse(line, &map)))
			err = got < 0 ? got : -EPROTO;
		else if (got && is_lazy(r, &map))
			run = (struct run){run.end ? run.start : map.start, map.end};
		else
			err = arm_run(uffd, &run);
	} while (!err && got);
	line_reader_close(&reader);
	arena_reset(mark);
	return err;
}

/* The scratch area goes; the leader gets its own registers and mask. */
static int finish_leader(struct restore *r)
{
	struct remote *leader = &r->leader;
	int64_t ret;
	int err;

	/* No memory of the leader's is read or written by calls from here on. */
	err = mm_show(r);
	if (!err)
		err = process_limit(r);
	if (!err)
		err = creds_apply(r, leader, &r->leader_creds);
	if (!err && r->leader_timed.nr)
		err = restart_arm(leader, &r->leader_regs, &r->leader_timed, &r->clocks);
	if (err)
		return err;
	err = batch_room(leader, 1, 0);
	if (!err)
		batch_try(leader, SYS_prctl, PR_SET_DUMPABLE, r->process.dumpable);
	err = batch_flush(leader);
	if (err)
		return err;
	leader->batch = NULL;
	leader->insn = r->vdso_insn;
	ret = remote_call(leader, SYS_munmap, r->scratch, r->scratch_len);
	if (ret < 0)
		return (int)ret;
	leader->scratch = 0;
	leader->saved = r->leader_regs;
	leader->rseq_cs = r->leader_rseq_cs;
	err = remote_close(leader);
	if (!err && ptrace(PTRACE_SETSIGMASK, leader->tid, sizeof(uint64_t), &r->leader_mask) < 0)
		err = -errno;
	return err;
}

int restore_finish(struct restore *r, int *uffd)
{
	unsigned int i;
	int err = 0;

	*uffd = -1;
	if (!r->pid || !r->leader_done)
		return log_fail(EPROTO, "the description ended before the process was complete");
	err = batch_flush(&r->leader);
	if (!err)
		err = space_settle(r);
	for (i = state_nr_kinds; i-- > 0 && !err;)
		if (state_kinds[i]->finish)
			err = state_kinds[i]->finish(r);
	if (!err)
		err = take_uffd(r, uffd);
	if (!err)
		err = fault_point(FAULT_RESTORE_UFFD);
	if (!err)
		err = arm_mappings(r, *uffd);
	if (!err)
		err = fault_point(FAULT_RESTORE_ARM);
	if (!err)
		err = finish_leader(r);
	if (!err)
		err = fault_point(FAULT_RESTORE_FINISH);
	remote_unpin();
	if (err && *uffd >= 0) {
		close(*uffd);
		*uffd = -1;
	}
	if (err)
		log_fail(-err, "the restored process could not be finished: %m");
	return err;
}

static void restore_close(struct restore *r)
{
	remote_unpin();
	io_close(&r->leader.mem_fd);
	io_close(&r->proc_fd);
	io_close(&r->pidfd);
	io_close(&r->object_fd);
	r->pid = 0;
	r->nr_threads = 0;
}

/*
 * Takes the pending SIGSTOP away without a SIGCONT: the leader meets it before it has run an
 * instruction, and goes on without it. Other signals have to wait for that.
 */
static void take_stop_back(const struct restore *r, struct restore_start *start)
{
	uint64_t all = ~0ULL, mask = r->leader_mask;
	pid_t tid = r->tids[0];
	int status, err;

	start->masked = true;
	ptrace(PTRACE_SETSIGMASK, tid, sizeof(all), &all);
	(void)fault_point(FAULT_RESTORE_STOP);
	do {
		ptrace(PTRACE_CONT, tid, 0, 0);
		err = remote_wait_stop(tid, &status, -1);
	} while (!err && WSTOPSIG(status) != SIGSTOP);
	ptrace(PTRACE_SETSIGMASK, tid, sizeof(mask), &mask);
	start->masked = false;
}

/* The leader's mask, where whoever took its SIGSTOP back died. It stands in group-stop, or is about to. */
static void unmask(const struct restore *r)
{
	uint64_t mask = r->leader_mask;
	pid_t tid = r->tids[0];
	int status;

	if (ptrace(PTRACE_SEIZE, tid, 0, 0) < 0)
		return;
	ptrace(PTRACE_INTERRUPT, tid, 0, 0);
	if (!remote_wait_stop(tid, &status, -1))
		ptrace(PTRACE_SETSIGMASK, tid, sizeof(mask), &mask);
	ptrace(PTRACE_DETACH, tid, 0, 0);
}

int restore_start(struct restore *r, struct restore_start *start)
{
	unsigned int i;

	/* CLOCK_MONOTONIC_COARSE stands still between two ticks: it must not be seen to go back either. */
	clocks_settle(&r->clocks, r->process.clocks.coarse_behind_ns);
	/* A thread that our death lets go stops then, before it has run an instruction. */
	kill(r->pid, SIGSTOP);
	for (i = 0; i < r->nr_threads; i++)
		/* Somebody has killed it: it has not run, and the source's copy is as good as ever. */
		if (ptrace(PTRACE_SETOPTIONS, r->tids[i], 0, 0) < 0)
			return log_fail(errno, "pid %d was killed before it ran here", r->pid);
	start->released = true;
	if (!r->stopped)
		take_stop_back(r, start);
	for (i = r->nr_threads; i-- > 0;) {
		ptrace(PTRACE_DETACH, r->tids[i], 0, 0);
		if (i == r->nr_threads / 2)
			(void)fault_point(FAULT_RESTORE_START);
	}
	start->done = true;
	restore_close(r);
	return 0;
}

int restore_go_on(struct restore *r, struct restore_start *start)
{
	if (!start->done && start->masked)
		unmask(r);
	start->masked = false;
	if (!start->done && !r->stopped)
		kill(r->pid, SIGCONT);
	start->done = true;
	restore_close(r);
	return 0;
}

void restore_discard(struct restore *r)
{
	unsigned int i;

	if (!r->pid)
		return;
	kill(r->pid, SIGKILL);
	for (i = r->nr_threads; i-- > 0;)
		waitpid(r->tids[i], NULL, __WALL);
	if (r->init) {
		kill(r->init, SIGKILL);
		waitpid(r->init, NULL, __WALL);
	}
	restore_close(r);
}
