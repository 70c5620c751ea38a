/* SPDX-License-Identifier: MIT */
/*
 * baton evacuate: moves all processes that matter to another device, or fetches them back.
 *
 *     WAITING → SENDING → THERE → DONE
 *        ↖ try again ↙  ↘ STAYS     ↘ HELD
 *
 * Each is sent by a `baton send` of its own, so all that a move survives, an evacuation does. What it knows it
 * reads from the state folder: one that is begun again goes on with the moves that are under way.
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "board/plan.h"
#include "board/protect.h"
#include "cmd/options.h"
#include "engine/move/link.h"
#include "engine/move/movestate.h"
#include "engine/move/recall.h"
#include "engine/process/proc.h"
#include "lib/arena.h"
#include "lib/clock.h"
#include "lib/io.h"
#include "lib/log.h"
#include "lib/text.h"
#include "transport/keys.h"

#define ALLOWED                                                                                    \
	(OPTION_BIT(OPTION_KEYS) | OPTION_BIT(OPTION_STATE) | OPTION_BIT(OPTION_DEADLINE) |        \
	 OPTION_BIT(OPTION_BACK) | OPTION_BIT(OPTION_LISTEN))

/* Where the last evacuation went, in the keys folder. */
#define HOST_FILE "evacuated"
#define LOOK_MS 20
#define TRIES 3
#define AGAIN_MS 1000
/* Held by whoever evacuates this device, or fetches back: two at once would take each other's work for the process'. */
#define DOOR "evacuate"
/* How often the other device is asked, how often to send what does not come, and how often for nothing. */
#define ASK_MS 500
#define PUSH_EACH 10
#define PUSHES 2
#define ANSWER_TIMEOUT_MS 20000

static struct evacuation {
	struct options options;
	const char *host;
	struct plan plan;
	int64_t deadline_ms;
	bool late;            /* nothing new is begun, and what can be undone is */
	bool remembered;      /* for --back, where it went */
	bool seen[PLAN_MOST]; /* a process works on its move */
} e;

/* As much of it as the deadline leaves. */
static int at_most(int timeout_ms)
{
	int left = clock_left_ms(e.deadline_ms);

	return left >= 0 && left < timeout_ms ? left : timeout_ms;
}

/* ---- what is to be moved ---- */

static int add_protected(void *data, const struct protect *protect)
{
	pid_t pid = 0;
	int err = protect_find(protect, at_most(PROTECT_ASK_MS), &pid);
	struct plan_item *item = plan_add(&e.plan, protect->name, pid);

	(void)data;
	if (err == -ESRCH)
		log_info("%s: %s", protect->name, log_reason());
	else if (err)
		log_warn("%s: %s", protect->name, log_reason());
	log_reason_clear();
	if (!item)
		return 0;
	item->listed = true;
	item->priority = protect->priority;
	text_copy(item->after, sizeof(item->after), protect->after);
	if (err && err != -ESRCH)
		item->state = PLAN_UNKNOWN;
	return 0;
}

static bool is_planned(pid_t pid)
{
	for (unsigned int i = 0; i < e.plan.nr; i++)
		if (e.plan.items[i].pid == pid)
			return true;
	return false;
}

/* A pid file that is not there, as on a device where it never ran, or came from elsewhere: its program tells. */
static void settle_unknown(void)
{
	struct protect protect;

	for (unsigned int i = 0; i < e.plan.nr; i++) {
		struct plan_item *item = &e.plan.items[i];

		if (item->state == PLAN_UNKNOWN &&
		    !protect_read(e.options.keys, item->name, &protect) && protect.pidfile[0] &&
		    access(protect.pidfile, F_OK) && errno == ENOENT && protect.exe[0] &&
		    !protect_has_others(protect.exe, is_planned))
			item->state = PLAN_ABSENT;
	}
}

/* Guests matter, too: nobody else knows that they are here. */
static int add_guest(void *data, struct movestate *came)
{
	(void)data;
	plan_add(&e.plan, came->comm, came->pid);
	return 0;
}

/* So do those whose memory is not all here yet. They can be sent when it is. */
static int add_coming(void *data, struct movestate *state)
{
	(void)data;
	if (!state->source && state->stage >= STAGE_STARTED && movestate_process_lives(state))
		plan_add(&e.plan, state->comm, state->pid);
	return 0;
}

static int is_coming(void *data, struct movestate *state)
{
	const pid_t *pid = data;

	return !state->source && state->pid == *pid && state->stage >= STAGE_STARTED &&
	       movestate_is_held(movestate_folder(), state) && movestate_process_lives(state);
}

