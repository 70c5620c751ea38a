/* SPDX-License-Identifier: MIT */
/* baton inspect: what is in an image file, and what it needs where it is started. */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "arch/arch.h"
#include "cmd/json.h"
#include "cmd/options.h"
#include "engine/image/head.h"
#include "engine/move/fileid.h"
#include "engine/move/move.pb.h"
#include "engine/move/offer.h"
#include "engine/state/fd.pb.h"
#include "engine/state/file.pb.h"
#include "engine/state/registers.pb.h"
#include "engine/state/state.h"
#include "engine/state/thread.pb.h"
#include "engine/state/vma.pb.h"
#include "lib/arena.h"
#include "lib/log.h"
#include "lib/text.h"
#include "transport/tls.h"

#define ALLOWED (OPTION_BIT(OPTION_KEYS) | OPTION_BIT(OPTION_JSON))

static struct inspect {
	struct image image;
	bool json;
	const char *comma; /* before the next object of a list */
	const char *trust;
	char comm[20]; /* of the thread that is told next */
	int tid;
} in;

/* Begins an object of a list, or a line. */
static void begin(void)
{
	if (in.json)
		printf("%s\n    {", in.comma);
	else
		printf("  ");
	in.comma = ",";
}

static void end(void)
{
	printf(in.json ? "}" : "\n");
}

static const char *backing_name(const baton_Vma *vma)
{
	static const char *const names[] = {"anonymous", "file", "shared", "memfd"};

	return (unsigned int)vma->backing < 4 ? names[vma->backing] : "?";
}

/* As people and ISO 8601 write it. */
static void format_time(int64_t time_s, char *out, size_t cap)
{
	time_t at = (time_t)time_s;
	struct tm utc;

	if (gmtime_r(&at, &utc))
		snprintf(out, cap, "%04lld-%02d-%02dT%02d:%02d:%02dZ", utc.tm_year + 1900ll,
			 utc.tm_mon + 1, utc.tm_mday, utc.tm_hour, utc.tm_min, utc.tm_sec);
	else
		snprintf(out, cap, "?");
}

/* ---- what a frame is shown as, in each of the lists ---- */

static int show_offer(const baton_MoveOffer *offer)
{
	const struct image_seal *seal = &in.image.seal;
	char made[48];

	format_time(seal->time_s, made, sizeof(made));
	if (in.json) {
		printf("{");
		json_print_member("file", in.image.path);
		printf(", \"format\": \"%u.%u\", \"bytes\": %llu, \"time\": %lld, "
		       "\"made\": \"%s\", ",
		       seal->major, seal->minor, (unsigned long long)in.image.size,
		       (long long)seal->time_s, made);
		json_print_member("signature", in.trust);
		printf(", ");
		json_print_member("signer", in.image.signer);
		printf(", ");
		json_print_member("comm", offer->comm);
		printf(", ");
		json_print_member("exe", offer->exe);
		printf(", ");
		json_print_member("architecture", offer->arch);
		printf(", ");
		json_print_member("kernel", offer->kernel);
		printf(", \"page_size\": %u, \"pid\": %u, \"uid\": %u, \"gid\": %u, "
		       "\"memory_bytes\": "
		       "%llu, \"packing\": \"%s\", \"monotonic_ns\": %lld, \"own_vdso\": %s",
		       offer->page_size, offer->tids_count ? offer->tids[0] : 0,
		       offer->uids_count ? offer->uids[0] : 0,
		       offer->gids_count ? offer->gids[0] : 0,
		       (unsigned long long)seal->memory_bytes, seal->packing ? "lz4" : "none",
		       (long long)offer->clocks.monotonic_ns, offer->with_vdso ? "true" : "false");
		return 0;
	}
	printf("%s: image of %s (pid %u), format %u.%u, %llu bytes, made at %s\n", in.image.path,
	       offer->comm, offer->tids_count ? offer->tids[0] : 0, seal->major, seal->minor,
	       (unsigned long long)in.image.size, made);
	printf("signature     %s%s%s\n", in.trust, in.image.signer[0] ? " " : "", in.image.signer);
	printf("program       %s\nuid, gid      %u, %u\n", offer->exe,
	       offer->uids_count ? offer->uids[0] : 0, offer->gids_count ? offer->gids[0] : 0);
	printf("needs         %s with pages of %u bytes and what this processor has; pid %u free, "
	       "or "
	       "--pidns%s\n",
	       offer->arch, offer->page_size, offer->tids_count ? offer->tids[0] : 0,
	       offer->with_vdso ? "" : "; the same vdso");
	printf("made on       Linux %s, CLOCK_MONOTONIC at %.3f s\n", offer->kernel,
	       (double)offer->clocks.monotonic_ns / 1e9);
	printf("memory        %llu KiB that come when they are touched%s\n",
	       (unsigned long long)seal->memory_bytes / 1024,
	       seal->packing ? ", packed (LZ4)" : "");
	return 0;
}

