/* SPDX-License-Identifier: MIT */
/*
 * What this CPU offers to user space, and whether it is enough for a process from another machine. A
 * program chooses its code at start, and libraries keep what they have read of the processor.
 */
#include "arch/arch.h"
#include "lib/config.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/prctl.h>

#define HWCAPS 4
#define HAS_CPUID (1ULL << 11)
#define HAS_PACA (1ULL << 30)
#define VECTOR_UNITS 16 /* of 16 bytes each; the kernel knows no longer ones */
#define VECTOR_FLAGS_SHIFT 16

/* Names of the bits of AT_HWCAP, AT_HWCAP2 (asm/hwcap.h), lowest first. */
static const char *const names[HWCAPS] = {
	"fp asimd evtstrm aes pmull sha1 sha2 crc32 atomics fphp asimdhp cpuid asimdrdm jscvt fcma "
	"lrcpc dcpop sha3 sm3 sm4 asimddp sha512 sve asimdfhm dit uscat ilrcpc flagm ssbs sb paca "
	"pacg gcs",
	"dcpodp sve2 sveaes svepmull svebitperm svesha3 svesm4 flagm2 frint svei8mm svef32mm "
	"svef64mm svebf16 i8mm bf16 dgh rng bti mte ecv afp rpres mte3 sme smei16i64 smef64f64 "
	"smei8i32 smef16f32 smeb16f32 smef32f32 smefa64 wfxt ebf16 sveebf16 cssc rprfm sve2p1 sme2 "
	"sme2p1 smei16i32 smebi32i32 smeb16b16 smef16f16 mops hbc sveb16b16 lrcpc3 lse128 fpmr lut "
	"faminmax f8cvt f8fma f8dp4 f8dp2 f8e4m3 f8e5m2 smelutv2 smef8f16 smef8f32 smesf8fma "
	"smesf8dp4 smesf8dp2 poe",
	"",
	"",
};

/* Wire form: little-endian. */
struct wire_features {
	uint64_t hwcap[HWCAPS];
	uint64_t user_top;
	/* How pointers are signed: fields of ID_AA64ISAR1_EL1 and ISAR2, and who made the processor. */
	uint64_t isar1, isar2, implementer;
	/* Programs keep what these say of lines of the cache, and of the block that DC ZVA clears. */
	uint64_t cache_type, clear_block;
	uint32_t vectors; /* bit n: SVE has vectors of 16 * (n + 1) bytes */
	uint32_t vector;  /* bytes of the one that programs begin with */
};

_Static_assert(sizeof(struct wire_features) <= ARCH_FEATURES_MAX, "fits the wire");

const char *arch_name(void)
{
	return "arm64";
}

/* The kernel answers for the registers that user space may not read (HWCAP_CPUID). */
#define READ_SYSTEM(name)                                                                          \
	({                                                                                         \
		uint64_t value_;                                                                   \
		__asm__ volatile("mrs %0, " name : "=r"(value_));                                  \
		value_;                                                                            \
	})
#define ID_AA64ISAR1_EL1 "S3_0_C0_C6_1"
#define ID_AA64ISAR2_EL1 "S3_0_C0_C6_2"
#define MIDR_EL1 "S3_0_C0_C0_0"
#define CTR_EL0 "S3_3_C0_C0_1"
#define DCZID_EL0 "S3_3_C0_C0_7"

#define ISAR1_SIGNING 0xff000ff0ULL /* GPI GPA API APA */
#define ISAR1_OWN_ALGORITHM 0xf0000f00ULL
#define ISAR2_SIGNING 0x000ff00ULL /* APA3 GPA3 */
#define MIDR_IMPLEMENTER 0xff000000ULL

static void collect_signing(struct wire_features *f)
{
	if (!(f->hwcap[0] & HAS_CPUID) || !(f->hwcap[0] & HAS_PACA))
		return;
	f->isar1 = READ_SYSTEM(ID_AA64ISAR1_EL1) & ISAR1_SIGNING;
	f->isar2 = READ_SYSTEM(ID_AA64ISAR2_EL1) & ISAR2_SIGNING;
	/* An algorithm of the maker's own is known by nothing else. */
	if (f->isar1 & ISAR1_OWN_ALGORITHM)
		f->implementer = READ_SYSTEM(MIDR_EL1) & MIDR_IMPLEMENTER;
}

