/* SPDX-License-Identifier: MIT */
/*
 * Image files: trees of all sizes are read as they were written; of a small file every bit is flipped, and it is cut off at
 * every length.
 *
 * needs: engine/image/format.c engine/image/tree.c engine/image/write.c engine/image/read.c
 * needs: transport/keys.c transport/keymake.c transport/tls.c transport/tls_session.c transport/sign.c
 * needs: transport/socket.c transport/address.c transport/lane.c transport/pack.c transport/ktls.c transport/traffic.c transport/frame.c
 * needs: transport/route.c
 * needs: lib/arena.c lib/io.c lib/readers.c lib/text.c lib/log.c mbedtls
 */
#include "engine/image/read.h"
#include "engine/image/write.h"
#include "lib/arena.h"
#include "lib/log.h"
#include "tests/unit/unit.h"
#include "transport/tls.h"
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define PAGE 4096 /* not a page of this device */

static char folder[] = "/tmp/baton-test-image-XXXXXX";
static char keys[64], path[64];

static int setup(void **state)
{
	uint8_t print[32];

	UNUSED(state);
	if (!mkdtemp(folder) || arena_init() || tls_init())
		return -1;
	snprintf(keys, sizeof(keys), "%s/keys", folder);
	snprintf(path, sizeof(path), "%s/image", folder);
	return keys_create(keys, "signer", print) || tls_setup(keys);
}

static int teardown(void **state)
{
	char command[96];

	UNUSED(state);
	snprintf(command, sizeof(command), "rm -rf %s", folder);
	return system(command);
}

/* What lane_flush does with whole frames, built in or not. */
static void send_frame(struct lane *lane, uint8_t type, uint64_t addr, const uint8_t *body,
		       uint32_t len)
{
	static uint8_t bytes[FRAME_HEADER_BYTES + 65536];
	struct frame frame = {.type = type, .len = len, .addr = addr};

	frame_encode(&frame, bytes);
	if (len)
		memcpy(bytes + FRAME_HEADER_BYTES, body, len);
	assert_int_equal(lane->local->put(lane, bytes, FRAME_HEADER_BYTES + len),
			 FRAME_HEADER_BYTES + len);
}

static uint8_t content(uint64_t addr, uint64_t i)
{
	return (uint8_t)((addr >> 12) * 7 + i);
}

/* One page; every other one packed. */
static void send_page(struct lane *lane, uint64_t addr, bool packed)
{
	static uint8_t page[PAGE];
	struct packer packer = {.rule = PACK_ALWAYS};
	struct frame frame = {.type = FRAME_PAGES, .len = PAGE, .addr = addr};

	for (unsigned int j = 0; j < PAGE; j++)
		page[j] = content(addr, j);
	if (packed)
		pack_shrink(&packer, &frame, page);
	assert_int_equal(frame.type == FRAME_PACKED, packed && IS_ENABLED(CONFIG_COMPRESS_LZ4));
	send_frame(lane, frame.type, addr, page, frame.len);
}

/* A file of `nr` pages, each beside a hole. */
static void make(unsigned int nr, bool sign)
{
	static uint8_t zeros[8];
	static struct lane lane;
	struct image_writer writer;
	size_t mark = arena_mark();

	lane.fd = -1;
	assert_int_equal(image_write_begin(&writer, path, &lane), 0);
	send_frame(&lane, FRAME_HELLO, 0, (const uint8_t *)"hello", 5);
	send_frame(&lane, FRAME_OFFER, 0, (const uint8_t *)"offer", 5);
	send_frame(&lane, FRAME_DESCRIBED, 0, NULL, 0);
	for (uint64_t i = 0; i < nr; i++) {
		uint64_t addr = 0x10000 + i * 2 * PAGE;

		send_page(&lane, addr, i % 2);
		send_frame(&lane, FRAME_ZERO, addr + PAGE, zeros, 8);
	}
	assert_int_equal(image_write_end(&writer, sign), 0);
	close(lane.fd);
	arena_reset(mark);
}

