/* SPDX-License-Identifier: MIT */
/* Writing an image: frames that are sent into a lane become a file. */
#include "engine/image/write.h"

#include "lib/fault.h"
#include "lib/io.h"
#include "lib/log.h"
#include "lib/text.h"
#include "transport/sign.h"

#include <errno.h>
#include <fcntl.h>
#include <mbedtls/sha256.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define TEMP_SUFFIX ".part"

static int failed(struct image_writer *writer, int err, const char *what)
{
	writer->err = -err;
	return log_fail(err, "%s: %s: %m", writer->path, what);
}

static int put(struct image_writer *writer, const void *bytes, size_t len)
{
	int err = io_write_full(writer->fd, bytes, len);

	if (!err)
		err = fault_point(FAULT_IMAGE_WRITE);
	if (err)
		return failed(writer, -err, "cannot be written");
	writer->at += len;
	return 0;
}

/* A frame that is whole in memory. `entry` gets all but its key and span. */
static int put_frame(struct image_writer *writer, const uint8_t *bytes, uint32_t len,
		     struct image_entry *entry)
{
	entry->at = writer->at;
	entry->len = len;
	if (mbedtls_sha256(bytes, len, entry->hash, 0))
		return failed(writer, EIO, "no SHA-256");
	return put(writer, bytes, len);
}

/* A node of the index. */
static int emit(void *data, const struct frame *frame, const uint8_t *body,
		struct image_entry *entry)
{
	uint8_t bytes[FRAME_HEADER_BYTES + IMAGE_NODE_BYTES];

	frame_encode(frame, bytes);
	memcpy(bytes + FRAME_HEADER_BYTES, body, frame->len);
	return put_frame(data, bytes, FRAME_HEADER_BYTES + frame->len, entry);
}

/* Memory behind the head. */
static int note_memory(struct image_writer *writer, const struct frame *frame, const uint8_t *body,
		       struct image_entry *entry)
{
	if (frame->type != FRAME_PAGES && frame->type != FRAME_PACKED)
		return failed(writer, EPROTO, frame_name(frame->type));
	entry->key = IMAGE_MEMORY | frame->addr;
	entry->span = frame->len;
	if (frame->type == FRAME_PACKED) {
		entry->span = pack_raw_bytes(body);
		writer->packing |= PACK_TAKES_LZ4;
	}
	writer->memory_bytes += entry->span;
	return 0;
}

/* One frame that came over the lane. */
static int take_frame(struct image_writer *writer, const struct frame *frame, const uint8_t *bytes)
{
	struct image_entry entry = {.key = writer->nr_head};
	int err = 0;

	/* What an image does not have is zeros. */
	if (frame->type == FRAME_ZERO)
		return 0;
	if (writer->described) {
		err = note_memory(writer, frame, bytes + FRAME_HEADER_BYTES, &entry);
	} else {
		writer->nr_head++;
		writer->head_bytes += frame->type == FRAME_PAGES ? frame->len : 0;
		writer->described = frame->type == FRAME_DESCRIBED;
	}
	if (!err)
		err = put_frame(writer, bytes, FRAME_HEADER_BYTES + frame->len, &entry);
	return err ? err : image_tree_add(&writer->tree, &entry);
}

static ssize_t take(struct lane *lane, const uint8_t *buf, size_t len)
{
	struct image_writer *writer = lane->local_data;
	size_t done = 0;

	while (!writer->err && done + FRAME_HEADER_BYTES <= len) {
		struct frame frame;
		int err = frame_decode(buf + done, &frame);

		if (!err && frame.len > len - done - FRAME_HEADER_BYTES)
			err = -EPROTO;
		if (!err)
			err = take_frame(writer, &frame, buf + done);
		if (err)
			writer->err = err;
		done += FRAME_HEADER_BYTES + frame.len;
	}
	return writer->err ? writer->err : (ssize_t)done;
}

/* It never says anything. */
static ssize_t give(struct lane *lane, uint8_t *buf, size_t len)
{
	(void)lane, (void)buf, (void)len;
	return 0;
}

static bool has_pending(const struct lane *lane)
{
	(void)lane;
	return false;
}

static const struct lane_local sink = {.put = take, .get = give, .has_pending = has_pending};

static int open_folder(struct image_writer *writer)
{
	const char *slash = strrchr(writer->path, '/');
	char folder[PATH_MAX] = ".";
	struct stat st;

	if (slash && !text_copy(folder, sizeof(folder), writer->path))
		return failed(writer, ENAMETOOLONG, "the name");
	if (slash)
		folder[slash == writer->path ? 1 : slash - writer->path] = '\0';
	if (!text_copy(writer->name, sizeof(writer->name), slash ? slash + 1 : writer->path) ||
	    snprintf(writer->temp, sizeof(writer->temp), "%s%s", writer->name, TEMP_SUFFIX) >=
		    (int)sizeof(writer->temp))
		return failed(writer, ENAMETOOLONG, "the name");
	writer->folder_fd = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (writer->folder_fd < 0)
		return failed(writer, errno, folder);
	/* "FOLDER/" names what "FOLDER/." does. */
	if (fstatat(writer->folder_fd, writer->name[0] ? writer->name : ".", &st, 0) ||
	    S_ISREG(st.st_mode))
		return 0;
	writer->err = -EEXIST;
	return log_fail(EEXIST, "%s is %s: give the name of a file%s for the image", writer->path,
			image_kind_of_file(st.st_mode), S_ISDIR(st.st_mode) ? " in it" : "");
}

