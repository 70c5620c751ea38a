/* SPDX-License-Identifier: MIT */
/*
 * What a thread, or the process as a whole, has switched on for itself and only a system call, or a
 * small file in /proc, tells. Source: prctl(2), membarrier(2), mlockall(2), core(5).
 */
#include "engine/state/setting.pb.h"
#include "engine/process/proc.h"
#include "engine/state/state.h"
#include "lib/io.h"
#include "lib/kernel.h"
#include "lib/log.h"
#include "lib/text.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

/* Field of /proc/PID/stat and bits in it that PR_SET_IO_FLUSHER sets (linux/sched.h: PF_MEMALLOC_NOIO,
 * PF_LOCAL_THROTTLE): its own getter wants CAP_SYS_RESOURCE. */
#define STAT_FLAGS 9
#define FLAGS_IO_FLUSHER 0x00180000ll

/* The order of the rows is free; the numbers are the wire format. */
static const struct arch_setting own_settings[] = {
	{
		.id = 1,
		.name = "refusal of executable memory that was writable (PR_SET_MDWE)",
		.call = SYS_prctl,
		.get = PR_GET_MDWE,
		.set = PR_SET_MDWE,
		.process = true,
		.last = true,
	},
	{
		.id = 2,
		.name = "merging of equal pages (PR_SET_MEMORY_MERGE)",
		.call = SYS_prctl,
		.get = PR_GET_MEMORY_MERGE,
		.set = PR_SET_MEMORY_MERGE,
		.process = true,
	},
	{
		.id = 3,
		.name = "fault of the time stamp counter (PR_SET_TSC)",
		.call = SYS_prctl,
		.get = PR_GET_TSC,
		.by_pointer = true,
		.mask = UINT32_MAX,
		.usual = PR_TSC_ENABLE,
		.set = PR_SET_TSC,
	},
	{
		.id = 4,
		.name = "signal for broken memory (PR_MCE_KILL)",
		.call = SYS_prctl,
		.get = PR_MCE_KILL_GET,
		.usual = PR_MCE_KILL_DEFAULT,
		.set = PR_MCE_KILL,
		.set_which = true,
		.set_part = PR_MCE_KILL_SET,
	},
#define SPECULATION(number, what, which, normal)                                                   \
	{                                                                                          \
		.id = (number), .name = (what), .call = SYS_prctl, .get = PR_GET_SPECULATION_CTRL, \
		.get_value = (which), .needed = PR_SPEC_PRCTL, .mask = ~(uint64_t)PR_SPEC_PRCTL,   \
		.usual = (normal), .set = PR_SET_SPECULATION_CTRL, .set_which = true,              \
		.set_part = (which),                                                               \
	}
	SPECULATION(5, "speculative store bypass", PR_SPEC_STORE_BYPASS, PR_SPEC_ENABLE),
	SPECULATION(6, "speculation of indirect branches", PR_SPEC_INDIRECT_BRANCH, PR_SPEC_ENABLE),
	SPECULATION(7, "flushing of the L1 cache", PR_SPEC_L1D_FLUSH, PR_SPEC_DISABLE),
};

#define NR_OWN (sizeof(own_settings) / sizeof(own_settings[0]))

static const struct arch_setting *row(unsigned int i)
{
	if (i < NR_OWN)
		return &own_settings[i];
	return i - NR_OWN < arch_nr_settings ? &arch_settings[i - NR_OWN] : NULL;
}

/* ---- dump ---- */

/* True when this kernel has it: asked of ourselves, which costs much less. */
static bool exists(const struct arch_setting *s)
{
	uint64_t room = 0;
	bool there = s->get_room || s->by_pointer;
	long ret = syscall(s->call, s->get, there ? (uintptr_t)&room : s->get_value,
			   there ? sizeof(room) : 0, 0, 0);

	return ret >= 0 && ((uint64_t)ret & s->needed) == s->needed;
}

static struct question question_of(const struct arch_setting *s)
{
	const size_t len = s->get_room || s->by_pointer ? sizeof(uint64_t) : 0;

	return (struct question){
		.nr = s->call,
		.args = {s->get, len ? 0 : s->get_value, len},
		.rooms = len ? 1 << 1 : 0,
		.len = len,
	};
}

static const struct question membarriers = {
	.nr = SYS_membarrier,
	.args = {BATON_MEMBARRIER_GET_REGISTRATIONS},
};

static void ask_settings(struct remote *thread, bool process)
{
	const struct arch_setting *s;

	for (unsigned int i = 0; (s = row(i)); i++) {
		const struct question q = question_of(s);

		if (s->process == process && exists(s))
			ask_ahead(thread, &q);
	}
}

static void setting_ask(struct dump *d)
{
	ask_settings(&d->leader, true);
	ask_ahead(&d->leader, &membarriers);
}

static void setting_ask_thread(struct dump *d)
{
	ask_settings(&d->thread, false);
}

