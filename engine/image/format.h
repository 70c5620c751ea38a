/* SPDX-License-Identifier: MIT */
/*
 * An image file: a process as the frames of a move, an index that has a SHA-256 of each, and a seal.
 *
 *     preamble   24 bytes, as those of a connection, lane 'F'
 *     head       HELLO OFFER FILE.. CHECK STATE.. PAGES.. DESCRIBED, as on lane 0
 *     memory     PAGES or PACKED, in order of address; what is not there is zeros
 *     INDEX      nodes of a tree, each written when it is full, its root last
 *     SEAL       where the root is and its SHA-256; certificate and signature
 *     end        16 bytes: where SEAL begins, and a word
 *
 * See docs/image.md.
 */
#ifndef BATON_FORMAT_H
#define BATON_FORMAT_H

#include "transport/frame.h"
#include "transport/route.h"
#include <stddef.h>
#include <sys/types.h>

#define IMAGE_MAJOR 1
#define IMAGE_MINOR 0
/* In place of a lane's number. */
#define IMAGE_LANE 'F'
#define IMAGE_HASH_BYTES 32

/* Memory in one frame: a fault waits for so much to be read and checked. A page, where that is larger. */
#define IMAGE_RUN_BYTES 16384

/* ---- the index ---- */

/*
 * A frame of the file. Key of the head's: their number, from 0; of memory: IMAGE_MEMORY and the address; of an
 * INDEX: the first key in it. Keys rise. Body of INDEX: such entries, `space` is its level, 0 the lowest.
 */
struct image_entry {
	uint64_t key, at;               /* where the frame begins, from the beginning of the file */
	uint32_t len;                   /* of the whole frame, header included */
	uint32_t span;                  /* memory: bytes that it fills, unpacked */
	uint8_t hash[IMAGE_HASH_BYTES]; /* SHA-256 of header and body */
};
#define IMAGE_MEMORY (1ULL << 63)
#define IMAGE_ENTRY_BYTES 56
#define IMAGE_NODE_ENTRIES 73
#define IMAGE_NODE_BYTES (IMAGE_NODE_ENTRIES * IMAGE_ENTRY_BYTES)
/* Of nodes above each other: for 2 * 10^9 frames. */
#define IMAGE_LEVELS 5

void image_entry_encode(const struct image_entry *entry, uint8_t out[static IMAGE_ENTRY_BYTES]);
void image_entry_decode(const uint8_t in[static IMAGE_ENTRY_BYTES], struct image_entry *entry);

/* ---- the seal ---- */

#define IMAGE_CERT_MAX 2048
#define IMAGE_SIGNATURE_MAX 160

struct image_seal {
	uint16_t major, minor;
	struct image_entry root;
	uint64_t nr_head;                       /* frames of the head */
	uint64_t head_bytes;                    /* of memory that is in the head */
	uint64_t memory_bytes;                  /* and behind it, unpacked */
	int64_t time_s;                         /* CLOCK_REALTIME, for people */
	uint16_t packing;                       /* what a reader must know: PACK_TAKES_LZ4 */
	uint16_t cert_len, signature_len;       /* 0 both: nobody signed it */
	uint8_t cert[IMAGE_CERT_MAX];           /* the signer's, DER */
	uint8_t digest[IMAGE_HASH_BYTES];       /* SHA-256 of preamble and all of the above */
	uint8_t signature[IMAGE_SIGNATURE_MAX]; /* ECDSA of the digest, DER */
};
#define IMAGE_SEAL_MAX                                                                             \
	(4 + IMAGE_ENTRY_BYTES + 32 + 2 + 2 + IMAGE_CERT_MAX + IMAGE_HASH_BYTES + 2 +              \
	 IMAGE_SIGNATURE_MAX)

/* Bytes of the body up to the digest; with `out`, writes them. What the digest is made of. */
size_t image_seal_encode_front(const struct image_seal *seal, uint8_t *out);
/* The whole body, of at most IMAGE_SEAL_MAX bytes. Bytes. */
size_t image_seal_encode(const struct image_seal *seal, uint8_t *out);
/* -EPROTO: it is none. -EPROTONOSUPPORT: of another major version; then only both versions are valid. */
int image_seal_decode(const uint8_t *in, size_t len, struct image_seal *seal);

/* ---- the end ---- */

#define IMAGE_END_BYTES 16
void image_end_encode(uint64_t seal_at, uint8_t out[static IMAGE_END_BYTES]);
/* -EPROTO: the file does not end as an image does. */
int image_end_decode(const uint8_t in[static IMAGE_END_BYTES], uint64_t *seal_at);

/* The preamble with this token. decode: -EPROTO, -EPROTONOSUPPORT. */
void image_preamble_encode(const uint8_t token[static ROUTE_TOKEN_BYTES],
			   uint8_t out[static ROUTE_BYTES]);
int image_preamble_decode(const uint8_t in[static ROUTE_BYTES]);

/* What is there in place of a plain file, in words. */
const char *image_kind_of_file(mode_t mode);

#endif
