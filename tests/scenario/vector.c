/* SPDX-License-Identifier: MIT */
/*
 * Live registers across the move: general, x87, MXCSR, SSE, AVX, AVX-512, masks, PKRU, fs and gs
 * base. Each thread holds its own values in the registers while it spins; nothing is in memory.
 * machine: x86_64
 * build: musl-static
 * libs: -lpthread
 * cflags: -mno-red-zone
 */
#include "scenario.h"
#include <asm/prctl.h>
#include <cpuid.h>
#include <pthread.h>
#include <sys/mman.h>

#define NR_THREADS 3

struct spinner {
	pthread_t thread;
	uint64_t in[32][8];
	uint64_t out[32][8];
	uint64_t mask_in[8], mask_out[8];
	struct {
		uint64_t reg[16];
		double x87[3]; /* at offset 128: log2(10), 1, pi */
	} general;
	uint32_t mxcsr;
	uint16_t control;
	volatile bool running;
};

static struct spinner spinners[NR_THREADS];
static volatile uint32_t stop;
static int level; /* 0: SSE, 1: AVX, 2: AVX-512 */
static uint32_t pkru_set;
static bool have_pku;

/* Assembly, a line each. */
/* clang-format off */
/* The flag is polled with one instruction that touches no register under test but rcx (pointer). */
#define SPIN "1: pause\n cmpl $0, (%%rcx)\n je 1b\n"

static __attribute__((target("avx512f,avx512bw"), noinline)) void spin_avx512(struct spinner *s)
{
	__asm__ volatile(
		".irp r,0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17,18,19,20,21,22,23,24,25,26,27,28,29,30,31\n"
		"vmovdqu64 \\r*64(%%rsi), %%zmm\\r\n"
		".endr\n"
		".irp r,1,2,3,4,5,6,7\n kmovq \\r*8(%%rbx), %%k\\r\n .endr\n"
		SPIN
		".irp r,0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17,18,19,20,21,22,23,24,25,26,27,28,29,30,31\n"
		"vmovdqu64 %%zmm\\r, \\r*64(%%rdi)\n"
		".endr\n"
		".irp r,1,2,3,4,5,6,7\n kmovq %%k\\r, \\r*8(%%rdx)\n .endr\n"
		:
		: "S"(s->in), "D"(s->out), "b"(s->mask_in), "d"(s->mask_out), "c"(&stop)
		: "memory", "cc", "xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6", "xmm7",
		  "xmm8", "xmm9", "xmm10", "xmm11", "xmm12", "xmm13", "xmm14", "xmm15", "xmm16",
		  "xmm17", "xmm18", "xmm19", "xmm20", "xmm21", "xmm22", "xmm23", "xmm24", "xmm25",
		  "xmm26", "xmm27", "xmm28", "xmm29", "xmm30", "xmm31", "k1", "k2", "k3", "k4", "k5",
		  "k6", "k7");
}

static __attribute__((target("avx"), noinline)) void spin_avx(struct spinner *s)
{
	__asm__ volatile(
		".irp r,0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15\n vmovdqu \\r*64(%%rsi), %%ymm\\r\n .endr\n"
		SPIN
		".irp r,0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15\n vmovdqu %%ymm\\r, \\r*64(%%rdi)\n .endr\n"
		:
		: "S"(s->in), "D"(s->out), "c"(&stop)
		: "memory", "cc", "xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6", "xmm7",
		  "xmm8", "xmm9", "xmm10", "xmm11", "xmm12", "xmm13", "xmm14", "xmm15");
}

static __attribute__((noinline)) void spin_sse(struct spinner *s)
{
	__asm__ volatile(
		".irp r,0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15\n movdqu \\r*64(%%rsi), %%xmm\\r\n .endr\n"
		SPIN
		".irp r,0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15\n movdqu %%xmm\\r, \\r*64(%%rdi)\n .endr\n"
		:
		: "S"(s->in), "D"(s->out), "c"(&stop)
		: "memory", "cc", "xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6", "xmm7",
		  "xmm8", "xmm9", "xmm10", "xmm11", "xmm12", "xmm13", "xmm14", "xmm15");
}

/* All general registers but rsp and rcx, the flags' direction bit aside, with x87 values alive. */
static __attribute__((noinline)) void spin_general(struct spinner *s)
{
	__asm__ volatile(
		"push %%rbp\n"
		"push %%rdi\n"
		"fldpi\n fld1\n fldl2t\n"
		"mov $0x1111111111111111, %%rax\n mov $0x2222222222222222, %%rbx\n"
		"mov $0x3333333333333333, %%rdx\n mov $0x4444444444444444, %%rsi\n"
		"mov $0x5555555555555555, %%rdi\n mov $0x6666666666666666, %%rbp\n"
		"mov $0x7777777777777777, %%r8\n mov $0x8888888888888888, %%r9\n"
		"mov $0x9999999999999999, %%r10\n mov $0xaaaaaaaaaaaaaaaa, %%r11\n"
		"mov $0xbbbbbbbbbbbbbbbb, %%r12\n mov $0xcccccccccccccccc, %%r13\n"
		"mov $0xdddddddddddddddd, %%r14\n mov $0xeeeeeeeeeeeeeeee, %%r15\n"
		SPIN
		"xchg %%rdi, (%%rsp)\n"
		"mov %%rax, 0(%%rdi)\n mov %%rbx, 8(%%rdi)\n mov %%rdx, 16(%%rdi)\n"
		"mov %%rsi, 24(%%rdi)\n pop %%rax\n mov %%rax, 32(%%rdi)\n mov %%rbp, 40(%%rdi)\n"
		"mov %%r8, 48(%%rdi)\n mov %%r9, 56(%%rdi)\n mov %%r10, 64(%%rdi)\n"
		"mov %%r11, 72(%%rdi)\n mov %%r12, 80(%%rdi)\n mov %%r13, 88(%%rdi)\n"
		"mov %%r14, 96(%%rdi)\n mov %%r15, 104(%%rdi)\n"
		"fstpl 128(%%rdi)\n fstpl 136(%%rdi)\n fstpl 144(%%rdi)\n"
		"pop %%rbp\n"
		:
		: "D"(&s->general), "c"(&stop)
		: "memory", "cc", "rax", "rbx", "rdx", "rsi", "r8", "r9", "r10", "r11", "r12",
		  "r13", "r14", "r15");
}

