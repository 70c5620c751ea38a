/* SPDX-License-Identifier: MIT */
/*
 * An arch_page_shift that tests choose, in place of the architecture's pagetable.c: for what only counts
 * with pages, and does not ask the kernel for them.
 */
#ifndef BATON_PAGES_H
#define BATON_PAGES_H

/* 0: the kernel's own. */
extern unsigned int pages_shift;

#endif
