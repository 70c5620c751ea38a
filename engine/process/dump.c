/* SPDX-License-Identifier: MIT */
/* The source's half: stop a process, describe it as a stream of state messages, let it run again. */
#include "engine/process/dump.h"

#include "engine/process/proc.h"
#include "lib/arena.h"
#include "lib/kernel.h"
#include "lib/log.h"
#include "transport/message.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/ptrace.h>
#include <unistd.h>

#define SEND_TIMEOUT_MS 20000
#define VDSO_READ_BYTES 16384
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
		return log_fail(errno, "pid %d: pidfd_open: %s", pid, strerror(errno));
	return pagemap_open(&d->pagemap, pid);
}

/* Address of a system call instruction in the process: the vdso has one in each of its fallbacks. */
static int find_syscall_insn(struct dump *d, uint64_t *insn)
{
	size_t mark = arena_mark();
	char *buf = arena_alloc(ARENA_SCRATCH, PROC_LINE_MAX + VDSO_READ_BYTES, 16);
	struct line_reader reader;
	struct proc_map map;
	char *line;
	ssize_t offset = -ENOENT;
	int err;

	if (!buf)
		return -ENOMEM;
	err = line_reader_open(&reader, d->proc_fd, "maps", buf, PROC_LINE_MAX);
	if (err) {
		arena_reset(mark);
		return err;
	}
	while (line_reader_next(&reader, &line) > 0) {
		uint8_t *image = (uint8_t *)buf + PROC_LINE_MAX;
		size_t len;

		if (!proc_map_parse(line, &map) || strcmp(map.name, "[vdso]") != 0)
			continue;
		len = map.end - map.start < VDSO_READ_BYTES ? map.end - map.start : VDSO_READ_BYTES;
		offset = remote_read(&d->leader, map.start, image, len);
		if (!offset)
			offset = arch_vdso_find_syscall(image, len);
		*insn = map.start + (uint64_t)offset;
		break;
	}
	line_reader_close(&reader);
	arena_reset(mark);
	return offset < 0
		       ? log_fail(ENOEXEC, "pid %d has no vdso, or none with a system call", d->pid)
		       : 0;
}

static int mask_get(pid_t tid, uint64_t *mask)
{
	return ptrace(PTRACE_GETSIGMASK, tid, sizeof(*mask), mask) < 0 ? -errno : 0;
}

static int mask_set(pid_t tid, uint64_t mask)
{
	return ptrace(PTRACE_SETSIGMASK, tid, sizeof(mask), &mask) < 0 ? -errno : 0;
}

/* Argument memory in the process. Shared, so that the kernel does not merge it with a neighbour. */
static int open_scratch(struct dump *d)
{
	int64_t addr =
		remote_call(&d->leader, SYS_mmap, 0, REMOTE_SCRATCH_BYTES, PROT_READ | PROT_WRITE,
			    MAP_SHARED | MAP_ANONYMOUS, (uint64_t)-1);

	if (addr < 0 && addr > -4096)
		return log_fail((int)-addr, "pid %d: no memory for %d KiB of arguments: %s", d->pid,
				REMOTE_SCRATCH_BYTES / 1024, strerror((int)-addr));
	d->leader.scratch = (uint64_t)addr;
	d->leader.scratch_len = REMOTE_SCRATCH_BYTES;
	return 0;
}

static int open_leader(struct dump *d)
{
	int err = remote_open(&d->leader, d->pid, d->pid);

	if (err)
		return log_fail(-err, "pid %d: its registers or memory cannot be read: %s", d->pid,
				err == -ENOEXEC ? "it is a 32-bit program" : strerror(-err));
	err = find_syscall_insn(d, &d->leader.insn);
	if (!err)
		err = mask_get(d->pid, &d->leader_mask);
	if (!err)
		err = mask_set(d->pid, ALL_SIGNALS);
	if (err)
		return err;
	d->leader_open = true;
	return open_scratch(d);
}

/* Takes the scratch area out and puts registers and mask back. Idempotent. */
static int close_leader(struct dump *d)
{
	int err = 0, err_mask;

	if (!d->leader_open)
		return 0;
	d->leader_open = false;
	if (d->leader.scratch)
		remote_call(&d->leader, SYS_munmap, d->leader.scratch, d->leader.scratch_len);
	d->leader.scratch = 0;
	err = remote_close(&d->leader);
	err_mask = mask_set(d->pid, d->leader_mask);
	return err ? err : err_mask;
}

