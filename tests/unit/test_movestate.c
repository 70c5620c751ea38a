/* SPDX-License-Identifier: MIT */
/*
 * The state folder: what is written is read again, what dead engines left is swept, a pid is moved once.
 *
 * needs: engine/move/movestate.c engine/move/movestate_read.c engine/process/proc.c lib/io.c lib/readers.c lib/text.c lib/log.c
 */
#include "engine/move/movestate.h"

#include "lib/config.h"
#include "lib/log.h"
#include "tests/unit/unit.h"
#include <errno.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

static char folder[] = "/tmp/baton-test-state-XXXXXX";
static char inner[64];

static int setup(void **state)
{
	UNUSED(state);
	if (!mkdtemp(folder))
		return -1;
	snprintf(inner, sizeof(inner), "%s/deep/state", folder);
	return movestate_folder_open(inner);
}

static int teardown(void **state)
{
	char command[128];

	UNUSED(state);
	snprintf(command, sizeof(command), "rm -rf '%s'", folder);
	return system(command);
}

static struct movestate example(void)
{
	return (struct movestate){.id = "0011223344556677",
				  .source = true,
				  .pid = getpid(),
				  .pid_start = 12345,
				  .comm = "two words",
				  .peer = "[fe80::1%eth0]:7117",
				  .fingerprint = "abcdef",
				  .mode = "lazy"};
}

static void test_round_trip(void **unused)
{
	struct movestate out = example(), in;

	UNUSED(unused);
	assert_int_equal(movestate_write(&out, STAGE_COMMITTED), 0);
	assert_int_equal(movestate_read(movestate_folder(), "0011223344556677-source.move", &in),
			 0);
	assert_string_equal(in.id, out.id);
	assert_true(in.source);
	assert_int_equal(in.stage, STAGE_COMMITTED);
	assert_int_equal(in.pid, out.pid);
	assert_int_equal(in.pid_start, 12345);
	assert_string_equal(in.comm, "two words");
	assert_string_equal(in.peer, out.peer);
	assert_string_equal(in.fingerprint, "abcdef");
	assert_string_equal(in.mode, "lazy");
	assert_int_equal(in.engine, getpid());
	assert_true(in.begun_s > 0 && in.changed_s >= in.begun_s);
	movestate_remove(&out);
	assert_int_equal(movestate_read(movestate_folder(), "0011223344556677-source.move", &in),
			 -ENOENT);
}

/* Killed while it writes, from `stage` to `next`. What the memory that it shares says then. */
static enum move_stage killed_in_write(enum move_stage stage, enum move_stage next)
{
	static const struct rlimit tiny = {16, 16};
	struct movestate *shared = mmap(NULL, sizeof(*shared), PROT_READ | PROT_WRITE,
					MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	enum move_stage left;
	int status;
	pid_t pid;

	assert_ptr_not_equal(shared, MAP_FAILED);
	*shared = example();
	assert_int_equal(movestate_write(shared, stage), 0);
	pid = fork();
	if (pid == 0) {
		signal(SIGXFSZ, SIG_DFL);
		setrlimit(RLIMIT_FSIZE, &tiny);
		_exit(movestate_write(shared, next) != 0);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGXFSZ);
	left = shared->stage;
	assert_int_equal(shared->written_stage, stage);
	movestate_remove(shared);
	munmap(shared, sizeof(*shared));
	return left;
}

static void test_never_less_far_than_the_disk(void **unused)
{
	UNUSED(unused);
	assert_int_equal(killed_in_write(STAGE_READY, STAGE_STARTED), STAGE_STARTED);
	assert_int_equal(killed_in_write(STAGE_STARTED, STAGE_READY), STAGE_STARTED);
}

/* Folders cannot be opened any more: the file gets its name, and that is not synced. */
static void forbid_folders(void)
{
	static struct sock_filter code[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_openat, 0, 3),
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, args[2])),
		BPF_JUMP(BPF_JMP | BPF_JSET | BPF_K, O_DIRECTORY, 0, 1),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EMFILE),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};
	static const struct sock_fprog program = {sizeof(code) / sizeof(code[0]), code};

	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) || prctl(PR_SET_SECCOMP, 2, &program))
		_exit(77);
}

/* From `stage` to `next` without a sync of the folder. What is in memory then holds for both. */
static void unsynced_write(enum move_stage stage, enum move_stage next)
{
	struct movestate state = example();
	int status;
	pid_t pid;

	assert_int_equal(movestate_write(&state, stage), 0);
	pid = fork();
	if (pid == 0) {
		forbid_folders();
		if (movestate_write(&state, next) != -EMFILE)
			_exit(1);
		_exit(state.stage != (next > stage ? next : stage)           ? 2
		      : state.written_stage != (next < stage ? next : stage) ? 3
									     : 0);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFEXITED(status));
	if (WEXITSTATUS(status) != 77)
		assert_int_equal(WEXITSTATUS(status), 0);
	movestate_remove(&state);
}