/* What a baton that died has left under this name is taken over. */
static int open_temp(struct image_writer *writer)
{
	struct stat here, named;

	writer->fd = openat(writer->folder_fd, writer->temp,
			    O_WRONLY | O_CREAT | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC, 0600);
	if (writer->fd < 0)
		return failed(writer, errno, writer->temp);
	if (flock(writer->fd, LOCK_EX | LOCK_NB) < 0 || fstat(writer->fd, &here) < 0 ||
	    fstatat(writer->folder_fd, writer->temp, &named, AT_SYMLINK_NOFOLLOW) < 0 ||
	    here.st_ino != named.st_ino || !S_ISREG(here.st_mode)) {
		io_close(&writer->fd);
		return failed(writer, EBUSY, "another baton is writing it");
	}
	/* What others have a hand on does not become ours by its name. */
	if (here.st_uid != geteuid() || here.st_nlink != 1) {
		io_close(&writer->fd);
		return failed(writer, EPERM, "its .part is somebody else's");
	}
	if (fchmod(writer->fd, 0600) < 0 || ftruncate(writer->fd, 0) < 0)
		return failed(writer, errno, writer->temp);
	return 0;
}

int image_write_begin(struct image_writer *writer, const char *path, struct lane *lane)
{
	uint8_t token[ROUTE_TOKEN_BYTES];
	int err;

	*writer = (struct image_writer){.folder_fd = -1, .fd = -1, .path = path};
	err = open_folder(writer);
	if (!err)
		err = open_temp(writer);
	if (!err)
		err = image_tree_begin(&writer->tree, emit, writer);
	if (!err)
		err = route_make_token(token);
	if (!err) {
		image_preamble_encode(token, writer->preamble);
		err = put(writer, writer->preamble, sizeof(writer->preamble));
	}
	if (!err)
		err = lane_open_local(lane, &sink, writer, path);
	if (err)
		image_write_drop(writer);
	return err;
}

static int sign_it(struct image_writer *writer, struct image_seal *seal, bool sign)
{
	uint8_t bytes[ROUTE_BYTES + IMAGE_SEAL_MAX];
	size_t len;

	/* The certificate is part of what is signed. */
	if (sign && sign_certificate(seal->cert, sizeof(seal->cert), &seal->cert_len))
		return -EIO;
	memcpy(bytes, writer->preamble, ROUTE_BYTES);
	len = ROUTE_BYTES + image_seal_encode_front(seal, bytes + ROUTE_BYTES);
	if (mbedtls_sha256(bytes, len, seal->digest, 0))
		return failed(writer, EIO, "no SHA-256");
	return sign ? sign_make(seal->digest, seal->signature, sizeof(seal->signature),
				&seal->signature_len)
		    : 0;
}

static int put_seal(struct image_writer *writer, bool sign)
{
	struct image_seal seal = {.major = IMAGE_MAJOR,
				  .minor = IMAGE_MINOR,
				  .nr_head = writer->nr_head,
				  .head_bytes = writer->head_bytes,
				  .memory_bytes = writer->memory_bytes,
				  .packing = writer->packing,
				  .time_s = time(NULL)};
	uint8_t bytes[FRAME_HEADER_BYTES + IMAGE_SEAL_MAX + IMAGE_END_BYTES];
	struct frame frame = {.type = FRAME_SEAL};
	int err;

	err = image_tree_end(&writer->tree, &seal.root);
	if (!err)
		err = sign_it(writer, &seal, sign);
	if (err)
		return err;
	frame.addr = writer->at;
	frame.len = (uint32_t)image_seal_encode(&seal, bytes + FRAME_HEADER_BYTES);
	frame_encode(&frame, bytes);
	image_end_encode(writer->at, bytes + FRAME_HEADER_BYTES + frame.len);
	return put(writer, bytes, FRAME_HEADER_BYTES + frame.len + IMAGE_END_BYTES);
}

int image_write_end(struct image_writer *writer, bool sign)
{
	int err = writer->err;

	if (!err && !writer->described)
		err = -EPROTO;
	if (!err)
		err = put_seal(writer, sign);
	if (!err && fsync(writer->fd) < 0)
		err = failed(writer, errno, "cannot be synced");
	if (!err)
		err = fault_point(FAULT_IMAGE_SYNCED);
	if (!err && renameat(writer->folder_fd, writer->temp, writer->folder_fd, writer->name) < 0)
		err = failed(writer, errno, "cannot be renamed");
	if (err)
		return err;
	io_close(&writer->fd); /* from here on there is nothing to drop */
	err = fault_point(FAULT_IMAGE_RENAMED);
	if (!err && fsync(writer->folder_fd) < 0 && errno != EINVAL)
		err = failed(writer, errno, "is there, but its folder cannot be synced");
	io_close(&writer->folder_fd);
	return err;
}

void image_write_drop(struct image_writer *writer)
{
	if (writer->fd >= 0)
		unlinkat(writer->folder_fd, writer->temp, 0);
	io_close(&writer->fd);
	io_close(&writer->folder_fd);
}
