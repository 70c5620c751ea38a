/* SPDX-License-Identifier: MIT */
/* What the commands that move processes have in common. */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>

#include "cmd/report.h"
#include "cmd/session.h"
#include "engine/image/save.h"
#include "engine/move/offer.h"
#include "engine/move/supervise.h"
#include "lib/arena.h"
#include "lib/config.h"
#include "lib/io.h"
#include "lib/log.h"
#include "lib/text.h"
#include "transport/tls.h"

/* How long a target is waited for that is only to be told something. */
#define GIVE_UP_MS 5000

/* A supervisor's connections, or a worker's memories, and what else either has; and with room to spare. */
#define FDS_OF_SUPERVISOR (3 * CONFIG_MAX_CONNECTIONS)
#define FDS_OF_WORKER (CONFIG_MAX_SPACES + 8)
#define FDS_NEEDED (64 + (FDS_OF_SUPERVISOR > FDS_OF_WORKER ? FDS_OF_SUPERVISOR : FDS_OF_WORKER))
#define FDS_WANTED (1024 > FDS_NEEDED ? 1024 : FDS_NEEDED)

static struct session *current;

/* In whichever process ends the move. */
static void finish(const struct move_report *report, enum outcome outcome)
{
	/* Who was not let in was no move. */
	if (!report->check_only && (current->link.address || outcome != OUTCOME_PEER))
		report_print(report, outcome, current->role, current->json);
	if (!report->check_only && outcome != OUTCOME_DONE && outcome != OUTCOME_HELD)
		cmd_fail(outcome, "the move failed");
}

static int take_memory(struct session *session)
{
	int err = arena_init();

	if (err)
		return log_fail(-err,
				"the memory budget (%d KiB) is too small; raise "
				"CONFIG_MEMORY_BUDGET_KIB",
				CONFIG_MEMORY_BUDGET_KIB);
	err = link_init(&session->link);
	if (!err)
		err = move_init(session->role);
	if (!err && IS_ENABLED(CONFIG_IMAGE) && session->role == MOVE_SAVE)
		err = image_save_init();
	if (!err)
		err = supervise_init();
	return err ? log_fail(ENOMEM,
			      "the memory budget (%d KiB) is too small; raise "
			      "CONFIG_MEMORY_BUDGET_KIB",
			      CONFIG_MEMORY_BUDGET_KIB)
		   : 0;
}

/* Such a limit is known before anything is begun, not in the middle. */
static int take_descriptors(void)
{
	struct rlimit limit;

	if (getrlimit(RLIMIT_NOFILE, &limit))
		return log_fail(errno, "the limit of descriptors: %s", strerror(errno));
	if (limit.rlim_cur < FDS_WANTED) {
		limit.rlim_cur = limit.rlim_max < FDS_WANTED ? limit.rlim_max : FDS_WANTED;
		prlimit(0, RLIMIT_NOFILE, &limit, NULL);
	}
	if (limit.rlim_cur >= FDS_NEEDED)
		return 0;
	/* The privileged may. */
	if (!prlimit(0, RLIMIT_NOFILE, &(struct rlimit){FDS_NEEDED, FDS_NEEDED}, NULL))
		return 0;
	return log_fail(
		EMFILE,
		"this process may have %llu descriptors, and needs %d; raise the limit (ulimit -n, "
		"LimitNOFILE=)",
		(unsigned long long)limit.rlim_cur, FDS_NEEDED);
}

static int begin(struct session *session, const struct options *options, enum move_role role,
		 bool offline)
{
	current = session;
	session->role = role;
	session->json = options->json;
	session->move = (struct move_options){.keys_dir = options->keys,
					      .mode = options->mode,
					      .max_rate_mib_s = options->max_rate_mib_s,
					      .keepalive_s = options->keepalive_s,
					      .stdio = options->stdio,
					      .pidns = options->pidns,
					      .allow_clock_jump = options->allow_clock_jump,
					      .progress = report_progress,
					      .listen = options->serve,
					      .finish = finish};
	session->move.patience_ms = options->patience_s ? (int)options->patience_s * 1000 : -1;
	socket_patience(options->keepalive_s);
	if (take_memory(session))
		return cmd_fail(OUTCOME_SYSTEM, "no memory");
	session->link.compress = options->compress;
	io_busy_us = options->poll_us;
	if (!offline && take_descriptors())
		return cmd_fail(OUTCOME_SYSTEM, "no descriptors");
	/* What need not be signed needs no keys. */
	if (!offline && !options->allow_unsigned && tls_setup(options->keys))
		return cmd_fail(OUTCOME_PEER, "the keys cannot be used");
	arena_seal();
	if (movestate_folder_open(options->state))
		return cmd_fail(OUTCOME_SYSTEM, "the state folder cannot be used");
	movestate_sweep();
	link_catch_signals();
	return OUTCOME_DONE;
}

