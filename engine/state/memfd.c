/* SPDX-License-Identifier: MIT */
/*
 * memfd_create(2): name, contents, seals. All contents come before the start: a read(2) of a memfd
 * takes missing pages for zeros and tells no userfaultfd.
 */
#include "engine/state/fd_check.h"

#include "engine/state/memfd.pb.h"
#include "lib/arena.h"
#include "lib/io.h"
#include "lib/kernel.h"
#include "lib/log.h"
#include "lib/text.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <linux/memfd.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#define LINK_PREFIX "/memfd:"
#define LINK_SUFFIX " (deleted)"
#define SEALS_KNOWN                                                                                \
	((uint32_t)(F_SEAL_SEAL | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE |                     \
		    F_SEAL_FUTURE_WRITE | F_SEAL_EXEC))
#define OPEN_FLAGS ((uint32_t)(O_ACCMODE | O_APPEND | O_NONBLOCK | O_NOATIME | O_LARGEFILE))

bool memfd_check(struct fd_look *look)
{
	struct statfs fs;

	if (fstatfs(look->copy, &fs) == 0 && fs.f_type == HUGETLBFS_MAGIC) {
		fd_say(look, "a memfd of huge pages (MFD_HUGETLB), which cannot be moved; close it "
			     "first");
		return false;
	}
	if (look->st.st_nlink != 0 || (look->entry->flags & O_PATH)) {
		fd_say(look, "%.150s, which is no memfd; close it first", look->link);
		return false;
	}
	fd_say(look, "a memfd of %llu bytes (%.100s)", (unsigned long long)look->st.st_size,
	       look->link);
	return true;
}

/* ---- dump ---- */

static void take_name(const struct fd_table *table, const struct fd_entry *entry, baton_Memfd *msg)
{
	char link[PATH_MAX];
	ssize_t len = fd_link(table, entry->fd, link, sizeof(link));
	size_t prefix = strlen(LINK_PREFIX), suffix = strlen(LINK_SUFFIX);

	if (len < (ssize_t)(prefix + suffix))
		return;
	if (strcmp(link + (size_t)len - suffix, LINK_SUFFIX) == 0)
		link[(size_t)len - suffix] = '\0';
	text_copy(msg->name, sizeof(msg->name), link + prefix);
}

/* The data between two holes, in pieces. */
static int emit_data(struct dump *d, baton_Memfd *msg, int fd, uint64_t start, uint64_t end)
{
	int err = 0;

	while (start < end && !err) {
		size_t len = end - start < sizeof(msg->data.bytes) ? (size_t)(end - start)
								   : sizeof(msg->data.bytes);

		err = io_pread_full(fd, msg->data.bytes, len, start);
		msg->data.size = (pb_size_t)len;
		msg->at = start;
		if (!err)
			err = dump_emit(d, &kind_memfd, msg);
		start += len;
	}
	return err;
}

static int emit_contents(struct dump *d, baton_Memfd *msg, int fd)
{
	off_t start, end = 0;
	int err = 0;

	while (!err && (start = lseek(fd, end, SEEK_DATA)) >= 0) {
		end = lseek(fd, start, SEEK_HOLE);
		if (end < 0)
			return -errno;
		err = emit_data(d, msg, fd, (uint64_t)start, (uint64_t)end);
	}
	return err;
}

/* The lowest descriptor of the same memfd. */
static const struct fd_entry *find_first(const struct fd_table *table, const struct fd_entry *entry)
{
	const struct fd_entry *first = table->fds;

	while (first->type != FD_MEMFD || first->dev != entry->dev || first->ino != entry->ino)
		first++;
	return first;
}

