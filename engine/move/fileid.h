/* SPDX-License-Identifier: MIT */
/* The identity of a file: what must be equal on both devices for it to count as the same file. */
#ifndef BATON_FILEID_H
#define BATON_FILEID_H

#include <stddef.h>
#include <stdint.h>

#define FILEID_VALUE_MAX 64
/* Longest text of fileid_format, with its NUL. */
#define FILEID_TEXT_MAX 96

enum fileid_kind {
	FILEID_PRESENT = 0,  /* only that there is one: it changes too fast to be compared */
	FILEID_BUILD_ID = 1, /* GNU build-id of an ELF file */
	FILEID_SHA256,       /* of the whole content */
	FILEID_SAMPLED,      /* SHA-256 of evenly spaced samples: files above FILEID_WHOLE_MAX */
};

/* Above this size in bytes a digest covers samples only. */
#define FILEID_WHOLE_MAX ((uint64_t)256 << 20)

struct fileid {
	uint64_t size; /* bytes */
	uint8_t kind;  /* enum fileid_kind */
	uint8_t len;   /* bytes of value */
	uint8_t value[FILEID_VALUE_MAX];
};

/*
 * Identifies an open regular file of `size` bytes, in the strongest cheap way it offers. Reads in
 * small pieces with pread(2), the file offset stays. -errno of pread(2), -ENODATA when the file
 * became shorter meanwhile.
 */
int fileid_collect(int fd, uint64_t size, struct fileid *id);

/* SHA-256 over what is at `offset` of a file, `len` bytes. Errors as above. */
int fileid_digest(int fd, uint64_t offset, uint64_t len, uint8_t out[static 32]);

/* "1234 bytes, build-id 0a1b2c3d4e5f.." for messages. `out` holds FILEID_TEXT_MAX bytes. */
void fileid_format(const struct fileid *id, char *out, size_t cap);

#endif