int session_begin(struct session *session, const struct options *options, enum move_role role)
{
	return begin(session, options, role, false);
}

int session_begin_offline(struct session *session, const struct options *options)
{
	return begin(session, options, MOVE_SOURCE, true);
}

/*
 * The process can be moved, nobody else moves it, and nobody will until we end: OUTCOME_DONE.
 * OUTCOME_HELD: a move of it was committed and nobody works on it: *begun, for session_resume.
 */
static int claim(struct session *session, pid_t pid, struct movestate *begun)
{
	int err;

	session->move.pid = pid;
	if (offer_check_pid(pid))
		return cmd_fail(OUTCOME_REFUSED, "the process cannot be moved");
	err = movestate_find_pid(pid, begun);
	if (!err)
		return OUTCOME_HELD;
	if (err == -ENOENT)
		err = movestate_lock_pid(pid);
	if (err == -EBUSY)
		return cmd_fail(OUTCOME_REFUSED, "the process is being moved");
	if (err)
		return cmd_fail(OUTCOME_SYSTEM, "the state folder cannot be used");
	err = move_probe(pid);
	if (!err)
		return OUTCOME_DONE;
	movestate_unlock_pid();
	return cmd_fail(move_probe_outcome(err), "the process cannot be moved");
}

static enum outcome resume_work(struct link *link, void *data)
{
	struct session *session = data;
	uint8_t token[ROUTE_TOKEN_BYTES];

	/* On the listening side whoever comes has to know which move it is. */
	if (!link->address && (text_parse_hex(session->resumed.token, token, sizeof(token)) ||
			       memcmp(token, link->token, sizeof(token)) != 0)) {
		log_warn("stranger %s: it asks for another move than %s", link->peer,
			 session->resumed.id);
		return OUTCOME_PEER;
	}
	link_tell(link, LINK_TELL_ACCEPTED);
	return session->role == MOVE_SOURCE || !IS_ENABLED(CONFIG_CMD_RESTORE)
		       ? move_source_resume(link, &session->move, &session->resumed, false)
		       : move_target_resume(link, &session->move, &session->resumed);
}

static enum outcome tell_work(struct link *link, void *data)
{
	(void)data;
	return move_source_tell(link);
}

/* Nothing was handed over: it runs on here, and the target is told if it can be found at once. */
static int let_run(struct session *session, const struct options *options)
{
	if (movestate_is_superseded(&session->resumed)) {
		log_info("move %s was only offered, and another one has pid %d: it is forgotten",
			 session->resumed.id, session->resumed.pid);
		session->resumed.written = true;
		movestate_remove(&session->resumed);
		return OUTCOME_DONE;
	}
	move_source_let_run(&session->link, &session->move, &session->resumed);
	session->give_up_ms = GIVE_UP_MS;
	if (IS_ENABLED(CONFIG_CMD_DUMP) && session->resumed.listen[0]) {
		int outcome =
			session_listen(session, options, session->resumed.listen, true, tell_work);

		/* Also when nobody came: it was for the target's sake alone. */
		session->resumed.written = true;
		movestate_remove(&session->resumed);
		return outcome;
	}
	session->link.address = session->resumed.dial;
	return (int)tell_work(&session->link, session);
}

/* Locks it, if nobody has gone on with it since it was read, and says in its file who has it. */
static int take_move(struct movestate *state)
{
	struct movestate now;
	char name[64];
	int err = movestate_lock(state);

	if (err)
		return err;
	movestate_file_name(state, "move", name, sizeof(name));
	if (movestate_read(movestate_folder(), name, &now) || now.stage != state->stage) {
		movestate_remove(state); /* gives the lock back: we have not written it */
		return log_fail(EBUSY, "move %s has gone on meanwhile; see: baton status",
				state->id);
	}
	/* Why it stood is true until the peer is there. */
	now.lock_fd = state->lock_fd;
	if (movestate_write(&now, now.stage))
		log_reason_clear(); /* nothing depends on it */
	return 0;
}