/* Tries each length on ourselves, who use no vectors, and takes it back. */
static void collect_vectors(struct wire_features *f)
{
	int own = prctl(PR_SVE_GET_VL);

	if (own < 0)
		return;
	f->vector = (uint32_t)own & PR_SVE_VL_LEN_MASK;
	for (int i = 0; i < VECTOR_UNITS; i++) {
		int got = prctl(PR_SVE_SET_VL, 16 * (i + 1));

		if (got >= 0 && (got & PR_SVE_VL_LEN_MASK) == 16 * (i + 1))
			f->vectors |= 1u << i;
	}
	prctl(PR_SVE_SET_VL, own);
}

ssize_t arch_features_collect(uint8_t *out, size_t cap)
{
	static const unsigned long types[HWCAPS] = {AT_HWCAP, AT_HWCAP2, 29, 30};
	struct wire_features f = {.user_top = arch_user_top()};

	if (cap < sizeof(f))
		return -ENOSPC;
	for (int i = 0; i < HWCAPS; i++)
		f.hwcap[i] = getauxval(types[i]);
	f.cache_type = READ_SYSTEM(CTR_EL0);
	f.clear_block = READ_SYSTEM(DCZID_EL0);
	collect_signing(&f);
	collect_vectors(&f);
	memcpy(out, &f, sizeof(f));
	return sizeof(f);
}

/* Adds the name of a bit to the reason. */
static void add_name(char *reason, size_t cap, int word, int bit)
{
	const char *name = IS_ENABLED(CONFIG_TERSE) ? "" : names[word];
	size_t used = strlen(reason), len;

	for (int i = 0; i < bit && *name; i++) {
		name += strcspn(name, " ");
		name += *name == ' ';
	}
	len = strcspn(name, " ");
	if (len)
		snprintf(reason + used, cap - used, " %.*s", (int)len, name);
	else
		snprintf(reason + used, cap - used, " bit %d of HWCAP%d", bit, word + 1);
}

static bool lacks_hwcaps(const struct wire_features *need, const struct wire_features *have,
			 char *reason, size_t cap)
{
	bool lacks = false;

	snprintf(reason, cap, "this CPU lacks features of the source:");
	for (int word = 0; word < HWCAPS; word++) {
		uint64_t missing = need->hwcap[word] & ~have->hwcap[word];

		for (; missing; missing &= missing - 1) {
			add_name(reason, cap, word, __builtin_ctzll(missing));
			lacks = true;
		}
	}
	return lacks;
}

/* Fields of CTR_EL0. A line that is shorter here would be passed over by who steps over longer ones. */
static bool cache_differs(uint64_t need, uint64_t have)
{
	const uint64_t instruction_line = 0xf, data_line = 0xf0000, no_cleaning = 3ULL << 28;

	return (have & instruction_line) < (need & instruction_line) ||
	       (have & data_line) < (need & data_line) || (need & ~have & no_cleaning);
}

static const char *difference(const struct wire_features *need, const struct wire_features *have)
{
	const uint64_t prohibited = 0x10;
	bool signs = need->hwcap[0] & HAS_PACA;

	if (have->user_top < need->user_top)
		return "this kernel gives a process fewer bits of addresses than the source's";
	if (signs && have->user_top != need->user_top)
		return "signed pointers have their signature in other bits here (bits of "
		       "addresses of the kernel)";
	if (signs && (need->isar1 != have->isar1 || need->isar2 != have->isar2 ||
		      need->implementer != have->implementer))
		return "this CPU signs pointers by another algorithm";
	if (need->vectors & ~have->vectors)
		return "this CPU lacks lengths of vectors (SVE) of the source";
	if (cache_differs(need->cache_type, have->cache_type))
		return "the lines of this CPU's cache are shorter, or must be cleaned by programs "
		       "(CTR_EL0)";
	if (!(need->clear_block & prohibited) && need->clear_block != have->clear_block)
		return "this CPU clears blocks of another size (DCZID_EL0)";
	return NULL;
}

int arch_features_compare(const uint8_t *theirs, size_t len, char *reason, size_t reason_cap)
{
	struct wire_features need, have;
	const char *why;

	if (len != sizeof(need)) {
		snprintf(reason, reason_cap, "the peer describes its CPU in a form unknown here");
		return -ENOEXEC;
	}
	memcpy(&need, theirs, sizeof(need));
	if (arch_features_collect((uint8_t *)&have, sizeof(have)) < 0 ||
	    lacks_hwcaps(&need, &have, reason, reason_cap))
		return -ENOEXEC;
	why = difference(&need, &have);
	snprintf(reason, reason_cap, "%s", why ? why : "");
	return why ? -ENOEXEC : 0;
}
