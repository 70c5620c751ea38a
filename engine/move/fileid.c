/* SPDX-License-Identifier: MIT */
/* The identity of a file: size and GNU build-id, else size and SHA-256. */
#include <elf.h>
#include <errno.h>
#include <mbedtls/sha256.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "engine/move/fileid.h"
#include "lib/io.h"
#include "lib/text.h"

/* Bytes read at once; on the stack. */
#define PIECE_BYTES 4096 /* not a page */
/* Samples of a file above FILEID_WHOLE_MAX: this many, of this size, evenly spaced. */
#define NR_SAMPLES 4096   /* not a page */
#define SAMPLE_BYTES 4096 /* not a page */
/* A note segment or a program header table larger than this is not looked at. */
#define NOTES_MAX 4096 /* not a page */
#define PHDRS_MAX 64

static int digest_range(mbedtls_sha256_context *sha, int fd, uint64_t offset, uint64_t len)
{
	uint8_t piece[PIECE_BYTES];
	int err;

	while (len) {
		size_t n = len < sizeof(piece) ? len : sizeof(piece);

		err = io_pread_full(fd, piece, n, offset);
		if (err)
			return err;
		if (mbedtls_sha256_update(sha, piece, n))
			return -EIO;
		offset += n;
		len -= n;
	}
	return 0;
}

static int digest_samples(mbedtls_sha256_context *sha, int fd, uint64_t size)
{
	/* Ends on the last bytes of the file: appended or cut data changes the digest. */
	uint64_t step = (size - SAMPLE_BYTES) / (NR_SAMPLES - 1);
	int err;

	for (unsigned int i = 0; i < NR_SAMPLES - 1; i++) {
		err = digest_range(sha, fd, i * step, SAMPLE_BYTES);
		if (err)
			return err;
	}
	return digest_range(sha, fd, size - SAMPLE_BYTES, SAMPLE_BYTES);
}

/* SHA-256 of a whole range or of samples of it. */
static int digest(int fd, uint64_t offset, uint64_t len, bool sampled, uint8_t out[static 32])
{
	mbedtls_sha256_context sha;
	int err = -EIO;

	mbedtls_sha256_init(&sha);
	if (mbedtls_sha256_starts(&sha, 0))
		goto out;
	err = sampled ? digest_samples(&sha, fd, len) : digest_range(&sha, fd, offset, len);
	if (!err && mbedtls_sha256_finish(&sha, out))
		err = -EIO;
out:
	mbedtls_sha256_free(&sha);
	return err;
}

int fileid_digest(int fd, uint64_t offset, uint64_t len, uint8_t out[static 32])
{
	return digest(fd, offset, len, false, out);
}

/* Looks for the GNU build-id among the notes in `notes`. True when found. */
static bool notes_find_build_id(const uint8_t *notes, size_t len, struct fileid *id)
{
	size_t pos = 0;

	while (len - pos >= sizeof(Elf64_Nhdr)) {
		Elf64_Nhdr note;
		size_t name_len, desc_len;

		memcpy(&note, notes + pos, sizeof(note));
		pos += sizeof(note);
		if (note.n_namesz > NOTES_MAX || note.n_descsz > NOTES_MAX)
			return false;
		name_len = (note.n_namesz + 3u) & ~3u;
		desc_len = (note.n_descsz + 3u) & ~3u;
		if (name_len > len - pos || desc_len > len - pos - name_len)
			return false;
		if (note.n_type == NT_GNU_BUILD_ID && note.n_namesz == 4 &&
		    !memcmp(notes + pos, "GNU", 4) && note.n_descsz >= 8 &&
		    note.n_descsz <= FILEID_VALUE_MAX) {
			id->kind = FILEID_BUILD_ID;
			id->len = note.n_descsz;
			memcpy(id->value, notes + pos + name_len, note.n_descsz);
			return true;
		}
		pos += name_len + desc_len;
	}
	return false;
}

/* True when the file is a 64-bit ELF file of this byte order with a build-id, which is then in `id`. */
static bool elf_find_build_id(int fd, uint64_t size, struct fileid *id)
{
	uint8_t notes[NOTES_MAX];
	Elf64_Ehdr elf;
	Elf64_Phdr phdr;

	if (size < sizeof(elf) || io_pread_full(fd, &elf, sizeof(elf), 0))
		return false;
	if (memcmp(elf.e_ident, ELFMAG, SELFMAG) || elf.e_ident[EI_CLASS] != ELFCLASS64 ||
	    elf.e_ident[EI_DATA] != ELFDATA2LSB || elf.e_phentsize != sizeof(phdr) ||
	    elf.e_phnum > PHDRS_MAX || elf.e_phoff > size)
		return false;
	for (unsigned int i = 0; i < elf.e_phnum; i++) {
		if (io_pread_full(fd, &phdr, sizeof(phdr), elf.e_phoff + i * sizeof(phdr)))
			return false;
		if (phdr.p_type != PT_NOTE || phdr.p_filesz > sizeof(notes) || phdr.p_offset > size)
			continue;
		if (io_pread_full(fd, notes, phdr.p_filesz, phdr.p_offset))
			continue;
		if (notes_find_build_id(notes, phdr.p_filesz, id))
			return true;
	}
	return false;
}

int fileid_collect(int fd, uint64_t size, struct fileid *id)
{
	bool sampled = size > FILEID_WHOLE_MAX;

	*id = (struct fileid){.size = size};
	if (elf_find_build_id(fd, size, id))
		return 0;
	id->kind = sampled ? FILEID_SAMPLED : FILEID_SHA256;
	id->len = 32;
	return digest(fd, 0, size, sampled, id->value);
}

void fileid_format(const struct fileid *id, char *out, size_t cap)
{
	/* Eight bytes tell two files apart for a reader; the comparison uses all. */
	uint8_t shown = id->len < 8 ? id->len : 8;
	char hex[3 * 8 + 1];

	text_put_hex(hex, id->value, shown, '\0');
	snprintf(out, cap, "%llu bytes, %s %s..", (unsigned long long)id->size,
		 id->kind == FILEID_BUILD_ID ? "build-id" : "SHA-256", hex);
}
