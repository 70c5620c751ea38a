/* SPDX-License-Identifier: MIT */
/* The source's side of descriptors: the table of what is open, what is shared, what can be carried. */
#include "engine/state/fd.h"

#include "engine/process/batch.h"
#include "engine/state/fd.pb.h"
#include "lib/arena.h"
#include "lib/io.h"
#include "lib/kernel.h"
#include "lib/log.h"
#include "lib/text.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

/* Longest line of fdinfo: an inotify watch with its file handle. */
#define INFO_LINE_MAX 1024
/* What F_SETFL can change; the rest of an open file's flags is given when it is opened. */
#define STATUS_FLAGS ((uint32_t)(O_APPEND | O_NONBLOCK | O_DIRECT | O_NOATIME))

static struct fd_table the_table;

int fd_init(void)
{
	if (the_table.fds)
		return 0;
	the_table.fds = arena_alloc(ARENA_TABLES, CONFIG_MAX_FDS * sizeof(*the_table.fds), 16);
	the_table.order = arena_alloc(ARENA_TABLES, CONFIG_MAX_FDS * sizeof(*the_table.order), 16);
	return the_table.fds && the_table.order ? 0 : -ENOMEM;
}

int32_t *fd_placed_room(void)
{
	return fd_init() ? NULL : (int32_t *)(void *)the_table.fds;
}

void fd_say(struct fd_look *look, const char *fmt, ...)
{
	va_list args;

	va_start(args, fmt);
	vsnprintf(look->text, sizeof(look->text), fmt, args);
	va_end(args);
}

/* ---- reading /proc ---- */

ssize_t fd_link(const struct fd_table *table, int fd, char *buf, size_t cap)
{
	char name[24];

	snprintf(name, sizeof(name), "fd/%d", fd);
	return io_read_link(table->proc_fd, name, buf, cap);
}

int fd_info_each(const struct fd_table *table, int fd, const char *key, fd_line_fn *fn, void *data)
{
	struct line_reader reader;
	char name[24], buf[INFO_LINE_MAX], *line;
	int err;

	snprintf(name, sizeof(name), "fdinfo/%d", fd);
	err = line_reader_open(&reader, table->proc_fd, name, buf, sizeof(buf));
	if (err)
		return err;
	while ((err = line_reader_next(&reader, &line)) > 0) {
		const char *value = text_after(line, key);

		err = value ? fn(data, value) : 0;
		if (err)
			break;
	}
	line_reader_close(&reader);
	return err;
}

struct number {
	unsigned int base;
	uint64_t *value;
};

static int take_number(void *data, const char *text)
{
	struct number *number = data;

	return text_take_u64(&text, number->base, number->value) ? 1 : -EPROTO;
}

int fd_info_u64(const struct fd_table *table, int fd, const char *key, unsigned int base,
		uint64_t *value)
{
	struct number number = {base, value};
	int err = fd_info_each(table, fd, key, take_number, &number);

	return err > 0 ? 0 : err ? err : -ENOENT;
}

int fd_take(int pidfd, int fd)
{
	long got = syscall(SYS_pidfd_getfd, pidfd, fd, 0);

	return got < 0 ? -errno : (int)got;
}

/* ---- the table ---- */

const struct fd_entry *fd_find(const struct fd_table *table, int fd)
{
	unsigned int low = 0, high = table->nr;

	while (low < high) {
		unsigned int mid = (low + high) / 2;

		if (table->fds[mid].fd == fd)
			return &table->fds[mid];
		if (table->fds[mid].fd < fd)
			low = mid + 1;
		else
			high = mid;
	}
	return NULL;
}

static long compare(const struct fd_table *table, int a, int b)
{
	long order = syscall(SYS_kcmp, table->pid, table->pid, BATON_KCMP_FILE, a, b);

	return order < 0 ? -errno : order;
}

