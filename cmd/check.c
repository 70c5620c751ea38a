/* SPDX-License-Identifier: MIT */
/* baton check: whether this system, a process, and a pair of devices can do it; what to mend. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cmd/json.h"
#include "cmd/options.h"
#include "cmd/report.h"
#include "engine/move/compare.h"
#include "engine/process/dump.h"
#include "engine/move/files.h"
#include "engine/process/footprint.h"
#include "engine/move/movestate.h"
#include "engine/move/offer.h"
#include "engine/move/policy.h"
#include "engine/state/fd.h"
#include "engine/process/system.h"
#include "lib/arena.h"
#include "lib/io.h"
#include "lib/log.h"
#include "transport/tls.h"

#define ALLOWED                                                                                    \
	(OPTION_BIT(OPTION_KEYS) | OPTION_BIT(OPTION_STATE) | OPTION_BIT(OPTION_JSON) |            \
	 OPTION_BIT(OPTION_PID) | OPTION_BIT(OPTION_PEER))

struct check {
	struct options options;
	pid_t pid; /* 0: none */
	bool json;
	bool keys_ready;
	const char *comma;    /* JSON: what stands in front of the next element */
	enum outcome outcome; /* of the first part that found something */
};

static void note(struct check *c, enum outcome outcome)
{
	if (c->outcome == OUTCOME_DONE)
		c->outcome = outcome;
}

/* ---- one line, or one element of an array ---- */

static void print_fact(struct check *c, const char *state, const char *name, const char *text)
{
	if (!c->json) {
		printf("%-9s %-24s %s\n", state, name, text);
		return;
	}
	printf("%s{", c->comma);
	json_print_member("state", state);
	printf(", ");
	json_print_member("name", name);
	printf(", ");
	json_print_member("text", text);
	printf("}");
	c->comma = ", ";
}

static void begin_list(struct check *c, const char *text)
{
	if (c->json)
		printf("%s", text);
	c->comma = "";
}

static void end_list(struct check *c, const char *text)
{
	if (c->json)
		printf("%s", text);
}

/* A part that could not be looked at as a whole: its reason as a line, or as its last member. */
static void print_reason(struct check *c, enum outcome outcome, const char *what)
{
	note(c, outcome);
	if (!c->json) {
		printf("%-9s %-24s %s\n", "refused", what, log_reason());
	} else {
		printf(", ");
		json_print_member("reason", log_reason());
	}
	log_reason_clear();
}

/* ---- this system ---- */

static void report_system(struct system_probe *p, enum system_level level, const char *name,
			  const char *text)
{
	static const char *const states[] = {
		[SYSTEM_OK] = "ok", [SYSTEM_OPTIONAL] = "optional", [SYSTEM_MISSING] = "missing"};

	print_fact(p->data, states[level], name, text);
}

