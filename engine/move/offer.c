/* SPDX-License-Identifier: MIT */
/* What a process needs: collected before the freeze, compared on the other device. */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/utsname.h>
#include <time.h>
#include <unistd.h>

#include "arch/arch.h"
#include "engine/move/fileid.h"
#include "engine/move/movestate.h"
#include "engine/move/offer.h"
#include "engine/move/policy.h"
#include "engine/process/clocks.h"
#include "engine/process/proc.h"
#include "engine/process/system_trial.h"
#include "engine/process/vdso.h"
#include "lib/arena.h"
#include "lib/clock.h"
#include "lib/config.h"
#include "lib/fault.h"
#include "lib/io.h"
#include "lib/log.h"
#include "lib/text.h"

#define NS_PER_SEC 1e9
/* A parent that waits for its children has done so by then. */
#define REAP_MS 3000

void offer_clean_text(char *text)
{
	for (; *text; text++)
		if ((unsigned char)*text < ' ' || *text == 0x7f)
			*text = '?';
}

/* True when the process runs the same binary as we do. */
static bool is_baton(int proc_fd)
{
	struct stat own, other;

	return !stat("/proc/self/exe", &own) && !fstatat(proc_fd, "exe", &other, 0) &&
	       own.st_dev == other.st_dev && own.st_ino == other.st_ino;
}

static int check_pid(pid_t pid, int proc_fd)
{
	struct proc_status status;
	int err = proc_status(proc_fd, &status);

	if (err)
		return log_fail(-err, "pid %d: %m", pid);
	if (status.tgid != pid)
		return log_fail(EINVAL, "pid %d is a thread of process %d; move that one", pid,
				status.tgid);
	if (status.state == 'Z' || status.state == 'X')
		return log_fail(ESRCH, "pid %d (%s) has ended (zombie)", pid, status.name);
	if (!status.has_mm)
		return log_fail(EINVAL, "pid %d (%s) is a kernel thread, which cannot be moved",
				pid, status.name);
	if (pid == 1)
		return log_fail(EINVAL,
				"pid 1 (%s) is the init of this system, which cannot be moved",
				status.name);
	if (status.pid_inside == 1)
		return log_fail(
			EINVAL,
			"pid %d (%s) is pid 1 of a pid namespace of its own, which cannot be moved",
			pid, status.name);
	if (is_baton(proc_fd))
		return log_fail(EINVAL, "pid %d is baton itself, which cannot be moved", pid);
	return 0;
}

/* One that came here, and whose memory still comes. */
static int is_filled(void *data, struct movestate *state)
{
	const pid_t *pid = data;

	if (state->source || state->pid != *pid || state->stage != STAGE_STARTED ||
	    !movestate_process_lives(state))
		return 0;
	return log_fail(EBUSY, "pid %d (%s): move %s %s", *pid, state->comm, state->id,
			movestate_is_held(movestate_folder(), state)
				? "still fills it; wait until baton status says it is over"
				: "has not filled it; see: baton status");
}

int offer_check_pid(pid_t pid)
{
	int fd, err;

	fd = proc_open(pid);
	if (fd == -ESRCH || fd == -ENOENT)
		return log_fail(ESRCH, "no such process: pid %d", pid);
	if (fd < 0)
		return fd;
	err = check_pid(pid, fd);
	close(fd);
	/* What never moved anything here has no such folder. */
	if (!err && movestate_folder() >= 0)
		err = movestate_each(movestate_folder(), is_filled, &pid);
	return err;
}

