/* SPDX-License-Identifier: MIT */
/* Images of a vdso: finding them, reading their symbols, redirecting their functions. */
#include "engine/process/vdso.h"

#include "arch/arch.h"
#include "engine/process/proc.h"
#include "lib/io.h"
#include "lib/log.h"

#include <elf.h>
#include <errno.h>
#include <string.h>
#include <sys/auxv.h>

/* A vdso exports a dozen names. */
#define SYMBOLS_MAX 256
#define AUXV_MAX 1024

/* ---- where it lies ---- */

/* What the program was told at its start, or 0. */
static uint64_t told_at_start(int proc_fd)
{
	uint64_t auxv[AUXV_MAX / sizeof(uint64_t)];
	ssize_t n = io_read_file(proc_fd, "auxv", (char *)auxv, sizeof(auxv));

	for (size_t i = 0; n > 0 && i + 1 < (size_t)n / sizeof(auxv[0]); i += 2)
		if (auxv[i] == AT_SYSINFO_EHDR)
			return auxv[i + 1];
	return 0;
}

static void look_at(struct vdso_place *place, const struct proc_map *map, uint64_t told)
{
	if (!strcmp(map->name, "[vdso]"))
		place->own = (struct vdso_range){map->start, map->end - map->start};
	/* It may have been joined with other code of the program. */
	if (told >= map->start && told < map->end && map->exec && !map->shared && !map->inode)
		place->known = (struct vdso_range){told, map->end - told};
}

int vdso_find(int proc_fd, struct vdso_place *place)
{
	char buf[PROC_LINE_MAX], *line;
	uint64_t told = told_at_start(proc_fd);
	struct line_reader reader;
	struct proc_map map;
	int got, err;

	*place = (struct vdso_place){0};
	err = line_reader_open(&reader, proc_fd, "maps", buf, sizeof(buf));
	if (err)
		return err;
	while ((got = line_reader_next(&reader, &line)) > 0)
		if (proc_map_parse(line, &map))
			look_at(place, &map, told);
	line_reader_close(&reader);
	if (got < 0 || !place->own.len)
		return got < 0 ? got : -ENOENT;
	if (place->own.len > VDSO_MAX_BYTES)
		return -EFBIG;
	if (!place->known.len)
		place->known = place->own;
	if (place->known.len > VDSO_MAX_BYTES)
		place->known.len = VDSO_MAX_BYTES;
	return 0;
}

/* ---- its symbols ---- */

struct elf {
	const uint8_t *image;
	size_t len;
	uint64_t bias; /* of addresses in it; some kernels gave it one that is not 0 */
	uint64_t dynamic, symbols, strings, strings_len; /* offsets; 0: not there */
};

static bool take(const struct elf *elf, uint64_t offset, void *out, size_t size)
{
	if (offset > elf->len || size > elf->len - offset)
		return false;
	memcpy(out, elf->image + offset, size);
	return true;
}

static bool read_headers(struct elf *elf)
{
	Elf64_Ehdr header;
	bool loads = false;

	if (!take(elf, 0, &header, sizeof(header)) ||
	    memcmp(header.e_ident, ELFMAG, SELFMAG) != 0 ||
	    header.e_ident[EI_CLASS] != ELFCLASS64 || header.e_ident[EI_DATA] != ELFDATA2LSB ||
	    header.e_phentsize != sizeof(Elf64_Phdr))
		return false;
	for (unsigned int i = 0; i < header.e_phnum; i++) {
		Elf64_Phdr part;

		if (!take(elf, header.e_phoff + i * sizeof(part), &part, sizeof(part)))
			return false;
		if (part.p_type == PT_LOAD && !loads) {
			elf->bias = part.p_vaddr - part.p_offset;
			loads = true;
		} else if (part.p_type == PT_DYNAMIC) {
			elf->dynamic = part.p_offset;
		}
	}
	return loads && elf->dynamic;
}

static bool read_dynamic(struct elf *elf)
{
	uint64_t at = elf->dynamic;
	Elf64_Dyn entry;

	for (; take(elf, at, &entry, sizeof(entry)) && entry.d_tag != DT_NULL; at += sizeof(entry))
		switch (entry.d_tag) {
		case DT_SYMTAB:
			elf->symbols = entry.d_un.d_ptr - elf->bias;
			break;
		case DT_STRTAB:
			elf->strings = entry.d_un.d_ptr - elf->bias;
			break;
		case DT_STRSZ:
			elf->strings_len = entry.d_un.d_val;
			break;
		default:
			break;
		}
	/* The linker scripts of all vdsos put the names behind the symbols: their number needs no hash
	 * table, of which there are two sorts. */
	return elf->symbols && elf->strings > elf->symbols && elf->strings < elf->len &&
	       elf->strings_len && elf->strings_len <= elf->len - elf->strings &&
	       (elf->strings - elf->symbols) / sizeof(Elf64_Sym) <= SYMBOLS_MAX;
}