static int describe(struct dump *d, const struct fd_table *table, const struct fd_entry *entry,
		    int copy, baton_Memfd *msg)
{
	const struct fd_entry *first = find_first(table, entry);
	char link[48];
	struct stat st;
	int fd, err;

	if (fstat(copy, &st) < 0)
		return -errno;
	msg->fd = entry->fd;
	msg->create = true;
	msg->again = first != entry;
	msg->known = first->fd;
	msg->flags = entry->flags & OPEN_FLAGS;
	msg->mode = st.st_mode & 07777;
	msg->size = (uint64_t)st.st_size;
	msg->offset = (uint64_t)lseek(copy, 0, SEEK_CUR);
	take_name(table, entry, msg);
	err = dump_emit(d, &kind_memfd, msg);
	if (err || msg->again)
		return err;
	/* An open file of our own, so that the program's position stays where it is. */
	snprintf(link, sizeof(link), "/proc/self/fd/%d", copy);
	fd = open(link, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	*msg = (baton_Memfd){.fd = entry->fd};
	err = emit_contents(d, msg, fd);
	close(fd);
	return err;
}

static int dump_one(struct dump *d, const struct fd_table *table, const struct fd_entry *entry,
		    int copy)
{
	size_t mark = arena_mark();
	baton_Memfd *msg = arena_alloc(ARENA_SCRATCH, sizeof(*msg), 16);
	int err = msg ? describe(d, table, entry, copy, msg) : -ENOMEM;

	arena_reset(mark);
	return err ? log_fail(err, "cannot read fd %d (a memfd): %m", entry->fd) : 0;
}

static int memfd_dump(struct dump *d, const struct state_kind *kind)
{
	(void)kind;
	return fd_dump_type(d, FD_MEMFD, dump_one);
}

static int dump_seals(struct dump *d, const struct fd_table *table, const struct fd_entry *entry,
		      int copy)
{
	int seals = fcntl(copy, F_GET_SEALS);
	baton_MemfdSeal msg = {.fd = entry->fd, .seals = (uint32_t)seals};

	if (find_first(table, entry) != entry || seals == 0)
		return 0;
	if (seals < 0)
		return log_fail(errno, "cannot read the seals of fd %d (a memfd): %m", entry->fd);
	if (msg.seals & ~SEALS_KNOWN)
		return log_fail(EOPNOTSUPP,
				"fd %d (a memfd) has seals that baton does not know: %x", entry->fd,
				msg.seals & ~SEALS_KNOWN);
	return dump_emit(d, &kind_memfd_seal, &msg);
}

static int seal_dump(struct dump *d, const struct state_kind *kind)
{
	(void)kind;
	return fd_dump_type(d, FD_MEMFD, dump_seals);
}

/* ---- restore ---- */

/* Opens a descriptor of ours a second time, for writing. */
static int open_writable(int copy)
{
	char link[32];
	int fd;

	snprintf(link, sizeof(link), "/proc/self/fd/%d", copy);
	fd = open(link, O_RDWR | O_CLOEXEC);
	return fd < 0 ? -errno : fd;
}

static int64_t remote_memfd(struct restore *r, const char *name)
{
	uint64_t addr = remote_push_str(&r->leader, name);
	int64_t fd =
		addr ? remote_call(&r->leader, SYS_memfd_create, addr, MFD_ALLOW_SEALING) : -EFAULT;

	remote_reset(&r->leader);
	return fd;
}

/* The open file: a new memfd, or another open file of one that is there. */
static int make_open_file(struct restore *r, const baton_Memfd *msg)
{
	char link[32];
	int64_t made, fd;

	if (msg->again && !fd_is_placed(r, msg->known))
		return -EPROTO;
	made = msg->again ? msg->known : remote_memfd(r, msg->name);
	if (made < 0)
		return (int)made;
	if (!msg->again && (msg->flags & OPEN_FLAGS) == (O_RDWR | (msg->flags & O_LARGEFILE)))
		return fd_place(r, made, msg->fd);
	snprintf(link, sizeof(link), "/proc/self/fd/%d", (int)made);
	fd = fd_remote_open(r, link, msg->flags & OPEN_FLAGS);
	if (!msg->again)
		remote_call(&r->leader, SYS_close, (uint64_t)made);
	return fd_place(r, fd, msg->fd);
}

static int create(struct restore *r, const baton_Memfd *msg)
{
	int err = fd_place_begin(r), copy, fd;

	if (!err)
		err = make_open_file(r, msg);
	if (err)
		return err;
	copy = fd_restore_take(r, msg->fd);
	if (copy < 0)
		return copy;
	if (!msg->again) {
		fd = open_writable(copy);
		err = fd < 0 ? fd : 0;
		if (!err &&
		    (ftruncate(fd, (off_t)msg->size) < 0 || fchmod(fd, msg->mode & 07777) < 0))
			err = -errno;
		if (fd >= 0)
			close(fd);
	}
	if (!err && msg->offset && lseek(copy, (off_t)msg->offset, SEEK_SET) < 0)
		err = -errno;
	close(copy);
	return err;
}

static int write_data(struct restore *r, const baton_Memfd *msg)
{
	int copy = fd_restore_take(r, msg->fd), fd, err;

	if (copy < 0)
		return copy;
	fd = open_writable(copy);
	close(copy);
	if (fd < 0)
		return fd;
	err = io_pwrite_full(fd, msg->data.bytes, msg->data.size, msg->at);
	close(fd);
	return err;
}

static int memfd_restore(struct restore *r, const void *data)
{
	const baton_Memfd *msg = data;
	int err = 0;

	if ((msg->size | msg->offset | msg->at) >> 62)
		return log_fail(EPROTO, "fd %d: a size that no memfd can have", msg->fd);
	if (msg->create)
		err = create(r, msg);
	if (!err && msg->data.size)
		err = write_data(r, msg);
	return err ? log_fail(err, "cannot restore fd %d (a memfd): %m", msg->fd) : 0;
}

static int seal_restore(struct restore *r, const void *data)
{
	const baton_MemfdSeal *msg = data;
	int err = 0, fd, copy = fd_restore_take(r, msg->fd);

	if (copy < 0)
		return copy;
	fd = open_writable(copy);
	close(copy);
	if (fd < 0)
		err = fd;
	else if ((msg->seals & ~SEALS_KNOWN) || fcntl(fd, F_ADD_SEALS, msg->seals) < 0)
		err = msg->seals & ~SEALS_KNOWN ? -EPROTO : -errno;
	if (fd >= 0)
		close(fd);
	return err ? log_fail(err, "cannot seal fd %d (a memfd): %m", msg->fd) : 0;
}

const struct state_kind kind_memfd = {
	.id = KIND_MEMFD,
	.name = "memfd",
	.fields = &baton_Memfd_msg,
	.size = sizeof(baton_Memfd),
	.dump = memfd_dump,
	.restore = memfd_restore,
};

const struct state_kind kind_memfd_seal = {
	.id = KIND_MEMFD_SEAL,
	.name = "memfd seals",
	.fields = &baton_MemfdSeal_msg,
	.size = sizeof(baton_MemfdSeal),
	.dump = seal_dump,
	.restore = seal_restore,
};