static void test_not_synced(void **unused)
{
	struct movestate first = example();
	int status;
	pid_t pid;

	UNUSED(unused);
	unsynced_write(STAGE_READY, STAGE_STARTED);
	unsynced_write(STAGE_STARTED, STAGE_READY);
	/* The first one: the file is ours to remove, though it was not written as it should. */
	pid = fork();
	if (pid == 0) {
		forbid_folders();
		movestate_write(&first, STAGE_BUILDING);
		_exit(!first.written);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFEXITED(status) && (!WEXITSTATUS(status) || WEXITSTATUS(status) == 77));
	first.written = true;
	movestate_remove(&first);
}

static void test_no_line_of_its_own(void **unused)
{
	struct movestate out = example(), in;

	UNUSED(unused);
	strcpy(out.comm, "a\nstage started");
	assert_int_equal(movestate_write(&out, STAGE_COMMITTED), 0);
	assert_int_equal(movestate_read(movestate_folder(), "0011223344556677-source.move", &in),
			 0);
	assert_int_equal(in.stage, STAGE_COMMITTED);
	assert_string_equal(in.comm, "a?stage started");
	movestate_remove(&out);
}

static void write_file(const char *name, const char *text)
{
	int fd = openat(movestate_folder(), name, O_WRONLY | O_CREAT | O_TRUNC, 0600);

	assert_true(fd >= 0);
	assert_int_equal(write(fd, text, strlen(text)), (ssize_t)strlen(text));
	close(fd);
}

static void test_damaged(void **unused)
{
	static const char *const texts[] = {
		"",
		"id 1\n",
		"baton-move 2\nid 1\nstage nowhere\nend\n",
		"baton-move 2\nid 00112233445566778899\nend\n",
		"baton-move 2\nid 1\npid -5\nend\n",
		"baton-move 2\nid 1\npid x\nend\n",
		"baton-move 2\nend\n",
	};
	struct movestate in;

	UNUSED(unused);
	for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
		write_file("x-source.move", texts[i]);
		assert_int_equal(movestate_read(movestate_folder(), "x-source.move", &in), -EPROTO);
	}
	unlinkat(movestate_folder(), "x-source.move", 0);
}

static void test_counters(void **unused)
{
	struct movestate state = example();
	struct movestate_counters out = {.pages_done = 1,
					 .pages_left = 1ull << 40,
					 .pages_predicted = 2,
					 .faults = 3,
					 .fault_p50_us = 4,
					 .fault_p99_us = 5,
					 .peak_rss_kib = 6,
					 .starving_s = 7};
	struct movestate_counters in;

	UNUSED(unused);
	movestate_read_counters(movestate_folder(), &state, &in);
	assert_int_equal(in.pages_done, 0);
	movestate_count(&state, &out);
	movestate_read_counters(movestate_folder(), &state, &in);
	assert_int_equal(in.pages_left, 1ull << 40);
	assert_int_equal(in.pages_predicted, 2);
	assert_int_equal(in.fault_p99_us, 5);
	assert_int_equal(in.starving_s, 7);
	/* The next one comes too soon. */
	out.pages_done = 2;
	movestate_count(&state, &out);
	movestate_read_counters(movestate_folder(), &state, &in);
	assert_int_equal(in.pages_done, 1);
	state.written = true;
	movestate_remove(&state);
}

/* As a baton that died would have left it, of a move with a peer or out of a file. */
static void leave(const char *role, const char *stage, const char *more)
{
	char name[64], text[256];

	snprintf(name, sizeof(name), "00000000000000aa-%s.move", role);
	snprintf(text, sizeof(text),
		 "baton-move 2\nid 00000000000000aa\nrole %s\nstage %s\n%send\n", role, stage,
		 more);
	write_file(name, text);
}

static void leave_file(const char *role, const char *stage)
{
	leave(role, stage, "fingerprint abcdef\n");
}

static bool there(const char *name)
{
	return !faccessat(movestate_folder(), name, F_OK, 0);
}

