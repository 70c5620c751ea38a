/* SPDX-License-Identifier: MIT */
/*
 * Identity of files: build-id where there is one, else a digest; hostile ELF files.
 *
 * needs: engine/move/fileid.c lib/io.c lib/text.c mbedtls
 */
#include "engine/move/fileid.h"

#include "tests/unit/unit.h"
#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

/* keys.c and tls.c are not linked: mbedtls asks for randomness by this name. */
int mbedtls_psa_external_get_random(void *context, uint8_t *out, size_t size, size_t *filled);
int mbedtls_psa_external_get_random(void *context, uint8_t *out, size_t size, size_t *filled)
{
	UNUSED(context);
	UNUSED(out);
	*filled = size;
	return -1;
}

static int file_of(const void *bytes, size_t len)
{
	int fd = memfd_create("fileid", 0);

	assert_true(fd >= 0);
	assert_int_equal(write(fd, bytes, len), (ssize_t)len);
	return fd;
}

static void test_digest(void **unused)
{
	/* FIPS 180-2, appendix B.1. */
	static const uint8_t abc[32] = {0xba, 0x78, 0x16, 0xbf, 0x8f, 0x01, 0xcf, 0xea,
					0x41, 0x41, 0x40, 0xde, 0x5d, 0xae, 0x22, 0x23,
					0xb0, 0x03, 0x61, 0xa3, 0x96, 0x17, 0x7a, 0x9c,
					0xb4, 0x10, 0xff, 0x61, 0xf2, 0x00, 0x15, 0xad};
	struct fileid id;
	char text[FILEID_TEXT_MAX];
	int fd = file_of("abc", 3);

	UNUSED(unused);
	assert_int_equal(fileid_collect(fd, 3, &id), 0);
	assert_int_equal(id.kind, FILEID_SHA256);
	assert_int_equal(id.size, 3);
	assert_int_equal(id.len, 32);
	assert_memory_equal(id.value, abc, 32);
	fileid_format(&id, text, sizeof(text));
	assert_string_equal(text, "3 bytes, SHA-256 ba7816bf8f01cfea..");
	/* It has become shorter since it was looked at. */
	assert_int_equal(fileid_collect(fd, 4, &id), -ENODATA);
	close(fd);
}

struct elf_file {
	Elf64_Ehdr elf;
	Elf64_Phdr phdr;
	Elf64_Nhdr note;
	char name[4];
	uint8_t build_id[20];
};

static struct elf_file elf_example(void)
{
	struct elf_file file = {
		.elf = {.e_ident = {0x7f, 'E', 'L', 'F', ELFCLASS64, ELFDATA2LSB},
			.e_phoff = offsetof(struct elf_file, phdr),
			.e_phentsize = sizeof(Elf64_Phdr),
			.e_phnum = 1},
		.phdr = {.p_type = PT_NOTE,
			 .p_offset = offsetof(struct elf_file, note),
			 .p_filesz = sizeof(struct elf_file) - offsetof(struct elf_file, note)},
		.note = {.n_namesz = 4, .n_descsz = 20, .n_type = NT_GNU_BUILD_ID},
		.name = "GNU",
	};

	memset(file.build_id, 0x5a, sizeof(file.build_id));
	return file;
}

static uint8_t kind_of(const struct elf_file *file)
{
	struct fileid id;
	int fd = file_of(file, sizeof(*file));

	assert_int_equal(fileid_collect(fd, sizeof(*file), &id), 0);
	close(fd);
	if (id.kind == FILEID_BUILD_ID)
		assert_memory_equal(id.value, file->build_id, id.len);
	return id.kind;
}

static void test_build_id(void **unused)
{
	struct elf_file file = elf_example();

	UNUSED(unused);
	assert_int_equal(kind_of(&file), FILEID_BUILD_ID);
}

static void test_hostile_elf(void **unused)
{
	struct elf_file file;

	UNUSED(unused);
	file = elf_example();
	file.elf.e_phoff = UINT64_MAX - 8;
	assert_int_equal(kind_of(&file), FILEID_SHA256);
	file = elf_example();
	file.elf.e_phnum = UINT16_MAX;
	assert_int_equal(kind_of(&file), FILEID_SHA256);
	file = elf_example();
	file.phdr.p_filesz = UINT64_MAX;
	assert_int_equal(kind_of(&file), FILEID_SHA256);
	file = elf_example();
	file.phdr.p_offset = UINT64_MAX - 4;
	assert_int_equal(kind_of(&file), FILEID_SHA256);
	file = elf_example();
	file.note.n_descsz = UINT32_MAX;
	assert_int_equal(kind_of(&file), FILEID_SHA256);
	file = elf_example();
	file.note.n_namesz = UINT32_MAX - 2;
	assert_int_equal(kind_of(&file), FILEID_SHA256);
	file = elf_example();
	file.note.n_descsz = 28; /* beyond the end */
	assert_int_equal(kind_of(&file), FILEID_SHA256);
}

static void test_samples(void **unused)
{
	struct fileid a, b;
	int fd = memfd_create("fileid", 0);
	uint64_t size = FILEID_WHOLE_MAX + 4096 * 3 + 1;

	UNUSED(unused);
	assert_int_equal(ftruncate(fd, (off_t)size), 0);
	assert_int_equal(fileid_collect(fd, size, &a), 0);
	assert_int_equal(a.kind, FILEID_SAMPLED);
	/* The last byte counts. */
	assert_int_equal(pwrite(fd, "x", 1, (off_t)size - 1), 1);
	assert_int_equal(fileid_collect(fd, size, &b), 0);
	assert_memory_not_equal(a.value, b.value, 32);
	close(fd);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_digest),
		cmocka_unit_test(test_build_id),
		cmocka_unit_test(test_hostile_elf),
		cmocka_unit_test(test_samples),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
