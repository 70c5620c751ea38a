/* SPDX-License-Identifier: MIT */
/* What both sides of the floors know: sockets, the cipher, what is asked for. */
#ifndef BENCH_FLOORS_H
#define BENCH_FLOORS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define RUN ((size_t)64 << 10)
#define RECORD ((size_t)16 << 10)
#define TAG 16

/* What is asked for; 8 bytes. */
struct request {
	uint32_t what;
	uint32_t more; /* STREAM: MiB; PAGE_SEALED: use_aes */
};
enum { PAGE_PLAIN, PAGE_SEALED, STREAM };

extern size_t page;            /* of this kernel, in bytes */
extern bool busy;              /* nobody sleeps */
extern bool use_aes;           /* or ChaCha20-Poly1305 */
extern uint8_t run[RUN + TAG]; /* what is sent and what came */

void die(const char *what) __attribute__((noreturn));
int64_t now_ns(void);

/* False when the other side has closed. */
bool get(int fd, void *buf, size_t len);
void put(int fd, const void *buf, size_t len);

/* Encrypts or decrypts in place; the tag lies behind it. False: a wrong one. */
bool seal(uint8_t *buf, size_t len, bool encrypt);
/* Both, once, of so many bytes: the best of a few tries. */
int64_t seal_ns(size_t len);

/* The target's side: prints all floors as one JSON object. */
int measure(const char *address, uint16_t port, size_t nr_faults, size_t mib, bool pushed);

#endif
