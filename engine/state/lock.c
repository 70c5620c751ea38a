/* SPDX-License-Identifier: MIT */
/* File locks: flock(2), POSIX and open-file-description locks of fcntl(2), taken again. */
#include "engine/state/fd_check.h"

#include "engine/state/lock.pb.h"
#include "lib/kernel.h"
#include "lib/log.h"
#include "lib/text.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <unistd.h>

struct found {
	struct dump *d;
	struct probe *p;
	const struct fd_entry *entry;
};

/* What cannot be taken again. Returns NULL when it can. */
static const char *refused_type(const char *type)
{
	if (strcmp(type, "LEASE") == 0)
		return "a lease (fcntl F_SETLEASE)";
	if (strcmp(type, "DELEG") == 0)
		return "a delegation of a network file system";
	return strcmp(type, "FLOCK") && strcmp(type, "POSIX") && strcmp(type, "OFDLCK")
		       ? "a lock of an unknown type"
		       : NULL;
}

/* "1: POSIX  ADVISORY  WRITE 812 08:01:4711 0 EOF"; "->" marks one that is waited for. */
static int parse(const char *text, char *type, size_t cap, baton_Lock *msg)
{
	char word[32], access[16], place[64];
	uint64_t end;

	if (!text_take_word(&text, word, sizeof(word)) || !text_take_word(&text, type, cap))
		return -EPROTO;
	if (strcmp(type, "->") == 0)
		return -EAGAIN;
	if (!text_take_word(&text, word, sizeof(word)) ||
	    !text_take_word(&text, access, sizeof(access)) ||
	    !text_take_word(&text, word, sizeof(word)) ||
	    !text_take_word(&text, place, sizeof(place)) || !text_take_u64(&text, 10, &msg->start))
		return -EPROTO;
	msg->write = strcmp(access, "WRITE") == 0;
	msg->length =
		text_take_u64(&text, 10, &end) && end >= msg->start ? end - msg->start + 1 : 0;
	msg->type = type[0] == 'F'   ? baton_LockType_LOCK_TYPE_FLOCK
		    : type[0] == 'P' ? baton_LockType_LOCK_TYPE_POSIX
				     : baton_LockType_LOCK_TYPE_OFD;
	return 0;
}

static int take_lock(void *data, const char *text)
{
	struct found *found = data;
	const struct fd_entry *entry = found->entry;
	uint32_t mode = entry->flags & O_ACCMODE;
	baton_Lock msg = {.fd = entry->fd};
	const char *refused;
	char type[16], item[16];
	int err = parse(text, type, sizeof(type), &msg);

	if (err)
		return err == -EAGAIN ? 0
				      : log_fail(err, "fd %d: cannot read its locks", entry->fd);
	refused = refused_type(type);
	if (found->p) {
		snprintf(item, sizeof(item), "fd %d", entry->fd);
		if (refused)
			probe_refused(found->p, item, "%s, which cannot be moved; give it up first",
				      refused);
		return 0;
	}
	if (refused)
		return log_fail(EOPNOTSUPP, "fd %d has %s, which cannot be moved", entry->fd,
				refused);
	/* POSIX locks belong to process and file: every descriptor of the file lists them, but only
	 * one that is open for it can take them. */
	if (msg.type == baton_LockType_LOCK_TYPE_POSIX && mode == (msg.write ? O_RDONLY : O_WRONLY))
		return 0;
	return dump_emit(found->d, &kind_lock, &msg);
}

static int each_file(struct found *found, const struct fd_table *table)
{
	int err = 0;

	for (unsigned int i = 0; i < table->nr && !err; i++) {
		found->entry = &table->fds[i];
		if (table->fds[i].of == table->fds[i].fd &&
		    (table->fds[i].type == FD_FILE || table->fds[i].type == FD_MEMFD))
			err = fd_info_each(table, table->fds[i].fd, "lock:", take_lock, found);
		if (err == -ENOENT && found->p) /* closed in the meantime */
			err = 0;
	}
	return err;
}

static int lock_probe(struct probe *p)
{
	struct found found = {.p = p};

	return each_file(&found, fd_table_probed());
}

static int lock_dump(struct dump *d, const struct state_kind *kind)
{
	struct found found = {.d = d};
	int err;
	const struct fd_table *table = fd_table_of(d, &err);

	(void)kind;
	return table ? each_file(&found, table) : err;
}

static int64_t take_again(struct restore *r, const baton_Lock *msg)
{
	struct remote *p = &r->leader;
	struct flock lock = {
		.l_type = msg->write ? F_WRLCK : F_RDLCK,
		.l_whence = SEEK_SET,
		.l_start = (off_t)msg->start,
		.l_len = (off_t)msg->length,
	};
	bool ofd = msg->type == baton_LockType_LOCK_TYPE_OFD;
	uint64_t addr;
	int64_t err;

	if (msg->type == baton_LockType_LOCK_TYPE_FLOCK)
		return remote_call(p, SYS_flock, (uint64_t)msg->fd,
				   LOCK_NB | (msg->write ? LOCK_EX : LOCK_SH));
	addr = remote_push(p, &lock, sizeof(lock));
	err = addr ? remote_call(p, SYS_fcntl, (uint64_t)msg->fd, ofd ? F_OFD_SETLK : F_SETLK, addr)
		   : -EFAULT;
	remote_reset(p);
	return err;
}

static int lock_restore(struct restore *r, const void *data)
{
	const baton_Lock *msg = data;
	int64_t err;

	if (!fd_is_placed(r, msg->fd) || (msg->start >> 63) || (msg->length >> 63))
		return log_fail(EPROTO, "fd %d: a lock that cannot be", msg->fd);
	err = take_again(r, msg);
	if (err == -EAGAIN || err == -EACCES)
		return log_fail(
			EAGAIN,
			"fd %d: the file is locked by another process on this device, or both "
			"devices see the same file",
			msg->fd);
	return err ? log_fail((int)err, "cannot lock the file of fd %d: %m", msg->fd) : 0;
}

const struct state_kind kind_lock = {
	.id = KIND_LOCK,
	.name = "file lock",
	.fields = &baton_Lock_msg,
	.size = sizeof(baton_Lock),
	.probe = lock_probe,
	.dump = lock_dump,
	.restore = lock_restore,
};
