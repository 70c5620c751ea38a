/* SPDX-License-Identifier: MIT */
/* The routing preamble: "BATON", version, lane, 0, token. */
#include "transport/route.h"

#include <errno.h>
#include <string.h>
#include <sys/random.h>

static const uint8_t magic[5] = {'B', 'A', 'T', 'O', 'N'};

int route_make_token(uint8_t token[static ROUTE_TOKEN_BYTES])
{
	ssize_t got = getrandom(token, ROUTE_TOKEN_BYTES, 0);

	if (got < 0)
		return -errno;
	return got == ROUTE_TOKEN_BYTES ? 0 : -EIO;
}

void route_encode(const struct route *route, uint8_t out[static ROUTE_BYTES])
{
	memcpy(out, magic, sizeof(magic));
	out[5] = ROUTE_VERSION;
	out[6] = route->lane;
	out[7] = 0;
	memcpy(out + 8, route->token, ROUTE_TOKEN_BYTES);
}

int route_decode(const uint8_t in[static ROUTE_BYTES], struct route *route)
{
	if (memcmp(in, magic, sizeof(magic)) != 0)
		return -EPROTO;
	if (in[5] != ROUTE_VERSION)
		return -EPROTONOSUPPORT;
	if (in[6] >= ROUTE_LANES || in[7] != 0)
		return -EPROTO;
	route->lane = in[6];
	memcpy(route->token, in + 8, ROUTE_TOKEN_BYTES);
	return 0;
}
