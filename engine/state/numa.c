/* SPDX-License-Identifier: MIT */
/*
 * Memory policies: a thread's own is carried, that of a single mapping (mbind) is refused. A kernel
 * without CONFIG_NUMA has neither. Source: set_mempolicy(2), numa_maps(5).
 */
#include "engine/process/proc.h"
#include "engine/state/numa.pb.h"
#include "engine/state/state.h"
#include "lib/arena.h"
#include "lib/kernel.h"
#include "lib/log.h"
#include "lib/text.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#define NODE_BITS 1024
#define POLICY_MAX 48

/* ---- probe ---- */

struct policies {
	struct probe *probe;
	uint64_t vdso; /* has no policy of its own: the process' one is shown there */
	char general[POLICY_MAX];
	char line[PROC_LINE_MAX];
};

static int find_vdso(struct policies *s)
{
	struct line_reader reader;
	struct proc_map map;
	char *line;
	int got, err = line_reader_open(&reader, s->probe->proc_fd, "maps", s->line,
					sizeof(s->line));

	if (err)
		return err;
	while ((got = line_reader_next(&reader, &line)) > 0)
		if (proc_map_parse(line, &map) && strcmp(map.name, "[vdso]") == 0)
			s->vdso = map.start;
	line_reader_close(&reader);
	return got;
}

/* One line of numa_maps: "7f12000 default file=/lib/x.so ...". */
typedef void policy_fn(struct policies *s, uint64_t start, const char *policy);

static int each_policy(struct policies *s, policy_fn *fn)
{
	struct line_reader reader;
	char *line;
	int got, err;

	err = line_reader_open(&reader, s->probe->proc_fd, "numa_maps", s->line, sizeof(s->line));
	if (err)
		return err == -ENOENT ? 0 : err;
	while ((got = line_reader_next(&reader, &line)) > 0) {
		const char *c = line;
		char policy[POLICY_MAX];
		uint64_t start;

		if (text_take_u64(&c, 16, &start) && text_take_word(&c, policy, sizeof(policy)))
			fn(s, start, policy);
	}
	line_reader_close(&reader);
	return got;
}

static void take_general(struct policies *s, uint64_t start, const char *policy)
{
	if (start == s->vdso)
		text_copy(s->general, sizeof(s->general), policy);
}

static void check_policy(struct policies *s, uint64_t start, const char *policy)
{
	char item[32];

	if (strcmp(policy, s->general) == 0)
		return;
	snprintf(item, sizeof(item), "mapping %llx", (unsigned long long)start);
	probe_refused(s->probe, item,
		      "has a memory policy of its own (mbind: %s), which is not carried; use "
		      "set_mempolicy, or numactl",
		      policy);
}

static int numa_probe(struct probe *p)
{
	size_t mark = arena_mark();
	struct policies *s = arena_alloc(ARENA_SCRATCH, sizeof(*s), 16);
	int err;

	if (!s)
		return -ENOMEM;
	*s = (struct policies){.probe = p};
	err = find_vdso(s);
	if (!err)
		err = each_policy(s, take_general);
	if (!err && s->general[0])
		err = each_policy(s, check_policy);
	arena_reset(mark);
	return err;
}

/* ---- dump, restore ---- */

/* What get_mempolicy(2) fills in. */
struct policy {
	uint64_t mode; /* the lower half */
	uint8_t nodes[NODE_BITS / 8];
};

static const struct question policy = {
	.nr = SYS_get_mempolicy,
	.args = {offsetof(struct policy, mode), offsetof(struct policy, nodes), NODE_BITS},
	.rooms = 1 << 0 | 1 << 1,
	.len = sizeof(struct policy),
};
_Static_assert(sizeof(struct policy) <= QUESTION_ROOM_MAX, "it can be asked");

static void numa_ask(struct dump *d)
{
	ask_ahead(&d->thread, &policy);
}

static int numa_dump_thread(struct dump *d, const struct state_kind *kind,
			    const struct freeze_thread *thread)
{
	baton_Numa msg = {.mode = 0};
	struct policy found;
	int64_t ret = ask_for(&d->thread, &policy, &found);

	if (ret == -ENOSYS)
		return 0;
	if (ret < 0)
		return log_fail((int)-ret, "thread %d: its memory policy cannot be read: %m",
				thread->tid);
	memcpy(&msg.mode, &found.mode, sizeof(msg.mode));
	msg.nodes.size = sizeof(msg.nodes.bytes);
	memcpy(msg.nodes.bytes, found.nodes, sizeof(msg.nodes.bytes));
	return msg.mode ? dump_emit(d, kind, &msg) : 0;
}

static int numa_restore(struct restore *r, const void *data)
{
	const baton_Numa *msg = data;
	uint8_t nodes[NODE_BITS / 8] = {0};
	int64_t ret;

	if (!r->thread.tid)
		return -EPROTO;
	memcpy(nodes, msg->nodes.bytes, msg->nodes.size);
	ret = remote_call(&r->thread, SYS_set_mempolicy, (uint64_t)msg->mode,
			  remote_push(&r->thread, nodes, sizeof(nodes)), NODE_BITS);
	if (ret < 0)
		log_warn("thread %d had a memory policy that this device cannot keep (%s); its "
			 "memory may lie on any node",
			 r->tid_inside, strerror((int)-ret));
	return 0;
}

const struct state_kind kind_numa = {
	.id = KIND_NUMA,
	.name = "memory policy",
	.fields = baton_Numa_fields,
	.size = sizeof(baton_Numa),
	.probe = numa_probe,
	.ask_thread = ASKS(numa_ask),
	.dump_thread = numa_dump_thread,
	.restore = numa_restore,
};
