/* SPDX-License-Identifier: MIT */
/*
 * What this CPU offers to user space, and whether it is enough for a process from another machine.
 * A program chooses its code by CPUID at start, so every instruction set of the source must be here.
 */
#include "arch/arch.h"
#include "lib/config.h"

#include <cpuid.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

enum reg { EAX, EBX, ECX, EDX };

#define EXTENDED 0x80 /* a leaf that is counted from 0x80000000 */

struct feature {
	uint8_t leaf, subleaf, reg, bit;
};

/* The order is the wire format: append only. */
#define FEATURES(F)                                                                                \
	F(1, 0, ECX, 0, "sse3")                                                                    \
	F(1, 0, ECX, 1, "pclmulqdq")                                                               \
	F(1, 0, ECX, 9, "ssse3")                                                                   \
	F(1, 0, ECX, 12, "fma")                                                                    \
	F(1, 0, ECX, 13, "cx16")                                                                   \
	F(1, 0, ECX, 19, "sse4_1")                                                                 \
	F(1, 0, ECX, 20, "sse4_2")                                                                 \
	F(1, 0, ECX, 22, "movbe")                                                                  \
	F(1, 0, ECX, 23, "popcnt")                                                                 \
	F(1, 0, ECX, 25, "aes")                                                                    \
	F(1, 0, ECX, 27, "osxsave")                                                                \
	F(1, 0, ECX, 28, "avx")                                                                    \
	F(1, 0, ECX, 29, "f16c")                                                                   \
	F(1, 0, ECX, 30, "rdrand")                                                                 \
	F(7, 0, EBX, 0, "fsgsbase")                                                                \
	F(7, 0, EBX, 3, "bmi1")                                                                    \
	F(7, 0, EBX, 4, "hle")                                                                     \
	F(7, 0, EBX, 5, "avx2")                                                                    \
	F(7, 0, EBX, 8, "bmi2")                                                                    \
	F(7, 0, EBX, 9, "erms")                                                                    \
	F(7, 0, EBX, 11, "rtm")                                                                    \
	F(7, 0, EBX, 16, "avx512f")                                                                \
	F(7, 0, EBX, 17, "avx512dq")                                                               \
	F(7, 0, EBX, 18, "rdseed")                                                                 \
	F(7, 0, EBX, 19, "adx")                                                                    \
	F(7, 0, EBX, 21, "avx512ifma")                                                             \
	F(7, 0, EBX, 23, "clflushopt")                                                             \
	F(7, 0, EBX, 24, "clwb")                                                                   \
	F(7, 0, EBX, 28, "avx512cd")                                                               \
	F(7, 0, EBX, 29, "sha_ni")                                                                 \
	F(7, 0, EBX, 30, "avx512bw")                                                               \
	F(7, 0, EBX, 31, "avx512vl")                                                               \
	F(7, 0, ECX, 1, "avx512vbmi")                                                              \
	F(7, 0, ECX, 4, "ospke")                                                                   \
	F(7, 0, ECX, 6, "avx512_vbmi2")                                                            \
	F(7, 0, ECX, 8, "gfni")                                                                    \
	F(7, 0, ECX, 9, "vaes")                                                                    \
	F(7, 0, ECX, 10, "vpclmulqdq")                                                             \
	F(7, 0, ECX, 11, "avx512_vnni")                                                            \
	F(7, 0, ECX, 12, "avx512_bitalg")                                                          \
	F(7, 0, ECX, 14, "avx512_vpopcntdq")                                                       \
	F(7, 0, ECX, 22, "rdpid")                                                                  \
	F(7, 0, ECX, 27, "movdiri")                                                                \
	F(7, 0, ECX, 28, "movdir64b")                                                              \
	F(7, 0, EDX, 4, "fsrm")                                                                    \
	F(7, 0, EDX, 8, "avx512_vp2intersect")                                                     \
	F(7, 0, EDX, 14, "serialize")                                                              \
	F(7, 0, EDX, 22, "amx_bf16")                                                               \
	F(7, 0, EDX, 23, "avx512_fp16")                                                            \
	F(7, 0, EDX, 24, "amx_tile")                                                               \
	F(7, 0, EDX, 25, "amx_int8")                                                               \
	F(7, 1, EAX, 4, "avx_vnni")                                                                \
	F(7, 1, EAX, 5, "avx512_bf16")                                                             \
	F(0xd, 1, EAX, 0, "xsaveopt")                                                              \
	F(0xd, 1, EAX, 1, "xsavec")                                                                \
	F(EXTENDED + 1, 0, ECX, 0, "lahf_lm")                                                      \
	F(EXTENDED + 1, 0, ECX, 5, "abm")                                                          \
	F(EXTENDED + 1, 0, ECX, 6, "sse4a")                                                        \
	F(EXTENDED + 1, 0, ECX, 8, "3dnowprefetch")                                                \
	F(EXTENDED + 1, 0, ECX, 11, "xop")                                                         \
	F(EXTENDED + 1, 0, ECX, 16, "fma4")                                                        \
	F(EXTENDED + 1, 0, ECX, 21, "tbm")                                                         \
	F(EXTENDED + 1, 0, EDX, 27, "rdtscp")

#define ROW(leaf, subleaf, reg, bit, name) {leaf, subleaf, reg, bit},
#define NAME(leaf, subleaf, reg, bit, name) name,

