/* SPDX-License-Identifier: MIT */
/* Pages of a size that tests choose: see pages.h. */
#include "tests/unit/pages.h"

#include "arch/arch.h"

#include <unistd.h>

unsigned int pages_shift;

unsigned int arch_page_shift(void)
{
	return pages_shift ? pages_shift
			   : (unsigned int)__builtin_ctzl((unsigned long)sysconf(_SC_PAGESIZE));
}

uint64_t arch_user_top(void)
{
	return 1ull << 47;
}
