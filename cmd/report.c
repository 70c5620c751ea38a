/* SPDX-License-Identifier: MIT */
/* What a user sees of a move. */
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "cmd/options.h"
#include "cmd/report.h"
#include "lib/clock.h"
#include "lib/log.h"

/* Where nobody watches a terminal, one line in this time is enough. */
#define PLAIN_EVERY_MS 5000

static bool line_open; /* a progress line stands on the terminal */

static unsigned int percent(const struct move_progress *progress)
{
	uint64_t all = progress->pages_done + progress->pages_left;

	return all ? (unsigned int)(progress->pages_done * 100 / all) : 0;
}

static void progress_terminal(const struct move_progress *progress)
{
	char line[160];
	int len;

	if (progress->pages_done || progress->pages_left)
		len = snprintf(line, sizeof(line), "\r\033[K%s: %u%%, %.1f MiB/s, %llu pages left",
			       progress->stage, percent(progress),
			       (double)progress->rate_kib_s / 1024,
			       (unsigned long long)progress->pages_left);
	else
		len = snprintf(line, sizeof(line), "\r\033[K%s", progress->stage);
	line_open = write(STDERR_FILENO, line, (size_t)len) > 0;
}

static void progress_plain(const struct move_progress *progress)
{
	static int64_t last_ms;
	static uint64_t last_pages;
	int64_t now_ms = clock_now_ms();

	if (!progress->pages_done && !progress->pages_left)
		return;
	if (!last_ms)
		last_ms = now_ms;
	if (now_ms - last_ms < PLAIN_EVERY_MS || progress->pages_done == last_pages)
		return;
	last_ms = now_ms;
	last_pages = progress->pages_done;
	log_info("%s: %u%%, %.1f MiB/s, %llu pages left", progress->stage, percent(progress),
		 (double)progress->rate_kib_s / 1024, (unsigned long long)progress->pages_left);
}

void report_progress(const struct move_progress *progress)
{
	static int terminal = -1;

	if (terminal < 0)
		terminal = isatty(STDERR_FILENO);
	if (terminal)
		progress_terminal(progress);
	else
		progress_plain(progress);
}

const char *report_outcome_name(enum outcome outcome)
{
	static const char *const names[] = {
		[OUTCOME_DONE] = "done",     [OUTCOME_FAILED] = "failed",
		[OUTCOME_USAGE] = "usage",   [OUTCOME_REFUSED] = "refused",
		[OUTCOME_HELD] = "held",     [OUTCOME_PEER] = "peer",
		[OUTCOME_SYSTEM] = "system",
	};

	return outcome < sizeof(names) / sizeof(names[0]) ? names[outcome] : "?";
}

/* Those that this side has measured. */
static void print_parts(const struct move_report *r)
{
	static const char *const names[NR_PARTS] = {
		[PART_FREEZE] = "freeze", [PART_FILES] = "files",   [PART_DESCRIBE] = "describe",
		[PART_READY] = "ready",   [PART_COMMIT] = "commit", [PART_START] = "start",
		[PART_BUILD] = "build",   [PART_ARM] = "arm",       [PART_RECORD] = "record",
		[PART_GO] = "go",         [PART_RUN] = "run",
	};
	const char *comma = "";

	printf("\"stages_us\": {");
	for (int i = 0; i < NR_PARTS; i++) {
		if (!r->part_us[i])
			continue;
		printf("%s\"%s\": %u", comma, names[i], r->part_us[i]);
		comma = ", ";
	}
	printf("}");
}

static void print_json(const struct move_report *r, enum outcome outcome)
{
	printf("{\"id\": \"%s\", \"pid\": %d, \"result\": \"%s\", \"downtime_us\": %llu, "
	       "\"freeze_us\": %llu, \"total_us\": %llu, \"pages_total\": %llu, \"pages_sent\": "
	       "%llu, "
	       "\"pages_zero\": %llu, \"pages_predicted\": %llu, \"bytes_wire\": %llu, "
	       "\"bytes_packed\": %llu, "
	       "\"bytes_packed_wire\": %llu, \"faults\": %llu, \"fault_p50_us\": "
	       "%u, "
	       "\"fault_p99_us\": %u, \"reconnects\": %u, \"peak_rss_kib\": %llu, ",
	       r->id, r->pid, report_outcome_name(outcome), (unsigned long long)r->downtime_us,
	       (unsigned long long)r->freeze_us, (unsigned long long)r->total_us,
	       (unsigned long long)r->pages_total, (unsigned long long)r->pages_sent,
	       (unsigned long long)r->pages_zero, (unsigned long long)r->pages_predicted,
	       (unsigned long long)r->bytes_wire, (unsigned long long)r->bytes_packed,
	       (unsigned long long)r->bytes_packed_wire, (unsigned long long)r->faults,
	       r->fault_p50_us, r->fault_p99_us, r->reconnects,
	       (unsigned long long)move_peak_rss_kib());
	print_parts(r);
	printf("}\n");
}

static void print_line(const struct move_report *r, enum move_role role)
{
	static const char *const verbs[] = {
		[MOVE_SOURCE] = "moved", [MOVE_TARGET] = "took", [MOVE_SAVE] = "wrote"};

	printf("%s %s (pid %d) %s %s: downtime %.1f ms, total %.3f s, %llu pages (%llu of zeros), "
	       "%.1f MiB %s, %llu faults",
	       verbs[role], r->comm, r->pid, role == MOVE_TARGET ? "from" : "to", r->peer,
	       (double)r->downtime_us / 1000, (double)r->total_us / 1000000,
	       (unsigned long long)r->pages_total, (unsigned long long)r->pages_zero,
	       (double)r->bytes_wire / (1 << 20), role == MOVE_SAVE ? "in the file" : "on the wire",
	       (unsigned long long)r->faults);
	if (r->faults)
		printf(" (p50 %u us, p99 %u us)", r->fault_p50_us, r->fault_p99_us);
	printf("\n");
}

void report_print(const struct move_report *report, enum outcome outcome, enum move_role role,
		  bool json)
{
	if (line_open)
		(void)!write(STDERR_FILENO, "\r\033[K", 4);
	line_open = false;
	if (options_json(json))
		print_json(report, outcome);
	else if (outcome == OUTCOME_DONE)
		print_line(report, role);
	fflush(stdout);
}
