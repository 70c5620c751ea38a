/* SPDX-License-Identifier: MIT */
/*
 * The table of the supervisor. Each slot is one of
 *
 *     CALLER    a connection that has not said its preamble yet, or not begun TLS
 *     STRANGER  a worker whose peer has not shown a trusted certificate yet
 *     MOVE      a worker with an authenticated peer
 *
 * There are at most CONFIG_MAX_CONNECTIONS callers, and as many strangers. Beyond that one of those
 * from the address with the most of them is dropped, so a crowd from one address does not push out a
 * peer from another. Which of them is left to chance: the longer somebody is in the way the likelier
 * he goes, and an honest peer at the crowd's own address, who needs a moment only, mostly gets
 * through; if not it dials again (link.c). A caller costs a descriptor, a stranger a process: so who
 * says nothing, or a preamble and no more, never pushes out one who is in the handshake.
 */
#ifndef BATON_SLOT_H
#define BATON_SLOT_H

#include "transport/route.h"
#include "transport/socket.h"
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#define NR_SLOTS (3 * CONFIG_MAX_CONNECTIONS)

enum slot_kind { SLOT_FREE, SLOT_CALLER, SLOT_STRANGER, SLOT_MOVE };

struct slot {
	enum slot_kind kind;
	int fd;        /* CALLER: the connection; else the channel to the worker */
	pid_t worker;  /* our child; 0: it is somebody else's, or dead and another goes on */
	bool accepted; /* the move counts for --once */
	bool closed;   /* the channel's other end */
	bool told;     /* how it ended */
	uint8_t outcome;
	uint8_t wants; /* lanes the worker waits for, a bit each */
	uint8_t got;   /* CALLER: bytes of the preamble; all of them: TLS must begin now */
	uint8_t preamble[ROUTE_BYTES];
	uint8_t token[ROUTE_TOKEN_BYTES];
	int64_t deadline_ms;
	char peer[SOCKET_NAME_MAX];
};

extern struct slot *slots; /* NR_SLOTS of them */

/* Takes the table from the arena; before arena_seal. -ENOMEM. */
int slot_init(void);

/* Closes its descriptor and forgets it. */
void slot_free(struct slot *slot);
/* NULL when all are taken. */
struct slot *slot_find_free(void);
/* The worker of the move with this token, NULL when there is none. */
struct slot *slot_find_worker(const uint8_t *token);

bool slot_is_stranger(const struct slot *slot);
/* True when both peers have the same address, whatever their ports. */
bool slot_same_address(const struct slot *a, const struct slot *b);
/* Sends a caller or stranger away, and says why as long as that is not said too often. */
void slot_drop(struct slot *slot, const char *why);
/* When there are too many of its kind by this new one, another one goes. */
void slot_make_room(const struct slot *newest);

/* Reads what a worker has told. */
void slot_hear_worker(struct slot *slot);
/* Passes a caller's connection to the worker of its move. */
void slot_hand_over(struct slot *worker, struct slot *caller, unsigned int lane);

#endif
