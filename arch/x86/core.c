/* SPDX-License-Identifier: MIT */
/* Extended state as notes of a core file. */
#include "arch/arch.h"

#include <elf.h>
#include <errno.h>
#include <string.h>

#ifndef NT_X86_XSTATE
#define NT_X86_XSTATE 0x202
#endif
/* The registers of FP and SSE, with which an XSAVE area begins: struct user_fpregs_struct. */
#define FP_BYTES 512
/* Where the kernel leaves which components there are; what AVX ends with, which lies where it lies on every CPU. */
#define KNOWN_AT 464
#define AVX_BYTES 832
#define AVX_KNOWN 7ULL /* FP, SSE, AVX */
#define AVX512 (7ULL << 5)
#define PKRU (1ULL << 9)

/* A debugger knows where components lie by the size of the area, and knows these sizes. */
static bool is_usual(uint64_t known, size_t len)
{
	if (known & PKRU)
		return len == 2696 || len == 2440;
	return known & AVX512 ? len == 2688 : len == AVX_BYTES;
}

int arch_core_notes(const uint8_t *xstate, size_t len, arch_core_note_fn *note, void *data)
{
	uint8_t avx[AVX_BYTES];
	uint64_t known;
	int err;

	if (len < FP_BYTES)
		return -EBADMSG;
	memcpy(&known, xstate + KNOWN_AT, sizeof(known));
	err = note(data, "CORE", NT_FPREGSET, xstate, FP_BYTES);
	if (err || is_usual(known, len) || len < AVX_BYTES)
		return err ? err : note(data, "LINUX", NT_X86_XSTATE, xstate, len);
	/* Of any other it would take nothing. */
	known &= AVX_KNOWN;
	memcpy(avx, xstate, sizeof(avx));
	memcpy(avx + KNOWN_AT, &known, sizeof(known));
	return note(data, "LINUX", NT_X86_XSTATE, avx, sizeof(avx));
}
