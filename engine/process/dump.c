/* SPDX-License-Identifier: MIT */
/* The source's half: stop a process, describe it as a stream of state messages, let it run again. */
#include "engine/process/dump.h"

#include "engine/process/ask.h"
#include "engine/process/dump_emit.h"
#include "engine/process/landlock.h"
#include "engine/process/proc.h"
#include "engine/process/restart.h"
#include "engine/state/guardpage.h"
#include "lib/arena.h"
#include "lib/clock.h"
#include "lib/config.h"
#include "lib/fault.h"
#include "lib/kernel.h"
#include "lib/io.h"
#include "lib/log.h"
#include "transport/lane.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define VDSO_READ_BYTES 16384
#define SCAN_BYTES 65536
/* Parts of the room in the stack, see find_room; nothing to do with the size of a page. */
#define WAY_BYTES 16384ULL
#define ARGUMENT_BYTES 8192ULL
#define STEPS_BYTES 16384ULL
#define STACK_MARGIN_BYTES 4096ULL /* not a page */
#define ARGUMENTS WAY_BYTES
#define THREAD_WAY (ARGUMENTS + ARGUMENT_BYTES)
#define STEPS (THREAD_WAY + WAY_BYTES)
#define ROOM_BYTES (STEPS + STEPS_BYTES)
#define KILL_TIMEOUT_MS 10000
_Static_assert(ARCH_SIGRETURN_MAX <= WAY_BYTES, "a way back has room");

#define ALL_SIGNALS (~0ULL)

int dump_init(struct dump *d, struct freeze *f)
{
	memset(d, 0, sizeof(*d));
	d->proc_fd = d->pidfd = -1;
	d->leader.mem_fd = -1;
	d->freeze = f;
	return pagemap_init(&d->pagemap);
}

static int open_process(struct dump *d, pid_t pid)
{
	d->pid = pid;
	d->proc_fd = proc_open(pid);
	if (d->proc_fd < 0)
		return log_fail(-d->proc_fd, "pid %d: no such process", pid);
	d->pidfd = (int)syscall(SYS_pidfd_open, pid, 0);
	if (d->pidfd < 0)
		return log_fail(errno, "pid %d: pidfd_open: %m", pid);
	return pagemap_open(&d->pagemap, pid);
}

static int maps_each(struct dump *d, bool (*fn)(struct dump *, const struct proc_map *))
{
	size_t mark = arena_mark();
	char *buf = arena_alloc(ARENA_SCRATCH, PROC_LINE_MAX, 16), *line;
	struct line_reader reader;
	struct proc_map map;
	int err = buf ? line_reader_open(&reader, d->proc_fd, "maps", buf, PROC_LINE_MAX) : -ENOMEM;

	if (!err) {
		while ((err = line_reader_next(&reader, &line)) > 0)
			if (proc_map_parse(line, &map) && !fn(d, &map))
				break;
		line_reader_close(&reader);
	}
	arena_reset(mark);
	return err < 0 ? err : 0;
}

/* ---- the way back, see arch_sigreturn_scan ---- */

static bool scan_code(struct dump *d, const struct proc_map *map)
{
	size_t mark = arena_mark();
	uint8_t *text = arena_alloc(ARENA_SCRATCH, SCAN_BYTES, 16);
	bool found = false;
	ssize_t n = 1;

	for (uint64_t at = map->start; text && map->exec && !found && at < map->end && n > 0;
	     at += (uint64_t)n) {
		n = pread(d->leader.mem_fd, text, SCAN_BYTES, (off_t)at);
		found = n > 0 && arch_sigreturn_scan(&d->way, text, (size_t)n, at);
	}
	arena_reset(mark);
	return !found;
}

