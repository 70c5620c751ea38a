/* SPDX-License-Identifier: MIT */
/*
 * Live registers of arm64 across the move: general, FP/SIMD with FPCR and FPSR, SVE with two lengths of
 * vectors, keys of pointer authentication with a signed return address, guarded pages, tagged addresses.
 * Each thread holds its own values in the registers while it spins; nothing is in memory.
 * name: vector
 * machine: aarch64
 * build: musl-static
 * libs: -lpthread
 */
#include "scenario.h"
#include <asm/hwcap.h>
#include <pthread.h>
#include <sys/auxv.h>
#include <sys/mman.h>
#include <sys/prctl.h>

#define NR_THREADS 4
#define NR_GENERAL 27
#define VECTOR_MAX 256
#define PROT_GUARDED 0x10
#define MY_FPCR 0x01c00000ul /* rounds to zero, flushes to zero */
#define MY_FPSR 0x0800001ful
#ifndef HWCAP2_BTI
#define HWCAP2_BTI (1 << 17)
#endif
#ifndef PR_PAC_SET_ENABLED_KEYS
#define PR_PAC_SET_ENABLED_KEYS 60
#define PR_PAC_GET_ENABLED_KEYS 61
#endif
#define PR_TAGGED_SET 55
#define PR_TAGGED_GET 56
#define KEY_DB (1ul << 3)

struct spinner {
	pthread_t thread;
	void (*spin)(struct spinner *s);
	uint8_t in[32][VECTOR_MAX], out[32][VECTOR_MAX];
	uint8_t predicates_in[17][VECTOR_MAX / 8], predicates_out[17][VECTOR_MAX / 8];
	uint64_t general[NR_GENERAL];
	uint64_t fpcr, fpsr;
	int wanted, length;
	volatile bool running;
};

static struct spinner spinners[NR_THREADS];
static volatile uint32_t stop;
static bool has_sve, has_pac, has_bti, has_tags, chose_keys;
static uint64_t signed_by[5];
static uint32_t *guarded;

/* clang-format off */
#define VECTORS "0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17,18,19,20,21,22,23,24,25,26,27,28,29,30,31"
/* Polls the flag at x28 with a register that is not under test. */
#define SPIN "1: ldr w27, [x28]\n cbz w27, 1b\n"
#define ALL_GENERAL "x0", "x1", "x2", "x3", "x4", "x5", "x6", "x7", "x8", "x9", "x10", "x11", "x12", "x13", \
	"x14", "x15", "x16", "x17", "x18", "x19", "x20", "x21", "x22", "x23", "x24", "x25", "x26"
#define ALL_VECTORS "v0", "v1", "v2", "v3", "v4", "v5", "v6", "v7", "v8", "v9", "v10", "v11", "v12", "v13", \
	"v14", "v15", "v16", "v17", "v18", "v19", "v20", "v21", "v22", "v23", "v24", "v25", "v26", "v27", \
	"v28", "v29", "v30", "v31"

static __attribute__((noinline)) void spin_general(struct spinner *s)
{
	register uint64_t *out __asm__("x27") = s->general;
	register volatile uint32_t *flag __asm__("x28") = &stop;

	__asm__ volatile(
		"str x27, [sp, #-16]!\n"
		".irp r,0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17,18,19,20,21,22,23,24,25,26\n"
		"movz x\\r, #(0x1000 + \\r)\n movk x\\r, #(0x2000 + \\r), lsl #16\n"
		"movk x\\r, #(0x3000 + \\r), lsl #32\n movk x\\r, #(0x4000 + \\r), lsl #48\n"
		".endr\n"
		SPIN
		"ldr x28, [sp], #16\n"
		".irp r,0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17,18,19,20,21,22,23,24,25,26\n"
		"str x\\r, [x28, #(\\r * 8)]\n"
		".endr\n"
		: "+r"(out), "+r"(flag)
		:
		: "memory", "cc", ALL_GENERAL);
}