int fd_is_same(const struct fd_table *table, int a, int b)
{
	long order = a == b ? 0 : compare(table, a, b);

	return order < 0 ? (int)order : order == 0;
}

/* Finds the open file of an entry among those known, or adds it. */
static int find_shared(struct fd_table *table, unsigned int index)
{
	struct fd_entry *entry = &table->fds[index];
	unsigned int low = 0, high = table->nr_order;

	while (low < high) {
		unsigned int mid = (low + high) / 2;
		const struct fd_entry *other = &table->fds[table->order[mid]];
		long order = compare(table, entry->fd, other->fd);

		if (order == -ENOSYS)
			return log_fail(
				ENOSYS,
				"this kernel cannot tell which descriptors share an open "
				"file; it needs CONFIG_KCMP (or CONFIG_CHECKPOINT_RESTORE)");
		if (order == -EPERM)
			return log_fail(EPERM,
					"no right to compare descriptors of pid %d; run as root",
					table->pid);
		if (order < 0) /* closed under our eyes: the process is running */
			return 0;
		if (order == 0) {
			entry->of = other->of;
			return 0;
		}
		if (order == 1)
			high = mid;
		else
			low = mid + 1;
	}
	memmove(&table->order[low + 1], &table->order[low],
		(table->nr_order - low) * sizeof(*table->order));
	table->order[low] = (uint16_t)index;
	table->nr_order++;
	return 0;
}

static int look_open(struct fd_look *look, char *link, size_t cap)
{
	char name[24];
	ssize_t len = fd_link(look->table, look->entry->fd, link, cap);

	if (len < 0)
		return (int)len;
	look->link = link;
	snprintf(name, sizeof(name), "fd/%d", look->entry->fd);
	if (fstatat(look->table->proc_fd, name, &look->st, 0) < 0)
		return -errno;
	look->copy = fd_take(look->table->pidfd, look->entry->fd);
	return look->copy < 0 ? look->copy : 0;
}

static void look_close(struct fd_look *look)
{
	if (look->copy >= 0)
		close(look->copy);
	look->copy = -1;
}

static int add_entry(struct fd_table *table, int fd)
{
	struct fd_entry *entry = &table->fds[table->nr];
	struct fd_look look = {.table = table, .entry = entry, .copy = -1};
	char link[PATH_MAX];
	uint64_t flags;
	int err;

	*entry = (struct fd_entry){.fd = fd, .of = fd};
	err = fd_info_u64(table, fd, "flags:", 8, &flags);
	if (err)
		return err;
	entry->flags = (uint32_t)flags;
	err = look_open(&look, link, sizeof(link));
	if (err)
		return err;
	entry->dev = look.st.st_dev;
	entry->ino = look.st.st_ino;
	entry->type = fd_type_find(&look);
	look_close(&look);
	return find_shared(table, table->nr++);
}

/* The kernel lists descriptors in ascending order; the table relies on it. */
static int list_fds(struct fd_table *table)
{
	struct dir_reader dir;
	const char *name;
	uint64_t fd;
	int err;

	err = dir_reader_open(&dir, table->proc_fd, "fd");
	if (err)
		return log_fail(err, "cannot list the descriptors of pid %d: %m", table->pid);
	while ((err = dir_reader_next(&dir, &name, NULL)) > 0) {
		if (text_parse_u64(name, 10, &fd) || fd > INT32_MAX)
			continue;
		if (table->nr == CONFIG_MAX_FDS) {
			err = log_fail(
				E2BIG,
				"pid %d has more than %d descriptors, the most this baton was "
				"built for (CONFIG_MAX_FDS)",
				table->pid, CONFIG_MAX_FDS);
			break;
		}
		err = add_entry(table, (int)fd);
		if (err == -ENOENT || err == -EBADF) /* closed in the meantime */
			continue;
		if (err) {
			err = log_fail(err, "cannot look at fd %d of pid %d: %m", (int)fd,
				       table->pid);
			break;
		}
	}
	dir_reader_close(&dir);
	return err < 0 ? err : 0;
}