void dump_prepare(struct dump *d, pid_t pid)
{
	char path[40];

	landlock_begin(pid);
	freeze_prepare();
	d->way = (struct arch_sigreturn){0};
	d->proc_fd = proc_open(pid);
	snprintf(path, sizeof(path), "/proc/%d/mem", pid);
	d->leader.mem_fd = open(path, O_RDONLY | O_CLOEXEC);
	if (maps_each(d, scan_code) || !arch_sigreturn_call(&d->way))
		log_debug("pid %d: its code has no way back for a thread that is let go", pid);
	if (vdso_find(d->proc_fd, &d->vdso))
		d->vdso = (struct vdso_place){0};
	vma_skip_prepare(&d->skip, d->proc_fd);
	io_close(&d->leader.mem_fd);
	io_close(&d->proc_fd);
}

/* The program may have unmapped it since. */
static bool way_is_there(const struct dump *d)
{
	struct arch_sigreturn again = {0};
	uint8_t code[ARCH_SIGRETURN_CODE];
	struct arch_place places[3];
	unsigned int i, nr = arch_sigreturn_places(&d->way, places);

	for (i = 0; i < nr; i++)
		if (remote_read(&d->leader, places[i].at, code, places[i].len))
			return false;
		else
			arch_sigreturn_scan(&again, code, places[i].len, places[i].at);
	return nr && !memcmp(&again, &d->way, sizeof(again));
}

/* ---- a thread that works for us ---- */

/*
 * Zeros are what is put back. Anything else may be needed, wherever the stack pointer is: a handler's alternate stack, or
 * that of a coroutine, can lie in a frame of the main stack, above frames that are in use.
 */
static bool is_zero(struct dump *d, uint64_t at, uint64_t end)
{
	uint64_t from, upto, done, words[512];

	for (; at < end; at = done) {
		if (pagemap_next(&d->pagemap, at, end, &from, &upto, &done))
			return false;
		for (; from < upto; from += sizeof(words)) {
			if (remote_read(&d->leader, from, words, sizeof(words)))
				return false;
			for (unsigned int i = 0; i < sizeof(words) / sizeof(words[0]); i++)
				if (words[i])
					return false;
		}
	}
	return true;
}

/*
 * Memory for arguments: the low end of the main stack, where nothing but zeros is, below what is used of it;
 * else what comes when the stack grows by it (mm/memory.c, access_remote_vm). No call is needed to make
 * it, and what stays of it, should we die, is nobody's. 0: there is none. A write below finds what else is mapped there,
 * rather than making the stack grow, so nothing may be.
 *
 *     low ── leader's way back ── arguments ── a thread's way back ── steps ── margin ── used stack
 */
static uint64_t find_room(struct dump *d, const struct proc_map *map, uint64_t len)
{
	const uint64_t page = d->pagemap.page_bytes, whole = (len + page - 1) / page * page;
	const uint64_t sp = arch_regs_sp(&d->leader.saved), low = map->start - whole;

	if (map->end - map->start >= len && (sp < map->start || sp >= map->start + len) &&
	    is_zero(d, map->start, map->start + whole))
		return map->start;
	return whole < map->start && d->below <= low && !remote_write(&d->leader, low, "", 1) ? low
											      : 0;
}

static bool survey_map(struct dump *d, const struct proc_map *map)
{
	if (!strcmp(map->name, "[stack]") && map->write && way_is_there(d))
		d->room = find_room(d, map, ROOM_BYTES + STACK_MARGIN_BYTES);
	if (!strcmp(map->name, "[vdso]")) {
		size_t mark = arena_mark(), len = map->end - map->start;
		uint8_t *image = arena_alloc(ARENA_SCRATCH, VDSO_READ_BYTES, 16);
		ssize_t offset = -ENOMEM;

		len = len < VDSO_READ_BYTES ? len : VDSO_READ_BYTES;
		if (image)
			offset = remote_read(&d->leader, map->start, image, len);
		if (!offset)
			offset = arch_vdso_find_syscall(image, len);
		d->leader.insn = offset < 0 ? 0 : map->start + (uint64_t)offset;
		arena_reset(mark);
	}
	d->below = map->end;
	return true;
}

