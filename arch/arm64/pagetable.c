/* SPDX-License-Identifier: MIT */
/* Page size and the top of user space: the kernel decides on both, the latter with the processor. */
#include "arch/arch.h"

#include <errno.h>
#include <sys/auxv.h>
#include <sys/mman.h>

/* Of the kernel's configurations (ARM64_VA_BITS); above 48 only for who asks by a hint. */
static const uint8_t sizes[] = {52, 48, 47, 42, 39, 36};

unsigned int arch_page_shift(void)
{
	static unsigned int shift;

	if (!shift)
		shift = (unsigned int)__builtin_ctzl(getauxval(AT_PAGESZ));
	return shift;
}

static bool has_address(uint64_t addr, size_t len)
{
	void *wanted = (void *)(uintptr_t)addr; /* NOLINT(performance-no-int-to-ptr) */
	void *got = mmap(wanted, len, PROT_NONE,
			 MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED_NOREPLACE, -1, 0);

	if (got == MAP_FAILED)
		return errno == EEXIST;
	munmap(got, len);
	return got == wanted;
}

uint64_t arch_user_top(void)
{
	static uint64_t top;
	size_t page = (size_t)1 << arch_page_shift();

	for (unsigned int i = 0; !top && i < sizeof(sizes); i++)
		if (has_address((1ULL << sizes[i]) - page, page))
			top = 1ULL << sizes[i];
	return top;
}