/* SHA-256 of the running kernel's vdso, as a process has it. All zeros when there is none. */
static int digest_vdso(int proc_fd, uint8_t out[static 32], struct vdso_place *place)
{
	int fd, err;

	memset(out, 0, 32);
	err = vdso_find(proc_fd, place);
	if (err)
		return err == -ENOENT ? 0 : err;
	fd = openat(proc_fd, "mem", O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	err = fileid_digest(fd, place->own.start, place->own.len, out);
	close(fd);
	return err;
}

/* Whether the one that a program knows could be redirected to another: tried on a copy, to itself. */
static bool vdso_is_known(int proc_fd, const struct vdso_range *range)
{
	size_t len = range->len < VDSO_IMAGE_MAX ? range->len : VDSO_IMAGE_MAX;
	size_t mark = arena_mark();
	uint8_t *image = arena_alloc(ARENA_SCRATCH, VDSO_IMAGE_MAX, 16);
	int fd = openat(proc_fd, "mem", O_RDONLY | O_CLOEXEC);
	bool known = image && len && fd >= 0 && !io_pread_full(fd, image, len, range->start) &&
		     !vdso_redirect(image, len, range->start, image, len, range->start);

	if (fd >= 0)
		close(fd);
	if (!known)
		log_debug("its vdso cannot be redirected: %s", log_reason());
	log_reason_clear();
	arena_reset(mark);
	return known;
}

/* Threads, by the numbers they know. */
struct tid_list {
	int proc_fd;
	baton_MoveOffer *offer;
};

static int add_tid(void *data, pid_t tid)
{
	struct tid_list *list = data;
	baton_MoveOffer *offer = list->offer;
	struct proc_status status;
	char path[32];
	int fd, err;

	/* The list serves an early check; the build itself finds whatever is missing here. */
	if (offer->tids_count == sizeof(offer->tids) / sizeof(offer->tids[0]))
		return 0;
	snprintf(path, sizeof(path), "task/%d", tid);
	fd = openat(list->proc_fd, path, O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0)
		return 0; /* it has ended meanwhile */
	err = proc_status(fd, &status);
	close(fd);
	if (!err && status.pid_inside)
		offer->tids[offer->tids_count++] = (uint32_t)status.pid_inside;
	return 0;
}

static uint64_t resident_pages(int proc_fd)
{
	char buf[128];
	const char *at = buf;
	uint64_t total, resident;

	if (io_read_file(proc_fd, "statm", buf, sizeof(buf)) < 0 ||
	    !text_take_u64(&at, 10, &total) || !text_take_u64(&at, 10, &resident))
		return 0;
	return resident;
}

static int collect_clocks(int proc_fd, baton_MoveOffer *offer)
{
	struct clocks clocks;
	int err;

	clocks_now(&clocks);
	err = clocks_of_process(proc_fd, &clocks);
	offer->has_clocks = true;
	offer->clocks = (baton_Clocks){clocks.ns[CLOCKS_MONOTONIC], clocks.ns[CLOCKS_BOOTTIME], 0};
	return err;
}

static int collect(int proc_fd, baton_MoveOffer *offer)
{
	struct tid_list list = {proc_fd, offer};
	struct proc_status status;
	struct vdso_place vdso;
	struct utsname uts;
	ssize_t len;
	int err;

	err = proc_status(proc_fd, &status);
	if (err)
		return err;
	text_copy(offer->comm, sizeof(offer->comm), status.name);
	if (status.nr_groups > PROC_GROUPS_MAX)
		return -E2BIG;
	memcpy(offer->uids, status.uid, sizeof(status.uid));
	memcpy(offer->gids, status.gid, sizeof(status.gid));
	memcpy(offer->gids + 4, status.groups, status.nr_groups * sizeof(status.groups[0]));
	offer->uids_count = 4;
	offer->gids_count = (pb_size_t)(4 + status.nr_groups);
	len = io_read_link(proc_fd, "exe", offer->exe, sizeof(offer->exe));
	if (len < 0)
		return (int)len;
	len = arch_features_collect(offer->features.bytes, sizeof(offer->features.bytes));
	if (len < 0)
		return (int)len;
	offer->features.size = (pb_size_t)len;
	text_copy(offer->arch, sizeof(offer->arch), arch_name());
	offer->page_size = 1u << arch_page_shift();
	uname(&uts);
	text_copy(offer->kernel, sizeof(offer->kernel), uts.release);
	offer->pages = resident_pages(proc_fd);
	err = proc_each_thread(proc_fd, add_tid, &list);
	if (err)
		return err;
	offer->vdso.size = 32;
	err = digest_vdso(proc_fd, offer->vdso.bytes, &vdso);
	offer->vdso_known =
		IS_ENABLED(CONFIG_OTHER_VDSO) && !err && vdso_is_known(proc_fd, &vdso.known);
	return err ? err : collect_clocks(proc_fd, offer);
}

int offer_collect(pid_t pid, baton_MoveOffer *offer)
{
	int fd = proc_open(pid);
	int err;

	if (fd < 0)
		return fd;
	err = collect(fd, offer);
	close(fd);
	if (err)
		return log_fail(-err, "pid %d: what it needs cannot be read: %m", pid);
	return 0;
}

/* ---- target ---- */

static int check_machine(const baton_MoveOffer *offer)
{
	char reason[256] = "";
	uint32_t page_size = 1u << arch_page_shift();
	int err;

	if (strcmp(offer->arch, arch_name()))
		return log_fail(ENOEXEC, "the process is for %s, this device is %s", offer->arch,
				arch_name());
	if (offer->page_size != page_size)
		return log_fail(ENOEXEC,
				"the process has pages of %u bytes, this device of %u bytes; "
				"boot a kernel with the same page size",
				offer->page_size, page_size);
	err = arch_features_compare(offer->features.bytes, offer->features.size, reason,
				    sizeof(reason));
	if (err)
		return log_fail(-err, "this device's processor lacks what the process may use: %s",
				reason);
	return 0;
}

/* Programs keep pointers into it. */
static int check_vdso(const baton_MoveOffer *offer, const struct offer_limits *limits)
{
	struct vdso_place place;
	struct utsname uts;
	uint8_t own[32];
	int fd, err;

	fd = proc_open(getpid());
	if (fd < 0)
		return fd;
	err = digest_vdso(fd, own, &place);
	close(fd);
	if (err)
		return log_fail(-err, "this device's vdso cannot be read: %m");
	*limits->other_vdso = offer->vdso.size != sizeof(own) ||
			      memcmp(own, offer->vdso.bytes, sizeof(own)) != 0 ||
			      offer->with_vdso || fault_point(FAULT_TARGET_VDSO);
	if (!*limits->other_vdso)
		return 0;
	uname(&uts);
	if (!IS_ENABLED(CONFIG_OTHER_VDSO))
		return log_fail(ENOEXEC,
				"the kernels' vdso differ (there Linux %s, here Linux %s): not "
				"built in here (CONFIG_OTHER_VDSO)",
				offer->kernel, uts.release);
	if (offer->vdso_known) {
		log_debug("the kernels' vdso differ (there Linux %s, here Linux %s): the one there "
			  "comes along",
			  offer->kernel, uts.release);
		log_reason_clear();
		return 0;
	}
	return log_fail(ENOEXEC,
			"the kernels' vdso differ (there Linux %s, here Linux %s), programs keep "
			"pointers into it, and the one there has functions that cannot be "
			"redirected, or baton there is built without CONFIG_OTHER_VDSO; run the "
			"same kernel on both devices",
			offer->kernel, uts.release);
}

/*
 * Nobody has this number. Who has ended a moment ago, its image just made, keeps it until its parent has looked, which is
 * waited for until then.
 */
static int check_pid_free(pid_t tid, const char *what, int64_t until_ms)
{
	const struct timespec pause = {.tv_nsec = 5000000};
	struct proc_status status;

	/* Any thread of ours with this number answers, EPERM included. */
	while (!kill(tid, 0) || errno != ESRCH) {
		if (proc_status_of(tid, &status))
			status = (struct proc_status){.state = '?'};
		if (status.state != 'Z' && status.state != 'X')
			return log_fail(EEXIST,
					"%s %d is taken on this device; run receive or restore "
					"with --pidns",
					what, tid);
		if (!clock_left_ms(until_ms))
			return log_fail(EEXIST,
					"%s %d is taken on this device by what is left of %s, "
					"which has ended: its parent, process %d, does not wait "
					"for it",
					what, tid, status.name, status.ppid);
		nanosleep(&pause, NULL);
	}
	return 0;
}

static int check_pids(const baton_MoveOffer *offer)
{
	int64_t until_ms = clock_deadline_ms(REAP_MS);
	int err = 0;

	if (!offer->tids_count)
		return log_fail(EPROTO, "the offer names no thread");
	for (pb_size_t i = 0; i < offer->tids_count && !err; i++) {
		if (!offer->tids[i] || offer->tids[i] > INT_MAX)
			return log_fail(EPROTO, "the offer names thread %u", offer->tids[i]);
		err = check_pid_free((pid_t)offer->tids[i], i ? "thread id" : "pid", until_ms);
	}
	return err;
}

static int check_policy(const baton_MoveOffer *offer, const struct offer_limits *limits,
			bool no_process)
{
	struct rights *rights = limits->rights;
	struct policy_subject subject = {.peer = limits->peer,
					 .exe = no_process ? NULL : offer->exe,
					 .uids = offer->uids,
					 .nr_uids = offer->uids_count,
					 .gids = offer->gids,
					 .nr_gids = offer->gids_count};
	int err = policy_check(limits->keys_dir, &subject);

	*rights = (struct rights){.limited = subject.limited};
	if (err || no_process || !rights_limited(rights))
		return err;
	if (offer->uids_count != 4 || offer->gids_count < 4)
		return log_fail(EPROTO, "the offer does not say who the process is");
	rights->uid = offer->uids[3];
	rights->gid = offer->gids[3];
	rights->nr_groups = offer->gids_count - 4;
	memcpy(rights->groups, offer->gids + 4, rights->nr_groups * sizeof(rights->groups[0]));
	return 0;
}

/* Tried, where it is needed at all: the kernel, its limits and our rights have a say in it. */
static int check_clocks(const baton_MoveOffer *offer, const struct offer_limits *limits)
{
	const struct clocks theirs = {{offer->clocks.monotonic_ns, offer->clocks.boottime_ns}};
	struct clocks ours;
	int64_t jump_ns;
	int err;

	*limits->clocks = (struct offer_clocks){0};
	if (!offer->has_clocks)
		return 0;
	if (!clocks_are_sane(&theirs))
		return log_fail(EPROTO, "the offer names clocks that no device has");
	clocks_now(&ours);
	jump_ns = clocks_jump(&theirs, &ours, CLOCKS_BOUND_NS);
	limits->clocks->fit = !jump_ns;
	err = jump_ns ? trial_run(clocks_trial) : 0;
	if (!err)
		return 0;
	if (!offer->allow_clock_jump && !limits->allow_clock_jump)
		return log_fail(
			-err,
			"its clocks (CLOCK_MONOTONIC, CLOCK_BOOTTIME) would jump by %+.3f s "
			"on this device, which can make no time namespace (%m): that takes "
			"CONFIG_TIME_NS, CAP_SYS_TIME and user.max_time_namespaces; or go "
			"on with --allow-clock-jump",
			(double)jump_ns / NS_PER_SEC);
	log_warn("its clocks (CLOCK_MONOTONIC, CLOCK_BOOTTIME) jump by %+.3f s: no time namespace "
		 "can be made here (%s)",
		 (double)jump_ns / NS_PER_SEC, strerror(-err));
	limits->clocks->jump_ns = jump_ns;
	return 0;
}

int offer_check_step(unsigned int step, const baton_MoveOffer *offer,
		     const struct offer_limits *limits)
{
	/* A check without a process compares the devices only, and what the policy says of the peer. */
	bool no_process = offer->check_only && !offer->tids_count;

	switch (step) {
	case 0:
		return check_policy(offer, limits, no_process);
	case 1:
		return check_machine(offer);
	case 2:
		return check_vdso(offer, limits);
	case 3:
		return check_clocks(offer, limits);
	default:
		return limits->pidns || no_process ? 0 : check_pids(offer);
	}
}

int offer_check(const baton_MoveOffer *offer, const struct offer_limits *limits)
{
	int err = 0;

	for (unsigned int step = 0; step < OFFER_NR_STEPS && !err; step++)
		err = offer_check_step(step, offer, limits);
	return err;
}
