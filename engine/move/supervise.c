/* SPDX-License-Identifier: MIT */
/* The listening side: the loop over connections and workers. */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "engine/move/movestate.h"
#include "engine/move/slot.h"
#include "engine/move/supervise.h"
#include "lib/arena.h"
#include "lib/clock.h"
#include "lib/io.h"
#include "lib/log.h"
#include "lib/text.h"

#define TEND_MS 1000
/* Without room for a connection, until the next look; and between two lines about it. */
#define FULL_MS 1000
#define TELL_AGAIN_MS 60000

struct supervisor {
	const struct supervise_options *options;
	int listen_fd;
	int door_fd;                 /* -1: none */
	int64_t tend_ms, give_up_ms; /* when; INT64_MAX: never */
	int64_t listen_ms;           /* nobody is let in before: there was no room for one */
	int64_t tell_ms;             /* nor is that said again before */
	bool leaving;                /* no new moves */
	bool once_ended;
	enum outcome once_outcome;
};

static struct pollfd *polls;

static volatile sig_atomic_t leave_signal;

static void on_leave(int signal)
{
	leave_signal = signal;
}

static void on_child(int signal)
{
	(void)signal; /* ends ppoll(2) */
}

int supervise_init(void)
{
	polls = arena_alloc(ARENA_TABLES, (NR_SLOTS + 2) * sizeof(*polls), 16);
	return polls ? slot_init() : -ENOMEM;
}

/* ---- workers ---- */

static void __attribute__((noreturn))
be_worker(const struct supervisor *s, int connection, int channel, const struct route *route,
	  const char *peer)
{
	const struct supervise_options *options = s->options;
	sigset_t none;

	for (unsigned int i = 0; i < NR_SLOTS; i++)
		if (slots[i].kind != SLOT_FREE)
			close(slots[i].fd);
	close(s->listen_fd);
	if (s->door_fd >= 0)
		close(s->door_fd);
	movestate_close_door_lock();
	signal(SIGCHLD, SIG_DFL);
	/* Ctrl-C reaches the whole group: a move that nobody may undo here must not die of it. */
	if (options->pass_signals) {
		link_catch_signals();
	} else {
		signal(SIGINT, SIG_IGN);
		signal(SIGTERM, SIG_IGN);
		signal(SIGHUP, SIG_IGN);
	}
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	io_wait_mask = none;
	link_accept(options->link, connection, channel, peer, route->token);
	options->link->door = options->door;
	options->link->door_folder = movestate_folder();
	_exit((int)options->work(options->link, options->data));
}

/* The slot of a caller with a complete preamble becomes that of a worker. */
static void start_worker(struct supervisor *s, struct slot *slot, const struct route *route)
{
	int pair[2];
	pid_t pid;

	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair)) {
		slot_drop(slot, strerror(errno));
		return;
	}
	pid = fork();
	if (pid == 0) {
		int connection = slot->fd;

		slot->fd = pair[0]; /* closed with the others' */
		be_worker(s, connection, pair[1], route, slot->peer);
	}
	close(pair[1]);
	if (pid < 0) {
		close(pair[0]);
		slot_drop(slot, strerror(errno));
		return;
	}
	close(slot->fd);
	slot->fd = pair[0];
	slot->kind = SLOT_STRANGER;
	slot->worker = pid;
	memcpy(slot->token, route->token, sizeof(slot->token));
	/* The worker has deadlines of its own; this one is for a worker that hangs. */
	slot->deadline_ms = clock_deadline_ms(2 * CONFIG_HANDSHAKE_TIMEOUT_MS);
	slot_make_room(slot);
}

static void end_slot(struct supervisor *s, struct slot *slot)
{
	if (slot->accepted && !s->once_ended) {
		s->once_ended = s->options->once;
		s->once_outcome = slot->told ? (enum outcome)slot->outcome : OUTCOME_FAILED;
	}
	slot_free(slot);
}

static void hear_end(struct supervisor *s, struct slot *slot, int status)
{
	slot_hear_worker(slot);
	slot->worker = 0;
	if (!slot->told && WIFEXITED(status)) {
		slot->told = true;
		slot->outcome = (uint8_t)WEXITSTATUS(status);
	}
	/* The keeper was our child; the worker goes on without it. */
	if (WIFSIGNALED(status) && !slot->closed)
		return;
	if (WIFSIGNALED(status) && slot->kind == SLOT_MOVE)
		log_error("both processes of the move from %s were killed; see: baton status",
			  slot->peer);
	if (WIFSIGNALED(status))
		movestate_sweep();
	end_slot(s, slot);
}

