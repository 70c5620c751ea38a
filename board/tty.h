/* SPDX-License-Identifier: MIT */
/* A terminal or serial line for the console: byte by byte, and as it was afterwards. */
#ifndef BATON_TTY_H
#define BATON_TTY_H

#include <termios.h>

struct tty {
	int fd; /* does not block; -1: none */
	struct termios before;
};

/*
 * Opens a line, `path` or (NULL) the terminal that standard input is, and sets it up: no echo and no signals
 * of its own, no flow control by characters (a stray XOFF would silence it for ever), broken bytes marked as
 * PARMRK does. `baud` 0: as fast as it was. It does not become our controlling terminal.
 * -ENOTTY: no terminal; -EINVAL: no such rate; -errno of open(2), each with its reason.
 */
int tty_open(struct tty *tty, const char *path, unsigned int baud);

/* Whether there is such a rate. */
int tty_baud_known(unsigned int baud);

/* Leaves the line as it was found. */
void tty_close(struct tty *tty);

#endif
