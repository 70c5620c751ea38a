/* SPDX-License-Identifier: MIT */
/* The notes of a core file. */
#include "engine/image/notes.h"

#include "arch/arch.h"
#include "engine/image/head.h"
#include "engine/state/creds.pb.h"
#include "engine/state/kinds.h"
#include "engine/state/mm.pb.h"
#include "engine/state/process.pb.h"
#include "engine/state/registers.pb.h"
#include "engine/state/thread.pb.h"
#include "engine/state/vma.pb.h"
#include "lib/io.h"
#include "lib/log.h"
#include "lib/text.h"

#include <elf.h>
#include <errno.h>
#include <string.h>

/* As the kernel's struct elf_prstatus and elf_prpsinfo of 64 bits (linux/elfcore.h). */
struct status_head {
	int32_t signal, code, error;
	uint16_t current_signal, pad;
	uint64_t pending, held;
	int32_t pid, parent, group, session;
	int64_t times[8];
};
_Static_assert(sizeof(struct status_head) == 112, "as the kernel has it");

struct psinfo {
	char state, name, zombie, nice;
	uint32_t pad;
	uint64_t flags;
	uint32_t uid, gid;
	int32_t pid, parent, group, session;
	char comm[16], arguments[80];
};
_Static_assert(sizeof(struct psinfo) == 136, "as the kernel has it");

struct notes {
	struct image *image;
	int fd;
	uint64_t page, at;
	bool leader; /* this round is for the leader, gdb's first thread; else for all others */
	struct status_head status;
	struct psinfo psinfo;
	bool in_leader; /* the thread whose messages are read */
	uint64_t nr_files, names_bytes, names_at, entries_at;
};

static int put(struct notes *n, const void *bytes, size_t len)
{
	int err = io_pwrite_full(n->fd, bytes, len, n->at);

	n->at += len;
	return err ? log_fail(-err, "the core file cannot be written: %s", strerror(-err)) : 0;
}

static int put_note_header(struct notes *n, const char *name, uint32_t type, size_t len)
{
	Elf64_Nhdr header = {(uint32_t)strlen(name) + 1, (uint32_t)len, type};
	char padded[8] = "";
	int err = put(n, &header, sizeof(header));

	text_copy(padded, sizeof(padded), name);
	return err ? err : put(n, padded, (header.n_namesz + 3) & ~3u);
}

/* What follows a note begins at a multiple of 4; the file has zeros where nothing was written. */
static void align(struct notes *n)
{
	n->at = (n->at + 3) & ~3ULL;
}

static int put_note(void *data, const char *name, uint32_t type, const void *bytes, size_t len)
{
	struct notes *n = data;
	int err = put_note_header(n, name, type, len);

	if (!err)
		err = put(n, bytes, len);
	align(n);
	return err;
}

/* ---- threads ---- */

static int take_registers(struct notes *n, const struct frame *frame, const uint8_t *body)
{
	const baton_Registers *msg =
		image_message(frame, body, baton_Registers_fields, sizeof(*msg));
	const uint32_t fp_valid[2] = {1, 0};
	int err;

	if (!msg)
		return -EBADMSG;
	if (msg->general.size < ARCH_CORE_REGS_BYTES)
		return log_fail(EBADMSG, "%s has a thread without registers", n->image->path);
	n->status.held = msg->mask;
	err = put_note_header(n, "CORE", NT_PRSTATUS,
			      sizeof(n->status) + ARCH_CORE_REGS_BYTES + sizeof(fp_valid));
	if (!err)
		err = put(n, &n->status, sizeof(n->status));
	if (!err)
		err = put(n, msg->general.bytes, ARCH_CORE_REGS_BYTES);
	if (!err)
		err = put(n, fp_valid, sizeof(fp_valid));
	if (!err && n->leader)
		err = put_note(n, "CORE", NT_PRPSINFO, &n->psinfo, sizeof(n->psinfo));
	return err ? err : arch_core_notes(msg->extended.bytes, msg->extended.size, put_note, n);
}

static int take_thread(struct notes *n, const struct frame *frame, const uint8_t *body)
{
	const baton_Thread *msg = image_message(frame, body, baton_Thread_fields, sizeof(*msg));

	if (!msg)
		return -EBADMSG;
	n->in_leader = msg->leader;
	n->status.pid = msg->tid;
	if (msg->leader)
		memcpy(n->psinfo.comm, msg->comm, sizeof(n->psinfo.comm));
	return 0;
}