/* All of it, as restore would read it. 0, or the first error. */
static int read_all(unsigned int nr, bool check_signature)
{
	size_t mark = arena_mark();
	struct image_entry entry;
	struct image image;
	const uint8_t *body;
	struct frame frame;
	int err = image_open(&image, path);
	bool was_open = !err;

	if (!err && check_signature)
		err = image_check_signature(&image);
	for (uint64_t i = 0; !err && i < 3; i++)
		err = image_read_head(&image, i, &frame, &body);
	if (!err)
		assert_int_equal(image_read_head(&image, 3, &frame, &body), -ENOENT);
	for (uint64_t i = 0; !err && i < nr; i++) {
		uint64_t addr = 0x10000 + i * 2 * PAGE;

		/* From the hole before it, and from within. */
		err = image_find_memory(&image, addr - PAGE, addr + PAGE, &entry);
		if (!err)
			err = image_find_memory(&image, addr + 8, addr + PAGE, &entry);
		if (!err)
			err = image_read(&image, &entry, &frame, &body);
		if (err)
			break;
		assert_int_equal(frame.addr, addr);
		assert_int_equal(frame.len, PAGE);
		for (unsigned int j = 0; j < PAGE; j++)
			assert_int_equal(body[j], content(addr, j));
		assert_int_equal(image_find_memory(&image, addr + PAGE, addr + 2 * PAGE, &entry),
				 -ENOENT);
	}
	if (was_open)
		image_close(&image);
	arena_reset(mark);
	log_reason_clear();
	return err;
}

static void sizes_of_trees(void **state)
{
	static const unsigned int sizes[] = {0,   1,   69,   70,   71,   72,  142,
					     143, 144, 5000, 5326, 5327, 5400};

	UNUSED(state);
	for (unsigned int i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
		make(sizes[i], false);
		assert_int_equal(read_all(sizes[i], false), 0);
	}
}

static void is_what_it_was(void **state)
{
	struct stat st;

	UNUSED(state);
	make(2, true);
	assert_int_equal(read_all(2, true), 0);
	stat(path, &st);
	assert_int_equal(st.st_mode & 07777, 0600);
	make(2, false);
	assert_int_equal(read_all(2, false), 0);
	assert_int_equal(read_all(2, true), -EKEYREJECTED);
}

static void each_bit(void **state)
{
	unsigned int nr_at_sums = 0, nr_at_signature = 0;
	struct stat st;
	int fd;

	UNUSED(state);
	make(2, true);
	stat(path, &st);
	fd = open(path, O_RDWR);
	for (off_t at = 0; at < st.st_size; at++) {
		uint8_t byte, changed;

		assert_int_equal(pread(fd, &byte, 1, at), 1);
		for (int bit = 0; bit < 8; bit++) {
			/* Of the page one bit of each byte stands for all. */
			if (at > 400 && at < 3800 && bit != at % 8)
				continue;
			changed = byte ^ (uint8_t)(1 << bit);
			assert_int_equal(pwrite(fd, &changed, 1, at), 1);
			if (read_all(2, false)) {
				nr_at_sums++;
				continue;
			}
			if (!read_all(2, true))
				fail_msg("bit %d of byte %ld was not missed", bit, (long)at);
			nr_at_signature++;
		}
		assert_int_equal(pwrite(fd, &byte, 1, at), 1);
	}
	assert_int_equal(read_all(2, true), 0);
	print_message("%ld bytes: %u flips found by checksums, %u by the signature alone\n",
		      (long)st.st_size, nr_at_sums, nr_at_signature);
	/* Those are the bits of the signature, and no others. */
	assert_in_range(nr_at_signature, 8, 8 * IMAGE_SIGNATURE_MAX);
	close(fd);
}

static void each_length(void **state)
{
	struct stat st;

	UNUSED(state);
	make(2, false);
	stat(path, &st);
	for (off_t len = st.st_size - 1; len >= 0; len--) {
		assert_int_equal(truncate(path, len), 0);
		assert_int_not_equal(read_all(2, false), 0);
	}
	print_message("%ld lengths\n", (long)st.st_size);
}

