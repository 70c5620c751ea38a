/* SPDX-License-Identifier: MIT */
/* How a thread is scheduled: policy, nice, clamps, affinity, I/O priority. All read and set from outside. */
#include "engine/state/sched.pb.h"
#include "engine/state/state.h"
#include "lib/io.h"
#include "lib/kernel.h"
#include "lib/log.h"
#include "lib/text.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/sched.h>
#include <linux/sched/types.h>
#include <string.h>
#include <unistd.h>

#define IOPRIO_WHO_PROCESS 1
#define SCHED_FLAGS_KNOWN 0x07ULL /* reset on fork, reclaim, deadline overrun */
#define SCHED_FLAGS_CLAMP 0x60ULL /* the two clamps of utilisation are set */
#define CLAMP_MAX 1024

/* Number of CPUs of this machine: one more than the last that is online. */
static unsigned int nr_cpus(void)
{
	char text[128];
	const char *c;
	uint64_t cpu, last = 0;

	if (io_read_file(AT_FDCWD, "/sys/devices/system/cpu/online", text, sizeof(text)) <= 0)
		return 0;
	for (c = text; *c;) {
		if (text_take_u64(&c, 10, &cpu))
			last = cpu;
		else
			c++;
	}
	return (unsigned int)last + 1;
}

static bool covers_all(const uint8_t *mask, size_t len)
{
	unsigned int cpu, nr = nr_cpus();

	if (nr == 0 || nr > len * 8)
		return true;
	for (cpu = 0; cpu < nr; cpu++)
		if (!((mask[cpu / 8] >> (cpu % 8)) & 1))
			return false;
	return true;
}

/*
 * A slice that is the kernel's own is not carried as if it were the thread's: since Linux 6.12 the
 * runtime of a thread without real-time policy is its slice, and never 0.
 */
static uint64_t own_runtime(const struct sched_attr *attr)
{
	struct sched_attr ours = {.size = sizeof(ours)};

	if (attr->sched_policy != SCHED_DEADLINE &&
	    syscall(SYS_sched_getattr, 0, &ours, sizeof(ours), 0) == 0 &&
	    ours.sched_runtime == attr->sched_runtime)
		return 0;
	return attr->sched_runtime;
}

static int sched_dump_thread(struct dump *d, const struct state_kind *kind,
			     const struct freeze_thread *thread)
{
	baton_Sched msg = baton_Sched_init_zero;
	struct sched_attr attr = {.size = sizeof(attr)};
	long n;

	if (syscall(SYS_sched_getattr, thread->tid, &attr, sizeof(attr), 0) < 0)
		return log_fail(errno, "thread %d: its scheduling cannot be read: %m", thread->tid);
	msg.policy = attr.sched_policy;
	msg.flags = attr.sched_flags & SCHED_FLAGS_KNOWN;
	msg.nice = attr.sched_nice;
	msg.priority = attr.sched_priority;
	msg.runtime_ns = own_runtime(&attr);
	msg.deadline_ns = attr.sched_deadline;
	msg.period_ns = attr.sched_period;
	/* Both are 0 on a kernel without CONFIG_UCLAMP_TASK. */
	msg.clamped =
		attr.sched_util_max && (attr.sched_util_min || attr.sched_util_max != CLAMP_MAX);
	msg.clamp_min = attr.sched_util_min;
	msg.clamp_max = attr.sched_util_max;
	n = syscall(SYS_sched_getaffinity, thread->tid, sizeof(msg.affinity.bytes),
		    msg.affinity.bytes);
	/* One that may run anywhere here may run anywhere there. */
	if (n > 0 && !covers_all(msg.affinity.bytes, (size_t)n))
		msg.affinity.size = (pb_size_t)n;
	n = syscall(SYS_ioprio_get, IOPRIO_WHO_PROCESS, thread->tid);
	msg.io_priority = n > 0 ? (uint32_t)n : 0;
	return dump_emit(d, kind, &msg);
}

static int sched_restore(struct restore *r, const void *data)
{
	const baton_Sched *msg = data;
	struct sched_attr attr = {
		.size = sizeof(attr),
		.sched_policy = msg->policy,
		.sched_flags = msg->flags & SCHED_FLAGS_KNOWN,
		.sched_nice = msg->nice,
		.sched_priority = msg->priority,
		.sched_runtime = msg->runtime_ns,
		.sched_deadline = msg->deadline_ns,
		.sched_period = msg->period_ns,
	};

	if (msg->clamped) {
		attr.sched_flags |= SCHED_FLAGS_CLAMP;
		attr.sched_util_min = msg->clamp_min;
		attr.sched_util_max = msg->clamp_max;
	}

	if (!r->thread.tid)
		return -EPROTO;
	if (syscall(SYS_sched_setattr, r->thread.tid, &attr, 0) < 0)
		return log_fail(errno, "scheduling policy %u%s: %m", msg->policy,
				msg->clamped ? " with clamps of utilisation" : "");
	remote_unpin_thread(r->thread.tid);
	if (msg->affinity.size && syscall(SYS_sched_setaffinity, r->thread.tid, msg->affinity.size,
					  msg->affinity.bytes) < 0)
		log_warn("thread %d was bound to CPUs that this device does not have; it may run "
			 "on any",
			 r->tid_inside);
	if (msg->io_priority)
		syscall(SYS_ioprio_set, IOPRIO_WHO_PROCESS, r->thread.tid, msg->io_priority);
	return 0;
}

const struct state_kind kind_sched = {
	.id = KIND_SCHED,
	.name = "scheduling",
	.fields = baton_Sched_fields,
	.size = sizeof(baton_Sched),
	.dump_thread = sched_dump_thread,
	.restore = sched_restore,
};
