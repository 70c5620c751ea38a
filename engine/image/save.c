/* SPDX-License-Identifier: MIT */
/*
 * A process into an image file.
 *
 *     offer, files     it runs; what cannot be carried is refused here
 *     frozen           description, memory
 *     leave running:   it goes on; then the file is made safe
 *     else             the file is made safe; then it is ended
 */
#include "engine/image/save.h"

#include "engine/image/write.h"
#include "engine/move/files.h"
#include "engine/move/offer.h"
#include "engine/paging/source.h"
#include "engine/process/dump.h"
#include "engine/process/proc.h"
#include "engine/state/fd.h"
#include "engine/state/vma_class.h"
#include "lib/arena.h"
#include "lib/clock.h"
#include "lib/fault.h"
#include "lib/io.h"
#include "lib/kernel.h"
#include "lib/log.h"
#include "lib/text.h"
#include "transport/message.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/wait.h>

static struct saving {
	struct move move;
	const struct image_save *save;
	struct image_writer writer;
	struct freeze freeze;
	struct dump dump;
	struct source source;
	struct pagemap map;
	bool with_vdso;
} * saving;

int image_save_init(void)
{
	int err;

	saving = arena_alloc(ARENA_TABLES, sizeof(*saving), 16);
	if (!saving)
		return -ENOMEM;
	saving->source.mem_fd = -1;
	err = freeze_init(&saving->freeze);
	if (!err)
		err = dump_init(&saving->dump, &saving->freeze);
	if (!err)
		err = pagemap_init(&saving->map);
	if (!err)
		err = files_init();
	return err ? err : fd_init();
}

/* ---- while it runs ---- */

static int write_offer(struct saving *s)
{
	struct frame frame = {.type = FRAME_OFFER};
	size_t mark = arena_mark();
	baton_MoveOffer *offer = arena_alloc(ARENA_SCRATCH, sizeof(*offer), 16);
	struct move *move = &s->move;
	int err;

	if (!offer)
		return log_no_room("the offer");
	err = offer_collect(move->state.pid, offer);
	if (!err) {
		text_copy(move->state.comm, sizeof(move->state.comm), offer->comm);
		offer->allow_clock_jump = move->options->allow_clock_jump;
		/* Nobody knows on what kernel it will be started again. */
		s->with_vdso = offer->with_vdso = offer->vdso_known;
		err = message_queue(&move->link->fast, &frame, baton_MoveOffer_fields, offer, -1);
	}
	arena_reset(mark);
	return err;
}

static int write_files(struct saving *s, bool frozen)
{
	int sent = files_send(&s->move.link->fast, s->move.state.pid, frozen, -1);

	return sent < 0 ? sent : 0;
}

/* ---- while it stands still ---- */

static int write_memory(void *data, uint64_t pos, uint64_t end)
{
	struct saving *s = data;
	struct lane *lane = &s->move.link->fast;
	uint64_t run =
		IMAGE_RUN_BYTES > s->source.page_bytes ? IMAGE_RUN_BYTES : s->source.page_bytes;

	while (pos < end) {
		uint64_t left = run - pos % run;
		int err = source_emit(&s->source, lane, &s->map, &pos,
				      end - pos < left ? end : pos + left, 0, false);

		if (!err)
			err = lane_flush(lane) < 0 ? -EIO : 0;
		if (!err && link_stopping())
			err = log_fail(EINTR, "ended by a signal");
		if (err)
			return err;
	}
	return 0;
}

/* What was sent after its description would end with it. */
static int check_signals(struct saving *s)
{
	if (s->save->leave_running || !signal_came(&s->dump))
		return 0;
	return log_fail(
		EAGAIN,
		"pid %d was sent a signal while it was being written, and gets it here; try "
		"again",
		s->move.state.pid);
}

