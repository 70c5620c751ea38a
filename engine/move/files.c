/* SPDX-License-Identifier: MIT */
/* The files a process has mapped or opened: each is told once, and again when it has changed. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "engine/move/fileid.h"
#include "engine/move/files.h"
#include "engine/process/proc.h"
#include "engine/state/fd.h"
#include "lib/arena.h"
#include "lib/log.h"
#include "lib/text.h"
#include "transport/message.h"

/* A file that changed this short before it was read may change again within the same time stamp. */
#define SETTLED_NS 1000000000ll

/* What the process may do to a file. */
enum file_use { USE_READ, USE_WRITE, USE_MAP_SHARED };
#define ACCESS_READ 1u
#define ACCESS_WRITE 2u

/* What was told of one file. Beyond the table's end files are told each time they are met. */
struct told {
	uint64_t dev, ino, size;
	int64_t mtime_ns, ctime_ns;
	bool unsteady;  /* its time stamps do not tell whether it changed */
	bool again;     /* an unsteady one, told in this round */
	uint8_t access; /* that was told */
};

static struct {
	struct told *files;
	unsigned int nr;
} table;

/* One round of telling. */
struct round {
	struct lane *lane;
	int proc_fd;
	pid_t pid;
	bool frozen;
	int timeout_ms;
	int nr_sent;
	uint64_t last_dev,
		last_ino; /* of the mapping before: neighbours are mostly the same file */
};

int files_init(void)
{
	table.files = arena_alloc(ARENA_TABLES, CONFIG_MAX_FILES * sizeof(*table.files), 16);
	return table.files ? 0 : -ENOMEM;
}

void files_begin(void)
{
	table.nr = 0;
}

static int64_t time_ns(const struct timespec *time)
{
	return (int64_t)time->tv_sec * 1000000000 + time->tv_nsec;
}

static bool is_unsteady(const struct stat *st, enum file_use use)
{
	struct timespec now;

	clock_gettime(CLOCK_REALTIME, &now);
	/* Writes through a shared mapping change the time only when a page becomes dirty. */
	return use == USE_MAP_SHARED || time_ns(&now) - time_ns(&st->st_mtim) < SETTLED_NS;
}

/* True when this file was told as it is now. Else the table says from here on that it is told. */
static bool already_told(const struct stat *st, enum file_use use, unsigned int access)
{
	struct told now = {.dev = st->st_dev,
			   .ino = st->st_ino,
			   .size = (uint64_t)st->st_size,
			   .mtime_ns = time_ns(&st->st_mtim),
			   .ctime_ns = time_ns(&st->st_ctim),
			   .unsteady = is_unsteady(st, use),
			   .again = true,
			   .access = (uint8_t)access};
	struct told *old = NULL;

	for (unsigned int i = 0; i < table.nr && !old; i++)
		if (table.files[i].dev == now.dev && table.files[i].ino == now.ino)
			old = &table.files[i];
	if (old && old->size == now.size && old->mtime_ns == now.mtime_ns &&
	    old->ctime_ns == now.ctime_ns && (!old->unsteady || old->again) &&
	    !(now.access & ~old->access))
		return true;
	now.access |= old ? old->access : 0;
	if (!old && table.nr < CONFIG_MAX_FILES)
		old = &table.files[table.nr++];
	if (old)
		*old = now;
	return false;
}

static int send_identity(struct round *round, int fd, const struct stat *st, const char *path,
			 enum file_use use, unsigned int access)
{
	/* What is being written as we read it would never be equal on both sides. */
	bool steady = round->frozen || use == USE_READ || !is_unsteady(st, use);

	struct frame frame = {.type = FRAME_FILE};
	struct fileid id = {.kind = FILEID_PRESENT};
	baton_MoveFile *msg;
	size_t mark;
	int err = 0;

