/* SPDX-License-Identifier: MIT */
/*
 * What a description puts onto its lane: messages, and pages that come before the start (engine/state/state.h has
 * the functions).
 */
#include "engine/process/dump_emit.h"

#include "engine/paging/pagemap.h"
#include "engine/state/state.h"
#include "lib/clock.h"
#include "lib/fault.h"
#include "lib/log.h"
#include "transport/lane.h"
#include "transport/message.h"

#include <errno.h>
#include <string.h>

/* So much of a description is worth a record of its own. */
#define EARLY_BYTES 2048
/* So much of it tells how fast it goes. */
#define TELLING_BYTES 8192

void dump_emit_begin(struct dump *d, struct lane *out)
{
	d->out = out;
	d->packer = (struct packer){.rule = out->pack};
	d->out_bytes_s = 0;
}

/*
 * Notes how fast it goes, with what the cipher takes: where that is a slow one, packing saves time on every link.
 */
static int flush(struct dump *d, int (*send)(struct lane *lane))
{
	uint32_t len = d->out->tx_len - d->out->tx_sent;
	int64_t began_ns = clock_now_ns(), ns;
	int err = send(d->out);

	ns = clock_now_ns() - began_ns;
	if (err >= 0 && len >= TELLING_BYTES && ns > 0)
		d->out_bytes_s = (uint64_t)len * 1000000000 / (uint64_t)ns;
	return err;
}

static int send_all(struct lane *lane)
{
	return lane_flush_wait(lane, -1);
}

int dump_emit(struct dump *d, const struct state_kind *kind, const void *msg)
{
	struct frame frame = {.type = FRAME_STATE, .space = kind->id, .addr = d->nr_state};
	int err = message_queue(d->out, &frame, kind->fields, msg, -1);

	d->nr_state++;
	/* The target builds while we go on reading. */
	if (!err && d->out->tx_len - d->out->tx_sent >= EARLY_BYTES)
		err = flush(d, lane_flush);
	if (err < 0)
		return log_fail(-err, "pid %d: its %s could not be sent: %m", d->pid, kind->name);
	return fault_point(FAULT_DUMP_STATE);
}

static void pack(struct dump *d, struct frame *frame, uint8_t *body)
{
	uint32_t len = frame->len;

	/* What the cipher takes here it takes once more over there, and unpacking is nothing to that. */
	if (pack_pays(&d->packer, d->out_bytes_s / 2))
		pack_shrink(&d->packer, frame, body);
	if (frame->type == FRAME_PACKED) {
		d->out->packed_raw += len;
		d->out->packed_wire += frame->len;
	}
}

int dump_emit_pages(struct dump *d, uint64_t start, uint64_t end)
{
	const uint64_t most = FRAME_BODY_MAX & ~(d->pagemap.page_bytes - 1);
	uint64_t addr, len;
	int err;

	for (addr = start; addr < end; addr += len) {
		struct frame frame = {.type = FRAME_PAGES, .addr = addr};
		uint8_t *body;

		len = end - addr < most ? end - addr : most;
		body = lane_body(d->out, (uint32_t)len);
		if (!body) {
			err = flush(d, send_all);
			body = err < 0 ? NULL : lane_body(d->out, (uint32_t)len);
			if (!body)
				return err < 0 ? err : -ENOBUFS;
		}
		err = remote_read(&d->leader, addr, body, len);
		if (err)
			return log_fail(-err, "pid %d: %llu bytes at %#llx cannot be read", d->pid,
					(unsigned long long)len, (unsigned long long)addr);
		frame.len = (uint32_t)len;
		pack(d, &frame, body);
		err = lane_queue(d->out, &frame, NULL);
		if (!err)
			err = fault_point(FAULT_DUMP_PAGES);
		if (err)
			return err;
		d->nr_eager += len >> arch_page_shift();
	}
	return 0;
}

int dump_emit_existing(struct dump *d, uint64_t start, uint64_t end)
{
	uint64_t from, upto, done;
	int err = 0;

	while (start < end && !err) {
		err = pagemap_next(&d->pagemap, start, end, &from, &upto, &done);
		if (!err && from < upto)
			err = dump_emit_pages(d, from, upto);
		start = done;
	}
	return err;
}
