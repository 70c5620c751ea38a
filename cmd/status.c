/* SPDX-License-Identifier: MIT */
/* baton status: the moves under way, from the state folder. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "cmd/json.h"
#include "cmd/options.h"
#include "engine/move/movestate.h"
#include "lib/io.h"
#include "lib/log.h"

#define ALLOWED (OPTION_BIT(OPTION_STATE) | OPTION_BIT(OPTION_JSON) | OPTION_BIT(OPTION_WATCH))

static int state_folder;

static bool is_alive(const struct movestate *state)
{
	return movestate_is_held(state_folder, state);
}

static void print_member(const char *key, const char *text)
{
	json_print_member(key, text);
	printf(", ");
}

static void print_json(const struct movestate *state, const struct movestate_counters *c,
		       bool first)
{
	printf("%s{", first ? "" : ", ");
	print_member("id", state->id);
	print_member("role", state->source ? "source" : "target");
	print_member("stage", movestate_stage_name(state->stage));
	print_member("process", state->comm);
	print_member("peer", state->peer);
	print_member("mode", state->mode);
	print_member("reason", state->reason);
	printf("\"pid\": %d, \"engine\": %d, \"alive\": %s, \"begun\": %lld, \"pages_done\": %llu, "
	       "\"pages_left\": %llu, \"pages_zero\": %llu, \"pages_predicted\": %llu, "
	       "\"rate_kib_s\": %llu, \"faults\": "
	       "%llu, "
	       "\"fault_p50_us\": %u, \"fault_p99_us\": %u, \"bytes_wire\": %llu, "
	       "\"bytes_packed\": %llu, \"bytes_packed_wire\": %llu, "
	       "\"peak_rss_kib\": %llu, \"starving_s\": %u}",
	       state->pid, state->engine, is_alive(state) ? "true" : "false",
	       (long long)state->begun_s, (unsigned long long)c->pages_done,
	       (unsigned long long)c->pages_left, (unsigned long long)c->pages_zero,
	       (unsigned long long)c->pages_predicted, (unsigned long long)c->rate_kib_s,
	       (unsigned long long)c->faults, c->fault_p50_us, c->fault_p99_us,
	       (unsigned long long)c->bytes_wire, (unsigned long long)c->bytes_packed,
	       (unsigned long long)c->bytes_packed_wire, (unsigned long long)c->peak_rss_kib,
	       c->starving_s);
}

/* What a move is to which nobody attends. */
static const char *unattended(const struct movestate *state)
{
	if (movestate_is_of_file(state) && !movestate_process_lives(state))
		return " (ended with the baton that filled it: start it again)";
	if (state->source || state->stage == STAGE_STARTED || state->stage == STAGE_BUILDING)
		return " (held: no baton process works on it)";
	return state->stage == STAGE_READY ? " (never ran here)" : " (runs here, complete)";
}

static void print_counters(const struct movestate *state, const struct movestate_counters *c)
{
	printf("    %llu pages done, %llu left, %.1f MiB/s, %llu faults",
	       (unsigned long long)c->pages_done, (unsigned long long)c->pages_left,
	       (double)c->rate_kib_s / 1024, (unsigned long long)c->faults);
	/* How long they waited only the target knows. */
	if (!state->source)
		printf(" (p50 %u us, p99 %u us)", c->fault_p50_us, c->fault_p99_us);
	printf(", %.1f MiB on the wire, peak memory %llu KiB\n", (double)c->bytes_wire / (1 << 20),
	       (unsigned long long)c->peak_rss_kib);
}

static void print_text(const struct movestate *state, const struct movestate_counters *c)
{
	printf("%s  %s, pid %d, %s %s: %s%s\n", state->id, state->comm, state->pid,
	       state->source ? "to" : "from", state->peer, movestate_stage_name(state->stage),
	       is_alive(state) ? "" : unattended(state));
	if (!is_alive(state) && !state->source && !movestate_is_of_file(state) &&
	    (state->stage == STAGE_READY || state->stage == STAGE_COMPLETE))
		printf("    kept as the answer for %s, which will ask; if it never will: baton "
		       "abort %s\n",
		       state->peer, state->id);
	if (state->reason[0])
		printf("    %s\n", state->reason);
	if (c->pages_done || c->pages_left)
		print_counters(state, c);
	if (c->starving_s && is_alive(state))
		printf("    no memory left here for pid %d since %u s: it waits for its pages, and "
		       "goes "
		       "on when there is some\n",
		       state->pid, c->starving_s);
}

/* Shows every move of the folder once. */
static int show(int folder, bool as_json)
{
	const bool json = options_json(as_json);
	struct movestate_counters counters;
	struct movestate state;
	struct dir_reader reader;
	const char *name;
	unsigned int nr = 0;
	int err;

	err = dir_reader_open(&reader, folder, ".");
	if (err)
		return err;
	if (json)
		printf("[");
	while ((err = dir_reader_next(&reader, &name, NULL)) > 0) {
		size_t len = strlen(name);

		if (len < 5 || strcmp(name + len - 5, ".move") ||
		    movestate_read(folder, name, &state))
			continue;
		movestate_read_counters(folder, &state, &counters);
		if (json)
			print_json(&state, &counters, !nr);
		else
			print_text(&state, &counters);
		nr++;
	}
	dir_reader_close(&reader);
	if (json)
		printf("]\n");
	else if (!nr)
		printf("no move is under way\n");
	fflush(stdout);
	return err;
}

int cmd_status(int argc, char **argv)
{
	struct options options;
	int outcome = options_parse(argc, argv, ALLOWED, &options);
	int folder, err;

	if (outcome >= 0)
		return outcome;
	if (options.nr_args)
		return cmd_usage(argv[0], "%s: no argument is wanted", options.args[0]);
	folder = open(options.state, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (folder < 0 && errno == ENOENT) {
		/* Nothing was ever moved here. */
		printf("%s\n", options_json(options.json) ? "[]" : "no move is under way");
		return OUTCOME_DONE;
	}
	if (folder < 0) {
		log_error("state folder %s: %s", options.state, strerror(errno));
		return OUTCOME_SYSTEM;
	}
	state_folder = folder;
	do {
		if (options.watch && !options_json(options.json) && isatty(STDOUT_FILENO))
			printf("\033[H\033[2J");
		err = show(folder, options.json);
		if (options.watch && !err)
			sleep(1);
	} while (options.watch && !err && !ferror(stdout));
	close(folder);
	return err ? OUTCOME_FAILED : OUTCOME_DONE;
}
