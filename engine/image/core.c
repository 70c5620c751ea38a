/* SPDX-License-Identifier: MIT */
/*
 * An image as an ELF core file.
 *
 *     header   program headers   (one section header)   notes   segments, each on a page of its own
 *
 * Nothing is collected: all is read twice, first to know how much of each there is.
 */
#include "engine/image/core.h"

#include "arch/arch.h"
#include "engine/image/head.h"
#include "engine/image/notes.h"
#include "engine/move/move.pb.h"
#include "engine/state/kinds.h"
#include "engine/state/vma.pb.h"
#include "lib/io.h"
#include "lib/log.h"

#include <elf.h>
#include <errno.h>
#include <string.h>
#include <sys/mman.h>

/* So much that is not there becomes zeros of a segment; more ends it. They take no room on disk. */
#define GAP_MAX_BYTES (64ULL << 20)

struct segment {
	uint64_t start, len, offset;
	uint32_t prot;
};

struct core {
	struct image *image;
	int fd;
	bool writing; /* the second round */
	uint64_t page, at, nr_headers;
	struct segment open; /* the one that is being written; len 0: none */
	uint64_t vma_end;    /* of the mapping told last */
	uint32_t vma_prot;
};

static int put(const struct core *core, const void *bytes, size_t len, uint64_t at)
{
	int err = io_pwrite_full(core->fd, bytes, len, at);

	return err ? log_fail(-err, "the core file cannot be written: %m") : 0;
}

static uint64_t round_up(uint64_t value, uint64_t to)
{
	return (value + to - 1) / to * to;
}

/* ---- segments ---- */

static int put_header(struct core *core, const Elf64_Phdr *header)
{
	uint64_t at = sizeof(Elf64_Ehdr) + core->nr_headers++ * sizeof(*header);

	return core->writing ? put(core, header, sizeof(*header), at) : 0;
}

static int close_segment(struct core *core)
{
	const struct segment *open = &core->open;
	Elf64_Phdr header = {.p_type = PT_LOAD,
			     .p_flags = (open->prot & PROT_READ ? PF_R : 0) |
					(open->prot & PROT_WRITE ? PF_W : 0) |
					(open->prot & PROT_EXEC ? PF_X : 0),
			     .p_offset = open->offset,
			     .p_vaddr = open->start,
			     .p_filesz = open->len,
			     .p_memsz = open->len,
			     .p_align = core->page};
	int err;

	if (!open->len)
		return 0;
	err = put_header(core, &header);
	core->at = round_up(open->offset + open->len, core->page);
	core->open.len = 0;
	return err;
}

/* Memory at `addr`, which goes on with the open segment or begins another one. `body` is nothing in the first round. */
static int put_memory(struct core *core, uint64_t addr, uint32_t len, const uint8_t *body,
		      uint32_t prot, uint64_t gap)
{
	struct segment *open = &core->open;
	uint64_t end = open->start + open->len;

	if (!open->len || addr < end || addr - end > gap || prot != open->prot) {
		int err = close_segment(core);

		if (err)
			return err;
		*open = (struct segment){.start = addr, .offset = core->at, .prot = prot};
	}
	open->len = addr - open->start + len;
	return core->writing ? put(core, body, len, open->offset + (addr - open->start)) : 0;
}

/* What is not in the head: its runs. */
static int put_lazy(struct core *core, uint64_t start, uint64_t end, uint32_t prot)
{
	uint64_t pos = start;
	int err = 0;

	while (!err && pos < end) {
		struct image_entry entry;
		const uint8_t *body = NULL;
		struct frame frame;
		uint64_t addr;

		err = image_find_memory(core->image, pos, end, &entry);
		if (err)
			break;
		addr = entry.key ^ IMAGE_MEMORY;
		if (addr < pos || entry.span > end - addr || !entry.span)
			return log_fail(EBADMSG, "%s: memory at %#llx is in no mapping",
					core->image->path, (unsigned long long)addr);
		if (core->writing)
			err = image_read(core->image, &entry, &frame, &body);
		if (!err)
			err = put_memory(core, addr, entry.span, body, prot, GAP_MAX_BYTES);
		pos = addr + entry.span;
	}
	if (err && err != -ENOENT)
		return err;
	return close_segment(core);
}