/* ---- standard streams ---- */

static bool stream_leads_outside(const struct fd_table *table, const struct fd_entry *entry)
{
	const struct fd_type_ops *ops = &fd_types[entry->type];
	bool outside;
	int copy;

	if (!ops->is_outside)
		return false;
	copy = fd_take(table->pidfd, entry->fd);
	if (copy < 0)
		return false;
	outside = ops->is_outside(table, entry, copy);
	close(copy);
	return outside;
}

/* The same open file, or another one of the same terminal or pipe end. */
static bool is_same_stream(const struct fd_entry *a, const struct fd_entry *b)
{
	return a->type == b->type &&
	       (a->of == b->of || (a->dev == b->dev && a->ino == b->ino &&
				   (a->flags & O_ACCMODE) == (b->flags & O_ACCMODE)));
}

/*
 * A standard stream that leads outside becomes the receiver's stream of its own number, even when
 * several shared an open file (a terminal): the receiver's need not.
 */
static void mark_streams(struct fd_table *table)
{
	struct fd_entry streams[3];
	unsigned int nr = 0;

	for (unsigned int i = 0; i < table->nr && table->fds[i].fd < 3; i++)
		if (stream_leads_outside(table, &table->fds[i]))
			streams[nr++] = table->fds[i];
	for (unsigned int s = nr; s-- > 0;) {
		for (unsigned int i = 0; i < table->nr; i++) {
			struct fd_entry *entry = &table->fds[i];

			if (entry->fd < 3 ? entry->fd == streams[s].fd
					  : is_same_stream(entry, &streams[s]) ||
						    (entry->type == FD_STDIO &&
						     entry->dev == streams[s].dev &&
						     entry->ino == streams[s].ino)) {
				entry->of = streams[s].fd;
				entry->type = FD_STDIO;
			}
		}
	}
}

static int scan(struct fd_table *table, pid_t pid, int proc_fd, int pidfd)
{
	int err = fd_init();

	if (err)
		return log_fail(err,
				"no room for the table of descriptors; raise the memory budget");
	table->pid = pid;
	table->proc_fd = proc_fd;
	table->pidfd = pidfd;
	table->nr = table->nr_order = 0;
	err = list_fds(table);
	if (!err)
		mark_streams(table);
	return err;
}

/* ---- before the freeze ---- */

static void probe_entry(struct probe *p, const struct fd_table *table, const struct fd_entry *entry)
{
	struct fd_look look = {.table = table, .entry = entry, .copy = -1, .running = true};
	char link[PATH_MAX], item[16];

	snprintf(item, sizeof(item), "fd %d", entry->fd);
	if (look_open(&look, link, sizeof(link)) == 0) {
		if (fd_types[entry->type].check(&look))
			probe_carried(p, item, "%s", look.text);
		else
			probe_refused(p, item, "%s", look.text);
	}
	look_close(&look);
}

static int fd_probe(struct probe *p)
{
	int err = scan(&the_table, p->pid, p->proc_fd, p->pidfd);

	if (err == -E2BIG) {
		probe_refused(p, "descriptors", "%s", log_reason());
		return 0;
	}
	for (unsigned int i = 0; !err && i < the_table.nr; i++)
		probe_entry(p, &the_table, &the_table.fds[i]);
	return err;
}

const struct fd_table *fd_table_probed(void)
{
	return &the_table;
}

/* ---- dump ---- */

/* The process may have opened something since the probe. */
static int check_all(const struct fd_table *table)
{
	char link[PATH_MAX];

	for (unsigned int i = 0; i < table->nr; i++) {
		struct fd_look look = {.table = table, .entry = &table->fds[i], .copy = -1};
		int err = look_open(&look, link, sizeof(link));
		bool ok = !err && fd_types[look.entry->type].check(&look);

		look_close(&look);
		if (err)
			return log_fail(err, "cannot look at fd %d: %m", look.entry->fd);
		if (!ok)
			return log_fail(EOPNOTSUPP, "fd %d is %s", look.entry->fd, look.text);
	}
	return 0;
}