static int mask_get(pid_t tid, uint64_t *mask)
{
	return ptrace(PTRACE_GETSIGMASK, tid, sizeof(*mask), mask) < 0 ? -errno : 0;
}

static int mask_set(pid_t tid, uint64_t mask)
{
	return ptrace(PTRACE_SETSIGMASK, tid, sizeof(mask), &mask) < 0 ? -errno : 0;
}

/* Argument memory of a process whose stack has no room. Shared: the kernel does not merge it. */
static int map_scratch(struct dump *d)
{
	int64_t addr =
		remote_call(&d->leader, SYS_mmap, 0, REMOTE_SCRATCH_BYTES, PROT_READ | PROT_WRITE,
			    MAP_SHARED | MAP_ANONYMOUS, (uint64_t)-1);

	if (remote_failed(addr))
		return log_fail((int)-addr, "pid %d: no memory for %d KiB of arguments: %m", d->pid,
				REMOTE_SCRATCH_BYTES / 1024);
	d->leader.scratch = (uint64_t)addr;
	d->leader.scratch_len = REMOTE_SCRATCH_BYTES;
	return 0;
}

/* Before its mask changes: what it was is in its way back. */
static int open_thread(struct dump *d, struct remote *thread, uint64_t way_at, uint64_t *mask)
{
	int err = mask_get(thread->tid, mask);

	if (!err && way_at)
		err = remote_set_way_back(thread, &d->way, way_at, *mask);
	return err ? err : mask_set(thread->tid, ALL_SIGNALS);
}

static void begin_steps(struct dump *d)
{
	d->leader.steps = 0;
	if (d->freeze->filtered || !d->status.pid_inside)
		return;
	d->leader.steps_len = STEPS_BYTES;
	d->leader.steps = d->room + STEPS;
	d->leader.pid_inside = d->leader.tid_inside = d->freeze->threads[0].tid_inside;
	ask_begin(&d->leader, &d->status, d->leader_mask);
}

static int open_leader(struct dump *d)
{
	int err = remote_open(&d->leader, d->pid, d->pid);

	if (err)
		return log_fail(-err, "pid %d: its registers or memory cannot be read: %s", d->pid,
				err == -ENOEXEC ? "it is a 32-bit program" : strerror(-err));
	restart_name(&d->leader.saved, &d->freeze->threads[0]);
	d->room = d->below = 0;
	err = maps_each(d, survey_map);
	if (!err)
		err = proc_status(d->proc_fd, &d->status);
	if (!err && !d->leader.insn)
		err = log_fail(ENOEXEC, "pid %d has no vdso, or none with a system call", d->pid);
	if (err)
		return err;
	d->leader_open = true;
	err = open_thread(d, &d->leader, d->room, &d->leader_mask);
	if (!err)
		err = fault_point(FAULT_DUMP_OPEN);
	if (err || !d->room)
		return err ? err : map_scratch(d);
	d->leader.scratch = d->room + ARGUMENTS;
	d->leader.scratch_len = ARGUMENT_BYTES;
	begin_steps(d);
	return 0;
}

static void write_zeros(const struct remote *leader, uint64_t at, uint64_t len)
{
	static const uint8_t zeros[256];

	for (uint64_t n; len; at += n, len -= n) {
		n = len < sizeof(zeros) ? len : sizeof(zeros);
		if (remote_write(leader, at, zeros, n))
			return;
	}
}

/*
 * Makes a part of the room as empty as it was. One that is not whole pages of this kernel has neighbours
 * in them: the way back that is still needed, or the program's own stack.
 */
static void drop_part(struct dump *d, uint64_t at, uint64_t len)
{
	if ((at | len) & (d->pagemap.page_bytes - 1))
		write_zeros(&d->leader, at, len);
	else
		remote_call(&d->leader, SYS_madvise, at, len, MADV_DONTNEED);
}

