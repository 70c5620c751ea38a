/* SPDX-License-Identifier: MIT */
/*
 * Entries of functions of a vdso whose kernel does not run any more.
 *
 *   arguments x0 x1 x2 x3 x4; result x0; number of a system call x8; x16 is for whoever jumps far
 *
 * A function of a vdso and its system call take the same arguments and return the same, -errno included.
 * A branch through x16 may land on the paciasp or bti c that a function of a guarded page begins with;
 * so may what calls us, which is why there is one here. rt_sigreturn stays: frames on stacks lead to it,
 * and it is two instructions without data.
 */
#include "arch/arch.h"

#include <string.h>
#include <sys/syscall.h>

const struct arch_vdso_function arch_vdso_functions[] = {
	{"clock_gettime", SYS_clock_gettime},
	{"gettimeofday", SYS_gettimeofday},
	{"clock_getres", SYS_clock_getres},
	{"getrandom", SYS_getrandom},
	{"rt_sigreturn", -1},
};
const unsigned int arch_nr_vdso_functions =
	sizeof(arch_vdso_functions) / sizeof(arch_vdso_functions[0]);

static const uint32_t jump[] = {
	0xd503245f,    /* bti c */
	0x58000070,    /* ldr x16, to */
	0xd61f0200,    /* br x16 */
	0xd503201f,    /* nop */
	0,          0, /* to */
};
#define TO_AT 16

/* getrandom with a size of the state that nobody has is the question for that size. */
static const uint32_t question[] = {
	0xb100049f, /* cmn x4, #1 */
	0x54000061, /* b.ne 12 bytes on */
	0x928004a0, /* mov x0, #-ENOSYS */
	0xd65f03c0, /* ret */
};

static const uint32_t plain[] = {
	0xd2800008, /* mov x8, #call */
	0xd4000001, /* svc #0 */
	0xd65f03c0, /* ret */
};
#define CALL_SHIFT 5

_Static_assert(sizeof(jump) + sizeof(question) + sizeof(plain) <= ARCH_VDSO_ENTRY_MAX,
	       "an entry has room");

static size_t put(uint8_t *out, const uint32_t *code, size_t len)
{
	memcpy(out, code, len);
	return len;
}

size_t arch_vdso_entry(uint8_t out[static ARCH_VDSO_ENTRY_MAX], long call, uint64_t at, uint64_t to)
{
	uint32_t load_nr = plain[0] | (uint32_t)call << CALL_SHIFT;
	size_t len = put(out, jump, sizeof(jump));

	to = to ? to : at + len;
	memcpy(out + TO_AT, &to, sizeof(to));
	if (call == SYS_getrandom)
		len += put(out + len, question, sizeof(question));
	memcpy(out + len, plain, sizeof(plain));
	memcpy(out + len, &load_nr, sizeof(load_nr));
	return len + sizeof(plain);
}
