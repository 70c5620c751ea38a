/* SPDX-License-Identifier: MIT */
/*
 * The policy file: what is allowed, what is not, and that a line not understood allows nothing.
 *
 * needs: engine/move/policy.c engine/process/proc.c lib/io.c lib/readers.c lib/text.c lib/log.c
 */
#include "engine/move/policy.h"

#include "lib/log.h"
#include "tests/unit/unit.h"
#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static char folder[] = "/tmp/baton-test-policy-XXXXXX";
static char path[64];

static int setup(void **state)
{
	UNUSED(state);
	if (!mkdtemp(folder))
		return -1;
	snprintf(path, sizeof(path), "%s/policy", folder);
	return 0;
}

static int teardown(void **state)
{
	UNUSED(state);
	unlink(path);
	return rmdir(folder);
}

static bool limited;

static int check_groups(const char *text, const uint32_t *uids, const uint32_t *gids,
			size_t nr_gids, bool privileged)
{
	struct policy_subject subject = {.peer = "gate-1",
					 .exe = "/usr/bin/redis-server",
					 .uids = uids,
					 .nr_uids = 4,
					 .gids = gids,
					 .nr_gids = nr_gids,
					 .privileged = privileged};
	FILE *file = fopen(path, "w");
	int err;

	assert_non_null(file);
	fputs(text, file);
	fclose(file);
	log_reason_clear();
	err = policy_check(folder, &subject);
	limited = subject.limited;
	return err;
}

/* Of group 50, which every policy here allows. */
static int check(const char *text, uint32_t uid, uint32_t saved, bool privileged)
{
	const uint32_t uids[4] = {uid, uid, saved, uid}, gids[4] = {50, 50, 50, 50};
	char all[200];

	snprintf(all, sizeof(all), "%sallow-gid 50\n", text);
	return check_groups(all, uids, gids, 4, privileged);
}

static void test_no_file(void **unused)
{
	struct policy_subject subject = {.peer = "x", .exe = "/x"};

	UNUSED(unused);
	unlink(path);
	assert_int_equal(policy_check(folder, &subject), 0);
}

static void test_sorts(void **unused)
{
	UNUSED(unused);
	assert_int_equal(check("# nothing\n\n", 0, 0, true), 0);
	assert_int_equal(check("allow-uid 7\nallow-uid 1000\n", 1000, 1000, false), 0);
	assert_int_equal(check("allow-uid 7\n", 1000, 1000, false), -EPERM);
	assert_int_equal(check("allow-exe /usr/bin/redis-server\n", 0, 0, true), 0);
	assert_int_equal(check("allow-exe /usr/bin/redis\n", 0, 0, false), -EPERM);
	assert_int_equal(check("allow-peer gate-1\n", 0, 0, false), 0);
	assert_int_equal(check("allow-peer gate-10\n", 0, 0, false), -EPERM);
	/* Each sort has to match. */
	assert_int_equal(check("allow-peer gate-1\nallow-uid 5\n", 6, 6, false), -EPERM);
}

/* Without a program only the peer counts, without a peer only that each line is understood. */
static void test_peer_alone(void **unused)
{
	static const struct {
		const char *text, *peer;
		int result;
	} cases[] = {
		{"allow-peer gate-1\nallow-uid 7\nallow-exe /x\n", "gate-1", 0},
		{"allow-peer gate-1\n", "gate-2", -EPERM},
		{"allow-peer gate-1\n", NULL, 0},
		{"allow-uid 7\nallow all\n", "gate-1", -EINVAL},
		{"allow-uid 7\nallow all\n", NULL, -EINVAL},
	};

	UNUSED(unused);
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct policy_subject subject = {.peer = cases[i].peer};
		FILE *file = fopen(path, "w");

		assert_non_null(file);
		fputs(cases[i].text, file);
		fclose(file);
		assert_int_equal(policy_check(folder, &subject), cases[i].result);
	}
}

static void test_set_uid(void **unused)
{
	UNUSED(unused);
	/* A saved uid of root is a way back to root. */
	assert_int_equal(check("allow-uid 1000\n", 1000, 0, false), -EPERM);
	assert_int_equal(check("allow-uid 1000\n", 1000, 1000, true), -EPERM);
	assert_int_equal(check("allow-uid 1000\nallow-uid 0\n", 1000, 0, true), 0);
}

