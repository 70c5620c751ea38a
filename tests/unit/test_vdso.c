/* SPDX-License-Identifier: MIT */
/*
 * Images of a vdso: this kernel's own, whose copy is redirected to it and to system calls, and what
 * is none.
 * emulator: no
 * needs: engine/process/vdso.c engine/process/proc.c arch/vdso_redirect.c lib/io.c lib/readers.c
 * needs: lib/text.c lib/log.c
 */
#include "engine/process/vdso.h"

#include "arch/arch.h"
#include "engine/process/proc.h"
#include "lib/log.h"

#include "tests/unit/unit.h"
#include <elf.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

static const uint8_t *own; /* the real one */
static size_t own_len;
static uint8_t *copy; /* of it, executable, elsewhere */

static int setup(void **state)
{
	struct vdso_place place;
	int fd = proc_open(getpid());

	UNUSED(state);
	if (fd < 0 || vdso_find(fd, &place))
		return -1;
	close(fd);
	own = (const uint8_t *)place.own.start;
	own_len = place.own.len < VDSO_IMAGE_MAX ? place.own.len : VDSO_IMAGE_MAX;
	if (place.own.start != getauxval(AT_SYSINFO_EHDR) || place.known.start != place.own.start ||
	    place.known.len != place.own.len)
		return -1;
	copy = mmap(NULL, VDSO_IMAGE_MAX, PROT_READ | PROT_WRITE | PROT_EXEC,
		    MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	return copy == MAP_FAILED ? -1 : 0;
}

static int fresh(void **state)
{
	UNUSED(state);
	log_reason_clear();
	memcpy(copy, own, own_len);
	return 0;
}

struct wanted {
	const char *name;
	uint64_t offset;
};

static int take_wanted(void *data, const struct vdso_function *f)
{
	struct wanted *wanted = data;

	if (strcmp(f->name, wanted->name) != 0)
		return 0;
	wanted->offset = f->offset;
	return 1;
}

/* A function of the copy, as a program would have it; NULL when this kernel has none of that name. */
static void *in_copy(const char *name)
{
	struct wanted wanted = {name, 0};
	int got = vdso_each_function(copy, own_len, take_wanted, &wanted);

	assert_in_range(got, 0, 1);
	return got ? copy + wanted.offset : NULL;
}

/* Calls everything there is through pointers into the copy. */
static void call_all(void)
{
	int (*gettime)(clockid_t, struct timespec *) = in_copy("__vdso_clock_gettime");
	int (*getres)(clockid_t, struct timespec *) = in_copy("clock_getres");
	int (*timeofday)(struct timeval *, void *) = in_copy("__vdso_gettimeofday");
	time_t (*seconds)(time_t *) = in_copy("__vdso_time");
	int (*getcpu)(unsigned int *, unsigned int *, void *) = in_copy("__vdso_getcpu");
	struct timespec before, ts = {0}, after;
	struct timeval tv = {0};
	unsigned int cpu = ~0U, node = ~0U;
	time_t now = 0;

	assert_non_null(gettime);
	for (int i = 0; i < 1000; i++) {
		syscall(SYS_clock_gettime, CLOCK_MONOTONIC, &before);
		assert_int_equal(gettime(CLOCK_MONOTONIC, &ts), 0);
		syscall(SYS_clock_gettime, CLOCK_MONOTONIC, &after);
		assert_true(before.tv_sec < ts.tv_sec ||
			    (before.tv_sec == ts.tv_sec && before.tv_nsec <= ts.tv_nsec));
		assert_true(ts.tv_sec < after.tv_sec ||
			    (ts.tv_sec == after.tv_sec && ts.tv_nsec <= after.tv_nsec));
	}
	assert_int_equal(gettime(123456, &ts), -EINVAL);
	assert_int_equal(getres(CLOCK_REALTIME, &ts), 0);
	assert_true(ts.tv_nsec > 0);
	assert_int_equal(timeofday(&tv, NULL), 0);
	assert_in_range(tv.tv_sec, time(NULL) - 5, time(NULL) + 5);
	assert_in_range(seconds(&now), time(NULL) - 5, time(NULL) + 5);
	assert_in_range(now, time(NULL) - 5, time(NULL) + 5);
	assert_int_equal(getcpu(&cpu, &node, NULL), 0);
	assert_true(cpu < 100000 && node < 100000);
}

static void test_own_is_read(void **state)
{
	UNUSED(state);
	assert_non_null(in_copy("__vdso_clock_gettime"));
	assert_ptr_equal(in_copy("__vdso_clock_gettime"), in_copy("clock_gettime"));
	assert_null(in_copy("__vdso_no_such_thing"));
}

/* To the functions of the same name. */
static void test_redirected(void **state)
{
	/* A state that may lie across two pages is refused (lib/vdso/getrandom.c of the kernel). */
	static _Alignas(256) uint8_t other_state[256];
	long (*random)(void *, size_t, unsigned int, void *, size_t);
	uint8_t state_params[64] = {0}, bytes[16] = {0}, zeros[16] = {0};

	UNUSED(state);
	for (int i = 0; i < 2; i++) {
		assert_int_equal(
			vdso_redirect(copy, own_len, (uint64_t)copy, own, own_len, (uint64_t)own),
			0);
		call_all();
	}
	random = in_copy("__vdso_getrandom");
	if (!random)
		return;
	assert_int_equal(random(NULL, 0, 0, state_params, ~0UL), 0);
	assert_true(state_params[0] > 0);
	/* A state of another kernel's size is not used. */
	assert_int_equal(random(bytes, sizeof(bytes), 0, other_state, 8), sizeof(bytes));
	assert_memory_not_equal(bytes, zeros, sizeof(bytes));
}

/* An image without any of them: the symbols are nameless objects. */
static size_t make_empty(uint8_t *image)
{
	const Elf64_Ehdr *header = (const void *)image;
	const Elf64_Phdr *part = (const void *)(image + header->e_phoff);
	Elf64_Dyn *entry = NULL;
	uint64_t symbols = 0, strings = 0;

	memcpy(image, own, own_len);
	for (int i = 0; i < header->e_phnum; i++)
		if (part[i].p_type == PT_DYNAMIC)
			entry = (Elf64_Dyn *)(image + part[i].p_offset);
	for (; entry->d_tag != DT_NULL; entry++) {
		symbols = entry->d_tag == DT_SYMTAB ? entry->d_un.d_ptr : symbols;
		strings = entry->d_tag == DT_STRTAB ? entry->d_un.d_ptr : strings;
	}
	for (; symbols + sizeof(Elf64_Sym) <= strings; symbols += sizeof(Elf64_Sym))
		((Elf64_Sym *)(image + symbols))->st_info = ELF64_ST_INFO(STB_GLOBAL, STT_OBJECT);
	return own_len;
}

/* To system calls, and back to functions, as for a program that goes to and fro. */
static void test_system_calls(void **state)
{
	uint8_t *empty = malloc(own_len), params[64] = {0}, bytes[16] = {0}, zeros[16] = {0};
	long (*random)(void *, size_t, unsigned int, void *, size_t);
	size_t len;

	UNUSED(state);
	memcpy(empty, own, own_len);
	len = make_empty(empty);
	assert_int_equal(vdso_redirect(copy, own_len, (uint64_t)copy, empty, len, 0x1000), 0);
	call_all();
	random = in_copy("__vdso_getrandom");
	if (random) {
		assert_int_equal(random(NULL, 0, 0, params, ~0UL), -ENOSYS);
		assert_int_equal(random(bytes, sizeof(bytes), 0, zeros, sizeof(zeros)),
				 sizeof(bytes));
		assert_memory_not_equal(bytes, zeros, sizeof(bytes));
	}
	assert_int_equal(vdso_redirect(copy, own_len, (uint64_t)copy, own, own_len, (uint64_t)own),
			 0);
	call_all();
	free(empty);
}

static Elf64_Sym *find_symbol(uint8_t *image, const char *name)
{
	const Elf64_Ehdr *header = (const void *)image;
	const Elf64_Phdr *part = (const void *)(image + header->e_phoff);
	const Elf64_Dyn *entry = NULL;
	uint64_t symbols = 0, strings = 0;

	for (int i = 0; i < header->e_phnum; i++)
		if (part[i].p_type == PT_DYNAMIC)
			entry = (const Elf64_Dyn *)(image + part[i].p_offset);
	for (; entry->d_tag != DT_NULL; entry++) {
		symbols = entry->d_tag == DT_SYMTAB ? entry->d_un.d_ptr : symbols;
		strings = entry->d_tag == DT_STRTAB ? entry->d_un.d_ptr : strings;
	}
	for (; symbols < strings; symbols += sizeof(Elf64_Sym)) {
		Elf64_Sym *symbol = (Elf64_Sym *)(image + symbols);

		if (!strcmp((const char *)image + strings + symbol->st_name, name))
			return symbol;
	}
	return NULL;
}

static int redirect_copy(void)
{
	return vdso_redirect(copy, own_len, (uint64_t)copy, own, own_len, (uint64_t)own);
}

static void test_refused(void **state)
{
	uint8_t *image = copy;
	Elf64_Sym *symbol = find_symbol(image, "__vdso_time");

	UNUSED(state);
	symbol->st_size = 8;
	assert_int_equal(redirect_copy(), -ENOEXEC);
	assert_string_equal(log_reason(), "a vdso's __vdso_time is too short to be redirected");
	log_reason_clear();
	fresh(NULL);
	symbol->st_name += 1; /* _vdso_time */
	assert_int_equal(redirect_copy(), -ENOEXEC);
	assert_string_equal(log_reason(), "a vdso has a function that is unknown here: _vdso_time");
	fresh(NULL);
	symbol->st_value = own_len - 8;
	assert_int_equal(redirect_copy(), -ENOEXEC);
	fresh(NULL);
	symbol->st_value = UINT64_MAX - 4;
	assert_int_equal(redirect_copy(), -ENOEXEC);
	fresh(NULL);
	symbol->st_name = UINT32_MAX;
	assert_int_equal(redirect_copy(), -ENOEXEC);
}

static int count(void *data, const struct vdso_function *f)
{
	UNUSED(f);
	++*(unsigned int *)data;
	return 0;
}

/* Each beginning of an image, each in memory of just that size. */
static void test_short(void **state)
{
	unsigned int nr = 0, all = 0;

	UNUSED(state);
	assert_int_equal(vdso_each_function(own, own_len, count, &all), 0);
	assert_true(all >= 5);
	for (size_t len = 0; len < own_len; len++) {
		uint8_t *image = malloc(len ? len : 1);

		memcpy(image, own, len);
		nr = 0;
		assert_in_range(-vdso_each_function(image, len, count, &nr), 0, ENOEXEC);
		assert_true(nr <= all);
		vdso_redirect(image, len, 0x10000, own, own_len, (uint64_t)own);
		free(image);
	}
}

static void test_garbage(void **state)
{
	uint8_t *image = malloc(own_len);

	UNUSED(state);
	srand(1);
	for (int round = 0; round < 20000; round++) {
		memcpy(image, own, own_len);
		/* Headers, dynamic section and symbols lie in the first bytes. */
		for (int i = rand() % 8; i >= 0; i--)
			image[(size_t)rand() % (i % 2 ? own_len : 0x600)] = (uint8_t)rand();
		vdso_redirect(image, own_len, 0x10000, own, own_len, (uint64_t)own);
		memcpy(copy, own, own_len);
		vdso_redirect(copy, own_len, (uint64_t)copy, image, own_len, 0x20000);
		log_reason_clear();
	}
	free(image);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup(test_own_is_read, fresh),
		cmocka_unit_test_setup(test_redirected, fresh),
		cmocka_unit_test_setup(test_system_calls, fresh),
		cmocka_unit_test_setup(test_refused, fresh),
		cmocka_unit_test_setup(test_short, fresh),
		cmocka_unit_test_setup(test_garbage, fresh),
	};

	return cmocka_run_group_tests(tests, setup, NULL);
}