int dump_open(struct dump *d, pid_t pid)
{
	int err;

	d->nr_state = d->nr_eager = d->nr_sent = 0;
	err = freeze_process(d->freeze, pid);
	if (!err)
		err = open_process(d, pid);
	if (!err)
		err = open_leader(d);
	if (err)
		dump_release(d);
	return err;
}

static void close_fd(int *fd)
{
	if (*fd >= 0)
		close(*fd);
	*fd = -1;
}

void dump_close(struct dump *d)
{
	close_fd(&d->leader.mem_fd);
	close_fd(&d->proc_fd);
	close_fd(&d->pidfd);
	pagemap_close(&d->pagemap);
}

void dump_release(struct dump *d)
{
	close_leader(d);
	freeze_thaw(d->freeze);
	dump_close(d);
}

int dump_emit(struct dump *d, const struct state_kind *kind, const void *msg)
{
	struct frame frame = {.type = FRAME_STATE, .space = kind->id, .addr = d->nr_state};
	int err = message_queue(d->out, &frame, kind->fields, msg, SEND_TIMEOUT_MS);

	if (err)
		return log_fail(-err, "pid %d: its %s could not be sent: %s", d->pid, kind->name,
				strerror(-err));
	d->nr_state++;
	return 0;
}

int dump_emit_pages(struct dump *d, uint64_t start, uint64_t end)
{
	uint64_t addr, len;
	int err;

	for (addr = start; addr < end; addr += len) {
		struct frame frame = {.type = FRAME_PAGES, .addr = addr};
		uint8_t *body;

		len = end - addr < FRAME_BODY_MAX ? end - addr : FRAME_BODY_MAX;
		body = lane_body(d->out, (uint32_t)len);
		if (!body) {
			err = lane_flush_wait(d->out, SEND_TIMEOUT_MS);
			body = err < 0 ? NULL : lane_body(d->out, (uint32_t)len);
			if (!body)
				return err < 0 ? err : -ENOBUFS;
		}
		err = remote_read(&d->leader, addr, body, len);
		if (err)
			return log_fail(-err, "pid %d: %llu bytes at %#llx cannot be read", d->pid,
					(unsigned long long)len, (unsigned long long)addr);
		frame.len = (uint32_t)len;
		err = lane_queue(d->out, &frame, NULL);
		if (err)
			return err;
		d->nr_eager += len >> arch_page_shift();
	}
	return 0;
}

int dump_each_existing(struct dump *d, uint64_t start, uint64_t end, dump_run_fn *fn)
{
	uint64_t from, upto, done;
	int err = 0;

	while (start < end && !err) {
		err = pagemap_next(&d->pagemap, start, end, &from, &upto, &done);
		if (!err && from < upto)
			err = fn(d, from, upto);
		start = done;
	}
	return err;
}

int dump_emit_existing(struct dump *d, uint64_t start, uint64_t end)
{
	return dump_each_existing(d, start, end, dump_emit_pages);
}

static int describe_process(struct dump *d)
{
	unsigned int i;
	int err = 0;

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
	int err = 0;

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
	if (!err)
		err = mask_get(thread->tid, &d->thread_mask);
	if (!err)
		err = mask_set(thread->tid, ALL_SIGNALS);
	if (err)
		return log_fail(-err, "pid %d: thread %d cannot be read: %s", d->pid, thread->tid,
				strerror(-err));
	err = describe_kinds_of_thread(d, thread);
	err_close = remote_close(&d->thread);
	if (!err_close)
		err_close = mask_set(thread->tid, d->thread_mask);
	return err ? err : err_close;
}

int dump_describe(struct dump *d, struct lane *out)
{
	unsigned int i;
	int err;

	d->out = out;
	err = describe_process(d);
	/* The leader last: the target needs it for its own calls until then. */
	for (i = 1; i <= d->freeze->nr && !err; i++)
		err = describe_thread(d, &d->freeze->threads[i % d->freeze->nr]);
	if (!err)
		err = close_leader(d);
	if (!err)
		err = lane_flush_wait(out, SEND_TIMEOUT_MS);
	return err;
}