static int take_offer(void *data, const struct frame *frame, const uint8_t *body)
{
	baton_MoveOffer *offer;

	(void)data;
	if (frame->type != FRAME_OFFER)
		return 0;
	offer = image_message(frame, body, baton_MoveOffer_fields, sizeof(*offer));
	if (!offer)
		return -EBADMSG;
	offer_clean_text(offer->comm);
	offer_clean_text(offer->exe);
	offer_clean_text(offer->arch);
	offer_clean_text(offer->kernel);
	return show_offer(offer);
}

static int take_file(void *data, const struct frame *frame, const uint8_t *body)
{
	char id[FILEID_TEXT_MAX];
	struct fileid file = {0};
	baton_MoveFile *msg;

	(void)data;
	if (frame->type != FRAME_FILE)
		return 0;
	msg = image_message(frame, body, baton_MoveFile_fields, sizeof(*msg));
	if (!msg)
		return -EBADMSG;
	offer_clean_text(msg->path);
	file = (struct fileid){
		.size = msg->size, .kind = (uint8_t)msg->kind, .len = (uint8_t)msg->value.size};
	memcpy(file.value, msg->value.bytes, msg->value.size);
	fileid_format(&file, id, sizeof(id));
	begin();
	if (in.json) {
		json_print_member("path", msg->path);
		printf(", ");
		json_print_member("identity", id);
	} else {
		printf("%s: %s", msg->path, msg->kind == FILEID_PRESENT ? "any" : id);
	}
	end();
	return 0;
}

static int show_vma(const struct frame *frame, const uint8_t *body)
{
	baton_Vma *vma = image_message(frame, body, baton_Vma_fields, sizeof(*vma));
	char rights[5] = "---p";
	uint64_t end_at;

	if (!vma)
		return -EBADMSG;
	end_at = vma->start + vma->len;
	offer_clean_text(vma->path);
	offer_clean_text(vma->anon_name);
	for (int i = 0; i < 3; i++)
		if (vma->prot & (1u << i))
			rights[i] = "rwx"[i];
	if (vma->shared)
		rights[3] = 's';
	begin();
	if (in.json) {
		printf("\"start\": %llu, \"end\": %llu, ", (unsigned long long)vma->start,
		       (unsigned long long)end_at);
		json_print_member("rights", rights);
		printf(", ");
		json_print_member("backing", backing_name(vma));
		printf(", ");
		json_print_member("name", vma->path[0] ? vma->path : vma->anon_name);
		printf(", \"offset\": %llu", (unsigned long long)vma->offset);
	} else {
		printf("%llx-%llx %s %s %s", (unsigned long long)vma->start,
		       (unsigned long long)end_at, rights, backing_name(vma),
		       vma->path[0] ? vma->path : vma->anon_name);
	}
	end();
	return 0;
}

static int show_thread(const struct frame *frame, const uint8_t *body)
{
	const baton_Registers *msg =
		image_message(frame, body, baton_Registers_fields, sizeof(*msg));
	struct arch_regs regs;

	if (!msg)
		return -EBADMSG;
	if (arch_regs_decode(msg->general.bytes, msg->general.size, &regs))
		memset(&regs, 0, sizeof(regs));
	begin();
	if (in.json) {
		printf("\"tid\": %d, ", in.tid);
		json_print_member("comm", in.comm);
		printf(", \"pc\": %llu, \"sp\": %llu", (unsigned long long)arch_regs_pc(&regs),
		       (unsigned long long)arch_regs_sp(&regs));
	} else {
		printf("%d %s pc %#llx sp %#llx", in.tid, in.comm,
		       (unsigned long long)arch_regs_pc(&regs),
		       (unsigned long long)arch_regs_sp(&regs));
	}
	end();
	return 0;
}

