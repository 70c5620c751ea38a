/* SPDX-License-Identifier: MIT */
/*
 * The notes of a core file.
 *
 *     the leader, gdb's first thread   all others   NT_AUXV   NT_FILE, names last
 */
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

/* Parts that lie behind each other, and of which each grows by itself. */
enum part { PART_LEADER, PART_OTHERS, PART_AUXV, PART_FILES, PART_NAMES, NR_PARTS };

static struct notes {
	const struct image *image;
	int fd; /* -1: the first round */
	uint64_t at[NR_PARTS], len[NR_PARTS];
	struct status_head status;
	struct psinfo psinfo; /* known after the first round */
	enum part thread;     /* whose messages are read */
	uint64_t nr_files;
} notes;

static int put(enum part part, const void *bytes, size_t len)
{
	struct notes *n = &notes;
	int err = n->fd < 0 ? 0 : io_pwrite_full(n->fd, bytes, len, n->at[part] + n->len[part]);

	n->len[part] += len;
	return err ? log_fail(-err, "the core file cannot be written: %m") : 0;
}

static int put_note_header(enum part part, const char *name, uint32_t type, size_t len)
{
	Elf64_Nhdr header = {(uint32_t)strlen(name) + 1, (uint32_t)len, type};
	char padded[8] = "";
	int err = put(part, &header, sizeof(header));

	text_copy(padded, sizeof(padded), name);
	return err ? err : put(part, padded, (header.n_namesz + 3) & ~3u);
}

/* What follows a note begins at a multiple of 4; the file has zeros where nothing was written. */
static void align(enum part part)
{
	notes.len[part] = (notes.len[part] + 3) & ~3ULL;
}

/* `data`: the part. */
static int put_note(void *data, const char *name, uint32_t type, const void *bytes, size_t len)
{
	enum part part = *(enum part *)data;
	int err = put_note_header(part, name, type, len);

	if (!err)
		err = put(part, bytes, len);
	align(part);
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
	err = put_note_header(n->thread, "CORE", NT_PRSTATUS,
			      sizeof(n->status) + ARCH_CORE_REGS_BYTES + sizeof(fp_valid));
	if (!err)
		err = put(n->thread, &n->status, sizeof(n->status));
	if (!err)
		err = put(n->thread, msg->general.bytes, ARCH_CORE_REGS_BYTES);
	if (!err)
		err = put(n->thread, fp_valid, sizeof(fp_valid));
	if (!err && n->thread == PART_LEADER)
		err = put_note(&n->thread, "CORE", NT_PRPSINFO, &n->psinfo, sizeof(n->psinfo));
	return err ? err
		   : arch_core_notes(msg->extended.bytes, msg->extended.size, put_note, &n->thread);
}

static int take_thread(struct notes *n, const struct frame *frame, const uint8_t *body)
{
	const baton_Thread *msg = image_message(frame, body, baton_Thread_fields, sizeof(*msg));

	if (!msg)
		return -EBADMSG;
	n->thread = msg->leader ? PART_LEADER : PART_OTHERS;
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

static int take_mm(const struct frame *frame, const uint8_t *body)
{
	const baton_Mm *msg = image_message(frame, body, baton_Mm_fields, sizeof(*msg));
	enum part part = PART_AUXV;

	return msg ? put_note(&part, "CORE", NT_AUXV, msg->auxv.bytes, msg->auxv.size) : -EBADMSG;
}

/* ---- files: number and page size, then start, end and offset in pages of each, then their names ---- */

static int take_file(struct notes *n, const struct frame *frame, const uint8_t *body, uint64_t page)
{
	const baton_Vma *msg = image_message(frame, body, baton_Vma_fields, sizeof(*msg));
	uint64_t entry[3];
	int err;

	if (!msg)
		return -EBADMSG;
	if (msg->backing != baton_VmaBacking_VMA_FILE)
		return 0;
	entry[0] = msg->start;
	entry[1] = msg->start + msg->len;
	entry[2] = msg->offset / page;
	n->nr_files++;
	err = put(PART_FILES, entry, sizeof(entry));
	return err ? err : put(PART_NAMES, msg->path, strlen(msg->path) + 1);
}

/* Before all entries. */
static int put_files_head(uint64_t nr, uint64_t page, uint64_t bytes)
{
	uint64_t head[2] = {nr, page};
	int err = put_note_header(PART_FILES, "CORE", NT_FILE, sizeof(head) + bytes);

	return err ? err : put(PART_FILES, head, sizeof(head));
}

/* ---- both rounds ---- */

void notes_begin(const struct image *image)
{
	notes = (struct notes){.image = image, .fd = -1};
}

int notes_take(const struct frame *frame, const uint8_t *body, uint64_t page)
{
	struct notes *n = &notes;

	if (frame->type != FRAME_STATE)
		return 0;
	switch (frame->space) {
	case KIND_PROCESS:
		return take_process(n, frame, body);
	case KIND_THREAD:
		return take_thread(n, frame, body);
	case KIND_CREDS:
		return n->thread == PART_LEADER ? take_creds(n, frame, body) : 0;
	case KIND_REGISTERS:
		return take_registers(n, frame, body);
	case KIND_MM:
		return take_mm(frame, body);
	case KIND_VMA:
		return take_file(n, frame, body, page);
	default:
		return 0;
	}
}

int notes_place(int fd, uint64_t page, uint64_t at, uint64_t *end)
{
	struct notes *n = &notes;
	uint64_t bytes = n->len[PART_FILES] + n->len[PART_NAMES], nr_files = n->nr_files;
	int err;

	if (bytes > UINT32_MAX / 2)
		return log_fail(EFBIG, "%s has more names of files than a core file can have",
				n->image->path);
	/* Its head is not counted yet. */
	err = put_files_head(nr_files, page, bytes);
	align(PART_NAMES);
	for (int i = 0; i < NR_PARTS; i++) {
		n->at[i] = at;
		at += n->len[i];
		n->len[i] = 0;
	}
	*end = at;
	n->fd = fd;
	return err ? err : put_files_head(nr_files, page, bytes);
}