static uint64_t read_value(struct remote *thread, const struct arch_setting *s)
{
	const struct question q = question_of(s);
	uint64_t value = s->usual, room;
	int64_t ret = ask_for(thread, &q, &room);

	if (ret >= 0 && s->by_pointer)
		value = room;
	else if (ret >= 0 && ((uint64_t)ret & s->needed) == s->needed)
		value = (uint64_t)ret;
	remote_reset(thread);
	return s->mask ? value & s->mask : value;
}

static int read_settings(struct remote *thread, bool process, baton_Settings *msg)
{
	const struct arch_setting *s;

	for (unsigned int i = 0; (s = row(i)); i++) {
		uint64_t value = s->usual;

		if (s->process == process && exists(s))
			value = read_value(thread, s);
		if (value == s->usual)
			continue;
		if (!s->set)
			return log_fail(EOPNOTSUPP, "pid %d: it has %s, which are not carried",
					thread->pid, s->name);
		msg->settings[msg->settings_count++] = (baton_Setting){s->id, value};
	}
	return 0;
}

/* Kernels before 6.3 do not tell; there the command itself says whether it was registered for. */
static uint32_t read_membarriers(struct remote *leader)
{
	static const uint32_t commands[] = {BATON_MEMBARRIER_PRIVATE_EXPEDITED,
					    BATON_MEMBARRIER_PRIVATE_EXPEDITED_SYNC_CORE,
					    BATON_MEMBARRIER_PRIVATE_EXPEDITED_RSEQ};
	int64_t ret = ask_for(leader, &membarriers, NULL);
	uint32_t registered = 0;

	if (ret >= 0)
		return (uint32_t)ret;
	/* The command to register for each is the next bit. */
	for (unsigned int i = 0; i < sizeof(commands) / sizeof(commands[0]); i++)
		if (remote_call(leader, SYS_membarrier, commands[i]) >= 0)
			registered |= commands[i] << 1;
	return registered;
}

/* Of the session, and the process' own only when it leads one. */
static int32_t read_autogroup(const struct dump *d)
{
	char text[64], *at;
	int64_t nice = 0;

	if (d->status.sid_inside != d->status.pid_inside ||
	    io_read_file(d->proc_fd, "autogroup", text, sizeof(text)) <= 0)
		return 0;
	at = strstr(text, " nice ");
	if (at) {
		const char *c = at + 6;

		text_take_i64(&c, 10, &nice);
	}
	return (int32_t)nice;
}

/* Memory that is locked, in KiB. */
static uint64_t locked_kib(const struct dump *d)
{
	struct proc_status status;

	return proc_status(d->proc_fd, &status) ? 0 : status.locked_kib;
}

/*
 * mlockall(2) for mappings to come is seen on one that is made now: it counts as locked, and is there
 * unless it is locked on fault.
 */
static int read_lock_future(struct dump *d, uint32_t *flags)
{
	const uint64_t page = 1ULL << arch_page_shift();
	uint64_t before = locked_kib(d), vec = remote_room(&d->leader, 1);
	int64_t at = remote_call(&d->leader, SYS_mmap, 0, page, PROT_READ | PROT_WRITE,
				 MAP_SHARED | MAP_ANONYMOUS, (uint64_t)-1);
	uint8_t there = 0;
	int err = 0;

	*flags = 0;
	if (remote_failed(at))
		return log_fail(
			(int)-at,
			"pid %d: whether it has called mlockall(MCL_FUTURE) cannot be told: no "
			"memory can be mapped: %m",
			d->pid);
	if (locked_kib(d) > before) {
		remote_call(&d->leader, SYS_mincore, (uint64_t)at, page, vec);
		err = remote_read(&d->leader, vec, &there, sizeof(there));
		*flags = MCL_FUTURE | (there & 1 ? 0 : MCL_ONFAULT);
	}
	remote_call(&d->leader, SYS_munmap, (uint64_t)at, page);
	return err;
}

static int setting_dump(struct dump *d, const struct state_kind *kind)
{
	baton_Settings msg = {.process = true};
	char text[32];
	uint64_t filter;
	const char *c = text;
	int err = read_settings(&d->leader, true, &msg);

	if (!err)
		err = read_lock_future(d, &msg.lock_future);
	if (err)
		return log_fail(-err, "pid %d: its settings cannot be read: %m", d->pid);
	msg.membarriers = read_membarriers(&d->leader);
	msg.autogroup_nice = read_autogroup(d);
	if (io_read_file(d->proc_fd, "coredump_filter", text, sizeof(text)) > 0 &&
	    text_take_u64(&c, 16, &filter)) {
		msg.has_coredump_filter = true;
		msg.coredump_filter = (uint32_t)filter;
	}
	return dump_emit(d, kind, &msg);
}

