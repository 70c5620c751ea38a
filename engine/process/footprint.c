/* SPDX-License-Identifier: MIT */
/* How large a process is. Source: proc(5) smaps. */
#include "engine/process/footprint.h"

#include "arch/arch.h"
#include "engine/process/proc.h"
#include "lib/io.h"
#include "lib/text.h"

#include <stdbool.h>
#include <string.h>
#include <unistd.h>

/* What the engine leaves to userfaultfd. */
static bool is_lazy(const struct proc_map *map)
{
	return !map->shared && !map->inode && !arch_vdso_is_part(map->name) &&
	       !arch_vdso_is_fixed(map->name);
}

static void take_line(struct footprint *f, char *line, bool *lazy)
{
	const char *value;
	struct proc_map map;
	uint64_t kib;

	if ((value = text_after(line, "Rss:")) && text_take_u64(&value, 10, &kib)) {
		f->resident_kib += kib;
		f->lazy_kib += *lazy ? kib : 0;
	} else if ((value = text_after(line, "Swap:")) && text_take_u64(&value, 10, &kib)) {
		f->lazy_kib += *lazy ? kib : 0;
	} else if (proc_map_parse(line, &map)) {
		f->mappings++;
		*lazy = is_lazy(&map);
	}
}

static int read_smaps(int proc_fd, struct footprint *f)
{
	char buf[PROC_LINE_MAX], *line;
	struct line_reader reader;
	bool lazy = false;
	int err, got;

	err = line_reader_open(&reader, proc_fd, "smaps", buf, sizeof(buf));
	if (err)
		return err;
	while ((got = line_reader_next(&reader, &line)) > 0)
		take_line(f, line, &lazy);
	line_reader_close(&reader);
	return got;
}

int footprint_read(pid_t pid, struct footprint *footprint)
{
	struct proc_status status;
	int fd = proc_open(pid), err;

	memset(footprint, 0, sizeof(*footprint));
	if (fd < 0)
		return fd;
	err = proc_status(fd, &status);
	if (!err) {
		footprint->threads = status.threads;
		err = read_smaps(fd, footprint);
	}
	close(fd);
	return err;
}
