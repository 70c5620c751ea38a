/* SPDX-License-Identifier: MIT */
/* Reading the files of the state folder: lines "key value" into a struct, by a table of fields. */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "engine/move/movestate.h"
#include "lib/io.h"
#include "lib/text.h"

static const char *const stage_names[STAGE_NR] = {
	[STAGE_OFFERED] = "offered", [STAGE_COMMITTED] = "committed", [STAGE_SERVING] = "serving",
	[STAGE_DRAINED] = "drained", [STAGE_BUILDING] = "building",   [STAGE_READY] = "ready",
	[STAGE_STARTED] = "started", [STAGE_COMPLETE] = "complete",
};

const char *movestate_stage_name(enum move_stage stage)
{
	return stage < STAGE_NR ? stage_names[stage] : "?";
}

void movestate_file_name(const struct movestate *state, const char *suffix, char *out, size_t cap)
{
	snprintf(out, cap, "%s-%s.%s", state->id, state->source ? "source" : "target", suffix);
}

enum field_type {
	FIELD_TEXT,
	FIELD_S32,
	FIELD_U32,
	FIELD_S64,
	FIELD_U64,
	FIELD_ROLE,
	FIELD_BOOL,
	FIELD_STAGE,
	FIELD_END
};

struct field {
	const char *key;
	enum field_type type : 8;
	uint16_t offset, size;
};

#define FIELD(key, type, kind, member)                                                             \
	{                                                                                          \
		key, type, offsetof(struct kind, member), sizeof(((struct kind *)0)->member)       \
	}

_Static_assert(sizeof(struct movestate) <= UINT16_MAX, "an offset has room");

static const struct field move_fields[] = {
	FIELD("id ", FIELD_TEXT, movestate, id),
	FIELD("role ", FIELD_ROLE, movestate, source),
	FIELD("stage ", FIELD_STAGE, movestate, stage),
	FIELD("pid ", FIELD_S32, movestate, pid),
	FIELD("pid-start ", FIELD_U64, movestate, pid_start),
	FIELD("comm ", FIELD_TEXT, movestate, comm),
	FIELD("peer ", FIELD_TEXT, movestate, peer),
	FIELD("token ", FIELD_TEXT, movestate, token),
	FIELD("dial ", FIELD_TEXT, movestate, dial),
	FIELD("listen ", FIELD_TEXT, movestate, listen),
	FIELD("boot ", FIELD_TEXT, movestate, boot),
	FIELD("freezer ", FIELD_TEXT, movestate, freezer),
	FIELD("reason ", FIELD_TEXT, movestate, reason),
	FIELD("keys ", FIELD_TEXT, movestate, keys),
	FIELD("decide ", FIELD_BOOL, movestate, decide),
	FIELD("stopped ", FIELD_BOOL, movestate, stopped),
	FIELD("fingerprint ", FIELD_TEXT, movestate, fingerprint),
	FIELD("mode ", FIELD_TEXT, movestate, mode),
	FIELD("engine ", FIELD_S32, movestate, engine),
	FIELD("begun ", FIELD_S64, movestate, begun_s),
	FIELD("changed ", FIELD_S64, movestate, changed_s),
	{"end", FIELD_END, 0, 0},
};

static const struct field count_fields[] = {
	FIELD("pages-done ", FIELD_U64, movestate_counters, pages_done),
	FIELD("pages-left ", FIELD_U64, movestate_counters, pages_left),
	FIELD("pages-zero ", FIELD_U64, movestate_counters, pages_zero),
	FIELD("pages-predicted ", FIELD_U64, movestate_counters, pages_predicted),
	FIELD("faults ", FIELD_U64, movestate_counters, faults),
	FIELD("bytes-wire ", FIELD_U64, movestate_counters, bytes_wire),
	FIELD("bytes-packed ", FIELD_U64, movestate_counters, bytes_packed),
	FIELD("bytes-packed-wire ", FIELD_U64, movestate_counters, bytes_packed_wire),
	FIELD("fault-p50-us ", FIELD_U32, movestate_counters, fault_p50_us),
	FIELD("fault-p99-us ", FIELD_U32, movestate_counters, fault_p99_us),
	FIELD("rate-kib-s ", FIELD_U64, movestate_counters, rate_kib_s),
	FIELD("peak-rss-kib ", FIELD_U64, movestate_counters, peak_rss_kib),
	FIELD("starving-s ", FIELD_U32, movestate_counters, starving_s),
};

static int stage_by_name(const char *name)
{
	for (int i = 0; i < STAGE_NR; i++)
		if (!strcmp(movestate_stage_name((enum move_stage)i), name))
			return i;
	return -EPROTO;
}

/* Puts one value where its field says. 1 for the end line, 0, or -EPROTO. */
static int field_set(const struct field *field, const char *value, void *base)
{
	void *at = (char *)base + field->offset;
	uint64_t number = 0;
	int stage;

	switch (field->type) {
	case FIELD_END:
		return 1;
	case FIELD_TEXT:
		return text_copy(at, field->size, value) ? 0 : -EPROTO;
	case FIELD_ROLE:
		*(bool *)at = !strcmp(value, "source");
		return 0;
	case FIELD_BOOL:
		*(bool *)at = !strcmp(value, "1");
		return 0;
	case FIELD_STAGE:
		stage = stage_by_name(value);
		if (stage < 0)
			return stage;
		*(enum move_stage *)at = (enum move_stage)stage;
		return 0;
	default:
		break;
	}
	if (text_parse_u64(value, 10, &number))
		return -EPROTO;
	if (field->size == sizeof(uint32_t))
		*(uint32_t *)at = (uint32_t)number;
	else
		*(uint64_t *)at = number;
	return 0;
}

/* Reads lines "key value" into a struct. 1 when the end line was there, 0 without, or -errno. */
static int read_fields(int folder, const char *name, const struct field *fields, size_t nr,
		       void *base)
{
	char buf[MOVESTATE_FILE_MAX], *line;
	struct line_reader reader;
	int got, err, ended = 0;

	err = line_reader_open(&reader, folder, name, buf, sizeof(buf));
	if (err)
		return err;
	while ((got = line_reader_next(&reader, &line)) > 0 && !ended) {
		for (size_t i = 0; i < nr; i++) {
			size_t key_len = strlen(fields[i].key);

			if (strncmp(line, fields[i].key, key_len))
				continue;
			ended = field_set(&fields[i], line + key_len, base);
			break;
		}
	}
	line_reader_close(&reader);
	return got < 0 ? got : ended;
}

int movestate_read(int folder, const char *name, struct movestate *state)
{
	int ended;

	*state = (struct movestate){0};
	ended = read_fields(folder, name, move_fields, sizeof(move_fields) / sizeof(move_fields[0]),
			    state);
	if (ended < 0)
		return ended;
	return ended && state->id[0] ? 0 : -EPROTO;
}

void movestate_read_counters(int folder, const struct movestate *state,
			     struct movestate_counters *counters)
{
	char name[64];

	*counters = (struct movestate_counters){0};
	movestate_file_name(state, "stat", name, sizeof(name));
	read_fields(folder, name, count_fields, sizeof(count_fields) / sizeof(count_fields[0]),
		    counters);
}