static __attribute__((noinline)) void spin_simd(struct spinner *s)
{
	__asm__ volatile(
		"mov x28, %2\n"
		"msr fpcr, %3\n msr fpsr, %4\n"
		"mov x26, %0\n .irp r," VECTORS "\n ldr q\\r, [x26]\n add x26, x26, #256\n .endr\n"
		SPIN
		"mov x26, %1\n .irp r," VECTORS "\n str q\\r, [x26]\n add x26, x26, #256\n .endr\n"
		"mrs x26, fpcr\n str x26, [%5]\n mrs x26, fpsr\n str x26, [%5, #8]\n"
		:
		: "r"(s->in), "r"(s->out), "r"(&stop), "r"(MY_FPCR), "r"(MY_FPSR), "r"(&s->fpcr)
		: "memory", "cc", "x26", "x27", "x28", ALL_VECTORS);
	__asm__ volatile("msr fpcr, xzr");
}

/* FFR is predicate 16. */
static __attribute__((noinline)) void spin_sve(struct spinner *s)
{
	__asm__ volatile(
		".arch_extension sve\n"
		"mov x28, %4\n"
		"add x26, %2, #(16 * 32)\n ldr p0, [x26]\n wrffr p0.b\n"
		"mov x26, %0\n .irp r," VECTORS "\n ldr z\\r, [x26]\n add x26, x26, #256\n .endr\n"
		".irp r,0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15\n add x26, %2, #(\\r * 32)\n ldr p\\r, [x26]\n .endr\n"
		SPIN
		"mov x26, %1\n .irp r," VECTORS "\n str z\\r, [x26]\n add x26, x26, #256\n .endr\n"
		".irp r,0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15\n add x26, %3, #(\\r * 32)\n str p\\r, [x26]\n .endr\n"
		"rdffr p0.b\n add x26, %3, #(16 * 32)\n str p0, [x26]\n"
		"rdvl x26, #1\n str w26, [%5]\n"
		:
		: "r"(s->in), "r"(s->out), "r"(s->predicates_in), "r"(s->predicates_out), "r"(&stop),
		  "r"(&s->length)
		: "memory", "cc", "x26", "x27", "x28", ALL_VECTORS);
}

#define SIGN(insn, value) ({ uint64_t v_ = (value); \
	__asm__ volatile(".arch_extension pauth\n" insn " %0, %1" : "+r"(v_) : "r"(0x77ul)); v_; })
/* clang-format on */

static void sign(uint64_t *by, uint64_t value)
{
	by[0] = SIGN("pacia", value);
	by[1] = SIGN("pacib", value);
	by[2] = SIGN("pacda", value);
	by[3] = SIGN("pacdb", value);
	__asm__ volatile(".arch_extension pauth\n pacga %0, %1, %2"
			 : "=r"(by[4])
			 : "r"(value), "r"(0x77ul));
}

static void *spinner_run(void *arg)
{
	struct spinner *s = arg;

	if (s->wanted && prctl(PR_SVE_SET_VL, s->wanted) < 0)
		s->wanted = -1;
	s->running = true;
	s->spin(s);
	return NULL;
}

static void prepare_pointers(void)
{
	if (has_pac) {
		chose_keys = !prctl(PR_PAC_SET_ENABLED_KEYS, KEY_DB, 0, 0, 0);
		sign(signed_by, (uintptr_t)&stop);
	}
	has_tags = !prctl(PR_TAGGED_SET, 1, 0, 0, 0);
	if (!has_bti)
		return;
	guarded = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	guarded[0] = 0xd503245f; /* bti c */
	guarded[1] = 0xd65f03c0; /* ret */
	__builtin___clear_cache((char *)guarded, (char *)(guarded + 2));
	CHECK(!mprotect(guarded, 4096, PROT_READ | PROT_EXEC | PROT_GUARDED));
}