	if (steady)
		err = fileid_collect(fd, (uint64_t)st->st_size, &id);
	if (err)
		return log_fail(-err, "file %s: cannot be read: %m", path);
	mark = arena_mark();
	msg = arena_alloc(ARENA_SCRATCH, sizeof(*msg), 16);
	if (!msg)
		return log_no_room("a message");
	if (!text_copy(msg->path, sizeof(msg->path), path)) {
		arena_reset(mark);
		return log_fail(ENAMETOOLONG, "file %s: the name is too long", path);
	}
	msg->access = access;
	msg->size = id.size;
	msg->kind = id.kind;
	msg->value.size = id.len;
	memcpy(msg->value.bytes, id.value, id.len);
	err = message_queue(round->lane, &frame, baton_MoveFile_fields, msg, round->timeout_ms);
	arena_reset(mark);
	if (!err)
		round->nr_sent++;
	return err;
}

/* Tells the file that `fd` is, unless it is told or none. `path` must still lead to it. */
static int tell_file(struct round *round, int fd, const char *path, enum file_use use,
		     unsigned int access)
{
	struct stat st, there;

	if (fstat(fd, &st) || !S_ISREG(st.st_mode) || already_told(&st, use, access))
		return 0;
	if (stat(path, &there))
		return log_fail(errno, "file %s: %m, though pid %d uses it", path, round->pid);
	if (there.st_dev != st.st_dev || there.st_ino != st.st_ino)
		return log_fail(
			ESTALE,
			"file %s was replaced since pid %d opened it, and the old one cannot be "
			"found by its name; restart the program",
			path, round->pid);
	return send_identity(round, fd, &st, path, use, access);
}

