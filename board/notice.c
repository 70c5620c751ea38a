/* SPDX-License-Identifier: MIT */
/* Moves that begin, end, are held on this device. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/inotify.h>
#include <unistd.h>

#include "board/notice.h"
#include "engine/move/movestate.h"
#include "lib/io.h"
#include "lib/log.h"
#include "lib/text.h"

/* As many as are remembered at a time; more moves than that are not told of. */
#define NR_SEEN 16
#define LINE_BYTES 400

static struct seen {
	struct movestate state; /* as it was when it was last looked at */
	bool used, here, held;
} seen[NR_SEEN];

static int folder = -1, events = -1;
static bool quiet; /* the first look */
static void (*tell)(const char *line);

static struct seen *find(const struct movestate *state)
{
	struct seen *free = NULL;

	for (struct seen *s = seen; s < seen + NR_SEEN; s++) {
		if (!s->used)
			free = s;
		else if (s->state.source == state->source && !strcmp(s->state.id, state->id))
			return s;
	}
	if (free)
		*free = (struct seen){.here = true};
	return free;
}

static void say(const struct movestate *state, const char *what, const char *more)
{
	char line[LINE_BYTES], who[48] = "", pid[24] = "", peer[sizeof(state->peer) + 8] = "";

	/* What is not known yet: a target hears only later whom it gets. */
	if (state->pid)
		snprintf(pid, sizeof(pid), state->comm[0] ? " (pid %d)" : " pid %d", state->pid);
	if (state->comm[0] || pid[0])
		snprintf(who, sizeof(who), ":%s%s%s", state->comm[0] ? " " : "", state->comm, pid);
	if (state->peer[0])
		snprintf(peer, sizeof(peer), " %s %s", state->source ? "to" : "from", state->peer);
	snprintf(line, sizeof(line), "move %s%s%s %s%s%s", state->id, who, peer, what,
		 more[0] ? ": " : "", more);
	tell(line);
}

static int look(void *data, struct movestate *state)
{
	struct seen *s = find(state);
	bool held;

	(void)data;
	if (!s)
		return 0;
	/* What waits for its peer to ask is not held, it is over. */
	held = state->decide ||
	       (!movestate_is_held(folder, state) &&
		(state->source ? state->stage > STAGE_OFFERED : state->stage == STAGE_STARTED));
	if (!s->used && !quiet)
		say(state, "begins", "");
	if (held && !s->held)
		say(state, "is held", state->reason);
	if (s->used && s->held && !held)
		say(state, "goes on", "");
	*s = (struct seen){.state = *state, .used = true, .here = true, .held = held};
	return 0;
}

void notice_look(void (*say_line)(const char *line))
{
	char buf[1024];

	tell = say_line;
	/* Which of them it was is seen by looking at all. */
	while (events >= 0 && read(events, buf, sizeof(buf)) > 0)
		;
	for (struct seen *s = seen; s < seen + NR_SEEN; s++)
		s->here = false;
	movestate_each(folder, look, NULL);
	for (struct seen *s = seen; s < seen + NR_SEEN; s++) {
		if (!s->used || s->here)
			continue;
		s->used = false;
		say(&s->state, "ends",
		    movestate_process_lives(&s->state) ? "it runs here" : "it is not here");
	}
	quiet = false;
	log_reason_clear();
}

int notice_has_moves(void)
{
	for (struct seen *s = seen; s < seen + NR_SEEN; s++)
		if (s->used)
			return 1;
	return 0;
}

int notice_open(const char *state_dir)
{
	folder = open(state_dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (folder < 0)
		return -errno;
	events = inotify_init1(IN_CLOEXEC | IN_NONBLOCK);
	if (events < 0 || inotify_add_watch(events, state_dir, IN_MOVED_TO | IN_DELETE) < 0) {
		int err = errno;

		io_close(&events);
		io_close(&folder);
		return -err;
	}
	quiet = true;
	return events;
}
