/* SPDX-License-Identifier: MIT */
/* What transport/lane.c needs of TLS, over a plain socket: for tests of what lies above it. */
#include "transport/tls.h"

#include <errno.h>
#include <sys/socket.h>

ssize_t tls_write(struct lane *lane, const void *buf, size_t len)
{
	ssize_t n = send(lane->fd, buf, len, MSG_NOSIGNAL | MSG_DONTWAIT);

	if (n >= 0)
		return n;
	return errno == EAGAIN ? 0 : -errno;
}

ssize_t tls_read(struct lane *lane, void *buf, size_t len)
{
	ssize_t n = recv(lane->fd, buf, len, MSG_DONTWAIT);

	if (n > 0)
		return n;
	if (n == 0)
		return -ECONNRESET;
	return errno == EAGAIN ? 0 : -errno;
}

bool tls_has_pending(const struct lane *lane)
{
	(void)lane;
	return false;
}

size_t tls_record_bytes(const struct lane *lane)
{
	(void)lane;
	return 16383;
}

void tls_close(struct lane *lane)
{
	(void)lane;
}

void tls_forget(struct lane *lane)
{
	(void)lane;
}