/* A name that ends inside of the table and can be shown, or NULL. */
static const char *name_of(const struct elf *elf, uint32_t at)
{
	const char *name = (const char *)elf->image + elf->strings + at;
	size_t room = at < elf->strings_len ? (size_t)(elf->strings_len - at) : 0;

	for (size_t i = 0; i < room; i++)
		if (!name[i])
			return i ? name : NULL;
		else if (name[i] < '!' || name[i] > '~')
			return NULL;
	return NULL;
}

int vdso_each_function(const uint8_t *image, size_t len, vdso_function_fn *fn, void *data)
{
	struct elf elf = {.image = image, .len = len};
	Elf64_Sym symbol;
	int err = 0;

	if (!read_headers(&elf) || !read_dynamic(&elf))
		return -ENOEXEC;
	for (uint64_t at = elf.symbols; !err && elf.strings - at >= sizeof(symbol);
	     at += sizeof(symbol)) {
		struct vdso_function f;

		if (!take(&elf, at, &symbol, sizeof(symbol)))
			return -ENOEXEC;
		if (ELF64_ST_TYPE(symbol.st_info) != STT_FUNC || symbol.st_shndx == SHN_UNDEF)
			continue;
		f.name = name_of(&elf, symbol.st_name);
		f.offset = symbol.st_value - elf.bias;
		f.size = symbol.st_size;
		if (!f.name || f.offset > len || f.size > len - f.offset)
			return -ENOEXEC;
		err = fn(data, &f);
	}
	return err;
}

/* ---- redirecting ---- */

struct redirect {
	uint8_t *image;
	uint64_t at;
	const uint8_t *next;
	size_t next_len;
	uint64_t next_at;
};

/* The same function has two names, and the prefix is the architecture's. */
static const char *bare_name(const char *name)
{
	static const char *const prefixes[] = {"__vdso_", "__kernel_"};

	for (unsigned int i = 0; i < sizeof(prefixes) / sizeof(prefixes[0]); i++)
		if (!strncmp(name, prefixes[i], strlen(prefixes[i])))
			return name + strlen(prefixes[i]);
	return name;
}

struct search {
	const char *name;
	uint64_t offset;
};

static int is_it(void *data, const struct vdso_function *f)
{
	struct search *search = data;

	if (strcmp(bare_name(f->name), search->name) != 0)
		return 0;
	search->offset = f->offset;
	return 1;
}

static const struct arch_vdso_function *find_known(const char *name)
{
	for (unsigned int i = 0; i < arch_nr_vdso_functions; i++)
		if (!strcmp(arch_vdso_functions[i].name, name))
			return &arch_vdso_functions[i];
	return NULL;
}

static int redirect_one(void *data, const struct vdso_function *f)
{
	const struct redirect *r = data;
	struct search search = {.name = bare_name(f->name)};
	const struct arch_vdso_function *known = find_known(search.name);
	uint8_t code[ARCH_VDSO_ENTRY_MAX];
	size_t len;
	int got;

	if (!known)
		return log_fail(ENOEXEC, "a vdso has a function that is unknown here: %.40s",
				f->name);
	if (known->call < 0)
		return 0;
	got = vdso_each_function(r->next, r->next_len, is_it, &search);
	if (got < 0)
		return log_fail(-got, "this kernel's vdso cannot be read");
	len = arch_vdso_entry(code, known->call, r->at + f->offset,
			      got ? r->next_at + search.offset : 0);
	if (len > f->size)
		return log_fail(ENOEXEC, "a vdso's %.40s is too short to be redirected", f->name);
	memcpy(r->image + f->offset, code, len);
	return 0;
}

int vdso_redirect(uint8_t *image, size_t len, uint64_t at, const uint8_t *next, size_t next_len,
		  uint64_t next_at)
{
	struct redirect r = {image, at, next, next_len, next_at};
	int err = vdso_each_function(image, len, redirect_one, &r);

	return err ? log_fail(-err, "the vdso that the program knows makes no sense") : 0;
}