static void test_sweep(void **unused)
{
	static const char *const proofs[][2] = {{"source", "committed"},
						{"target", "ready"},
						{"target", "started"},
						{"target", "complete"}};
	struct movestate held = {.id = "00000000000000aa"};
	char name[64];

	UNUSED(unused);
	leave_file("source", "offered");
	leave_file("target", "building");
	movestate_sweep();
	assert_false(there("00000000000000aa-source.move"));
	assert_false(there("00000000000000aa-target.move"));
	for (size_t i = 0; i < sizeof(proofs) / sizeof(proofs[0]); i++) {
		leave_file(proofs[i][0], proofs[i][1]);
		movestate_sweep();
		snprintf(name, sizeof(name), "00000000000000aa-%s.move", proofs[i][0]);
		assert_true(there(name));
		unlinkat(movestate_folder(), name, 0);
	}
	leave_file("target", "building");
	assert_int_equal(movestate_lock(&held), 0);
	assert_true(movestate_is_held(movestate_folder(), &held));
	movestate_sweep();
	assert_true(there("00000000000000aa-target.move"));
	held.written = true;
	movestate_remove(&held);
	assert_false(there("00000000000000aa-target.move"));
	assert_false(there("00000000000000aa-target.lock"));
}

/* What was read from a file is of no use to anybody once it has ended, or is complete. */
static void test_sweep_files(void **unused)
{
	static const char *const stages[] = {"building", "ready", "started", "complete"};
	struct movestate state = {.id = "00000000000000aa", .pid = getpid()};

	UNUSED(unused);
	for (size_t i = 0; IS_ENABLED(CONFIG_IMAGE) && i < sizeof(stages) / sizeof(stages[0]);
	     i++) {
		leave("target", stages[i], "");
		movestate_sweep();
		assert_false(there("00000000000000aa-target.move"));
	}
	/* One that still runs, though nobody fills it. */
	assert_int_equal(movestate_write(&state, STAGE_STARTED), 0);
	close(state.lock_fd);
	state.lock_fd = 0;
	movestate_sweep();
	assert_true(there("00000000000000aa-target.move"));
	movestate_remove(&state);
}

static void test_another_boot(void **unused)
{
	struct movestate state = example();

	UNUSED(unused);
	assert_int_equal(movestate_write(&state, STAGE_STARTED), 0);
	assert_false(movestate_is_of_another_boot(&state));
	state.pid_start = 0;
	assert_true(movestate_process_lives(&state));
	state.pid_start = 1;
	assert_false(movestate_process_lives(&state));
	state.pid_start = 0;
	state.boot[0] ^= 1;
	assert_true(movestate_is_of_another_boot(&state));
	assert_false(movestate_process_lives(&state));
	movestate_remove(&state);
}

static void test_find_id(void **unused)
{
	struct movestate one = example(), other = example(), found;

	UNUSED(unused);
	other.id[15] = '8';
	assert_int_equal(movestate_write(&one, STAGE_COMMITTED), 0);
	assert_int_equal(movestate_write(&other, STAGE_COMMITTED), 0);
	assert_int_equal(movestate_find_id("0011223344556678", &found), 0);
	assert_string_equal(found.id, other.id);
	assert_int_equal(movestate_find_id("00112233", &found), -EEXIST);
	assert_int_equal(movestate_find_id("ff", &found), -ENOENT);
	assert_int_equal(movestate_find_id("", &found), -ENOENT);
	movestate_remove(&one);
	movestate_remove(&other);
	log_reason_clear();
}

static void test_lock(void **unused)
{
	int status;
	pid_t child;

	UNUSED(unused);
	assert_int_equal(movestate_lock_pid(4711), 0);
	child = fork();
	if (!child)
		_exit(movestate_lock_pid(4711) == -EBUSY ? 0 : 1);
	waitpid(child, &status, 0);
	assert_int_equal(status, 0);
	movestate_unlock_pid();
	assert_false(there("pid-4711.lock"));
}

static void test_folder_of_others(void **unused)
{
	char path[96];

	UNUSED(unused);
	log_reason_clear();
	snprintf(path, sizeof(path), "%s/open", folder);
	assert_int_equal(mkdir(path, 0700), 0);
	assert_int_equal(chmod(path, 0777), 0);
	assert_int_equal(movestate_folder_open(path), -EPERM);
	assert_non_null(strstr(log_reason(), path));
	assert_int_equal(movestate_folder_open(inner), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_round_trip),
		cmocka_unit_test(test_never_less_far_than_the_disk),
		cmocka_unit_test(test_not_synced),
		cmocka_unit_test(test_no_line_of_its_own),
		cmocka_unit_test(test_damaged),
		cmocka_unit_test(test_counters),
		cmocka_unit_test(test_sweep),
		cmocka_unit_test(test_sweep_files),
		cmocka_unit_test(test_another_boot),
		cmocka_unit_test(test_find_id),
		cmocka_unit_test(test_lock),
		cmocka_unit_test(test_folder_of_others),
	};

	return cmocka_run_group_tests(tests, setup, teardown);
}
