/* SPDX-License-Identifier: MIT */
/*
 * The table of the supervisor. Each slot is one of
 *
 *     CALLER    a connection whose preamble is not complete yet
 *     STRANGER  a worker whose peer has not shown a trusted certificate yet
 *     MOVE      a worker with an authenticated peer
 *
 * Callers and strangers together are at most CONFIG_MAX_CONNECTIONS: beyond that the one that has
 * waited longest of the address with the most of them is dropped, so a crowd from one address does
 * not push out a peer from another.
 */
#ifndef BATON_SLOT_H
#define BATON_SLOT_H

#include "transport/route.h"
#include "transport/socket.h"
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#define NR_SLOTS (2 * CONFIG_MAX_CONNECTIONS)

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
	uint8_t got;   /* CALLER: bytes of the preamble */
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
/* Says why and sends a stranger away. */
void slot_drop(struct slot *slot, const char *why);
/* Makes room when there are too many strangers. */
void slot_drop_oldest(void);

/* Reads what a worker has told. */
void slot_hear_worker(struct slot *slot);
/* Passes a caller's connection to the worker of its move. */
void slot_hand_over(struct slot *worker, struct slot *caller, unsigned int lane);

#endif
