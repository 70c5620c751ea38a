/* SPDX-License-Identifier: MIT */
/*
 * Entries of functions of a vdso whose kernel does not run any more.
 *
 *   arguments rdi rsi rdx rcx r8; result rax; rax rcx r11 may be clobbered
 *
 * A function of a vdso and its system call take the same arguments and return the same, -errno included;
 * none of the calls takes a fourth one, which would be in another register.
 */
#include "arch/arch.h"

#include <string.h>
#include <sys/syscall.h>

const struct arch_vdso_function arch_vdso_functions[] = {
	{"clock_gettime", SYS_clock_gettime},
	{"gettimeofday", SYS_gettimeofday},
	{"clock_getres", SYS_clock_getres},
	{"time", SYS_time},
	{"getcpu", SYS_getcpu},
	{"getrandom", SYS_getrandom},
	{"sgx_enter_enclave", -1},
};
const unsigned int arch_nr_vdso_functions =
	sizeof(arch_vdso_functions) / sizeof(arch_vdso_functions[0]);

/* One instruction and the address that it reads. */
static const uint8_t jump[] = {
	0xff, 0x25, 0, 0, 0, 0,       /* jmp *to(%rip) */
	0,    0,    0, 0, 0, 0, 0, 0, /* to */
};
#define TO_AT 6

/* getrandom with a size of the state that nobody has is the question for that size. */
static const uint8_t question[] = {
	0x49, 0x83, 0xf8, 0xff,                   /* cmp $-1, %r8 */
	0x75, 0x08,                               /* jne 8 bytes on */
	0x48, 0xc7, 0xc0, 0xda, 0xff, 0xff, 0xff, /* mov $-ENOSYS, %rax */
	0xc3,                                     /* ret */
};

static const uint8_t plain[] = {
	0xb8, 0,    0, 0, 0, /* mov $call, %eax */
	0x0f, 0x05,          /* syscall */
	0xc3,                /* ret */
};
#define CALL_AT 1

_Static_assert(sizeof(jump) + sizeof(question) + sizeof(plain) <= ARCH_VDSO_ENTRY_MAX,
	       "an entry has room");

static size_t put(uint8_t *out, const uint8_t *code, size_t len)
{
	memcpy(out, code, len);
	return len;
}

size_t arch_vdso_entry(uint8_t out[static ARCH_VDSO_ENTRY_MAX], long call, uint64_t at, uint64_t to)
{
	uint32_t nr = (uint32_t)call;
	size_t len = put(out, jump, sizeof(jump));

	to = to ? to : at + len;
	memcpy(out + TO_AT, &to, sizeof(to));
	if (call == SYS_getrandom)
		len += put(out + len, question, sizeof(question));
	memcpy(out + len, plain, sizeof(plain));
	memcpy(out + len + CALL_AT, &nr, sizeof(nr));
	return len + sizeof(plain);
}