static void reap_workers(struct supervisor *s)
{
	int status;
	pid_t pid;

	while ((pid = waitpid(-1, &status, WNOHANG)) > 0)
		for (unsigned int i = 0; i < NR_SLOTS; i++)
			if (slots[i].kind > SLOT_CALLER && slots[i].worker == pid)
				hear_end(s, &slots[i], status);
}

/* ---- callers ---- */

/* True when a new move may begin. */
static bool takes_moves(const struct supervisor *s)
{
	if (s->leaving)
		return false;
	for (unsigned int i = 0; s->options->once && i < NR_SLOTS; i++)
		if (slots[i].accepted)
			return false;
	return true;
}

/* Behind the preamble TLS begins at once, with a record of this type: else no worker is forked. */
#define TLS_HANDSHAKE 0x16

/* 1: it does; 0: nothing has come yet; else it was dropped. */
static int tls_begins(struct slot *caller)
{
	uint8_t type;
	ssize_t got = recv(caller->fd, &type, 1, MSG_PEEK | MSG_DONTWAIT);

	if (got < 0 && (errno == EAGAIN || errno == EINTR))
		return 0;
	if (got == 1 && type == TLS_HANDSHAKE)
		return 1;
	slot_drop(caller, got < 0    ? strerror(errno)
			  : got == 0 ? "it closed the connection before the handshake"
				     : "it does not speak TLS");
	return -ECONNABORTED;
}

/* The move of this token does not wait for a connection. */
static void drop_surplus(struct slot *caller, const struct slot *worker)
{
	static const char why[] = "its move has all connections it needs";

	/* Most likely the peer itself: it has noticed a cut before we have, and comes again and again. */
	if (worker->kind == SLOT_MOVE && slot_same_address(worker, caller)) {
		log_debug("%s: dropped: %s", caller->peer, why);
		slot_free(caller);
	} else {
		slot_drop(caller, why);
	}
}

/* Called again while TLS has not begun. */
static void route_caller(struct supervisor *s, struct slot *caller)
{
	struct slot *worker;
	struct route route;

	if (route_decode(caller->preamble, &route)) {
		slot_drop(caller, "it does not speak baton's protocol");
		return;
	}
	/* What a worker said before its peer dialed is there already. */
	for (unsigned int i = 0; i < NR_SLOTS; i++)
		if (slots[i].kind > SLOT_CALLER)
			slot_hear_worker(&slots[i]);
	worker = slot_find_worker(route.token);
	if (worker && worker->wants & 1u << route.lane)
		slot_hand_over(worker, caller, route.lane);
	else if (worker)
		drop_surplus(caller, worker);
	else if (route.lane)
		slot_drop(caller, "it asks for a move that is not known here");
	else if (!takes_moves(s))
		slot_drop(caller, "no more moves are taken");
	else if (tls_begins(caller) > 0)
		start_worker(s, caller, &route);
}

static void hear_caller(struct supervisor *s, struct slot *slot)
{
	ssize_t got;

	if (slot->got == ROUTE_BYTES) {
		route_caller(s, slot);
		return;
	}
	got = recv(slot->fd, slot->preamble + slot->got, ROUTE_BYTES - slot->got, MSG_DONTWAIT);
	if (got < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	if (got <= 0) {
		slot_drop(slot, got ? strerror(errno) : "it closed the connection at once");
		return;
	}
	slot->got += (uint8_t)got;
	/* Garbage need not come in whole. */
	if (slot->preamble[0] != 'B')
		slot_drop(slot, "it does not speak baton's protocol");
	else if (slot->got == ROUTE_BYTES)
		route_caller(s, slot);
}

/*
 * Nobody can be let in: no descriptors, or no memory. Who knocks waits, and would keep us busy; nothing else
 * stops.
 */
static void close_for_a_while(struct supervisor *s, int err)
{
	int64_t now_ms = clock_now_ms();
	struct rlimit limit = {0};

	s->listen_ms = now_ms + FULL_MS;
	if (now_ms < s->tell_ms)
		return;
	s->tell_ms = now_ms + TELL_AGAIN_MS;
	getrlimit(RLIMIT_NOFILE, &limit);
	log_warn("a connection waits, since it cannot be taken: %s (of descriptors this process "
		 "may have "
		 "%llu: ulimit -n, LimitNOFILE=); tried again every second",
		 strerror(err), (unsigned long long)limit.rlim_cur);
}

static void accept_caller(struct supervisor *s)
{
	char peer[SOCKET_NAME_MAX];
	struct slot *slot;
	int fd;

	fd = socket_accept(s->listen_fd, peer);
	if (fd < 0) {
		if (fd != -EAGAIN && fd != -EINTR)
			close_for_a_while(s, -fd);
		return;
	}
	slot = slot_find_free();
	if (!slot) {
		log_warn("%s: turned away: %d moves are under way (CONFIG_MAX_CONNECTIONS)", peer,
			 CONFIG_MAX_CONNECTIONS);
		close(fd);
		return;
	}
	*slot = (struct slot){.kind = SLOT_CALLER, .fd = fd};
	slot->deadline_ms = clock_deadline_ms(CONFIG_HANDSHAKE_TIMEOUT_MS);
	text_copy(slot->peer, sizeof(slot->peer), peer);
	/* An honest peer has sent its preamble already, and garbage pushes nobody out. */
	hear_caller(s, slot);
	if (slot->kind == SLOT_CALLER)
		slot_make_room(slot);
}

/* ---- moves whose supervisor has died come to us through the door ---- */

static int open_door(struct supervisor *s)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	const char *door = s->options->door;
	int err;

	s->door_fd = -1;
	if (!door)
		return 0;
	/* One at a time: whoever has the lock has the door. */
	err = movestate_lock_door(door);
	if (err == -EBUSY)
		log_warn("another baton listens for this state folder; if it dies, this one does "
			 "not take its moves over");
	if (err)
		return err == -EBUSY ? 0 : err;
	unlinkat(movestate_folder(), door, 0);
	snprintf(address.sun_path, sizeof(address.sun_path), "/proc/self/fd/%d/%s",
		 movestate_folder(), door);
	s->door_fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (s->door_fd < 0 || bind(s->door_fd, (struct sockaddr *)&address, sizeof(address)) ||
	    listen(s->door_fd, CONFIG_MAX_CONNECTIONS))
		return log_fail(errno, "state folder: %s cannot be made: %m", door);
	return 0;
}

