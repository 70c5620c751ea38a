/* SPDX-License-Identifier: MIT */
/*
 * What a target believes of its memory, page by page, and changes of that memory which keep it so. In
 * plain variables, outside of the window: for the program of a test's target.
 */
#ifndef BATON_PAGER_MODEL_H
#define BATON_PAGER_MODEL_H

#include "tests/unit/pager_world.h"

enum { MODEL_UNMAPPED, MODEL_ZEROS, MODEL_SOURCE, MODEL_WRITTEN };

struct model_page {
	uint8_t kind;
	uint16_t vma;  /* pages with the same number, side by side, are one mapping */
	uint64_t from; /* SOURCE: page index; WRITTEN: the value */
};

extern struct model_page model[WORLD_PAGES];

/* The area as the source has it, and the beginning of the random numbers. */
void model_init(unsigned int seed);
void model_seed(unsigned int seed);
unsigned int model_pick(unsigned int below);

/* Reads every byte of a page (or of all). 0 when it is as believed. */
int model_check(struct world *w, unsigned int page);
int model_check_all(struct world *w);

/* Writes without having read: the kernel sees a write fault. */
void model_write(struct world *w, unsigned int page);

/* Changes of [at, at + len). 0, also when the change is not possible there; a number that tells which
 * of them failed. */
int model_discard(struct world *w, unsigned int at, unsigned int len);
int model_unmap(struct world *w, unsigned int at, unsigned int len);
int model_map(struct world *w, unsigned int at, unsigned int len);
/* Moves; `keep`: the old place stays mapped and empty; less may arrive than is moved. */
int model_move(struct world *w, unsigned int at, unsigned int len, unsigned int to,
	       unsigned int new_len, bool keep);
/* Grows a mapping in place, where there is nothing behind it. */
int model_grow(struct world *w, unsigned int at, unsigned int len);

#endif
