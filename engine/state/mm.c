/* SPDX-License-Identifier: MIT */
/* The fields of the memory descriptor: what ps, /proc/PID/exe and brk(2) read. Source: prctl(2). */
#include "engine/state/mm.pb.h"
#include "engine/process/batch.h"
#include "engine/process/proc.h"
#include "engine/state/fd.h"
#include "engine/state/state.h"
#include "lib/arena.h"
#include "lib/kernel.h"
#include "lib/log.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>

/* Fields of /proc/PID/stat, counted from 1 as in proc(5). */
#define STAT_STARTCODE 26  /* and endcode, startstack */
#define STAT_START_DATA 45 /* and end_data, start_brk, arg_start, arg_end, env_start, env_end */

static const struct question end_of_heap = {.nr = SYS_brk};

static void mm_ask(struct dump *d)
{
	ask_ahead(&d->leader, &end_of_heap);
}

static int mm_dump(struct dump *d, const struct state_kind *kind)
{
	size_t mark = arena_mark();
	baton_Mm *msg = arena_alloc(ARENA_SCRATCH, sizeof(*msg), 16);
	uint64_t code[3], data[7];
	int64_t brk;
	ssize_t n;
	int err;

	if (!msg)
		return -ENOMEM;
	err = proc_stat_fields(d->proc_fd, STAT_STARTCODE, 3, code);
	if (!err)
		err = proc_stat_fields(d->proc_fd, STAT_START_DATA, 7, data);
	n = io_read_file(d->proc_fd, "auxv", msg->auxv.bytes, sizeof(msg->auxv.bytes));
	if (!err && n >= 0) {
		msg->auxv.size = (pb_size_t)n;
		n = io_read_link(d->proc_fd, "exe", msg->exe, sizeof(msg->exe));
	}
	brk = ask_for(&d->leader, &end_of_heap, NULL);
	if (err || n < 0 || brk < 0) {
		err = err ? err : n < 0 ? (int)n : (int)brk;
		arena_reset(mark);
		return log_fail(-err, "pid %d: its memory layout cannot be read: %m", d->pid);
	}
	msg->start_code = code[0];
	msg->end_code = code[1];
	msg->start_stack = code[2];
	msg->start_data = data[0];
	msg->end_data = data[1];
	msg->start_brk = data[2];
	msg->arg_start = data[3];
	msg->arg_end = data[4];
	msg->env_start = data[5];
	msg->env_end = data[6];
	msg->brk = (uint64_t)brk;
	err = dump_emit(d, kind, msg);
	arena_reset(mark);
	return err;
}

/*
 * Whoever reads /proc/PID/cmdline or environ (ps does) makes the kernel read the program's stack, and a
 * page that is missing there and not watched yet becomes one of zeros for good. So as long as memory is not
 * watched the kernel knows of no arguments and of no environment.
 */
static int fail_layout(const struct batch *b, const struct arch_batch_call *call, int err)
{
	(void)b;
	if (call->nr == SYS_personality)
		return log_fail(-err, "personality: %m");
	if (call->args[0] != PR_SET_MM)
		return log_fail(-err, "PR_SET_THP_DISABLE: %m");
	return log_fail(-err,
			"memory layout (PR_SET_MM_MAP): %m; it needs CONFIG_CHECKPOINT_RESTORE");
}

static void set_layout(struct restore *r, const struct prctl_mm_map *map)
{
	batch_call(&r->leader, fail_layout, SYS_prctl, PR_SET_MM, PR_SET_MM_MAP,
		   batch_push(&r->leader, map, sizeof(*map)), sizeof(*map));
}

int mm_show(struct restore *r)
{
	int err;

	if (!r->mm.start_code)
		return log_fail(EPROTO, "the peer described no memory layout");
	r->mm.exe_fd = (uint32_t)-1; /* stays */
	r->mm.auxv = NULL;
	r->mm.auxv_size = 0;
	err = batch_room(&r->leader, 2, sizeof(r->mm));
	if (err)
		return err;
	set_layout(r, &r->mm);
	/* They were off while it was built. The value is 1 and the flags that it was disabled with (6.18). */
	batch_call(&r->leader, fail_layout, SYS_prctl, PR_SET_THP_DISABLE,
		   r->process.thp_disabled & 1, r->process.thp_disabled & ~1U);
	return batch_flush(&r->leader);
}

static int mm_restore(struct restore *r, const void *data)
{
	const baton_Mm *msg = data;
	struct prctl_mm_map map;
	int64_t fd;
	int err;

	r->mm = (struct prctl_mm_map){
		.start_code = msg->start_code,
		.end_code = msg->end_code,
		.start_data = msg->start_data,
		.end_data = msg->end_data,
		.start_brk = msg->start_brk,
		.brk = msg->brk,
		.start_stack = msg->start_stack,
		.arg_start = msg->arg_start,
		.arg_end = msg->arg_end,
		.env_start = msg->env_start,
		.env_end = msg->env_end,
	};
	map = r->mm;
	map.arg_end = map.arg_start;
	map.env_end = map.env_start;
	fd = fd_remote_open(r, msg->exe, O_RDONLY);
	if (fd < 0)
		return log_fail((int)-fd, "program file %s: %m", msg->exe);
	err = batch_room(&r->leader, 3, sizeof(map) + msg->auxv.size + 8);
	if (err)
		return err;
	map.exe_fd = (uint32_t)fd;
	map.auxv = (void *)batch_push(&r->leader, msg->auxv.bytes, msg->auxv.size);
	map.auxv_size = msg->auxv.size;
	set_layout(r, &map);
	batch_try(&r->leader, SYS_close, (uint64_t)fd);
	/* After the mappings: READ_IMPLIES_EXEC would add to their protection. Before the threads:
	 * they inherit it. */
	batch_call(&r->leader, fail_layout, SYS_personality, r->process.personality);
	return 0;
}

const struct state_kind kind_mm = {
	.id = KIND_MM,
	.name = "memory layout",
	.fields = baton_Mm_fields,
	.size = sizeof(baton_Mm),
	.ask = ASKS(mm_ask),
	.dump = mm_dump,
	.restore = mm_restore,
};
