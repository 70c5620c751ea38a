/* SPDX-License-Identifier: MIT */
/* Files, directories and lines of text with the caller's buffers: nothing here allocates. */
#ifndef BATON_IO_H
#define BATON_IO_H

#include <dirent.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>
#include <unistd.h>

/*
 * Reads exactly / writes exactly `len` bytes, however many calls that takes. EINTR is retried.
 * Returns 0; -ENODATA when the file ends before; -errno of read(2) or write(2).
 */
int io_read_full(int fd, void *buf, size_t len);
int io_write_full(int fd, const void *buf, size_t len);
int io_pread_full(int fd, void *buf, size_t len, uint64_t offset);
int io_pwrite_full(int fd, const void *buf, size_t len, uint64_t offset);

/*
 * Reads a whole file into `buf` and puts a NUL behind it; `path` is relative to `dir_fd`
 * (AT_FDCWD for the current directory). Returns the bytes read, without the NUL; -EFBIG when the
 * file does not fit into cap - 1 bytes; -errno of openat(2) or read(2).
 */
ssize_t io_read_file(int dir_fd, const char *path, void *buf, size_t cap);

/* Writes into an existing file (as in /proc) with one write(2). 0, -EIO when short, or -errno. */
int io_write_existing(int dir_fd, const char *path, const void *buf, size_t len);

/*
 * Replaces a file atomically: a temporary beside it, fsync, rename, fsync of the folder. `name` is
 * a plain name inside `dir_fd`, at most 200 bytes. After 0 the new content survives a power cut.
 */
int io_replace_file(int dir_fd, const char *name, mode_t mode, const void *buf, size_t len);

/* Signals that are blocked while we sleep in io_poll, and only there are let in. Empty at first. */
extern sigset_t io_wait_mask;
/* Set by a handler of one of them that needs nobody else's attention: the sleep goes on. */
extern volatile sig_atomic_t io_quiet_signal;

/*
 * poll(2) with that mask; -errno instead of -1. -EINTR when a signal came.
 */
int io_poll(struct pollfd *fds, unsigned int nr, int timeout_ms);

/* So long after a fault both sides look for the next thing to do without sleeping, microseconds; 0: they sleep. */
extern unsigned int io_busy_us;

/*
 * The same, but first without sleeping, up to io_busy_us after `since_ns` (clock_now_ns; 0: nothing has happened
 * yet). A processor's time for that of a wake-up.
 */
int io_poll_busy(struct pollfd *fds, unsigned int nr, int timeout_ms, int64_t since_ns);

/* For a loop that does not sleep: what waits for io_poll is let in. */
void io_let_signals_in(void);

/* Sleeps, with that mask, at most for so long: a signal ends it. */
void io_sleep_ms(int ms);

/* Makes a folder and its missing parents. 0 also when it is there; -errno of mkdir(2). */
int io_make_dirs(const char *path, mode_t mode);

/* Target of a symbolic link, with a NUL behind it. -ENAMETOOLONG when it does not fit. */
ssize_t io_read_link(int dir_fd, const char *path, char *buf, size_t cap);

/* Lines of a file. The buffer is the caller's and bounds the length of a line. */
struct line_reader {
	int fd;
	char *buf;
	size_t cap, start, end;
	bool eof;
};

/* Begins reading at the file's present offset. `buf` is used until the last line was read. */
void line_reader_init(struct line_reader *reader, int fd, char *buf, size_t cap);

/* The same on a path relative to `dir_fd`; line_reader_close closes the descriptor. -errno. */
int line_reader_open(struct line_reader *reader, int dir_fd, const char *path, char *buf,
		     size_t cap);
void line_reader_close(struct line_reader *reader);

/*
 * The next line without its newline, NUL-terminated, writable, valid until the next call.
 * 1: a line; 0: the end; -EFBIG: a line longer than the buffer; -errno of read(2).
 */
int line_reader_next(struct line_reader *reader, char **line);

/*
 * Closes *fd unless it is negative, and makes it -1: before it is closed, so that nobody who goes on in place of
 * a process that was killed in here closes what has the number by then.
 */
static inline void io_close(int *fd)
{
	int closed = *fd;

	*fd = -1;
	if (closed >= 0)
		close(closed);
}

/* Entries of a folder, in the kernel's order. */
struct dir_reader {
	int fd;
	uint32_t pos, len;
	_Alignas(8) char buf[2048];
};

/* Opens a folder, relative to `dir_fd`. -errno of openat(2). */
int dir_reader_open(struct dir_reader *reader, int dir_fd, const char *path);

/*
 * The next entry other than "." and "..": its name (valid until the next call) and type (DT_REG,
 * DT_UNKNOWN, ...; NULL when not wanted). 1: an entry; 0: the end; -errno of getdents64(2).
 */
int dir_reader_next(struct dir_reader *reader, const char **name, uint8_t *type);
void dir_reader_close(struct dir_reader *reader);

#endif