const struct fd_table *fd_table_of(struct dump *d, int *err)
{
	*err = 0;
	if (!d->fds_known) {
		*err = scan(&the_table, d->pid, d->proc_fd, d->pidfd);
		if (!*err)
			*err = check_all(&the_table);
		d->fds_known = !*err;
	}
	return *err ? NULL : &the_table;
}

int fd_dump_type(struct dump *d, enum fd_type type, fd_dump_fn *fn)
{
	int err;
	const struct fd_table *table = fd_table_of(d, &err);

	for (unsigned int i = 0; table && !err && i < table->nr; i++) {
		const struct fd_entry *entry = &table->fds[i];
		int copy;

		if (entry->type != type || entry->of != entry->fd)
			continue;
		copy = fd_take(d->pidfd, entry->fd);
		if (copy < 0)
			return log_fail(copy, "cannot look at fd %d: %m", entry->fd);
		err = fn(d, table, entry, copy);
		close(copy);
	}
	return err;
}

static int fd_dump(struct dump *d, const struct state_kind *kind)
{
	int err;
	const struct fd_table *table = fd_table_of(d, &err);

	for (unsigned int i = 0; table && !err && i < table->nr; i++) {
		const struct fd_entry *entry = &table->fds[i];
		baton_Fd msg = {
			.fd = entry->fd,
			.of = entry->of,
			.cloexec = entry->flags & O_CLOEXEC,
		};

		/* Those of a standard stream are the receiver's own. */
		if (entry->type != FD_STDIO && !(entry->flags & O_PATH))
			msg.flags = entry->flags & STATUS_FLAGS;
		err = dump_emit(d, kind, &msg);
	}
	return err;
}

/* ---- target: kind_fd ---- */

static int fail_restore(const struct batch *b, const struct arch_batch_call *call, int err)
{
	(void)b;
	return log_fail(-err, "cannot restore fd %d: %m", (int)call->args[0]);
}

static int fd_restore(struct restore *r, const void *data)
{
	const baton_Fd *msg = data;
	int err;

	if (!fd_is_placed(r, msg->of) || (msg->flags & ~STATUS_FLAGS))
		return log_fail(EPROTO, "descriptor %d of an open file that is not there", msg->fd);
	if (msg->fd != msg->of)
		return fd_place_dup(r, msg->of, msg->fd, msg->cloexec);
	err = batch_room(&r->leader, 2, 0);
	if (!err && msg->flags)
		batch_call(&r->leader, fail_restore, SYS_fcntl, (uint64_t)msg->fd, F_SETFL,
			   msg->flags);
	if (!err && msg->cloexec)
		batch_call(&r->leader, fail_restore, SYS_fcntl, (uint64_t)msg->fd, F_SETFD,
			   FD_CLOEXEC);
	return err;
}

const struct state_kind kind_fd = {
	.id = KIND_FD,
	.name = "descriptor",
	.fields = &baton_Fd_msg,
	.size = sizeof(baton_Fd),
	.probe = fd_probe,
	.dump = fd_dump,
	.restore = fd_restore,
	.finish = fd_place_finish,
};

/* ---- for other kinds of state ---- */

int fd_find_memfd(struct dump *d, uint64_t dev, uint64_t ino)
{
	int err, found = -ENOENT;
	const struct fd_table *table = fd_table_of(d, &err);

	for (unsigned int i = 0; table && i < table->nr; i++) {
		const struct fd_entry *entry = &table->fds[i];

		if (entry->type != FD_MEMFD || entry->dev != dev || entry->ino != ino)
			continue;
		if ((entry->flags & O_ACCMODE) == O_RDWR)
			return entry->fd;
		found = entry->fd;
	}
	return err ? err : found;
}
