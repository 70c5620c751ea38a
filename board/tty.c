/* SPDX-License-Identifier: MIT */
/* A terminal or serial line for the console. */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "board/tty.h"
#include "lib/io.h"
#include "lib/log.h"

/* What the kernel calls them: 8 data bits are usual on each. */
static const struct {
	unsigned int baud;
	speed_t speed;
} rates[] = {
	{1200, B1200},     {2400, B2400},     {4800, B4800},     {9600, B9600},
	{19200, B19200},   {38400, B38400},   {57600, B57600},   {115200, B115200},
	{230400, B230400}, {460800, B460800}, {921600, B921600}, {1500000, B1500000},
};

static const speed_t *find_rate(unsigned int baud)
{
	for (size_t i = 0; i < sizeof(rates) / sizeof(rates[0]); i++)
		if (rates[i].baud == baud)
			return &rates[i].speed;
	return NULL;
}

int tty_baud_known(unsigned int baud)
{
	return find_rate(baud) != NULL;
}

static void make_raw(struct termios *line)
{
	line->c_iflag &= ~(tcflag_t)(IGNBRK | BRKINT | IGNPAR | ISTRIP | INLCR | IGNCR | ICRNL |
				     IXON | IXOFF | IXANY | IUCLC | IMAXBEL);
	/* A byte with a wrong frame comes as 377 000 and itself, a break as 377 000 000. */
	line->c_iflag |= PARMRK | INPCK;
	line->c_oflag |= OPOST | ONLCR;
	line->c_lflag &= ~(tcflag_t)(ECHO | ECHOE | ECHOK | ECHONL | ICANON | ISIG | IEXTEN);
	line->c_cflag |= CREAD;
	line->c_cc[VMIN] = 1;
	line->c_cc[VTIME] = 0;
}

int tty_open(struct tty *tty, const char *path, unsigned int baud)
{
	const char *name = path ? path : "standard input";
	const speed_t *speed = find_rate(baud);
	struct termios line;

	/* Opened anew: not to block is a property of ours, not of the shell that started us. */
	tty->fd = open(path ? path : "/proc/self/fd/0", O_RDWR | O_NOCTTY | O_NONBLOCK | O_CLOEXEC);
	if (tty->fd < 0)
		return log_fail(errno, "%s: %s; give a line with --tty", name, strerror(errno));
	if (tcgetattr(tty->fd, &tty->before)) {
		io_close(&tty->fd);
		return log_fail(ENOTTY, "%s is no terminal; give one with --tty", name);
	}
	line = tty->before;
	make_raw(&line);
	if (speed) {
		cfsetispeed(&line, *speed);
		cfsetospeed(&line, *speed);
	}
	if (tcsetattr(tty->fd, TCSANOW, &line)) {
		int err = errno;

		io_close(&tty->fd);
		return log_fail(err, "%s: it cannot be set up: %s", name, strerror(err));
	}
	return 0;
}

void tty_close(struct tty *tty)
{
	if (tty->fd < 0)
		return;
	/* What was said last is not to be waited for on a line that nobody reads. */
	tcsetattr(tty->fd, TCSANOW, &tty->before);
	io_close(&tty->fd);
}
