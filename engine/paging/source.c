/* SPDX-License-Identifier: MIT */
/* Reading the memory of a stopped process into frames. */
#include "engine/paging/source.h"

#include "arch/arch.h"
#include "lib/io.h"
#include "lib/log.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/uio.h>
#include <unistd.h>

/* A frame is ended before so many bytes of zero pages; fewer are cheaper sent than told. */
#define ZERO_RUN_BYTES 16384

int source_open(struct source *source, pid_t pid)
{
	char path[32];
	int err;

	source_close(source);
	snprintf(path, sizeof(path), "/proc/%d/mem", (int)pid);
	source->mem_fd = open(path, O_RDONLY | O_CLOEXEC);
	if (source->mem_fd < 0) {
		err = errno;
		return log_fail(err, "pid %d: cannot open %s: %m", (int)pid, path);
	}
	source->pid = pid;
	source->page_bytes = (uint64_t)1 << arch_page_shift();
	source->zero_run_bytes = ZERO_RUN_BYTES;
	return 0;
}

void source_close(struct source *source)
{
	io_close(&source->mem_fd);
}

/*
 * process_vm_readv is twice as fast as /proc/PID/mem, but stops at pages that the program itself
 * may not read, a PROT_NONE area with content for example.
 */
static int memory_read(struct source *source, uint64_t addr, uint8_t *out, uint64_t len)
{
	uint64_t done = 0;

	while (done < len) {
		struct iovec local = {out + done, len - done};
		struct iovec remote = {(void *)(uintptr_t)(addr + done), len - done};
		ssize_t n = process_vm_readv(source->pid, &local, 1, &remote, 1, 0);

		if (n <= 0)
			n = pread(source->mem_fd, out + done, len - done, (off_t)(addr + done));
		if (n > 0) {
			done += (uint64_t)n;
			continue;
		}
		if (n < 0 && errno == EINTR)
			continue;
		if (n == 0 || errno == ESRCH || (kill(source->pid, 0) < 0 && errno == ESRCH))
			return log_fail(ESRCH,
					"pid %d has died while its memory was being handed over",
					(int)source->pid);
		addr += done;
		return log_fail(errno, "pid %d: cannot read its memory at %#llx: %m",
				(int)source->pid, (unsigned long long)addr);
	}
	return 0;
}

/* A body in the queue lies behind other frames, at any address. */
struct words {
	uint64_t word[8];
} __attribute__((packed, aligned(1), may_alias));

static bool page_is_zero(const uint8_t *page, uint64_t page_bytes)
{
	const struct words *at = (const struct words *)page;
	const struct words *end = (const struct words *)(page + page_bytes);

	for (; at < end; at++) {
		if (at->word[0] | at->word[1] | at->word[2] | at->word[3] | at->word[4] |
		    at->word[5] | at->word[6] | at->word[7])
			return false;
	}
	return true;
}

/* Counts pages from the front: all zero, or (`zero` false) up to a run of zeros worth telling. */
static uint64_t run_length(const struct source *source, const uint8_t *body, uint64_t nr_pages,
			   bool *zero)
{
	uint64_t worth = (source->zero_run_bytes + source->page_bytes - 1) / source->page_bytes;
	uint64_t nr_zero = 0, i;

	*zero = page_is_zero(body, source->page_bytes);
	for (i = 1; i < nr_pages; i++) {
		bool is_zero = page_is_zero(body + i * source->page_bytes, source->page_bytes);

		if (*zero && !is_zero)
			break;
		nr_zero = is_zero ? nr_zero + 1 : 0;
		if (!*zero && nr_zero == worth)
			return i + 1 - worth;
	}
	return *zero ? i : i - nr_zero;
}

static int emit_zero(struct source *source, struct lane *lane, uint64_t *pos, uint64_t len,
		     uint16_t space)
{
	struct frame frame = {.type = FRAME_ZERO, .space = space, .len = 8, .addr = *pos};
	uint8_t body[8];
	int err;

	frame_put_u64(len, body);
	err = lane_queue(lane, &frame, body);
	if (err)
		return err;
	source->pages_zero += len / source->page_bytes;
	*pos += len;
	return 0;
}

static int emit_run(struct source *source, struct lane *lane, uint64_t *pos, uint64_t end,
		    uint16_t space)
{
	struct frame frame = {.type = FRAME_PAGES, .space = space, .addr = *pos};
	uint64_t len = end - *pos, nr_pages;
	uint8_t *body;
	bool zero;
	int err;

	if (len > FRAME_BODY_MAX)
		len = FRAME_BODY_MAX / source->page_bytes * source->page_bytes;
	body = lane_body(lane, (uint32_t)len);
	if (!body)
		return 0;
	err = memory_read(source, *pos, body, len);
	if (err)
		return err;
	nr_pages = run_length(source, body, len / source->page_bytes, &zero);
	if (zero)
		return emit_zero(source, lane, pos, nr_pages * source->page_bytes, space);
	len = nr_pages * source->page_bytes;
	frame.len = (uint32_t)len;
	if (source->pack)
		pack_shrink(&source->packer, &frame, body);
	err = lane_queue(lane, &frame, NULL);
	if (err)
		return err;
	if (frame.type == FRAME_PACKED) {
		lane->packed_raw += len;
		lane->packed_wire += frame.len;
	}
	source->pages_sent += nr_pages;
	*pos += len;
	return 0;
}

int source_emit(struct source *source, struct lane *lane, struct pagemap *map, uint64_t *pos,
		uint64_t end, uint16_t space, bool tell_holes)
{
	uint64_t run_start, run_end, upto;
	int err;

	err = pagemap_next(map, *pos, end, &run_start, &run_end, &upto);
	if (err)
		return kill(source->pid, 0) < 0 && errno == ESRCH ? -ESRCH : err;
	if (run_start > *pos) {
		if (tell_holes)
			return emit_zero(source, lane, pos, run_start - *pos, space);
		*pos = run_start;
	}
	if (run_start == run_end)
		return 0;
	return emit_run(source, lane, pos, run_end, space);
}