/* Whatever is in it, and its checksums are right: a body that is no block is found when it is read, and no byte of it given. */
static void what_was_never_packed(void **state)
{
	static uint8_t wrong[600] = {0x00, 0x10, 0x00, 0x00, 0xff};
	static struct lane lane;
	struct image_writer writer;
	struct image_entry entry;
	struct image image;
	struct frame frame;
	const uint8_t *body;
	size_t mark = arena_mark();

	UNUSED(state);
	lane.fd = -1;
	assert_int_equal(image_write_begin(&writer, path, &lane), 0);
	send_frame(&lane, FRAME_DESCRIBED, 0, NULL, 0);
	send_frame(&lane, FRAME_PACKED, 0x10000, wrong, sizeof(wrong));
	assert_int_equal(image_write_end(&writer, false), 0);
	close(lane.fd);
	arena_reset(mark);
	assert_int_equal(image_open(&image, path), 0);
	assert_int_equal(image.seal.packing, PACK_TAKES_LZ4);
	assert_int_equal(image_check_packing(&image),
			 IS_ENABLED(CONFIG_COMPRESS_LZ4) ? 0 : -EOPNOTSUPP);
	assert_int_equal(image_find_memory(&image, 0x10000, 0x20000, &entry), 0);
	assert_int_equal(entry.span, PAGE);
	assert_int_equal(image_read(&image, &entry, &frame, &body), -EBADMSG);
	image.seal.packing = 2;
	log_reason_clear();
	assert_int_equal(image_check_packing(&image), -EOPNOTSUPP);
	image_close(&image);
	arena_reset(mark);
	log_reason_clear();
}

static int try_open(const char *name)
{
	size_t mark = arena_mark();
	struct image image;
	int err = image_open(&image, name);

	assert_int_not_equal(err, 0);
	arena_reset(mark);
	log_reason_clear();
	return err;
}

static void what_it_says(void **state)
{
	int fd;

	UNUSED(state);
	fd = open(path, O_RDWR | O_CREAT | O_TRUNC, 0600);
	assert_int_equal(write(fd, "something else, long enough for a preamble", 42), 42);
	assert_int_equal(try_open(path), -EMEDIUMTYPE);
	assert_int_equal(pwrite(fd, "BATON\2F\0", 8, 0), 8);
	assert_int_equal(try_open(path), -EPROTONOSUPPORT);
	assert_int_equal(pwrite(fd, "BATON\1\1\0", 8, 0), 8);
	assert_int_equal(try_open(path), -EMEDIUMTYPE);
	assert_int_equal(pwrite(fd, "BATON\1F\0", 8, 0), 8);
	assert_int_equal(try_open(path), -EBADMSG);
	close(fd);
	assert_int_equal(try_open(folder), -EMEDIUMTYPE);
	assert_int_equal(try_open("/nowhere"), -ENOENT);
}

/* What was there stays until the new one is whole. */
static void is_replaced_at_once(void **state)
{
	static struct lane lane;
	struct image_writer writer, second;
	char part[80];
	size_t mark = arena_mark();

	UNUSED(state);
	make(3, false);
	snprintf(part, sizeof(part), "%s.part", path);
	lane.fd = -1;
	assert_int_equal(image_write_begin(&writer, path, &lane), 0);
	assert_int_equal(read_all(3, false), 0);
	send_frame(&lane, FRAME_HELLO, 0, NULL, 0);
	/* Not before it is described. */
	assert_int_not_equal(image_write_end(&writer, false), 0);
	assert_int_equal(access(part, F_OK), 0);
	log_reason_clear();
	/* Nobody else meanwhile. */
	assert_int_equal(image_write_begin(&second, path, &lane), -EBUSY);
	log_reason_clear();
	image_write_drop(&writer);
	image_write_drop(&writer);
	assert_int_not_equal(access(part, F_OK), 0);
	assert_int_equal(read_all(3, false), 0);
	close(lane.fd);
	arena_reset(mark);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(sizes_of_trees),
		cmocka_unit_test(is_what_it_was),
		cmocka_unit_test(each_length),
		cmocka_unit_test(what_it_says),
		cmocka_unit_test(is_replaced_at_once),
		cmocka_unit_test(what_was_never_packed),
		cmocka_unit_test(each_bit),
	};

	return cmocka_run_group_tests(tests, setup, teardown);
}