static int take_thread(void *data, const struct frame *frame, const uint8_t *body)
{
	baton_Thread *msg;

	(void)data;
	if (frame->type != FRAME_STATE)
		return 0;
	if (frame->space == KIND_REGISTERS)
		return show_thread(frame, body);
	if (frame->space != KIND_THREAD)
		return 0;
	msg = image_message(frame, body, baton_Thread_fields, sizeof(*msg));
	if (!msg)
		return -EBADMSG;
	offer_clean_text(msg->comm);
	text_copy(in.comm, sizeof(in.comm), msg->comm);
	in.tid = msg->tid;
	return 0;
}

static int take_vma(void *data, const struct frame *frame, const uint8_t *body)
{
	(void)data;
	return frame->type == FRAME_STATE && frame->space == KIND_VMA ? show_vma(frame, body) : 0;
}

/* The path of a file, or what a second number is a copy of. Text in scratch memory. */
static const char *fd_detail(const struct frame *frame, const uint8_t *body, int *number)
{
	static char copy[32];
	baton_File *file;
	const baton_Fd *fd;

	*number = -1;
	if (frame->space == KIND_FILE) {
		file = image_message(frame, body, baton_File_fields, sizeof(*file));
		if (!file)
			return NULL;
		offer_clean_text(file->path);
		*number = file->fd;
		return file->path;
	}
	if (frame->space != KIND_FD)
		return "";
	fd = image_message(frame, body, baton_Fd_fields, sizeof(*fd));
	if (!fd)
		return NULL;
	*number = fd->fd;
	snprintf(copy, sizeof(copy), "the same as %d", fd->of);
	return fd->of == fd->fd ? "" : copy;
}

static int take_fd(void *data, const struct frame *frame, const uint8_t *body)
{
	const struct state_kind *kind = state_kind_find(frame->space);
	const char *detail;
	int number;

	(void)data;
	if (frame->type != FRAME_STATE || !kind || frame->space < KIND_FD ||
	    frame->space >= KIND_VMA)
		return 0;
	detail = fd_detail(frame, body, &number);
	if (!detail)
		return -EBADMSG;
	begin();
	if (in.json) {
		json_print_member("kind", kind->name);
		printf(", \"fd\": %d, ", number);
		json_print_member("detail", detail);
	} else if (number >= 0) {
		printf("%s %d %s", kind->name, number, detail);
	} else {
		printf("%s", kind->name);
	}
	end();
	return 0;
}

static int show_list(const char *title, const char *member, image_head_fn *fn)
{
	int err;

	in.comma = "";
	if (in.json)
		printf(",\n  \"%s\": [", member);
	else
		printf("%s\n", title);
	err = image_each_head(&in.image, fn, NULL);
	if (in.json)
		printf("]");
	return err;
}

static int show(void)
{
	int err = image_each_head(&in.image, take_offer, NULL);

	if (!err)
		err = show_list("threads", "threads", take_thread);
	if (!err)
		err = show_list("mappings", "mappings", take_vma);
	if (!err)
		err = show_list("descriptors", "descriptors", take_fd);
	if (!err)
		err = show_list("files that must be there, the same", "files", take_file);
	if (in.json)
		printf("}\n");
	return fflush(stdout) && !err ? -EIO : err;
}

/* Without keys it is looked at all the same. */
static const char *find_trust(const struct options *options)
{
	int err;

	if (!in.image.seal.signature_len)
		return "none";
	err = tls_setup(options->keys);
	if (!err)
		err = image_check_signature(&in.image);
	else
		err = -ENOKEY;
	log_reason_clear();
	return !err                   ? "trusted"
	       : err == -EKEYREJECTED ? "not trusted here"
	       : err == -ENOKEY       ? "not checked"
				      : "wrong";
}

int cmd_inspect(int argc, char **argv)
{
	struct options options;
	int outcome = options_parse(argc, argv, ALLOWED, &options), err;

	if (outcome >= 0)
		return outcome;
	if (options.nr_args != 1)
		return cmd_usage(argv[0], "an image file is wanted");
	in.json = options.json;
	err = arena_init() ? log_fail(ENOMEM, CMD_BUDGET_TOO_SMALL)
			   : image_open(&in.image, options.args[0]);
	if (err)
		return cmd_fail(err == -ENOMEM ? OUTCOME_SYSTEM : OUTCOME_REFUSED,
				"it cannot be read");
	in.trust = find_trust(&options);
	err = show();
	return err ? cmd_fail(OUTCOME_REFUSED, "it cannot be read") : OUTCOME_DONE;
}
