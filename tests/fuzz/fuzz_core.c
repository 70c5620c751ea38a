/* SPDX-License-Identifier: MIT */
/*
 * The frames of an image as whoever has a trusted key may have written them: a core file is made of them, or they are
 * refused. The input is the frames of the head, then, behind DESCRIBED, those of the memory.
 *
 * needs: engine/image/core.c engine/image/head.c engine/image/notes.c transport/frame.c nanopb
 * needs: engine/move/move.pb.c engine/state/vma.pb.c engine/state/mm.pb.c engine/state/creds.pb.c
 * needs: engine/state/process.pb.c engine/state/registers.pb.c engine/state/thread.pb.c arch/core.c
 * needs: arch/features.c arch/pagetable.c lib/arena.c lib/io.c lib/readers.c lib/text.c lib/log.c
 */
#include "engine/image/core.h"
#include "lib/arena.h"
#include "lib/log.h"
#include "transport/frame.h"
#include <errno.h>
#include <sys/mman.h>
#include <unistd.h>

#define NR_FRAMES 4096

static struct placed {
	struct frame frame;
	const uint8_t *body;
} frames[NR_FRAMES];
static uint64_t nr_frames, nr_head;

int image_read_head(struct image *image, uint64_t number, struct frame *frame, const uint8_t **body)
{
	(void)image;
	if (number >= nr_head)
		return -ENOENT;
	*frame = frames[number].frame;
	*body = frames[number].body;
	return 0;
}

int image_find_memory(struct image *image, uint64_t addr, uint64_t end, struct image_entry *entry)
{
	(void)image;
	for (uint64_t i = nr_head; i < nr_frames; i++) {
		const struct frame *f = &frames[i].frame;

		if (f->type != FRAME_PAGES || f->addr >= end || f->addr + f->len <= addr)
			continue;
		*entry = (struct image_entry){
			.key = f->addr ^ IMAGE_MEMORY, .at = i, .len = f->len, .span = f->len};
		return 0;
	}
	return -ENOENT;
}

int image_read(struct image *image, const struct image_entry *entry, struct frame *frame,
	       const uint8_t **body)
{
	(void)image;
	*frame = frames[entry->at].frame;
	*body = frames[entry->at].body;
	return 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct image image = {.path = "image"};
	static int fd = -1;

	if (fd < 0) {
		log_level_set(LOG_ERROR);
		fd = memfd_create("core", MFD_CLOEXEC);
	}
	nr_frames = nr_head = 0;
	while (nr_frames < NR_FRAMES && size >= FRAME_HEADER_BYTES) {
		struct placed *p = &frames[nr_frames];

		if (frame_decode(data, &p->frame) || p->frame.len > size - FRAME_HEADER_BYTES)
			break;
		p->body = data + FRAME_HEADER_BYTES;
		data += FRAME_HEADER_BYTES + p->frame.len;
		size -= FRAME_HEADER_BYTES + p->frame.len;
		nr_frames++;
		if (p->frame.type == FRAME_DESCRIBED && !nr_head)
			nr_head = nr_frames;
	}
	image.seal.nr_head = nr_head = nr_head ? nr_head : nr_frames;
	if (arena_init() || ftruncate(fd, 0))
		return 0;
	(void)image_core(&image, fd);
	log_reason_clear();
	return 0;
}
