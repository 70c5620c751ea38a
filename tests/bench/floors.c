/* SPDX-License-Identifier: MIT */
/*
 * What a minimal but honest program reaches between the same two devices, which baton is compared with.
 *
 *	floors serve PORT			the source: answers each client in a process of its own
 *	floors measure ADDR PORT FAULTS MIB [pushed]
 *						the target, and the program whose memory is missing; prints JSON
 *	floors warm MIB				touches so much memory, and ends
 *
 * With `busy` behind it neither side ever sleeps; else both sleep in poll and recv, as baton does.
 *
 *	uffd	a missing page, put there by another process
 *	tcp	8 bytes there, a page back
 *	fault	both, and the page is encrypted and decrypted: what the program waits for
 *	cipher	a page (us), and a long record (MiB/s): encrypted and decrypted
 *	stream	recv and UFFDIO_COPY in runs of 64 KiB, nothing encrypted
 *	pushed	if asked for: a fault as above, while two other processes do that stream over a connection of their own
 *
 * Linked with the product's own ciphers.
 */
#include "floors.h"

#include <arpa/inet.h>
#include <errno.h>
#include <mbedtls/chachapoly.h>
#include <mbedtls/gcm.h>
#include <mbedtls/platform.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

size_t page;
bool busy, use_aes;
uint8_t run[RUN + TAG] __attribute__((aligned(64)));
static mbedtls_gcm_context gcm;
static mbedtls_chachapoly_context chacha;

void die(const char *what)
{
	fprintf(stderr, "floors: %s: %s\n", what, strerror(errno));
	exit(1);
}

int64_t now_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (int64_t)ts.tv_sec * 1000000000 + ts.tv_nsec;
}

bool get(int fd, void *buf, size_t len)
{
	for (size_t got = 0; got < len;) {
		ssize_t n = recv(fd, (char *)buf + got, len - got, busy ? MSG_DONTWAIT : 0);

		if (n < 0 && errno == EAGAIN)
			continue;
		if (n <= 0)
			return false;
		got += (size_t)n;
	}
	return true;
}

void put(int fd, const void *buf, size_t len)
{
	for (size_t sent = 0; sent < len;) {
		ssize_t n = send(fd, (const char *)buf + sent, len - sent, MSG_NOSIGNAL);

		if (n <= 0)
			die("send");
		sent += (size_t)n;
	}
}

bool seal(uint8_t *buf, size_t len, bool encrypt)
{
	static const uint8_t nonce[12];

	if (use_aes && encrypt)
		return !mbedtls_gcm_crypt_and_tag(&gcm, MBEDTLS_GCM_ENCRYPT, len, nonce, 12, NULL,
						  0, buf, buf, TAG, buf + len);
	if (use_aes)
		return !mbedtls_gcm_auth_decrypt(&gcm, len, nonce, 12, NULL, 0, buf + len, TAG, buf,
						 buf);
	if (encrypt)
		return !mbedtls_chachapoly_encrypt_and_tag(&chacha, len, nonce, NULL, 0, buf, buf,
							   buf + len);
	return !mbedtls_chachapoly_auth_decrypt(&chacha, len, nonce, NULL, 0, buf + len, buf, buf);
}

int64_t seal_ns(size_t len)
{
	enum { TRIES = 10, ROUNDS = 20 };
	int64_t best_ns = INT64_MAX;

	for (int i = 0; i < TRIES; i++) {
		int64_t began = now_ns(), took;

		for (int k = 0; k < ROUNDS; k++)
			if (!seal(run, len, true) || !seal(run, len, false))
				die("cipher");
		took = (now_ns() - began) / ROUNDS;
		best_ns = took < best_ns ? took : best_ns;
	}
	return best_ns;
}

/* The faster of the two, as baton does. */
static void cipher_init(void)
{
	static const uint8_t key[32];
	int64_t aes_ns;

	mbedtls_platform_set_calloc_free(calloc, free);
	mbedtls_gcm_init(&gcm);
	mbedtls_chachapoly_init(&chacha);
	if (mbedtls_gcm_setkey(&gcm, MBEDTLS_CIPHER_ID_AES, key, 128) ||
	    mbedtls_chachapoly_setkey(&chacha, key))
		die("cipher");
	use_aes = true;
	aes_ns = seal_ns(RECORD);
	use_aes = false;
	use_aes = aes_ns <= seal_ns(RECORD);
}

/* ---- the source ---- */

static void answer(int fd)
{
	struct request r;

	while (get(fd, &r, sizeof(r))) {
		if (r.what == STREAM) {
			for (size_t sent = 0; sent < (size_t)r.more << 20; sent += RUN)
				put(fd, run, RUN);
			continue;
		}
		use_aes = r.more; /* both may have measured another one to be faster */
		if (r.what == PAGE_SEALED && !seal(run, page, true))
			die("cipher");
		put(fd, run, page + (r.what == PAGE_SEALED ? TAG : 0));
	}
	close(fd);
}

static int serve(uint16_t port)
{
	struct sockaddr_in addr = {.sin_family = AF_INET, .sin_port = htons(port)};
	int l = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), fd, on = 1;

	if (bind(l, (struct sockaddr *)&addr, sizeof(addr)) || listen(l, 1))
		die("listen");
	fprintf(stderr, "floors: listening\n");
	signal(SIGCHLD, SIG_IGN);
	while ((fd = accept(l, NULL, NULL)) >= 0) {
		setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
		if (!fork()) {
			prctl(PR_SET_PDEATHSIG, SIGKILL);
			answer(fd);
			_exit(0);
		}
		close(fd);
	}
	die("accept");
	return 1;
}

/* Memory that a virtual machine's host takes back when it is free is slow to come: here it comes before. */
static int warm(size_t mib)
{
	char *mem =
		mmap(NULL, mib << 20, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (mem == MAP_FAILED)
		die("mmap");
	for (size_t i = 0; i < mib << 20; i += page)
		mem[i] = 1;
	return 0;
}

int main(int argc, char **argv)
{
	page = (size_t)sysconf(_SC_PAGESIZE);
	if (argc > 1 && !strcmp(argv[argc - 1], "busy")) {
		busy = true;
		argc--;
	}
	memset(run, 1, sizeof(run));
	cipher_init();
	if (argc == 3 && !strcmp(argv[1], "warm"))
		return warm((size_t)atoi(argv[2]));
	if (argc == 3 && !strcmp(argv[1], "serve"))
		return serve((uint16_t)atoi(argv[2]));
	if ((argc == 6 || argc == 7) && !strcmp(argv[1], "measure"))
		return measure(argv[2], (uint16_t)atoi(argv[3]), (size_t)atoi(argv[4]),
			       (size_t)atoi(argv[5]), argc == 7);
	fprintf(stderr,
		"usage: floors serve PORT [busy] | measure ADDR PORT FAULTS MIB [pushed] [busy]"
		" | warm MIB\n");
	return 2;
}
