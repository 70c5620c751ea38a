/* SPDX-License-Identifier: MIT */
/* Lines of a file and entries of a folder, one at a time, from a fixed buffer. */
#include "lib/io.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

void line_reader_init(struct line_reader *reader, int fd, char *buf, size_t cap)
{
	*reader = (struct line_reader){.fd = fd, .buf = buf, .cap = cap};
}

int line_reader_open(struct line_reader *reader, int dir_fd, const char *path, char *buf,
		     size_t cap)
{
	int fd = openat(dir_fd, path, O_RDONLY | O_CLOEXEC);

	line_reader_init(reader, fd < 0 ? -1 : fd, buf, cap);
	return fd < 0 ? -errno : 0;
}

void line_reader_close(struct line_reader *reader)
{
	if (reader->fd >= 0)
		close(reader->fd);
	reader->fd = -1;
}

/* Moves what is left to the front and reads behind it. 0, or -errno. */
static int refill(struct line_reader *reader)
{
	ssize_t got;

	memmove(reader->buf, reader->buf + reader->start, reader->end - reader->start);
	reader->end -= reader->start;
	reader->start = 0;
	if (reader->end + 1 >= reader->cap) /* one byte stays for the NUL of a last line */
		return -EFBIG;
	do
		got = read(reader->fd, reader->buf + reader->end, reader->cap - 1 - reader->end);
	while (got < 0 && errno == EINTR);
	if (got < 0)
		return -errno;
	if (got == 0)
		reader->eof = true;
	reader->end += (size_t)got;
	return 0;
}

int line_reader_next(struct line_reader *reader, char **line)
{
	size_t searched = 0;

	for (;;) {
		char *start = reader->buf + reader->start;
		size_t have = reader->end - reader->start;
		char *newline = memchr(start + searched, '\n', have - searched);
		int err;

		if (newline) {
			*newline = '\0';
			*line = start;
			reader->start += (size_t)(newline - start) + 1;
			return 1;
		}
		if (reader->eof) {
			if (have == 0)
				return 0;
			start[have] = '\0';
			*line = start;
			reader->start = reader->end;
			return 1;
		}
		searched = have;
		err = refill(reader);
		if (err)
			return err;
	}
}

/* What getdents64(2) writes; libc's struct dirent need not have this layout. */
struct linux_dirent64 {
	uint64_t d_ino;
	int64_t d_off;
	uint16_t d_reclen;
	uint8_t d_type;
	char d_name[];
};

int dir_reader_open(struct dir_reader *reader, int dir_fd, const char *path)
{
	reader->pos = 0;
	reader->len = 0;
	reader->fd = openat(dir_fd, path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (reader->fd < 0) {
		reader->fd = -1;
		return -errno;
	}
	return 0;
}

int dir_reader_next(struct dir_reader *reader, const char **name, uint8_t *type)
{
	for (;;) {
		const struct linux_dirent64 *entry;

		if (reader->pos >= reader->len) {
			long got = syscall(SYS_getdents64, reader->fd, reader->buf,
					   sizeof(reader->buf));

			if (got <= 0)
				return got < 0 ? -errno : 0;
			reader->pos = 0;
			reader->len = (uint32_t)got;
		}
		entry = (const struct linux_dirent64 *)(const void *)(reader->buf + reader->pos);
		reader->pos += entry->d_reclen;
		if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0)
			continue;
		*name = entry->d_name;
		if (type)
			*type = entry->d_type;
		return 1;
	}
}

void dir_reader_close(struct dir_reader *reader)
{
	if (reader->fd >= 0)
		close(reader->fd);
	reader->fd = -1;
}