static void accept_move(struct supervisor *s)
{
	int fd = accept4(s->door_fd, NULL, NULL, SOCK_CLOEXEC);
	struct slot *slot = fd < 0 ? NULL : slot_find_free();

	if (!slot) {
		if (fd >= 0)
			close(fd);
		else if (errno != EAGAIN && errno != EINTR)
			close_for_a_while(s, errno);
		return;
	}
	*slot = (struct slot){
		.kind = SLOT_MOVE, .fd = fd, .accepted = true, .deadline_ms = INT64_MAX};
	slot_hear_worker(slot);
}

/* ---- the loop ---- */

static int write_port_file(const char *path, uint16_t port)
{
	char folder[PATH_MAX], text[8];
	const char *name = strrchr(path, '/');
	int dir_fd = AT_FDCWD, err, len;

	name = name ? name + 1 : path;
	if (snprintf(folder, sizeof(folder), "%.*s", (int)(name - path), path) >=
	    (int)sizeof(folder))
		return log_fail(ENAMETOOLONG, "port file %s: the name is too long", path);
	dir_fd = open(folder[0] ? folder : ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (dir_fd < 0)
		return log_fail(errno, "port file %s: %m", path);
	len = snprintf(text, sizeof(text), "%u\n", port);
	err = io_replace_file(dir_fd, name, 0644, text, (size_t)len);
	close(dir_fd);
	return err ? log_fail(-err, "port file %s: %m", path) : 0;
}

static int begin(struct supervisor *s, sigset_t *unblocked)
{
	char name[SOCKET_NAME_MAX];
	struct sigaction leave = {.sa_handler = on_leave}, child = {.sa_handler = on_child};
	sigset_t blocked;
	uint16_t port;
	int err;

	s->listen_fd = socket_listen(s->options->listen, LINK_PORT, name, &port);
	if (s->listen_fd < 0)
		return s->listen_fd;
	/* Signals are taken in ppoll(2) only: none is lost between a look and a wait. */
	sigemptyset(&blocked);
	sigaddset(&blocked, SIGCHLD);
	sigaddset(&blocked, SIGTERM);
	sigaddset(&blocked, SIGINT);
	sigprocmask(SIG_BLOCK, &blocked, unblocked);
	sigdelset(unblocked, SIGCHLD);
	sigdelset(unblocked, SIGTERM);
	sigdelset(unblocked, SIGINT);
	sigaction(SIGTERM, &leave, NULL);
	sigaction(SIGINT, &leave, NULL);
	sigaction(SIGCHLD, &child, NULL);
	signal(SIGPIPE, SIG_IGN);
	err = open_door(s);
	if (err)
		return err;
	if (s->options->port_file) {
		err = write_port_file(s->options->port_file, port);
		if (err)
			return err;
	}
	log_info("listening on %s", name);
	return 0;
}

static void leave(struct supervisor *s)
{
	int signal = leave_signal;

	leave_signal = 0;
	if (!s->leaving)
		log_info("no new moves are taken; waiting for those under way");
	s->leaving = true;
	for (unsigned int i = 0; i < NR_SLOTS; i++) {
		if (slot_is_stranger(&slots[i]) && slots[i].deadline_ms != INT64_MAX)
			slot_drop(&slots[i], "the receiver is ending");
		else if (slots[i].kind == SLOT_MOVE && s->options->pass_signals && slots[i].worker)
			kill(slots[i].worker, signal);
	}
}

static bool has_work(const struct supervisor *s)
{
	bool workers = false;

	for (unsigned int i = 0; i < NR_SLOTS; i++)
		workers |= slots[i].kind > SLOT_CALLER;
	if (s->once_ended || (!workers && !clock_left_ms(s->give_up_ms)))
		return false;
	return !s->leaving || workers;
}

/* Drops strangers whose time is over; the time of the next one in ms, -1: none. */
static int check_deadlines(void)
{
	int64_t next = INT64_MAX;

	for (unsigned int i = 0; i < NR_SLOTS; i++) {
		struct slot *slot = &slots[i];

		if (!slot_is_stranger(slot) || slot->deadline_ms == INT64_MAX)
			continue;
		if (!clock_left_ms(slot->deadline_ms)) {
			slot_drop(slot,
				  slot->got ? "its handshake took too long" : "it said nothing");
			continue;
		}
		if (slot->deadline_ms < next)
			next = slot->deadline_ms;
	}
	return clock_left_ms(next);
}

static void serve_events(struct supervisor *s)
{
	for (unsigned int i = 0; i < NR_SLOTS; i++) {
		if (!polls[i + 1].revents || slots[i].fd != polls[i + 1].fd)
			continue;
		if (slots[i].kind == SLOT_CALLER) {
			hear_caller(s, &slots[i]);
		} else if (slots[i].kind > SLOT_CALLER) {
			slot_hear_worker(&slots[i]);
			if (slots[i].closed && !slots[i].worker) {
				/* Nobody tells of its end but its channel. */
				if (!slots[i].told)
					log_error("all processes of the move from %s were killed; "
						  "see: baton status",
						  slots[i].peer);
				end_slot(s, &slots[i]);
			} else if (polls[i + 1].revents & (POLLHUP | POLLERR)) {
				/* Reaped by SIGCHLD; its channel would wake us for ever. */
				close(slots[i].fd);
				slots[i].fd = -1;
			}
		}
	}
	if (polls[0].revents)
		accept_caller(s);
	if (polls[NR_SLOTS + 1].revents)
		accept_move(s);
}

/* True work is elsewhere; this is what only somebody who is always there can do. The wait until then. */
static int tend(struct supervisor *s, int timeout_ms)
{
	if (s->give_up_ms != INT64_MAX)
		return timeout_ms < 0 || timeout_ms > TEND_MS ? TEND_MS : timeout_ms;
	if (!s->options->tend || s->leaving)
		return timeout_ms;
	if (clock_now_ms() >= s->tend_ms) {
		s->options->tend(s->options->data);
		s->tend_ms = clock_now_ms() + TEND_MS;
	}
	return timeout_ms < 0 || timeout_ms > TEND_MS ? TEND_MS : timeout_ms;
}

enum outcome supervise_run(const struct supervise_options *options)
{
	struct supervisor s = {.options = options, .listen_fd = -1, .door_fd = -1};
	int err;

	s.give_up_ms = clock_deadline_ms(options->give_up_ms ? options->give_up_ms : -1);

	err = begin(&s, &io_wait_mask);
	if (err)
		return OUTCOME_SYSTEM;
	while (has_work(&s)) {
		int timeout_ms = tend(&s, check_deadlines());
		bool full = clock_left_ms(s.listen_ms) != 0;

		polls[0] = (struct pollfd){full ? -1 : s.listen_fd, POLLIN, 0};
		for (unsigned int i = 0; i < NR_SLOTS; i++)
			polls[i + 1] = (struct pollfd){slots[i].fd, POLLIN, 0};
		polls[NR_SLOTS + 1] = (struct pollfd){full ? -1 : s.door_fd, POLLIN, 0};
		if (full && (timeout_ms < 0 || timeout_ms > FULL_MS))
			timeout_ms = FULL_MS;
		err = io_poll(polls, NR_SLOTS + 2, timeout_ms);
		if (leave_signal)
			leave(&s);
		if (err > 0)
			serve_events(&s);
		reap_workers(&s);
	}
	close(s.listen_fd);
	if (s.door_fd >= 0)
		unlinkat(movestate_folder(), options->door, 0);
	movestate_unlock_door();
	return s.once_ended ? s.once_outcome : OUTCOME_DONE;
}
