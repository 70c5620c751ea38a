/* SPDX-License-Identifier: MIT */
/* Reading and writing whole files with the caller's buffers. */
#include "lib/clock.h"
#include "lib/io.h"

#include "lib/fault.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define POLL_EACH_MS 10

int io_read_full(int fd, void *buf, size_t len)
{
	uint8_t *at = buf;

	while (len > 0) {
		ssize_t got = read(fd, at, len);

		if (got < 0 && errno == EINTR)
			continue;
		if (got < 0)
			return -errno;
		if (got == 0)
			return -ENODATA;
		at += got;
		len -= (size_t)got;
	}
	return 0;
}

int io_write_full(int fd, const void *buf, size_t len)
{
	const uint8_t *at = buf;

	while (len > 0) {
		ssize_t put = write(fd, at, len);

		if (put < 0 && errno == EINTR)
			continue;
		if (put < 0)
			return -errno;
		at += put;
		len -= (size_t)put;
	}
	return 0;
}

int io_pread_full(int fd, void *buf, size_t len, uint64_t offset)
{
	uint8_t *at = buf;

	while (len > 0) {
		ssize_t got = pread(fd, at, len, (off_t)offset);

		if (got < 0 && errno == EINTR)
			continue;
		if (got < 0)
			return -errno;
		if (got == 0)
			return -ENODATA;
		at += got;
		offset += (uint64_t)got;
		len -= (size_t)got;
	}
	return 0;
}

int io_pwrite_full(int fd, const void *buf, size_t len, uint64_t offset)
{
	const uint8_t *at = buf;

	while (len > 0) {
		ssize_t put = pwrite(fd, at, len, (off_t)offset);

		if (put < 0 && errno == EINTR)
			continue;
		if (put < 0)
			return -errno;
		at += put;
		offset += (uint64_t)put;
		len -= (size_t)put;
	}
	return 0;
}

/* Up to `len` bytes until the end of the file: bytes read, or -errno. */
static ssize_t read_to_end(int fd, uint8_t *buf, size_t len)
{
	size_t have = 0;

	while (have < len) {
		ssize_t got = read(fd, buf + have, len - have);

		if (got < 0 && errno == EINTR)
			continue;
		if (got < 0)
			return -errno;
		if (got == 0)
			break;
		have += (size_t)got;
	}
	return (ssize_t)have;
}

ssize_t io_read_file(int dir_fd, const char *path, void *buf, size_t cap)
{
	int fd = openat(dir_fd, path, O_RDONLY | O_CLOEXEC);
	ssize_t len;

	if (fd < 0)
		return -errno;
	/* All of cap is asked for, so that a file without room for its NUL is noticed. */
	len = read_to_end(fd, buf, cap);
	close(fd);
	if (len < 0)
		return len;
	if ((size_t)len >= cap)
		return -EFBIG;
	((char *)buf)[len] = '\0';
	return len;
}

int io_write_existing(int dir_fd, const char *path, const void *buf, size_t len)
{
	int fd = openat(dir_fd, path, O_WRONLY | O_CLOEXEC);
	ssize_t put;
	int err = 0;

	if (fd < 0)
		return -errno;
	put = write(fd, buf, len);
	if (put < 0)
		err = -errno;
	else if ((size_t)put != len)
		err = -EIO;
	close(fd);
	return err;
}

static int write_and_sync(int fd, const void *buf, size_t len)
{
	int err = io_write_full(fd, buf, len);

	if (!err && fsync(fd) < 0)
		err = -errno;
	return err;
}