/* ---- what becomes of it ---- */

static int note(void *data, struct movestate *state)
{
	(void)data;
	for (unsigned int i = 0; i < e.plan.nr; i++) {
		struct plan_item *item = &e.plan.items[i];

		if (!state->source || state->pid != item->pid ||
		    !movestate_is_held(movestate_folder(), state) ||
		    movestate_is_of_another_boot(state))
			continue;
		e.seen[i] = true;
		if (item->state <= PLAN_SENDING)
			item->state = state->stage >= STAGE_SERVING ? PLAN_THERE : PLAN_SENDING;
	}
	return 0;
}

static void look(void)
{
	memset(e.seen, 0, sizeof(e.seen));
	movestate_each(movestate_folder(), note, NULL);
}

static bool runs_here(pid_t pid)
{
	struct proc_status status;

	return !proc_status_of(pid, &status) && status.state != 'Z' && status.state != 'X';
}

/* A service that was started again has another pid. -ESRCH, -ETIMEDOUT (nobody has said so in time), ... */
static int find_again(struct plan_item *item)
{
	struct protect protect;
	pid_t pid = 0;
	int err = item->listed ? protect_read(e.options.keys, item->name, &protect) : -ESRCH;

	if (!err)
		err = protect_find(&protect, at_most(PROTECT_ASK_MS), &pid);
	if (!err && is_planned(pid))
		err = -ESRCH;
	log_reason_clear();
	if (!err)
		item->pid = pid;
	return err;
}

/* What is not here any more has ended by itself; or it is just being started again. */
static void judge_gone(struct plan_item *item)
{
	int err = find_again(item);

	if (e.late || ++item->tries >= TRIES) {
		item->state = !err ? PLAN_STAYS : err == -ETIMEDOUT ? PLAN_UNKNOWN : PLAN_ABSENT;
		return;
	}
	item->state = item->listed ? PLAN_WAITING : PLAN_ABSENT;
	item->again_ms = !err ? 0 : clock_now_ms() + AGAIN_MS;
}

/* A send has ended, and says so by its exit code. */
static void judge(struct plan_item *item, int outcome)
{
	item->child = 0;
	item->outcome = outcome;
	if (outcome == OUTCOME_DONE)
		item->state = PLAN_DONE;
	else if (outcome == OUTCOME_HELD)
		item->state = PLAN_HELD;
	else if (!runs_here(item->pid))
		judge_gone(item);
	else if (e.late || outcome == OUTCOME_REFUSED || outcome == OUTCOME_SYSTEM ||
		 ++item->tries == TRIES)
		item->state = PLAN_STAYS;
	else {
		/* A link that flaps, a peer that is full. */
		item->state = PLAN_WAITING;
		item->again_ms = clock_now_ms() + (int64_t)AGAIN_MS * item->tries;
	}
}

static void reap(void)
{
	int status;

	for (unsigned int i = 0; i < e.plan.nr; i++) {
		struct plan_item *item = &e.plan.items[i];

		if (item->child) {
			if (waitpid(item->child, &status, WNOHANG) != item->child)
				continue;
			/* What was killed may have left a twin that goes on. */
			if (WIFEXITED(status))
				judge(item, WEXITSTATUS(status));
			else
				item->child = 0;
		} else if ((item->state == PLAN_SENDING || item->state == PLAN_THERE) &&
			   !e.seen[i]) {
			/* Of another evacuation, or of one before: only the state folder tells. */
			struct movestate left;
			int err = movestate_find_pid(item->pid, &left);

			log_reason_clear();
			if (err != -EBUSY)
				judge(item, err == 0               ? OUTCOME_HELD
					    : runs_here(item->pid) ? OUTCOME_FAILED
								   : OUTCOME_DONE);
		}
	}
}

/* ---- doing it ---- */

static void begin(struct plan_item *item)
{
	char pid[16];

	snprintf(pid, sizeof(pid), "%d", item->pid);
	item->child = fork();
	if (item->child == 0) {
		int null = open("/dev/null", O_WRONLY);

		/* What is committed goes on when this command is ended. */
		setsid();
		signal(SIGPIPE, SIG_IGN);
		dup2(null, STDOUT_FILENO);
		execl("/proc/self/exe", "baton", "send", "--keys", e.options.keys, "--state",
		      e.options.state, pid, e.host, NULL);
		_exit(OUTCOME_SYSTEM);
	}
	if (item->child < 0)
		judge(item, OUTCOME_FAILED);
	else
		item->state = PLAN_SENDING;
}

