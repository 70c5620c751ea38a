/* SPDX-License-Identifier: MIT */
/* What a user sees of a move: the progress line, and the result as a line or as JSON. */
#ifndef BATON_REPORT_H
#define BATON_REPORT_H

#include "engine/move/move.h"

/* Shows progress on standard error: one line that changes on a terminal, plain lines elsewhere. */
void report_progress(const struct move_progress *progress);

/* Ends the progress line, then prints the result on standard output. */
void report_print(const struct move_report *report, enum outcome outcome, enum move_role role,
		  bool json);

/* The word for an outcome in JSON. */
const char *report_outcome_name(enum outcome outcome);

#endif
