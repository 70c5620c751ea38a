/* SPDX-License-Identifier: MIT */
/* The frame: a 16-byte little-endian header and a body. The same on the wire and in a file. */
#ifndef BATON_FRAME_H
#define BATON_FRAME_H

#include <stdint.h>

#define FRAME_HEADER_BYTES 16
/* Largest body of any frame, in bytes: one run of pages. */
#define FRAME_BODY_MAX ((uint32_t)CONFIG_RUN_KIB * 1024)

enum frame_type {
	FRAME_HELLO = 1, /* both: version, role (protobuf) */
	FRAME_OFFER,     /* source: what is to be moved and what it needs (protobuf) */
	FRAME_FILE,      /* source: identity of one mapped or opened file (protobuf) */
	FRAME_CHECK,     /* source: end of the offer (or of a re-check while frozen): answer now */
	FRAME_ANSWER,    /* target: accepted, or refused with a reason (protobuf) */
	FRAME_STATE,     /* source: one message of one kind; space = kind, addr = sequence number */
	FRAME_PAGES,     /* source: addr, body = whole pages */
	FRAME_ZERO,      /* source: addr, body = u64 length in bytes: nothing but zeros there */
	FRAME_DESCRIBED, /* source: the description is complete; addr = number of STATE frames */
	FRAME_READY,     /* target: everything is built, nothing runs */
	FRAME_GO,        /* source: COMMITTED; the process is yours */
	FRAME_STARTED,   /* target: it runs */
	FRAME_FETCH,     /* target: addr, body = u64 length: a fault; answer with PAGES or ZERO */
	FRAME_PUSH,      /* target: addr, body = u64 end address: stream what exists there */
	FRAME_REACHED,   /* source: the push has covered everything up to addr */
	FRAME_COMPLETE,  /* target: all has arrived (protobuf: its counters) */
	FRAME_DONE,      /* source: the old copy is gone */
	FRAME_ABORT,     /* both: it failed, undo (protobuf: reason) */
	FRAME_PING, /* both: are you there; answered with PONG, body (64 bytes at most) echoed */
	FRAME_PONG,
	FRAME_PACKED, /* source: PAGES whose body is packed (transport/pack.h) */
	/* In image files only (engine/image/format.h). */
	FRAME_INDEX = 24, /* entries of the index; space = level, addr = first key */
	FRAME_SEAL,       /* the root of the index, and who signed it */
	FRAME_TYPE_END,
};

/* Flag of PING: the body only fills the link, PONG comes back empty. */
#define FRAME_PING_QUIET 0x01

/* Header in host order. */
struct frame {
	uint8_t type;   /* enum frame_type */
	uint8_t flags;  /* per type; unknown bits are an error */
	uint16_t space; /* address space or kind */
	uint32_t len;   /* bytes of body, at most FRAME_BODY_MAX */
	uint64_t addr;  /* address or sequence */
};

/* Writes the 16 bytes. */
void frame_encode(const struct frame *frame, uint8_t out[static FRAME_HEADER_BYTES]);

/*
 * Reads the 16 bytes and checks them: known type, no unknown flag, length within the type's own bounds.
 * Returns 0, or -EPROTO.
 */
int frame_decode(const uint8_t in[static FRAME_HEADER_BYTES], struct frame *frame);

/* Name of a type for messages, "?" when unknown. */
const char *frame_name(uint8_t type);

/* The u64 that is the body of ZERO, FETCH and PUSH. */
void frame_put_u64(uint64_t value, uint8_t out[static 8]);
uint64_t frame_get_u64(const uint8_t in[static 8]);

#endif