static void test_limited(void **unused)
{
	UNUSED(unused);
	assert_int_equal(check("allow-uid 1000\n", 1000, 1000, false), 0);
	assert_true(limited);
	assert_int_equal(check("allow-uid 1000\nallow-uid 0\n", 1000, 1000, false), 0);
	assert_false(limited);
	assert_int_equal(check("allow-peer gate-1\n", 1000, 1000, false), 0);
	assert_false(limited);
}

static void test_groups(void **unused)
{
	static const uint32_t user[4] = {7, 7, 7, 7}, other_files[4] = {7, 7, 7, 0};
	static const uint32_t groups[6] = {50, 50, 50, 50, 60, 6};

	UNUSED(unused);
	/* Where users are limited so are groups, the supplementary ones, too. */
	assert_int_equal(check_groups("allow-uid 7\n", user, groups, 4, false), -EPERM);
	assert_non_null(strstr(log_reason(), "gid 50"));
	assert_int_equal(check_groups("allow-uid 7\nallow-gid 50\n", user, groups, 4, false), 0);
	assert_int_equal(check_groups("allow-uid 7\nallow-gid 50\n", user, groups, 6, false),
			 -EPERM);
	assert_int_equal(check_groups("allow-gid 6\nallow-gid 60\nallow-gid 50\nallow-uid 7\n",
				      user, groups, 6, false),
			 0);
	/* And the user that counts for files. */
	assert_int_equal(check_groups("allow-uid 7\nallow-gid 50\n", other_files, groups, 4, false),
			 -EPERM);
	/* Elsewhere only when they are asked for. */
	assert_int_equal(check_groups("allow-peer gate-1\n", user, groups, 6, false), 0);
	assert_int_equal(check_groups("allow-gid 50\n", user, groups, 6, false), -EPERM);
	assert_int_equal(check_groups("allow-uid 0\nallow-uid 7\n", user, groups, 6, false), 0);
}

static bool may_recall(const char *text)
{
	struct policy_subject subject = {.peer = "gate-1", .exe = ""};
	FILE *file = fopen(path, "w");

	assert_non_null(file);
	fputs(text, file);
	fclose(file);
	log_reason_clear();
	(void)policy_check(folder, &subject);
	return subject.may_recall;
}

/* A right of its own: what else the policy says of processes that come is not asked; no line is no right. */
static void test_recall(void **unused)
{
	struct policy_subject subject = {.peer = "gate-1", .exe = "", .may_recall = true};

	UNUSED(unused);
	assert_true(may_recall("allow-recall gate-1\n"));
	assert_true(
		may_recall("allow-uid 7\nallow-peer other\nallow-recall x\nallow-recall gate-1\n"));
	assert_false(may_recall(""));
	assert_false(may_recall("allow-peer gate-1\n"));
	assert_false(may_recall("allow-recall gate-10\n"));
	assert_false(may_recall("allow-recall gate-1\nnonsense\n"));
	unlink(path);
	assert_int_equal(policy_check(folder, &subject), 0);
	assert_false(subject.may_recall);
	/* And none that keeps processes out. */
	assert_int_equal(check("allow-recall gate-1\n", 0, 0, true), 0);
}

static void test_not_understood(void **unused)
{
	UNUSED(unused);
	assert_int_equal(check("allow-uid 1000\nallow everything\n", 1000, 1000, false), -EINVAL);
	assert_non_null(strstr(log_reason(), "line 2"));
	assert_int_equal(check("allow-uid root\n", 0, 0, false), -EINVAL);
	assert_int_equal(check("allow-uid 99999999999\n", 0, 0, false), -EINVAL);
}

static void test_process(void **unused)
{
	char text[64];

	UNUSED(unused);
	snprintf(text, sizeof(text), "allow-uid %u\n", getuid() + 1);
	check(text, 0, 0, false);
	log_reason_clear();
	assert_int_equal(policy_check_process(folder, "x", getpid()), -EPERM);
	unlink(path);
	assert_int_equal(policy_check_process(folder, "x", getpid()), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_no_file),    cmocka_unit_test(test_sorts),
		cmocka_unit_test(test_set_uid),    cmocka_unit_test(test_not_understood),
		cmocka_unit_test(test_limited),    cmocka_unit_test(test_groups),
		cmocka_unit_test(test_recall),     cmocka_unit_test(test_process),
		cmocka_unit_test(test_peer_alone),
	};

	return cmocka_run_group_tests(tests, setup, teardown);
}