static void prepare(void)
{
	has_sve = getauxval(AT_HWCAP) & HWCAP_SVE;
	has_pac = getauxval(AT_HWCAP) & HWCAP_PACA;
	has_bti = getauxval(AT_HWCAP2) & HWCAP2_BTI;
	prepare_pointers();
	for (int i = 0; i < NR_THREADS; i++) {
		struct spinner *s = &spinners[i];

		s->spin = i == 0 ? spin_general : i > 1 && has_sve ? spin_sve : spin_simd;
		s->wanted = i == 3 && has_sve ? 32 : 0;
		scenario_fill(s->in, sizeof(s->in), 50 + (uint64_t)i);
		scenario_fill(s->predicates_in, sizeof(s->predicates_in), 60 + (uint64_t)i);
		/* Only what a loop with one fault can leave in FFR is allowed there. */
		memset(s->predicates_in[16], 0, sizeof(s->predicates_in[16]));
		s->predicates_in[16][0] = 0x7f;
		CHECK(!pthread_create(&s->thread, NULL, spinner_run, s));
		while (!s->running)
			scenario_sleep_ms(1);
	}
	scenario_sleep_ms(50);
}

static void sabotage(void)
{
	spinners[2].in[31][0] ^= 1; /* the reference, so they differ */
}

/* Returns by an address that was signed before the move. */
static __attribute__((noinline, target("branch-protection=pac-ret"))) void wait_signed(void)
{
	scenario_wait();
	__asm__ volatile("" ::: "memory");
}

static void check_rows(const struct spinner *s, size_t len)
{
	for (int r = 0; r < 32; r++)
		CHECK(!memcmp(s->in[r], s->out[r], len), "register %d of %zu bytes of thread %d", r,
		      len, (int)(s - spinners));
}

static void check_sve(const struct spinner *s)
{
	CHECK(s->length >= 16 && (s->wanted <= 0 || s->length == s->wanted),
	      "vectors of %d bytes, wanted %d", s->length, s->wanted);
	check_rows(s, (size_t)s->length);
	for (int p = 0; p < 17; p++)
		CHECK(!memcmp(s->predicates_in[p], s->predicates_out[p], (size_t)s->length / 8),
		      "predicate %d", p);
}

static void check_pointers(void)
{
	uint64_t now[5];
	char line[256];
	bool found = false;
	FILE *f;

	CHECK(!has_tags || prctl(PR_TAGGED_GET, 0, 0, 0, 0) == 1, "tagged addresses");
	if (has_pac) {
		sign(now, (uintptr_t)&stop);
		for (int i = 0; i < 5; i++)
			CHECK(now[i] == signed_by[i], "key %d: %#lx was %#lx", i, now[i],
			      signed_by[i]);
		CHECK(!chose_keys ||
		      !((uint64_t)prctl(PR_PAC_GET_ENABLED_KEYS, 0, 0, 0, 0) & KEY_DB));
	}
	if (!has_bti)
		return;
	((void (*)(void))guarded)();
	f = fopen("/proc/self/smaps", "r");
	for (bool here = false; fgets(line, sizeof(line), f);) {
		unsigned long start, end;

		if (sscanf(line, "%lx-%lx ", &start, &end) == 2)
			here = start == (uintptr_t)guarded;
		else if (here && !strncmp(line, "VmFlags:", 8))
			found = strstr(line, " bt") != NULL;
	}
	fclose(f);
	CHECK(found, "the guarded page is not guarded any more");
}

static void check(void)
{
	stop = 1;
	for (int i = 0; i < NR_THREADS; i++)
		pthread_join(spinners[i].thread, NULL);
	for (uint64_t i = 0; i < NR_GENERAL; i++)
		CHECK(spinners[0].general[i] == 0x4000300020001000ul + i * 0x0001000100010001ul,
		      "general register %d: %#lx", (int)i, spinners[0].general[i]);
	check_rows(&spinners[1], 16);
	CHECK(spinners[1].fpcr == MY_FPCR, "fpcr %#lx", spinners[1].fpcr);
	CHECK((spinners[1].fpsr & MY_FPSR) == MY_FPSR, "fpsr %#lx", spinners[1].fpsr);
	for (int i = 2; i < NR_THREADS; i++) {
		if (has_sve)
			check_sve(&spinners[i]);
		else
			check_rows(&spinners[i], 16);
	}
	check_pointers();
}

int main(int argc, char **argv)
{
	static const struct scenario s = {prepare, wait_signed, check, sabotage};

	return scenario_main(argc, argv, &s);
}