static const struct feature features[] = {FEATURES(ROW)};
static const char names[][20] = {FEATURES(NAME)};

#define NR_FEATURES (sizeof(features) / sizeof(features[0]))
#define XSTATE_COMPONENTS 20

/* Wire form: all little-endian on an x86 machine. */
struct wire_features {
	uint64_t xcr0;
	uint32_t nr_bits;
	uint8_t bits[16];
	/* Where each extended component lies in the regset; 0, 0 when absent. */
	uint32_t offset[XSTATE_COMPONENTS], size[XSTATE_COMPONENTS];
};

_Static_assert(NR_FEATURES <= 128, "bits[] holds them");
_Static_assert(sizeof(struct wire_features) <= ARCH_FEATURES_MAX, "fits the wire");

const char *arch_name(void)
{
	return "x86_64";
}

static bool feature_present(const struct feature *f)
{
	const uint32_t leaf = (uint32_t)(f->leaf & EXTENDED) << 24 | (f->leaf & ~EXTENDED);
	unsigned int r[4] = {0, 0, 0, 0};

	if (!__get_cpuid_count(leaf, f->subleaf, &r[EAX], &r[EBX], &r[ECX], &r[EDX]))
		return false;
	return (r[f->reg] >> f->bit) & 1;
}

static uint64_t xcr0_read(void)
{
	uint32_t eax, edx;
	static const struct feature osxsave = {1, 0, ECX, 27};

	if (!feature_present(&osxsave))
		return 0;
	__asm__ volatile("xgetbv" : "=a"(eax), "=d"(edx) : "c"(0));
	return ((uint64_t)edx << 32) | eax;
}

ssize_t arch_features_collect(uint8_t *out, size_t cap)
{
	struct wire_features w = {.nr_bits = NR_FEATURES};
	unsigned int i, a, b, c, d;

	if (cap < sizeof(w))
		return -ENOSPC;
	w.xcr0 = xcr0_read();
	for (i = 0; i < NR_FEATURES; i++)
		if (feature_present(&features[i]))
			w.bits[i / 8] |= (uint8_t)(1u << (i % 8));
	for (i = 2; i < XSTATE_COMPONENTS; i++) {
		if (!((w.xcr0 >> i) & 1) || !__get_cpuid_count(0xd, i, &a, &b, &c, &d))
			continue;
		w.size[i] = a;
		w.offset[i] = b;
	}
	memcpy(out, &w, sizeof(w));
	return sizeof(w);
}

/* Of the components of an XSAVE area: SDM 1, 13.1. */
static const char *const components[XSTATE_COMPONENTS] = {
	[2] = "AVX",
	[3] = "MPX bounds",
	[4] = "MPX configuration",
	[5] = "AVX-512 masks",
	[6] = "ZMM_Hi256",
	[7] = "Hi16_ZMM",
	[9] = "PKRU",
	[17] = "AMX configuration",
	[18] = "AMX tiles",
	[19] = "APX registers",
};

/* What the source saves of a thread must be here, and lie where it does there. */
static int compare_xsave(const struct wire_features *need, const struct wire_features *have,
			 char *reason, size_t cap)
{
	for (unsigned int i = 0; i < 64; i++) {
		bool known = i < XSTATE_COMPONENTS;
		bool missing = (need->xcr0 & ~have->xcr0) >> i & 1;

		if (!missing && !(known && need->size[i]))
			continue;
		if (!missing && need->size[i] == have->size[i] &&
		    need->offset[i] == have->offset[i])
			continue;
		snprintf(reason, cap,
			 missing ? "this CPU, or its kernel, lacks state of the source's (XSAVE): "
				   "%s (component %u)"
				 : "state of the CPU lies differently here (XSAVE): %s (component "
				   "%u)",
			 !IS_ENABLED(CONFIG_TERSE) && known && components[i] ? components[i]
									     : "unknown",
			 i);
		return -ENOEXEC;
	}
	return 0;
}

/* Appends " name" to the reason while there is room. */
static void reason_add(char *reason, size_t cap, const char *name)
{
	size_t len = strlen(reason);

	if (len + strlen(name) + 2 < cap)
		snprintf(reason + len, cap - len, " %s", name);
}

int arch_features_compare(const uint8_t *theirs, size_t len, char *reason, size_t reason_cap)
{
	struct wire_features need, have;
	unsigned int i, missing = 0;
	char number[12];

	snprintf(reason, reason_cap, "the peer describes its CPU in a form unknown here");
	if (len != sizeof(need))
		return -ENOEXEC;
	memcpy(&need, theirs, sizeof(need));
	if (arch_features_collect((uint8_t *)&have, sizeof(have)) < 0 || need.nr_bits > 128)
		return -ENOEXEC;
	snprintf(reason, reason_cap, "this CPU lacks features of the source:");
	for (i = 0; i < need.nr_bits; i++) {
		if (!((need.bits[i / 8] >> (i % 8)) & 1) || ((have.bits[i / 8] >> (i % 8)) & 1))
			continue;
		snprintf(number, sizeof(number), "%u", i);
		reason_add(reason, reason_cap,
			   !IS_ENABLED(CONFIG_TERSE) && i < NR_FEATURES ? names[i] : number);
		missing++;
	}
	if (missing)
		return -ENOEXEC;
	if (compare_xsave(&need, &have, reason, reason_cap))
		return -ENOEXEC;
	reason[0] = '\0';
	return 0;
}