/* Gives the memory back. The leader's way back goes last, see close_leader. */
static void drop_scratch(struct dump *d)
{
	struct remote *leader = &d->leader;

	if (d->room) {
		drop_part(d, d->room + WAY_BYTES, ROOM_BYTES - WAY_BYTES);
	} else if (leader->scratch) {
		remote_call(leader, SYS_munmap, leader->scratch, leader->scratch_len);
	}
	leader->scratch = 0;
}

/* Takes the scratch area out and puts registers and mask back. Idempotent. */
static int close_leader(struct dump *d)
{
	int err, err_mask;

	if (!d->leader_open)
		return 0;
	d->leader_open = false;
	drop_scratch(d);
	fault_point(FAULT_DUMP_CLOSE); /* an undo goes on */
	err_mask = mask_set(d->pid, d->leader_mask);
	err = remote_close(&d->leader);
	if (d->room)
		write_zeros(&d->leader, d->room, WAY_BYTES);
	return err ? err : err_mask;
}

/*
 * Code of a vdso relies on its kernel's data while it runs. Also where the target's is the same: the clocks
 * are others there, and so are the pages that it reads when only one of the two has a time namespace.
 */
static int leave_vdso(struct dump *d)
{
	const struct vdso_range ranges[] = {d->vdso.own, d->vdso.known};

	return freeze_leave(d->freeze, ranges, sizeof(ranges) / sizeof(ranges[0]));
}

int dump_open(struct dump *d, pid_t pid, bool other_vdso)
{
	int err;

	if (!d->vdso.own.len)
		return log_fail(ENOENT, "pid %d: its vdso is not found", pid);
	d->other_vdso = other_vdso;
	d->nr_state = d->nr_eager = d->nr_sent = 0;
	d->leader_open = false; /* a dead engine's went with it */
	ask_forget();
	err = freeze_process(d->freeze, pid);
	if (!err)
		err = leave_vdso(d);
	if (!err)
		err = fault_point(FAULT_DUMP_FREEZE);
	if (!err)
		err = open_process(d, pid);
	if (!err)
		err = open_leader(d);
	if (!err)
		err = fault_point(FAULT_DUMP_SCRATCH);
	if (err)
		dump_release(d);
	return err;
}

void dump_close(struct dump *d)
{
	landlock_end();
	landlock_reap();
	io_close(&d->leader.mem_fd);
	io_close(&d->proc_fd);
	io_close(&d->pidfd);
	pagemap_close(&d->pagemap);
	vma_skip_close(&d->skip);
}

void dump_kill(struct dump *d)
{
	if (syscall(SYS_pidfd_send_signal, d->pidfd, SIGKILL, NULL, 0) && errno != ESRCH)
		log_warn("pid %d: could not be killed: %s", d->pid, strerror(errno));
}

void dump_reap(struct dump *d)
{
	struct pollfd gone = {d->pidfd, POLLIN, 0};
	int64_t deadline = clock_deadline_ms(KILL_TIMEOUT_MS);

	/* Its parent is told when we, who trace it, have heard of it. */
	while (clock_left_ms(deadline) && io_poll(&gone, 1, 1) == 0)
		while (waitpid(-1, NULL, __WALL | WNOHANG) > 0)
			;
	while (waitpid(-1, NULL, __WALL | WNOHANG) > 0)
		;
	dump_close(d);
}

void dump_mend(struct dump *d)
{
	if (!IS_ENABLED(CONFIG_SKIP_LARGE) || !d->skip.part_start)
		return;
	dump_close(d);
	if (dump_open(d, d->pid, d->other_vdso))
		return;
	vma_skip_mend(d);
	dump_release(d);
}