static int take_creds(struct notes *n, const struct frame *frame, const uint8_t *body)
{
	const baton_Creds *msg = image_message(frame, body, baton_Creds_fields, sizeof(*msg));

	if (!msg)
		return -EBADMSG;
	n->psinfo.uid = msg->uids_count ? msg->uids[0] : 0;
	n->psinfo.gid = msg->gids_count ? msg->gids[0] : 0;
	return 0;
}

static int take_process(struct notes *n, const struct frame *frame, const uint8_t *body)
{
	const baton_Process *msg = image_message(frame, body, baton_Process_fields, sizeof(*msg));

	if (!msg)
		return -EBADMSG;
	n->psinfo.pid = msg->pid;
	n->psinfo.group = n->status.group = msg->pgid;
	n->psinfo.session = n->status.session = msg->sid;
	n->psinfo.name = msg->stopped ? 'T' : 'S';
	return 0;
}

static int take_mm(struct notes *n, const struct frame *frame, const uint8_t *body)
{
	const baton_Mm *msg = image_message(frame, body, baton_Mm_fields, sizeof(*msg));

	return msg ? put_note(n, "CORE", NT_AUXV, msg->auxv.bytes, msg->auxv.size) : -EBADMSG;
}

/* The threads of this round. */
static int take_state(void *data, const struct frame *frame, const uint8_t *body)
{
	struct notes *n = data;

	if (frame->type != FRAME_STATE)
		return 0;
	switch (frame->space) {
	case KIND_PROCESS:
		return take_process(n, frame, body);
	case KIND_THREAD:
		return take_thread(n, frame, body);
	case KIND_CREDS:
		return n->in_leader ? take_creds(n, frame, body) : 0;
	case KIND_REGISTERS:
		return n->in_leader == n->leader ? take_registers(n, frame, body) : 0;
	default:
		return 0;
	}
}

static int find_mm(void *data, const struct frame *frame, const uint8_t *body)
{
	return frame->type == FRAME_STATE && frame->space == KIND_MM ? take_mm(data, frame, body)
								     : 0;
}

/* ---- files: number and page size, then start, end and offset in pages of each, then their names ---- */

/* Counts in the first round; in the second there is a place for both. */
static int take_file(void *data, const struct frame *frame, const uint8_t *body)
{
	struct notes *n = data;
	const baton_Vma *msg;
	uint64_t entry[3];
	size_t len;
	int err;

	if (frame->type != FRAME_STATE || frame->space != KIND_VMA)
		return 0;
	msg = image_message(frame, body, baton_Vma_fields, sizeof(*msg));
	if (!msg)
		return -EBADMSG;
	if (msg->backing != baton_VmaBacking_VMA_FILE)
		return 0;
	len = strlen(msg->path) + 1;
	if (!n->names_at) {
		n->nr_files++;
		n->names_bytes += len;
		return 0;
	}
	entry[0] = msg->start;
	entry[1] = msg->start + msg->len;
	entry[2] = msg->offset / n->page;
	err = io_pwrite_full(n->fd, entry, sizeof(entry), n->entries_at);
	n->entries_at += sizeof(entry);
	if (!err)
		err = io_pwrite_full(n->fd, msg->path, len, n->names_at);
	n->names_at += len;
	return err ? log_fail(-err, "the core file cannot be written: %s", strerror(-err)) : 0;
}

static int put_files(struct notes *n)
{
	uint64_t head[2], len;
	int err = image_each_head(n->image, take_file, n);

	if (err)
		return err;
	len = sizeof(head) + n->nr_files * 24 + n->names_bytes;
	if (len > UINT32_MAX)
		return 0;
	err = put_note_header(n, "CORE", NT_FILE, (size_t)len);
	head[0] = n->nr_files;
	head[1] = n->page;
	if (!err)
		err = put(n, head, sizeof(head));
	n->entries_at = n->at;
	n->names_at = n->at + n->nr_files * 24;
	n->at += len - sizeof(head);
	align(n);
	return err ? err : image_each_head(n->image, take_file, n);
}

int image_notes(struct image *image, int fd, uint64_t page, uint64_t at, uint64_t *len)
{
	struct notes n = {.image = image, .fd = fd, .page = page, .at = at, .leader = true};
	int err = image_each_head(image, take_state, &n);

	if (!err)
		err = image_each_head(image, find_mm, &n);
	if (!err)
		err = put_files(&n);
	n.leader = false;
	if (!err)
		err = image_each_head(image, take_state, &n);
	*len = n.at - at;
	return err;
}