int session_resume(struct session *session, const struct options *options,
		   const struct movestate *state, bool peer_is_dead)
{
	session->resumed = *state;
	session->resumed.lock_fd = 0;
	/* For a target: each answer takes the lock for itself. */
	if (session->role == MOVE_SOURCE && take_move(&session->resumed))
		return cmd_fail(OUTCOME_REFUSED, "the move cannot be resumed");
	session->move.pid = state->pid;
	if (peer_is_dead)
		return (int)move_source_resume(&session->link, &session->move, &session->resumed,
					       true);
	if (session->role == MOVE_SOURCE && state->stage == STAGE_OFFERED)
		return let_run(session, options);
	if (state->stage == STAGE_DRAINED)
		session->give_up_ms = GIVE_UP_MS;
	log_info("move %s goes on: %s (pid %d) %s %s", state->id, state->comm, state->pid,
		 state->dial[0] ? "to" : "is served to", state->peer);
	if (IS_ENABLED(CONFIG_CMD_DUMP) && !state->dial[0]) {
		int outcome = session_listen(session, options, state->listen, true, resume_work);

		/* The target has everything; one that does not come has ended. */
		if (state->stage == STAGE_DRAINED && outcome != OUTCOME_SYSTEM)
			return (int)move_source_give_up(&session->move, &session->resumed);
		movestate_remove(&session->resumed);
		return outcome;
	}
	session->link.address = session->resumed.dial;
	return (int)resume_work(&session->link, session);
}

int session_begin_source(struct session *session, const char *argv0, const struct options *options,
			 const char *address, bool listening)
{
	struct movestate begun = {0};
	int outcome;
	pid_t pid;

	if (options_pid(options->args[0], &pid))
		return cmd_usage(argv0, "%s is no process id", options->args[0]);
	if (options_address(address, listening))
		return cmd_usage(argv0, "%s", log_reason());
	outcome = session_begin(session, options, MOVE_SOURCE);
	if (!outcome)
		outcome = claim(session, pid, &begun);
	if (outcome == OUTCOME_HELD)
		return session_resume(session, options, &begun, false);
	return outcome ? outcome : -1;
}

int session_begin_save(struct session *session, const char *argv0, const struct options *options)
{
	struct movestate begun = {0};
	int outcome;
	pid_t pid;

	if (options_pid(options->args[0], &pid))
		return cmd_usage(argv0, "%s is no process id", options->args[0]);
	outcome = session_begin(session, options, MOVE_SAVE);
	if (!outcome)
		outcome = claim(session, pid, &begun);
	if (outcome == OUTCOME_HELD) {
		log_error("pid %d is the copy of a move that is not complete (move %s); see: baton "
			  "status",
			  pid, begun.id);
		return OUTCOME_REFUSED;
	}
	return outcome ? outcome : -1;
}

enum outcome session_move(struct session *session)
{
	return session->role == MOVE_SOURCE ? move_source(&session->link, &session->move)
					    : move_target(&session->link, &session->move);
}

enum outcome session_work(struct link *link, void *data)
{
	(void)link; /* the session's own */
	return session_move(data);
}

/* Where moves of a supervisor that died find the next one. */
static const char *door_name(const struct session *session)
{
	static char door[32];

	if (session->role == MOVE_TARGET)
		return "receive.sock";
	snprintf(door, sizeof(door), "dump-%d.sock", session->move.pid);
	return door;
}

int session_listen(struct session *session, const struct options *options, const char *listen,
		   bool once, enum outcome (*work)(struct link *, void *))
{
	struct supervise_options supervise = {.listen = listen,
					      .port_file = options->port_file,
					      .door = door_name(session),
					      .once = once,
					      .pass_signals = session->role == MOVE_SOURCE,
					      .tend = session->tend,
					      .give_up_ms = session->give_up_ms,
					      .link = &session->link,
					      .work = work,
					      .data = session};
	enum outcome outcome = supervise_run(&supervise);

	if (outcome == OUTCOME_SYSTEM)
		return cmd_fail(outcome, "it cannot listen");
	return (int)outcome;
}