static int tell_mapping(struct round *round, const struct proc_map *map)
{
	uint64_t dev = (uint64_t)map->dev_major << 32 | map->dev_minor;
	enum file_use use = map->shared && map->write ? USE_MAP_SHARED : USE_READ;
	char link[64];
	int fd, err;

	if (map->name[0] != '/' || !map->inode)
		return 0;
	if (use == USE_READ && dev == round->last_dev && map->inode == round->last_ino)
		return 0;
	round->last_dev = dev;
	round->last_ino = map->inode;
	/* What is no regular file must not be opened: a device may act on it. */
	snprintf(link, sizeof(link), "map_files/%llx-%llx", (unsigned long long)map->start,
		 (unsigned long long)map->end);
	fd = openat(round->proc_fd, link, O_PATH | O_CLOEXEC);
	if (fd >= 0) {
		struct stat st;
		bool regular = !fstat(fd, &st) && S_ISREG(st.st_mode) && st.st_nlink;

		close(fd);
		if (!regular)
			return 0; /* memfd, shared memory, device: other kinds of state */
	}
	fd = openat(round->proc_fd, link, O_RDONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
	if (fd < 0 && errno == ENOENT)
		return 0; /* unmapped meanwhile */
	if (fd < 0)
		return log_fail(errno, "file %s (mapped by pid %d): %m", map->name, round->pid);
	err = tell_file(round, fd, map->name, use,
			ACCESS_READ | (use == USE_READ ? 0 : ACCESS_WRITE));
	close(fd);
	return err;
}

static int tell_mappings(struct round *round)
{
	char buf[PROC_LINE_MAX], *line;
	struct line_reader reader;
	struct proc_map map;
	int got, err;

	err = line_reader_open(&reader, round->proc_fd, "maps", buf, sizeof(buf));
	if (err)
		return err;
	while ((got = line_reader_next(&reader, &line)) > 0) {
		if (!proc_map_parse(line, &map))
			continue;
		err = tell_mapping(round, &map);
		if (err)
			break;
	}
	line_reader_close(&reader);
	return err ? err : got;
}

static int tell_opened(void *data, const char *path, unsigned int open_flags)
{
	struct round *round = data;
	struct stat st;
	int fd, err;

	/* A descriptor that only names a place (O_PATH) carries no content. */
	if (open_flags & O_PATH)
		return 0;
	if (stat(path, &st) || !S_ISREG(st.st_mode))
		return 0;
	fd = open(path, O_RDONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
	if (fd < 0)
		return log_fail(errno, "file %s (opened by pid %d): %m", path, round->pid);
	/* O_RDONLY, O_WRONLY and O_RDWR are 0, 1 and 2. */
	err = tell_file(round, fd, path,
			(open_flags & O_ACCMODE) == O_RDONLY ? USE_READ : USE_WRITE,
			(open_flags & O_ACCMODE) + 1);
	close(fd);
	return err;
}

int files_send(struct lane *lane, pid_t pid, bool frozen, int timeout_ms)
{
	struct round round = {.lane = lane, .pid = pid, .frozen = frozen, .timeout_ms = timeout_ms};
	int err;

	for (unsigned int i = 0; i < table.nr; i++)
		table.files[i].again = false;
	round.proc_fd = proc_open(pid);
	if (round.proc_fd < 0)
		return round.proc_fd;
	err = tell_mappings(&round);
	if (!err)
		err = fd_each_file(round.proc_fd, pid, tell_opened, &round);
	close(round.proc_fd);
	return err ? err : round.nr_sent;
}

/* ---- target ---- */

static int check_identity(const baton_MoveFile *file, const struct fileid *here)
{
	struct fileid there = {
		.size = file->size, .kind = (uint8_t)file->kind, .len = (uint8_t)file->value.size};
	char here_text[FILEID_TEXT_MAX], there_text[FILEID_TEXT_MAX];

	memcpy(there.value, file->value.bytes, file->value.size);
	if (here->size == there.size && here->kind == there.kind && here->len == there.len &&
	    !memcmp(here->value, there.value, there.len))
		return 0;
	fileid_format(here, here_text, sizeof(here_text));
	fileid_format(&there, there_text, sizeof(there_text));
	return log_fail(ESTALE,
			"file %s differs: %s at the source, %s at the target; "
			"put the same file on both devices",
			file->path, there_text, here_text);
}

/* Whether the process may do what it does there. Tried, since access(2) asks for other ids than those that
 * count for opening. */
static int check_access(const baton_MoveFile *file, const struct rights *rights)
{
	static const int flags[] = {O_RDONLY, O_WRONLY};
	int fd, err = rights_take(rights);

	for (unsigned int i = 0; !err && i < 2; i++) {
		if (!((file->access >> i) & 1))
			continue;
		fd = open(file->path, flags[i] | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
		if (fd < 0)
			err = rights_denied(rights, -errno, file->path);
		else
			close(fd);
	}
	rights_give_back(rights);
	return err ? log_fail(-err, "file %s: %m at the target", file->path) : 0;
}

/* Not before it is known to be a regular file: opening a device may act on it. The descriptor, or -errno
 * with log_fail. */
static int open_here(const baton_MoveFile *file, struct stat *st, const struct rights *rights)
{
	int fd, err;

	if (file->path[0] != '/' || file->value.size > FILEID_VALUE_MAX)
		return log_fail(EPROTO, "the peer names a file without a full path");
	if (stat(file->path, st)) {
		err = errno;
		return log_fail(err, "file %s is missing at the target (%m); copy it there first",
				file->path);
	}
	if (!S_ISREG(st->st_mode))
		return log_fail(ESTALE, "file %s is no regular file at the target", file->path);
	err = rights_limited(rights) ? check_access(file, rights) : 0;
	if (err)
		return err;
	fd = open(file->path, O_RDONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
	if (fd < 0) {
		err = errno;
		return log_fail(err, "file %s: %m at the target", file->path);
	}
	return fd;
}

int files_check(const baton_MoveFile *file, const struct rights *rights)
{
	struct fileid here;
	struct stat st = {0};
	int fd = open_here(file, &st, rights), err;

	if (fd < 0)
		return fd;
	if (file->kind == FILEID_PRESENT) {
		close(fd);
		return 0;
	}
	/* Of a file of another size the identity is told all the same: people compare versions. */
	err = fileid_collect(fd, (uint64_t)st.st_size, &here);
	close(fd);
	if (err)
		return log_fail(-err, "file %s: cannot be read at the target: %m", file->path);
	return check_identity(file, &here);
}