int io_replace_file(int dir_fd, const char *name, mode_t mode, const void *buf, size_t len)
{
	char temp[NAME_MAX + 1];
	int fd, err;

	if (strlen(name) > 200)
		return -ENAMETOOLONG;
	/* The pid keeps two writers apart; what a dead one left under this name is truncated. */
	snprintf(temp, sizeof(temp), ".%s.%d", name, (int)getpid());
	fd = openat(dir_fd, temp, O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW | O_CLOEXEC, mode);
	if (fd < 0)
		return -errno;
	err = fchmod(fd, mode) < 0 ? -errno : write_and_sync(fd, buf, len);
	close(fd);
	if (!err)
		err = fault_point(FAULT_FILE_WRITTEN);
	if (!err && renameat(dir_fd, temp, dir_fd, name) < 0)
		err = -errno;
	if (err) {
		unlinkat(dir_fd, temp, 0);
		return err;
	}
	err = fault_point(FAULT_FILE_RENAMED);
	if (err)
		return err;
	fd = openat(dir_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	err = fsync(fd) < 0 && errno != EINVAL ? -errno : 0;
	close(fd);
	return err;
}

sigset_t io_wait_mask;
volatile sig_atomic_t io_quiet_signal;
unsigned int io_busy_us = CONFIG_FAULT_POLL_US;

/*
 * poll(2) refuses more entries than the limit of descriptors, used or not, and that may be lowered while we
 * run: then each is looked at, and again after a moment.
 */
static int poll_each(struct pollfd *fds, unsigned int nr, int64_t deadline)
{
	static const struct timespec now = {0, 0};
	int ready = 0, left_ms;

	do {
		struct timespec pause = {0, POLL_EACH_MS * 1000000l};

		for (unsigned int i = 0; i < nr; i++)
			ready += ppoll(&fds[i], 1, &now, NULL) > 0;
		left_ms = clock_left_ms(deadline);
		if (left_ms >= 0 && left_ms < POLL_EACH_MS)
			pause.tv_nsec = left_ms * 1000000l;
		if (ppoll(NULL, 0, ready ? &now : &pause, &io_wait_mask) < 0)
			return -1;
	} while (!ready && left_ms);
	return ready;
}

int io_poll(struct pollfd *fds, unsigned int nr, int timeout_ms)
{
	int64_t deadline = clock_deadline_ms(timeout_ms);
	int ready = -1;

	do {
		int left_ms = clock_left_ms(deadline);
		struct timespec wait = {left_ms / 1000, left_ms % 1000 * 1000000l};

		io_quiet_signal = 0;
		ready = ppoll(fds, nr, timeout_ms < 0 ? NULL : &wait, &io_wait_mask);
		if (ready < 0 && errno == EINVAL)
			ready = poll_each(fds, nr, deadline);
	} while (ready < 0 && errno == EINTR && io_quiet_signal);
	return ready < 0 ? -errno : ready;
}

int io_poll_busy(struct pollfd *fds, unsigned int nr, int timeout_ms, int64_t since_ns)
{
	int64_t until_ns = since_ns + (int64_t)io_busy_us * 1000;

	if (io_busy_us && since_ns && timeout_ms) {
		while (clock_now_ns() < until_ns) {
			int ready = io_poll(fds, nr, 0);

			if (ready)
				return ready;
		}
	}
	return io_poll(fds, nr, timeout_ms);
}

void io_let_signals_in(void)
{
	static const struct timespec now = {0, 0};

	ppoll(NULL, 0, &now, &io_wait_mask);
}

void io_sleep_ms(int ms)
{
	(void)io_poll(NULL, 0, ms);
}

int io_make_dirs(const char *path, mode_t mode)
{
	char part[PATH_MAX];
	size_t len = strlen(path);
	struct stat st;

	if (len == 0 || len >= sizeof(part))
		return len ? -ENAMETOOLONG : -ENOENT;
	memcpy(part, path, len + 1);
	for (size_t i = 1; i < len; i++) {
		if (part[i] != '/')
			continue;
		part[i] = '\0';
		if (mkdir(part, 0755) < 0 && errno != EEXIST)
			return -errno;
		part[i] = '/';
	}
	if (mkdir(part, mode) == 0)
		return 0;
	if (errno != EEXIST)
		return -errno;
	if (stat(part, &st) < 0)
		return -errno;
	return S_ISDIR(st.st_mode) ? 0 : -ENOTDIR;
}

ssize_t io_read_link(int dir_fd, const char *path, char *buf, size_t cap)
{
	ssize_t len = readlinkat(dir_fd, path, buf, cap);

	if (len < 0)
		return -errno;
	if ((size_t)len >= cap)
		return -ENAMETOOLONG;
	buf[len] = '\0';
	return len;
}