static int write_process(struct saving *s)
{
	struct frame check = {.type = FRAME_CHECK}, described = {.type = FRAME_DESCRIBED};
	struct lane *lane = &s->move.link->fast;
	int err = write_files(s, true);

	if (!err)
		err = lane_queue_wait(lane, &check, NULL, -1);
	if (!err)
		err = dump_describe(&s->dump, lane);
	described.addr = s->dump.nr_state;
	if (!err)
		err = lane_queue_wait(lane, &described, NULL, -1);
	if (!err)
		err = source_open(&s->source, s->move.state.pid);
	/* In a file they take no room. */
	s->source.zero_run_bytes = s->source.page_bytes;
	/* A file is made once, and read more slowly than it is unpacked. */
	s->source.packer.rule = PACK_ALWAYS;
	s->source.pack = IS_ENABLED(CONFIG_COMPRESS_LZ4) && s->move.link->compress != PACK_NEVER;
	if (!err)
		err = pagemap_open(&s->map, s->move.state.pid);
	if (!err)
		err = vma_each_lazy(s->dump.proc_fd, write_memory, s);
	if (!err)
		err = lane_flush_wait(lane, -1);
	return err ? err : check_signals(s);
}

/* ---- after ---- */

static void report_pages(struct saving *s)
{
	struct move_report *report = &s->move.report;

	report->pages_sent = s->source.pages_sent + s->dump.nr_eager;
	report->pages_zero = s->source.pages_zero;
	report->pages_total = report->pages_sent + report->pages_zero;
}

static void stop_reading(struct saving *s)
{
	source_close(&s->source);
	pagemap_close(&s->map);
}

/* It runs on, as if nothing had been. */
static void let_run(struct saving *s)
{
	char reason[LOG_REASON_MAX];

	text_copy(reason, sizeof(reason), log_reason());
	stop_reading(s);
	dump_release(&s->dump);
	s->move.report.downtime_us = (uint64_t)(clock_now_us() - s->move.part_us);
	log_reason_clear();
	if (reason[0])
		log_fail(EIO, "%s", reason);
}

static void end_process(struct saving *s)
{
	stop_reading(s);
	dump_kill(&s->dump);
	(void)fault_point(FAULT_IMAGE_KILLED);
	dump_reap(&s->dump);
}

/* From the freeze to the end. The one place that lets it run again. */
static int freeze_and_write(struct saving *s)
{
	struct move *move = &s->move;
	bool stay = s->save->leave_running;
	int err;

	dump_prepare(&s->dump, move->state.pid);
	move_stage(move, "freeze");
	move_part_begin(move);
	err = dump_open(&s->dump, move->state.pid, s->with_vdso);
	move->report.freeze_us = (uint64_t)(clock_now_us() - move->part_us);
	if (err)
		return err;
	move_stage(move, "write");
	err = write_process(s);
	report_pages(s);
	/* Nothing of it is needed any more. */
	if (err || stay)
		let_run(s);
	if (err)
		return err;
	err = image_write_end(&s->writer, s->save->sign);
	/* That takes its time; then the file is there, and it runs on beside it. */
	if (!err)
		err = check_signals(s);
	if (!stay)
		(err ? let_run : end_process)(s);
	return err;
}

static enum outcome outcome_of(int err)
{
	switch (-err) {
	case ENOMEM:
	case ENOSPC:
	case EROFS:
	case EACCES:
	case EPERM:
		return OUTCOME_SYSTEM;
	case EIO:
	case EINTR:
		return OUTCOME_FAILED;
	default:
		return OUTCOME_REFUSED;
	}
}

static enum outcome run(struct saving *s)
{
	struct link *link = s->move.link;
	int err;

	move_stage(&s->move, "offer");
	err = image_write_begin(&s->writer, s->save->path, &link->fast);
	if (err)
		return outcome_of(err);
	/* The file's own, as a move's: half of its token. */
	text_put_hex(s->move.report.id, s->writer.preamble + ROUTE_BYTES - ROUTE_TOKEN_BYTES,
		     MOVESTATE_ID_BYTES, '\0');
	err = link_say_hello(link, &link->fast, -1);
	if (!err)
		err = write_offer(s);
	files_begin();
	if (!err)
		err = write_files(s, false);
	if (err)
		return outcome_of(err);
	err = freeze_and_write(s);
	if (err)
		log_fail(-err, "%m"); /* if nothing was said */
	return err ? OUTCOME_FAILED : OUTCOME_DONE;
}

enum outcome image_save(struct link *link, const struct move_options *options,
			const struct image_save *save)
{
	struct saving *s = saving;
	enum outcome outcome;

	s->save = save;
	move_begin(&s->move, link, options);
	text_copy(link->peer, sizeof(link->peer), save->path);
	outcome = run(s);
	image_write_drop(&s->writer);
	return move_end(&s->move, outcome);
}
