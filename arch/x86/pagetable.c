/* SPDX-License-Identifier: MIT */
/* Page size and the top of user space. */
#include "arch/arch.h"

unsigned int arch_page_shift(void)
{
	return 12;
}

uint64_t arch_user_top(void)
{
	/* Four-level page tables less the guard page; with five levels the kernel still gives no
	 * address above this unless asked for one by a hint. */
	return 0x7ffffffff000ULL;
}
