/* SPDX-License-Identifier: MIT */
/*
 * The routing preamble: the 24 bytes with which every connection begins, before TLS. It tells the
 * listening side which move and which lane a connection is for. It is no secret and gives no right.
 */
#ifndef BATON_ROUTE_H
#define BATON_ROUTE_H

#include <stdint.h>

#define ROUTE_BYTES 24
#define ROUTE_TOKEN_BYTES 16
#define ROUTE_VERSION 1
#define ROUTE_LANES 2

struct route {
	uint8_t lane; /* 0: control and faults; 1: the push */
	uint8_t token[ROUTE_TOKEN_BYTES];
};

/* A token of 16 random bytes. -errno of getrandom(2). */
int route_make_token(uint8_t token[static ROUTE_TOKEN_BYTES]);

void route_encode(const struct route *route, uint8_t out[static ROUTE_BYTES]);

/* -EPROTO: not a baton at all; -EPROTONOSUPPORT: a baton of another version. */
int route_decode(const uint8_t in[static ROUTE_BYTES], struct route *route);

#endif
