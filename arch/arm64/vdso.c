/* SPDX-License-Identifier: MIT */
/* The vdso: which mappings belong to it, and the system call instruction inside it. */
#include "arch/arch.h"

#include <errno.h>
#include <string.h>

/* Every one has it: signal handlers return through __kernel_rt_sigreturn. */
ssize_t arch_vdso_find_syscall(const uint8_t *image, size_t len)
{
	for (size_t i = 0; i + arch_syscall_insn_len <= len; i += arch_syscall_insn_len)
		if (memcmp(image + i, arch_syscall_insn, arch_syscall_insn_len) == 0)
			return (ssize_t)i;
	return -ENOENT;
}

bool arch_vdso_is_part(const char *name)
{
	return strcmp(name, "[vdso]") == 0 || strcmp(name, "[vvar]") == 0 ||
	       strcmp(name, "[vvar_vclock]") == 0;
}

bool arch_vdso_is_fixed(const char *name)
{
	(void)name;
	return false;
}