static int take_vma(struct core *core, const struct frame *frame, const uint8_t *body)
{
	const baton_Vma *vma = image_message(frame, body, baton_Vma_fields, sizeof(*vma));
	int err;

	if (!vma)
		return -EBADMSG;
	if (vma->start >= arch_user_top() || vma->len > arch_user_top() - vma->start)
		return log_fail(EBADMSG, "%s has a mapping that cannot be", core->image->path);
	err = close_segment(core);
	core->vma_end = vma->start + vma->len;
	core->vma_prot = vma->prot;
	return err || !vma->lazy ? err : put_lazy(core, vma->start, core->vma_end, vma->prot);
}

static int take_offer(struct core *core, const struct frame *frame, const uint8_t *body)
{
	const baton_MoveOffer *offer =
		image_message(frame, body, baton_MoveOffer_fields, sizeof(*offer));

	if (!offer)
		return -EBADMSG;
	core->page = offer->page_size;
	if (strcmp(offer->arch, arch_name()) != 0)
		return log_fail(ENOEXEC,
				"%s is of %.16s, this device is %s: make its core file there",
				core->image->path, offer->arch, arch_name());
	return core->page >= 4096 /* not a page */ && core->page <= 65536
		       ? 0
		       : log_fail(EBADMSG, "%s has pages of %u bytes", core->image->path,
				  offer->page_size);
}

static int take_frame(void *data, const struct frame *frame, const uint8_t *body)
{
	struct core *core = data;
	int err;

	if (frame->type == FRAME_OFFER)
		return take_offer(core, frame, body);
	if (frame->type != FRAME_PAGES && frame->type != FRAME_STATE)
		return 0;
	if (!core->page)
		return log_fail(EBADMSG, "%s does not say what it is of", core->image->path);
	if (frame->type == FRAME_PAGES)
		return put_memory(core, frame->addr, frame->len, body,
				  frame->addr < core->vma_end ? core->vma_prot : PROT_READ, 0);
	err = notes_take(frame, body, core->page);
	return err || frame->space != KIND_VMA ? err : take_vma(core, frame, body);
}

/* ---- the file ---- */

/* More program headers than fit are counted in the first section header. */
static bool has_section(uint64_t nr_headers)
{
	return nr_headers >= PN_XNUM;
}

static int put_elf_header(const struct core *core)
{
	uint64_t nr = core->nr_headers, section_at = sizeof(Elf64_Ehdr) + nr * sizeof(Elf64_Phdr);
	bool many = has_section(nr);
	Elf64_Shdr section = {.sh_info = (uint32_t)nr};
	Elf64_Ehdr header = {.e_ident = {ELFMAG0, ELFMAG1, ELFMAG2, ELFMAG3, ELFCLASS64,
					 ELFDATA2LSB, EV_CURRENT, ELFOSABI_NONE},
			     .e_type = ET_CORE,
			     .e_machine = ARCH_ELF_MACHINE,
			     .e_version = EV_CURRENT,
			     .e_phoff = sizeof(header),
			     .e_shoff = many ? section_at : 0,
			     .e_ehsize = sizeof(header),
			     .e_phentsize = sizeof(Elf64_Phdr),
			     .e_phnum = many ? PN_XNUM : (uint16_t)nr,
			     .e_shentsize = sizeof(section),
			     .e_shnum = many};
	int err = many ? put(core, &section, sizeof(section), section_at) : 0;

	return err ? err : put(core, &header, sizeof(header), 0);
}

/* From `at` on lie the segments; the notes have a program header before those. */
static int go_round(struct core *core, const Elf64_Phdr *note, uint64_t at)
{
	int err;

	core->at = at;
	core->nr_headers = 0;
	core->vma_end = 0;
	err = put_header(core, note);
	if (!err)
		err = image_each_head(core->image, take_frame, core);
	return err ? err : close_segment(core);
}

int image_core(struct image *image, int fd)
{
	struct core core = {.image = image, .fd = fd};
	Elf64_Phdr note = {.p_type = PT_NOTE, .p_align = 4};
	uint64_t end = 0;
	int err;

	notes_begin(image);
	err = go_round(&core, &note, 0);
	if (err)
		return err;
	if (!core.page)
		return log_fail(EBADMSG, "%s does not say what it is of", image->path);
	note.p_offset = sizeof(Elf64_Ehdr) + core.nr_headers * sizeof(Elf64_Phdr) +
			(has_section(core.nr_headers) ? sizeof(Elf64_Shdr) : 0);
	err = notes_place(fd, core.page, note.p_offset, &end);
	note.p_filesz = end - note.p_offset;
	core.writing = true;
	if (!err)
		err = go_round(&core, &note, round_up(end, core.page));
	return err ? err : put_elf_header(&core);
}
