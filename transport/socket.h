/* SPDX-License-Identifier: MIT */
/* TCP sockets: listening, dialing with a deadline, addresses as text. */
#ifndef BATON_SOCKET_H
#define BATON_SOCKET_H

#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>

#define SOCKET_NAME_MAX 64 /* "[address%interface]:port" and a NUL */

/*
 * Text to address: HOST, HOST:PORT, [V6], [V6]:PORT, a bare V6, :PORT, for `listening` an empty
 * HOST is every address. HOST is numeric or a name in /etc/hosts: libc's resolver allocates, so
 * DNS is not asked. `port` is taken when the text has none. -EINVAL (a port out of range),
 * -ENOENT (a name nobody knows), each with its reason.
 */
int socket_parse(const char *text, uint16_t port, int listening, struct sockaddr_storage *addr);

/* Address and port as text; "?" when it is neither IPv4 nor IPv6. */
void socket_name(const struct sockaddr_storage *addr, char out[static SOCKET_NAME_MAX]);

/*
 * A listening, non-blocking TCP socket on `text`. The address it really has goes to `name` and the
 * port (asked for 0: the kernel's choice) to `port`; both may be NULL. Returns the descriptor;
 * -EADDRINUSE, -EADDRNOTAVAIL, -EACCES, ... with the reason.
 */
int socket_listen(const char *text, uint16_t default_port, char *name, uint16_t *port);

/*
 * Takes a connection: non-blocking, close-on-exec, with socket_prepare done; its address goes to
 * `name`. -EAGAIN when there is none (also after connections that ended in the queue).
 */
int socket_accept(int listen_fd, char name[static SOCKET_NAME_MAX]);

/*
 * Dials. Returns a non-blocking descriptor with socket_prepare done, and the address in `name`.
 * -ECONNREFUSED, -EHOSTUNREACH, -ENETUNREACH, -ETIMEDOUT, ... with the reason; -EINTR.
 */
int socket_dial(const char *text, uint16_t default_port, int timeout_ms,
		char name[static SOCKET_NAME_MAX]);

/*
 * What every lane's socket needs: non-blocking, no delay of small frames, a dead peer noticed by
 * the kernel after SOCKET_PATIENCE_S. That is the net below those who look themselves (lane_look);
 * it is also how long a peer may leave its end unread. Failures of options are ignored (a socketpair
 * in tests has none).
 */
#define SOCKET_PATIENCE_S 30
int socket_prepare(int fd);

/*
 * Its packets go before those of the other sockets of this device in its own queues (SO_PRIORITY: pfifo_fast, prio, mqprio;
 * tc-prio(8)), and with networks that look at it (DSCP AF21). Best effort.
 */
void socket_urgent(int fd);

/* Sockets prepared from now on are given so many seconds, if that is more than SOCKET_PATIENCE_S. */
void socket_patience(unsigned int seconds);

#endif