/* Time is over, or somebody has asked us to end: what is not committed stays. */
static void stop(void)
{
	e.late = true;
	for (unsigned int i = 0; i < e.plan.nr; i++) {
		struct plan_item *item = &e.plan.items[i];

		if (item->state == PLAN_SENDING && item->child)
			kill(item->child, SIGINT);
		if (item->state == PLAN_WAITING)
			item->state = runs_here(item->pid) ? PLAN_STAYS : PLAN_ABSENT;
	}
}

/* The next one: it may have ended since it was looked for, or be on its way to here. */
static void take(struct plan_item *item)
{
	if (!runs_here(item->pid))
		judge_gone(item);
	else if (movestate_each(movestate_folder(), is_coming, &item->pid))
		item->again_ms = clock_now_ms() + AGAIN_MS;
	else
		begin(item);
}

/* For --back, once there is something to be fetched; where it cannot be written, the host has to be given. */
static void remember_host(void)
{
	int keys;

	if (e.remembered || !(plan_count(&e.plan, PLAN_THERE) + plan_count(&e.plan, PLAN_DONE) +
			      plan_count(&e.plan, PLAN_HELD)))
		return;
	e.remembered = true;
	keys = keys_open(e.options.keys);
	if (keys < 0 || io_replace_file(keys, HOST_FILE, 0600, e.host, strlen(e.host)))
		log_debug("%s/" HOST_FILE " cannot be written", e.options.keys);
	io_close(&keys);
	log_reason_clear();
}

static void work(void)
{
	struct plan_item *next;

	for (;;) {
		look();
		reap();
		remember_host();
		if (!e.late && (link_stopping() || !clock_left_ms(e.deadline_ms)))
			stop();
		if (!plan_count(&e.plan, PLAN_WAITING) && !plan_count(&e.plan, PLAN_SENDING) &&
		    (e.late || !plan_count(&e.plan, PLAN_THERE)))
			return;
		next = e.late ? NULL : plan_next(&e.plan, clock_now_ms());
		look();
		if (next && next->state == PLAN_WAITING)
			take(next);
		io_sleep_ms(LOOK_MS);
	}
}

/* A line for each, and the worst as the exit code. */
static int report(void)
{
	static const char *const texts[] = {
		[PLAN_THERE] = "runs there, its memory follows",
		[PLAN_DONE] = "runs there",
		[PLAN_HELD] = "is held: see baton status",
		[PLAN_STAYS] = "stays and runs here",
		[PLAN_ABSENT] = "does not run here",
		[PLAN_UNKNOWN] = "cannot be found",
	};
	int outcome = OUTCOME_DONE;

	for (unsigned int i = 0; i < e.plan.nr; i++) {
		const struct plan_item *item = &e.plan.items[i];

		printf("%s", item->name);
		if (item->pid)
			printf(" (pid %d)", item->pid);
		printf(": %s", texts[item->state]);
		if (item->state == PLAN_STAYS || item->state == PLAN_UNKNOWN)
			printf(" (code %d)", item->outcome ? item->outcome : OUTCOME_FAILED);
		printf("\n");
		if (item->state == PLAN_HELD || item->state == PLAN_THERE)
			outcome = OUTCOME_HELD;
		else if ((item->state == PLAN_STAYS || item->state == PLAN_UNKNOWN) &&
			 outcome == OUTCOME_DONE)
			outcome = item->outcome ? item->outcome : OUTCOME_FAILED;
	}
	if (!e.plan.nr)
		printf("nothing is to be moved; see: baton protect\n");
	fflush(stdout);
	return e.plan.full && outcome == OUTCOME_DONE ? OUTCOME_FAILED : outcome;
}

static int evacuate(void)
{
	if (protect_each(e.options.keys, add_protected, NULL))
		return cmd_fail(OUTCOME_FAILED, "the list of what matters cannot be read");
	movestate_each_came(movestate_folder(), add_guest, NULL);
	movestate_each(movestate_folder(), add_coming, NULL);
	settle_unknown();
	if (e.plan.full)
		log_warn("more than %d are to be moved; the rest stays", PLAN_MOST);
	work();
	return report();
}

/* ---- fetching back ---- */

static bool quiet; /* what is there was told before */

static void tell(const char *what, bool moving)
{
	if (!quiet)
		log_info("%s: %s%s", e.host, what, moving ? " is on its way" : "");
}

static int take_memory(struct link *link)
{
	int err = arena_init();

	return err ? err : link_init(link);
}