/* Ends the hold. What that takes is a SIGCONT, for which the program may have a handler. */
static void end_hold(struct dump *d)
{
	const uint64_t set = 1ULL << (SIGCONT - 1);
	const struct timespec now = {0, 0};
	uint64_t at;

	if (!d->freeze->held)
		return;
	if (!d->leader_open && open_leader(d))
		log_debug("pid %d: its SIGCONT cannot be taken back: %s", d->pid, log_reason());
	if (!freeze_unhold(d->freeze) || !d->leader.scratch)
		return;
	remote_reset(&d->leader);
	at = remote_push(&d->leader, &set, sizeof(set));
	remote_call(&d->leader, SYS_rt_sigtimedwait, at, 0,
		    remote_push(&d->leader, &now, sizeof(now)), sizeof(set));
}

void dump_release(struct dump *d)
{
	end_hold(d);
	close_leader(d);
	fault_point(FAULT_DUMP_THAW);
	freeze_thaw(d->freeze);
	dump_close(d);
}

int dump_find(struct dump *d, pid_t pid)
{
	d->leader_open = false;
	return open_process(d, pid);
}

int dump_take_over(struct dump *d)
{
	int err = freeze_take_over(d->freeze, d->pid);

	d->leader_open = false;
	return err ? err : open_process(d, d->pid);
}

static int describe_process(struct dump *d)
{
	unsigned int i;
	int err;

	ask_forget();
	for (i = 0; i < state_nr_kinds; i++)
		if (state_kinds[i]->ask)
			state_kinds[i]->ask(d);
	err = ask_run(&d->leader);
	for (i = 0; i < state_nr_kinds && !err; i++) {
		d->kind = state_kinds[i]->name;
		if (state_kinds[i]->dump)
			err = state_kinds[i]->dump(d, state_kinds[i]);
		remote_reset(&d->leader);
	}
	return err;
}

static int describe_kinds_of_thread(struct dump *d, const struct freeze_thread *thread)
{
	unsigned int i;
	int err;

	ask_forget();
	for (i = 0; i < state_nr_kinds; i++)
		if (state_kinds[i]->ask_thread)
			state_kinds[i]->ask_thread(d);
	err = ask_run(&d->thread);
	for (i = 0; i < state_nr_kinds && !err; i++) {
		d->kind = state_kinds[i]->name;
		if (state_kinds[i]->dump_thread)
			err = state_kinds[i]->dump_thread(d, state_kinds[i], thread);
		remote_reset(&d->thread);
	}
	return err;
}

static int describe_thread(struct dump *d, const struct freeze_thread *thread)
{
	int err, err_close;

	if (thread->tid == d->pid) {
		d->thread = d->leader;
		d->thread_mask = d->leader_mask;
		return describe_kinds_of_thread(d, thread);
	}
	err = remote_open_sibling(&d->thread, &d->leader, thread->tid);
	d->thread.tid_inside = thread->tid_inside;
	if (!err)
		restart_name(&d->thread.saved, thread);
	if (!err)
		err = open_thread(d, &d->thread, d->room ? d->room + THREAD_WAY : 0,
				  &d->thread_mask);
	if (err)
		return log_fail(-err, "pid %d: thread %d cannot be read: %m", d->pid, thread->tid);
	err = describe_kinds_of_thread(d, thread);
	err_close = mask_set(thread->tid, d->thread_mask);
	if (!err_close)
		err_close = remote_close(&d->thread);
	return err ? err : err_close;
}

int dump_describe(struct dump *d, struct lane *out)
{
	unsigned int i;
	int err;

	dump_emit_begin(d, out);
	d->nr_unguarded = 0;
	err = describe_process(d);
	/* The leader last: the target needs it for its own calls until then. */
	for (i = 1; i <= d->freeze->nr && !err; i++) {
		if (i == d->freeze->nr)
			err = guardpage_dump_noted(d);
		if (!err)
			err = describe_thread(d, &d->freeze->threads[i % d->freeze->nr]);
	}
	landlock_end();
	if (!err)
		err = close_leader(d);
	if (!err)
		err = lane_flush_wait(out, -1);
	return err;
}