/* clang-format on */
static void *spinner_run(void *arg)
{
	struct spinner *s = arg;
	uint16_t control = 0x0b7f; /* rounds up, double precision... all masked */
	uint32_t mxcsr = 0x7f80;   /* rounds to zero, all masked */

	__asm__ volatile("fldcw %0" : : "m"(control));
	__asm__ volatile("ldmxcsr %0" : : "m"(mxcsr));
	s->running = true;
	if (s == &spinners[0])
		spin_general(s);
	else if (s == &spinners[1])
		spin_sse(s);
	else if (level == 2)
		spin_avx512(s);
	else if (level == 1)
		spin_avx(s);
	else
		spin_sse(s);
	__asm__ volatile("fstcw %0" : "=m"(s->control));
	__asm__ volatile("stmxcsr %0" : "=m"(s->mxcsr));
	return NULL;
}

static uint32_t pkru_read(void)
{
	uint32_t a, d;

	__asm__ volatile("rdpkru" : "=a"(a), "=d"(d) : "c"(0));
	return a;
}

static void pkru_prepare(void)
{
	unsigned int a, b, c, d;

	have_pku = __get_cpuid_count(7, 0, &a, &b, &c, &d) && (c & (1u << 4)) /* OSPKE */;
	if (!have_pku)
		return;
	pkru_set = pkru_read() ^ 0x30000000; /* key 14, which nobody uses */
	__asm__ volatile("wrpkru" : : "a"(pkru_set), "c"(0), "d"(0));
}

static void prepare(void)
{
	__builtin_cpu_init();
	level = __builtin_cpu_supports("avx512bw") ? 2 : __builtin_cpu_supports("avx") ? 1 : 0;
	pkru_prepare();
	syscall(SYS_arch_prctl, ARCH_SET_GS, 0x123456789000ul);
	for (int i = 0; i < NR_THREADS; i++) {
		struct spinner *s = &spinners[i];

		scenario_fill(s->in, sizeof(s->in), 50 + (uint64_t)i);
		scenario_fill(s->mask_in, sizeof(s->mask_in), 60 + (uint64_t)i);
		CHECK(!pthread_create(&s->thread, NULL, spinner_run, s));
		while (!s->running)
			scenario_sleep_ms(1);
	}
	scenario_sleep_ms(50);
}

static void sabotage(void)
{
	spinners[2].in[level == 2 ? 31 : 15][0] ^= 1; /* the reference, so they differ */
}

static void check_rows(const struct spinner *s, int nr_regs, int nr_words)
{
	for (int r = 0; r < nr_regs; r++)
		for (int w = 0; w < nr_words; w++)
			CHECK(s->in[r][w] == s->out[r][w],
			      "vector register %d word %d: %#lx was %#lx", r, w, s->out[r][w],
			      s->in[r][w]);
}

static void check(void)
{
	unsigned long gs = 0;

	stop = 1;
	for (int i = 0; i < NR_THREADS; i++)
		pthread_join(spinners[i].thread, NULL);
	for (int i = 0; i < 14; i++)
		CHECK(spinners[0].general.reg[i] == (uint64_t)(i + 1) * 0x1111111111111111ull,
		      "general register %d: %#lx", i, spinners[0].general.reg[i]);
	CHECK(spinners[0].general.x87[1] == 1.0, "x87 register: %g", spinners[0].general.x87[1]);
	CHECK(spinners[0].general.x87[0] > 3.3219280 && spinners[0].general.x87[0] < 3.3219281);
	CHECK(spinners[0].general.x87[2] > 3.1415926 && spinners[0].general.x87[2] < 3.1415927);
	check_rows(&spinners[1], 16, 2);
	check_rows(&spinners[2], level == 2 ? 32 : 16, level == 2 ? 8 : level == 1 ? 4 : 2);
	for (int k = 1; level == 2 && k < 8; k++)
		CHECK(spinners[2].mask_in[k] == spinners[2].mask_out[k], "mask k%d", k);
	for (int i = 0; i < NR_THREADS; i++) {
		CHECK((spinners[i].control & 0x0f3f) == (0x0b7f & 0x0f3f), "x87 control %#x",
		      spinners[i].control);
		CHECK((spinners[i].mxcsr & 0xffc0) == 0x7f80, "mxcsr %#x", spinners[i].mxcsr);
	}
	CHECK(!have_pku || pkru_read() == pkru_set, "pkru %#x was %#x", pkru_read(), pkru_set);
	syscall(SYS_arch_prctl, ARCH_GET_GS, &gs);
	CHECK(gs == 0x123456789000ul, "gs base %#lx", gs);
}

int main(int argc, char **argv)
{
	static const struct scenario s = {prepare, NULL, check, sabotage};

	return scenario_main(argc, argv, &s);
}
