/* SPDX-License-Identifier: MIT */
/* What a target believes of its memory: see pager_model.h. */
#include "tests/unit/pager_model.h"

#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>

struct model_page model[WORLD_PAGES];
static uint16_t next_vma;
static unsigned int seed;

unsigned int model_pick(unsigned int below)
{
	seed = seed * 1103515245 + 12345;
	return (seed >> 8) % below;
}

void model_seed(unsigned int with_seed)
{
	seed = with_seed;
}

void model_init(unsigned int with_seed)
{
	seed = with_seed;
	next_vma = 2;
	memset(model, 0, sizeof(model));
	for (unsigned int i = 0; i < WORLD_AREA_PAGES; i++)
		model[i] = (struct model_page){.kind = MODEL_SOURCE, .vma = 1, .from = i};
}

int model_check(struct world *w, unsigned int i)
{
	const uint64_t *page = (const uint64_t *)(w->window + i * w->page);
	uint64_t expected[WORLD_PAGE_MAX / 8];
	const struct model_page *b = &model[i];

	if (b->kind == MODEL_UNMAPPED)
		return 0;
	if (b->kind == MODEL_SOURCE)
		world_page_fill(expected, (unsigned int)b->from, w->page);
	for (uint64_t k = 0; k < w->page / 8; k++) {
		uint64_t want = b->kind == MODEL_SOURCE    ? expected[k]
				: b->kind == MODEL_WRITTEN ? b->from + k
							   : 0;

		if (page[k] == want)
			continue;
		fprintf(stderr, "page %u word %d: %#llx instead of %#llx (kind %d from %llu)\n", i,
			(int)k, (unsigned long long)page[k], (unsigned long long)want, b->kind,
			(unsigned long long)b->from);
		return 1;
	}
	return 0;
}

int model_check_all(struct world *w)
{
	for (unsigned int i = 0; i < WORLD_PAGES; i++) {
		if (model_check(w, i))
			return 1;
	}
	return 0;
}

void model_write(struct world *w, unsigned int i)
{
	uint64_t *page = (uint64_t *)(w->window + i * w->page);
	uint64_t value = (uint64_t)model_pick(1u << 20) << 20;

	if (model[i].kind == MODEL_UNMAPPED)
		return;
	for (uint64_t k = 0; k < w->page / 8; k++)
		page[k] = value + k;
	model[i].kind = MODEL_WRITTEN;
	model[i].from = value;
}

static bool is_one_mapping(unsigned int at, unsigned int len)
{
	for (unsigned int i = at; i < at + len; i++) {
		if (model[i].kind == MODEL_UNMAPPED || model[i].vma != model[at].vma)
			return false;
	}
	return true;
}

int model_discard(struct world *w, unsigned int at, unsigned int len)
{
	if (!is_one_mapping(at, len))
		return 0;
	if (madvise(w->window + at * w->page, len * w->page, MADV_DONTNEED))
		return 2;
	for (unsigned int i = at; i < at + len; i++)
		model[i].kind = MODEL_ZEROS;
	return 0;
}

int model_unmap(struct world *w, unsigned int at, unsigned int len)
{
	if (munmap(w->window + at * w->page, len * w->page))
		return 3;
	for (unsigned int i = at; i < at + len; i++)
		model[i].kind = MODEL_UNMAPPED;
	return 0;
}

int model_map(struct world *w, unsigned int at, unsigned int len)
{
	void *got = mmap(w->window + at * w->page, len * w->page, PROT_READ | PROT_WRITE,
			 MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);

	if (got == MAP_FAILED)
		return 4;
	for (unsigned int i = at; i < at + len; i++)
		model[i] = (struct model_page){.kind = MODEL_ZEROS, .vma = next_vma};
	next_vma++;
	return 0;
}

int model_move(struct world *w, unsigned int at, unsigned int len, unsigned int to,
	       unsigned int new_len, bool keep)
{
	int flags = MREMAP_MAYMOVE | MREMAP_FIXED | (keep ? MREMAP_DONTUNMAP : 0);
	struct model_page moved[1024];

	if ((to + new_len > at && at + len > to) || !is_one_mapping(at, len))
		return 0;
	if (mremap(w->window + at * w->page, len * w->page, new_len * w->page, flags,
		   w->window + to * w->page) == MAP_FAILED) {
		fprintf(stderr, "mremap: %s\n", strerror(errno));
		return 5;
	}
	memcpy(moved, &model[at], len * sizeof(*moved));
	for (unsigned int i = 0; i < len; i++)
		model[at + i].kind = keep ? MODEL_ZEROS : MODEL_UNMAPPED;
	for (unsigned int i = 0; i < new_len; i++) {
		model[to + i] = i < len ? moved[i] : (struct model_page){.kind = MODEL_ZEROS};
		model[to + i].vma = next_vma;
	}
	next_vma++;
	return 0;
}

int model_grow(struct world *w, unsigned int at, unsigned int len)
{
	unsigned int last = at;

	if (model[at].kind == MODEL_UNMAPPED)
		return 0;
	while (last + 1 < WORLD_PAGES && model[last + 1].kind != MODEL_UNMAPPED &&
	       model[last + 1].vma == model[at].vma)
		last++;
	for (unsigned int i = last + 1; i <= last + len; i++) {
		if (i >= WORLD_PAGES || model[i].kind != MODEL_UNMAPPED)
			return 0;
	}
	if (mremap(w->window + at * w->page, (last - at + 1) * w->page,
		   (last - at + 1 + len) * w->page, 0) == MAP_FAILED)
		return 0; /* what lies there may be the rest of the reservation */
	for (unsigned int i = last + 1; i <= last + len; i++)
		model[i] = (struct model_page){.kind = MODEL_ZEROS, .vma = model[at].vma};
	return 0;
}