static unsigned int count_peers(const char *keys)
{
	struct dir_reader reader;
	const char *name;
	unsigned int nr = 0;
	int fd = open(keys, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	if (fd < 0)
		return 0;
	if (!dir_reader_open(&reader, fd, "peers")) {
		while (dir_reader_next(&reader, &name, NULL) > 0) {
			size_t len = strlen(name);

			nr += len > 4 && !strcmp(name + len - 4, ".pem");
		}
		dir_reader_close(&reader);
	}
	close(fd);
	return nr;
}

static void check_keys(struct check *c)
{
	const char *keys = c->options.keys;
	char text[LOG_REASON_MAX];
	unsigned int nr;

	snprintf(text, sizeof(text), "%s/key.pem", keys);
	if (access(text, F_OK) && errno == ENOENT) {
		snprintf(text, sizeof(text), "none in %s yet; run: baton keygen", keys);
		print_fact(c, "optional", "keys", text);
		return;
	}
	if (tls_setup(keys)) {
		print_fact(c, "missing", "keys", log_reason());
		log_reason_clear();
		note(c, OUTCOME_PEER);
		return;
	}
	c->keys_ready = true;
	nr = count_peers(keys);
	snprintf(text, sizeof(text), "%s, %u trusted peer%s%s", keys, nr, nr == 1 ? "" : "s",
		 nr ? "" : "; run: baton trust CERT.pem");
	print_fact(c, "ok", "keys", text);
}

static void check_state_folder(struct check *c)
{
	const char *state = c->options.state;
	char text[LOG_REASON_MAX];
	struct stat st;

	if (stat(state, &st) && errno == ENOENT) {
		snprintf(text, sizeof(text), "%s is made by the first move", state);
		print_fact(c, "ok", "state-folder", text);
	} else if (movestate_folder_open(state)) {
		print_fact(c, "missing", "state-folder", log_reason());
		log_reason_clear();
		note(c, OUTCOME_SYSTEM);
	} else {
		print_fact(c, "ok", "state-folder", state);
	}
}

/* One that cannot be understood lets nothing in, and nothing back. */
static void check_policy(struct check *c)
{
	struct policy_subject nobody = {0};
	char path[LOG_REASON_MAX];

	snprintf(path, sizeof(path), "%s/policy", c->options.keys);
	if (policy_check(c->options.keys, &nobody)) {
		print_fact(c, "missing", "policy", log_reason());
		log_reason_clear();
		note(c, OUTCOME_SYSTEM);
	} else {
		print_fact(c, "ok", "policy",
			   access(path, F_OK) ? "none: all of trusted peers is accepted" : path);
	}
}

static void check_system(struct check *c)
{
	struct system_probe probe = {.report = report_system, .data = c};

	begin_list(c, "\"system\": [");
	system_probe(&probe);
	if (probe.nr_missing)
		note(c, OUTCOME_SYSTEM);
	check_state_folder(c);
	check_keys(c);
	check_policy(c);
	end_list(c, "]");
}

/* ---- a process ---- */

static void report_item(struct probe *p, bool carried, const char *item, const char *text)
{
	print_fact(p->data, carried ? "carried" : "refused", item, text);
}

static void print_footprint(struct check *c)
{
	struct footprint f;
	char text[160];

	if (footprint_read(c->pid, &f))
		return;
	if (c->json) {
		printf(", \"threads\": %u, \"mappings\": %u, \"resident_kib\": %llu, \"lazy_kib\": "
		       "%llu",
		       f.threads, f.mappings, (unsigned long long)f.resident_kib,
		       (unsigned long long)f.lazy_kib);
		return;
	}
	snprintf(text, sizeof(text),
		 "%u thread%s, %u mappings, %.1f MiB resident, %.1f MiB of it follow after the "
		 "start",
		 f.threads, f.threads == 1 ? "" : "s", f.mappings, (double)f.resident_kib / 1024,
		 (double)f.lazy_kib / 1024);
	print_fact(c, "carried", "memory", text);
}

/* Whether it is another move's, as its source: one that is under way, or that is held. */
static int check_moves(pid_t pid)
{
	struct movestate other;
	int err;

	if (movestate_folder() < 0)
		return 0;
	err = movestate_find_pid(pid, &other);
	if (!err)
		return log_fail(EBUSY,
				"pid %d is the copy of move %s, which is held; see: baton status",
				pid, other.id);
	if (err != -ENOENT || !movestate_pid_is_locked(pid))
		return err == -ENOENT ? 0 : err;
	return log_fail(EBUSY, "pid %d is already being moved; see: baton status", pid);
}

static void check_process(struct check *c)
{
	struct probe probe = {.report = report_item, .data = c};
	char name[24];
	int err = offer_check_pid(c->pid);

	snprintf(name, sizeof(name), "pid %d", c->pid);
	if (c->json)
		printf(", \"process\": {\"pid\": %d", c->pid);
	begin_list(c, ", \"items\": [");
	if (!err)
		err = check_moves(c->pid);
	if (!err)
		err = probe_process(&probe, c->pid);
	end_list(c, "]");
	if (err)
		print_reason(c, move_probe_outcome(err), name);
	else
		print_footprint(c);
	if (probe.nr_refused)
		note(c, OUTCOME_REFUSED);
	if (c->json)
		printf(", \"refused\": %u}", probe.nr_refused);
}

/* ---- a pair of devices ---- */

static void refused_by_peer(void *data, const char *reason)
{
	print_fact(data, "refused", "peer", reason);
}

static void print_peer(struct check *c, const struct link *link, const struct compare_result *r,
		       const struct compare_speed *speed)
{
	const baton_MoveAnswer *a = &r->answer;
	char text[LOG_REASON_MAX];

	if (c->json) {
		printf(", ");
		json_print_member("name", link->name);
		printf(", ");
		json_print_member("software", a->software);
		printf(", ");
		json_print_member("kernel", a->kernel);
		printf(", ");
		json_print_member("architecture", a->arch);
		printf(", \"page_size\": %u, \"files\": %u, \"round_trip_us\": %u, \"rate_kib_s\": "
		       "%llu",
		       a->page_size, r->nr_files, speed->round_trip_us,
		       (unsigned long long)speed->rate_kib_s);
		return;
	}
	snprintf(text, sizeof(text), "%s (%s), baton %s, Linux %s, %s, pages of %u bytes",
		 link->name, link->peer, a->software, a->kernel, a->arch, a->page_size);
	print_fact(c, "ok", "peer", text);
	snprintf(text, sizeof(text), "round trip %.2f ms, %.1f MiB/s through TLS",
		 (double)speed->round_trip_us / 1000, (double)speed->rate_kib_s / 1024);
	print_fact(c, "ok", "link", text);
	if (c->pid) {
		snprintf(text, sizeof(text), "%u compared", r->nr_files);
		print_fact(c, "ok", "files", text);
	}
	if (r->nr_refused)
		return;
	print_fact(c, "ok", "devices", c->pid ? "the peer takes this process" : "fit each other");
}

static int talk(struct check *c, struct link *link, struct compare_result *result,
		struct compare_speed *speed)
{
	int err;

	if (!c->keys_ready)
		return log_fail(ENOENT, "there are no keys to show to the peer; run: baton keygen");
	err = link_dial(link, c->options.peer);
	link->source = true;
	if (!err)
		err = link_open(link, LINK_DIAL_TIMEOUT_MS);
	if (!err)
		err = compare_measure(link, speed);
	return err ? err : compare_ask(link, c->pid, refused_by_peer, c, result);
}

static void check_peer(struct check *c, struct link *link)
{
	size_t mark = arena_mark();
	struct compare_result *result = arena_alloc(ARENA_SCRATCH, sizeof(*result), 16);
	struct compare_speed speed = {0};
	int err;

	if (!result) {
		log_no_room("an answer");
		note(c, OUTCOME_SYSTEM);
		return;
	}
	if (c->json) {
		printf(", \"peer\": {");
		json_print_member("address", c->options.peer);
	}
	begin_list(c, ", \"items\": [");
	err = talk(c, link, result, &speed);
	end_list(c, "]");
	if (err) {
		print_reason(c, OUTCOME_PEER, "peer");
	} else {
		print_peer(c, link, result, &speed);
		if (result->nr_refused)
			note(c, OUTCOME_REFUSED);
	}
	if (c->json)
		printf(", \"refused\": %u}", err ? 0 : result->nr_refused);
	link_close(link);
	arena_reset(mark);
}

/* ---- all of it ---- */

static int take_memory(struct link *link)
{
	int err = arena_init();

	if (!err)
		err = link_init(link);
	if (!err)
		err = files_init();
	if (!err)
		err = fd_init();
	if (!err)
		err = tls_init();
	return err;
}

static void print_end(struct check *c)
{
	static const char *const texts[] = {
		[OUTCOME_DONE] = "yes: nothing stands against it",
		[OUTCOME_FAILED] = "no: the check failed",
		[OUTCOME_REFUSED] = "no: what is marked refused stands against it",
		[OUTCOME_PEER] = "no: the peer is not trusted, or cannot be reached",
		[OUTCOME_SYSTEM] = "no: what is marked missing has to be mended first",
	};

	if (c->json) {
		printf(", ");
		json_print_member("result", report_outcome_name(c->outcome));
		printf("}\n");
	} else {
		printf("%s\n", texts[c->outcome]);
	}
}

int cmd_check(int argc, char **argv)
{
	static struct link link;
	struct check c = {0};
	int outcome = options_parse(argc, argv, ALLOWED, &c.options);

	if (outcome >= 0)
		return outcome;
	if (c.options.nr_args)
		return cmd_usage(argv[0], "%s: no argument is wanted; see --pid",
				 c.options.args[0]);
	if (c.options.pid && options_pid(c.options.pid, &c.pid))
		return cmd_usage(argv[0], "%s is no process id", c.options.pid);
	c.json = c.options.json;
	if (take_memory(&link))
		return cmd_fail(OUTCOME_SYSTEM, CMD_BUDGET_TOO_SMALL);
	link_catch_signals();
	if (c.json)
		printf("{");
	check_system(&c);
	if (c.pid)
		check_process(&c);
	if (c.options.peer)
		check_peer(&c, &link);
	print_end(&c);
	return fflush(stdout) ? OUTCOME_FAILED : (int)c.outcome;
}