static int ask(struct link *link, uint16_t port, struct recall_result *result)
{
	int err = link_dial(link, e.host);

	link->source = true;
	/* A later answer may come from whoever has the address now. */
	link->known = link->was_open = false;
	if (!err)
		err = link_open(link, at_most(LINK_DIAL_TIMEOUT_MS));
	if (!err)
		err = recall_ask(link, port, at_most(ANSWER_TIMEOUT_MS), tell, result);
	link_close(link);
	return err;
}

static uint16_t own_port(void)
{
	const char *colon = e.options.listen ? strrchr(e.options.listen, ':') : NULL;
	int port;

	return colon && !text_parse_int(colon + 1, 1, 65535, &port) ? (uint16_t)port
								    : CMD_PORT_DEFAULT;
}

static int fetch_back(struct link *link)
{
	struct recall_result result = {0};
	unsigned int least = UINT32_MAX, pushes = 0;
	int err = 0;

	for (unsigned int round = 0; !link_stopping() && clock_left_ms(e.deadline_ms); round++) {
		bool push = round % PUSH_EACH == 0;

		quiet = !push;
		log_reason_clear();
		err = ask(link, push ? own_port() : 0, &result);
		if (!err && !result.nr_here)
			return OUTCOME_DONE;
		if (err == -EPERM || err == -EOPNOTSUPP)
			return cmd_fail(OUTCOME_REFUSED, "it gives nothing back");
		if (err && round == 0)
			return cmd_fail(OUTCOME_PEER, "it cannot be asked");
		/* As long as there is progress it may take its time. */
		if (!err && (result.nr_here < least || result.nr_moving))
			pushes = 0;
		if (!err && result.nr_here < least)
			least = result.nr_here;
		pushes += push;
		if (pushes > PUSHES)
			break;
		io_sleep_ms(ASK_MS);
	}
	log_error("%u of what went to %s %s not back: see its log, and whether baton receive runs "
		  "here",
		  result.nr_here, e.host, result.nr_here == 1 ? "is" : "are");
	return OUTCOME_FAILED;
}

static int back(void)
{
	static struct link link;
	static char host[SOCKET_NAME_MAX];
	int keys;

	if (!e.host) {
		keys = keys_open(e.options.keys);
		if (keys < 0 || io_read_file(keys, HOST_FILE, host, sizeof(host)) <= 0)
			return cmd_usage("evacuate", "where the processes are is not known here: "
						     "give the host");
		io_close(&keys);
		e.host = host;
	}
	if (take_memory(&link))
		return cmd_fail(OUTCOME_SYSTEM, CMD_BUDGET_TOO_SMALL);
	if (tls_setup(e.options.keys))
		return cmd_fail(OUTCOME_PEER, "the keys cannot be used");
	return fetch_back(&link);
}

/* Once at a time on a device. */
static int alone(int (*work_of)(void))
{
	int err, outcome;

	if (movestate_folder_open(e.options.state))
		return cmd_fail(OUTCOME_SYSTEM, "the state folder cannot be used");
	err = movestate_lock_door(DOOR);
	if (err == -EBUSY)
		log_fail(EBUSY,
			 "pid %d evacuates this device, or fetches back, already; wait for it, or "
			 "end it: kill %d",
			 movestate_door_holder(DOOR), movestate_door_holder(DOOR));
	if (err)
		return cmd_fail(err == -EBUSY ? OUTCOME_REFUSED : OUTCOME_SYSTEM,
				"the state folder cannot be used");
	outcome = work_of();
	movestate_unlock_door();
	return outcome;
}

int cmd_evacuate(int argc, char **argv)
{
	int outcome = options_parse(argc, argv, ALLOWED, &e.options);
	struct sockaddr_storage address;

	if (outcome >= 0)
		return outcome;
	if (e.options.nr_args != 1 && !(e.options.back && !e.options.nr_args))
		return cmd_usage(argv[0], "a host is wanted");
	e.host = e.options.nr_args ? e.options.args[0] : NULL;
	e.deadline_ms = clock_deadline_ms(e.options.deadline_ms ? (int)e.options.deadline_ms : -1);
	link_catch_signals();
	if (e.host && options_address(e.host, false))
		return cmd_usage(argv[0], "%s", log_reason());
	/* Said once, and not by each that would be sent. */
	if (e.host && socket_parse(e.host, CMD_PORT_DEFAULT, false, &address))
		return cmd_fail(OUTCOME_PEER, "the host is not known");
	return alone(e.options.back ? back : evacuate);
}