static int setting_dump_thread(struct dump *d, const struct state_kind *kind,
			       const struct freeze_thread *thread)
{
	baton_Settings msg = {.process = false};
	char path[32];
	int64_t flags = 0;
	const char *unfit = arch_thread_unfit(thread->tid);
	int fd, err;

	if (unfit)
		return log_fail(EOPNOTSUPP, "thread %d: it has %s, which is not carried",
				thread->tid, unfit);
	err = read_settings(&d->thread, false, &msg);
	snprintf(path, sizeof(path), "task/%d", thread->tid);
	fd = openat(d->proc_fd, path, O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (!err)
		err = fd < 0 ? -errno : proc_stat_field(fd, STAT_FLAGS, &flags);
	if (fd >= 0)
		close(fd);
	if (err)
		return log_fail(-err, "thread %d: its settings cannot be read: %m", thread->tid);
	msg.io_flusher = (flags & FLAGS_IO_FLUSHER) == FLAGS_IO_FLUSHER;
	return msg.settings_count || msg.io_flusher ? dump_emit(d, kind, &msg) : 0;
}

/* ---- restore ---- */

static const struct arch_setting *find(const baton_Setting *setting, bool process)
{
	const struct arch_setting *s;

	for (unsigned int i = 0; (s = row(i)); i++)
		if (s->id == setting->id && s->process == process && s->set)
			return s;
	return NULL;
}

static int set(struct remote *thread, const struct arch_setting *s, uint64_t value)
{
	int64_t ret;

	if (s->set_value)
		value = s->set_value;
	ret = s->set_which ? remote_call(thread, s->call, s->set, s->set_part, value)
			   : remote_call(thread, s->call, s->set, value);
	return ret < 0 ? log_fail((int)-ret, "%s cannot be set here: %m", s->name) : 0;
}

static int set_all(struct remote *thread, const baton_Settings *msg, bool last)
{
	int err = 0;

	for (pb_size_t i = 0; i < msg->settings_count && !err; i++) {
		const struct arch_setting *s = find(&msg->settings[i], msg->process);

		if (!s)
			err = log_fail(EPROTO, "the peer told of a setting (%u) unknown here",
				       msg->settings[i].id);
		else if (s->last == last)
			err = set(thread, s, msg->settings[i].value);
	}
	return err;
}

/* While there is one thread only: else the kernel waits for all processors. */
static int register_membarriers(struct restore *r, uint32_t commands)
{
	for (unsigned int bit = 0; bit < 32; bit++) {
		int64_t ret = 0;

		if ((commands >> bit) & 1)
			ret = remote_call(&r->leader, SYS_membarrier, 1ull << bit);
		if (ret < 0)
			return log_fail((int)-ret,
					"this kernel's membarrier(2) lacks what the process has "
					"registered for (%#x): %m",
					1u << bit);
	}
	return 0;
}

static void write_number(struct restore *r, const char *file, const char *format, int value)
{
	char text[16];
	int len = snprintf(text, sizeof(text), format, value);
	int err = io_write_existing(r->proc_fd, file, text, (size_t)len);

	if (err)
		log_warn("%s %s cannot be set here: %s", file, text, strerror(-err));
}

static int restore_process(struct restore *r, const baton_Settings *msg)
{
	int err = set_all(&r->leader, msg, false);

	if (!err)
		err = register_membarriers(r, msg->membarriers);
	if (msg->has_coredump_filter)
		write_number(r, "coredump_filter", "0x%x", (int)msg->coredump_filter);
	if (msg->autogroup_nice)
		write_number(r, "autogroup", "%d", msg->autogroup_nice);
	r->settings = *msg;
	return err;
}

static int setting_restore(struct restore *r, const void *data)
{
	const baton_Settings *msg = data;
	int64_t ret = 0;
	int err;

	if (msg->process)
		return restore_process(r, msg);
	if (!r->thread.tid)
		return -EPROTO;
	err = set_all(&r->thread, msg, false);
	if (!err && msg->io_flusher)
		ret = remote_call(&r->thread, SYS_prctl, PR_SET_IO_FLUSHER, 1);
	return ret < 0 ? log_fail((int)-ret, "PR_SET_IO_FLUSHER: %m; it needs CAP_SYS_RESOURCE")
		       : err;
}

/* All memory of the process is there: what rules over that which is yet to come. */
static int setting_finish(struct restore *r)
{
	const int known = MCL_FUTURE | MCL_ONFAULT;
	int64_t ret = 0;
	int err = set_all(&r->leader, &r->settings, true);

	if (!err && r->settings.lock_future)
		ret = remote_call(&r->leader, SYS_mlockall, r->settings.lock_future & known);
	return ret < 0 ? log_fail((int)-ret, "mlockall(MCL_FUTURE): %m") : err;
}

const struct state_kind kind_setting = {
	.id = KIND_SETTING,
	.name = "setting",
	.fields = baton_Settings_fields,
	.size = sizeof(baton_Settings),
	.ask = ASKS(setting_ask),
	.ask_thread = ASKS(setting_ask_thread),
	.dump = setting_dump,
	.dump_thread = setting_dump_thread,
	.restore = setting_restore,
	.finish = setting_finish,
};
