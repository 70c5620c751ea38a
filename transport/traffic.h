/* SPDX-License-Identifier: MIT */
/* What the kernel knows of a TCP connection. */
#ifndef BATON_TRAFFIC_H
#define BATON_TRAFFIC_H

#include <stdbool.h>
#include <stdint.h>

struct traffic {
	uint64_t received;  /* bytes that have come, read or not */
	uint64_t acked;     /* bytes that the peer has acknowledged */
	uint64_t under_way; /* bytes given to the kernel that it has not */
	uint64_t unsent;    /* of them, those that have not left the socket */
	uint32_t packet;    /* bytes that one carries at most */
	uint32_t rtt_us;    /* round trip, smoothed; 0: not known */
};

/* False, and all zeros, for what is no TCP connection (a socketpair in tests). */
bool traffic_read(int fd, struct traffic *traffic);

#endif
