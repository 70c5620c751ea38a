/* SPDX-License-Identifier: MIT */
/* The parts of an image file that are no frames of a move, to bytes and back. */
#include "engine/image/format.h"

#include <errno.h>
#include <stdbool.h>
#include <string.h>
#include <sys/stat.h>

static const uint8_t end_word[8] = {'B', 'A', 'T', 'O', 'N', 'E', 'N', 'D'};

static void put_u16(uint8_t *out, uint16_t value)
{
	out[0] = (uint8_t)value;
	out[1] = (uint8_t)(value >> 8);
}

static uint16_t get_u16(const uint8_t *in)
{
	return (uint16_t)(in[0] | in[1] << 8);
}

void image_entry_encode(const struct image_entry *entry, uint8_t out[static IMAGE_ENTRY_BYTES])
{
	frame_put_u64(entry->key, out);
	frame_put_u64(entry->at, out + 8);
	frame_put_u64(entry->len | (uint64_t)entry->span << 32, out + 16);
	memcpy(out + 24, entry->hash, IMAGE_HASH_BYTES);
}

void image_entry_decode(const uint8_t in[static IMAGE_ENTRY_BYTES], struct image_entry *entry)
{
	uint64_t sizes = frame_get_u64(in + 16);

	entry->key = frame_get_u64(in);
	entry->at = frame_get_u64(in + 8);
	entry->len = (uint32_t)sizes;
	entry->span = (uint32_t)(sizes >> 32);
	memcpy(entry->hash, in + 24, IMAGE_HASH_BYTES);
}

/*
 * Offsets: versions 0, root 4, frames of the head 60, bytes in it 68, bytes behind it 76, time 84, packing 92, length of the
 * certificate 94.
 */
#define FRONT_BYTES 96

size_t image_seal_encode_front(const struct image_seal *seal, uint8_t *out)
{
	if (out) {
		put_u16(out, seal->major);
		put_u16(out + 2, seal->minor);
		image_entry_encode(&seal->root, out + 4);
		frame_put_u64(seal->nr_head, out + 60);
		frame_put_u64(seal->head_bytes, out + 68);
		frame_put_u64(seal->memory_bytes, out + 76);
		frame_put_u64((uint64_t)seal->time_s, out + 84);
		put_u16(out + 92, seal->packing);
		put_u16(out + 94, seal->cert_len);
		memcpy(out + FRONT_BYTES, seal->cert, seal->cert_len);
	}
	return FRONT_BYTES + seal->cert_len;
}

size_t image_seal_encode(const struct image_seal *seal, uint8_t *out)
{
	size_t len = image_seal_encode_front(seal, out);

	memcpy(out + len, seal->digest, IMAGE_HASH_BYTES);
	len += IMAGE_HASH_BYTES;
	put_u16(out + len, seal->signature_len);
	memcpy(out + len + 2, seal->signature, seal->signature_len);
	return len + 2 + seal->signature_len;
}

int image_seal_decode(const uint8_t *in, size_t len, struct image_seal *seal)
{
	const uint8_t *rest;

	*seal = (struct image_seal){0};
	if (len < FRONT_BYTES + IMAGE_HASH_BYTES + 2)
		return -EPROTO;
	seal->major = get_u16(in);
	seal->minor = get_u16(in + 2);
	if (seal->major != IMAGE_MAJOR)
		return -EPROTONOSUPPORT;
	image_entry_decode(in + 4, &seal->root);
	seal->nr_head = frame_get_u64(in + 60);
	seal->head_bytes = frame_get_u64(in + 68);
	seal->memory_bytes = frame_get_u64(in + 76);
	seal->time_s = (int64_t)frame_get_u64(in + 84);
	seal->packing = get_u16(in + 92);
	seal->cert_len = get_u16(in + 94);
	if (seal->cert_len > IMAGE_CERT_MAX ||
	    len < (size_t)FRONT_BYTES + seal->cert_len + IMAGE_HASH_BYTES + 2)
		return -EPROTO;
	memcpy(seal->cert, in + FRONT_BYTES, seal->cert_len);
	rest = in + FRONT_BYTES + seal->cert_len;
	memcpy(seal->digest, rest, IMAGE_HASH_BYTES);
	seal->signature_len = get_u16(rest + IMAGE_HASH_BYTES);
	rest += IMAGE_HASH_BYTES + 2;
	if (seal->signature_len > IMAGE_SIGNATURE_MAX || rest + seal->signature_len != in + len ||
	    !seal->signature_len != !seal->cert_len)
		return -EPROTO;
	memcpy(seal->signature, rest, seal->signature_len);
	return 0;
}

void image_end_encode(uint64_t seal_at, uint8_t out[static IMAGE_END_BYTES])
{
	frame_put_u64(seal_at, out);
	memcpy(out + 8, end_word, sizeof(end_word));
}

int image_end_decode(const uint8_t in[static IMAGE_END_BYTES], uint64_t *seal_at)
{
	*seal_at = frame_get_u64(in);
	return memcmp(in + 8, end_word, sizeof(end_word)) ? -EPROTO : 0;
}

void image_preamble_encode(const uint8_t token[static ROUTE_TOKEN_BYTES],
			   uint8_t out[static ROUTE_BYTES])
{
	struct route route = {.lane = IMAGE_LANE};

	memcpy(route.token, token, ROUTE_TOKEN_BYTES);
	route_encode(&route, out);
}

int image_preamble_decode(const uint8_t in[static ROUTE_BYTES])
{
	uint8_t lane0[ROUTE_BYTES];
	struct route route;

	/* All but the lane is as route_decode knows it. */
	memcpy(lane0, in, sizeof(lane0));
	lane0[6] = 0;
	return in[6] == IMAGE_LANE || in[5] != ROUTE_VERSION ? route_decode(lane0, &route)
							     : -EPROTO;
}

const char *image_kind_of_file(mode_t mode)
{
	return S_ISDIR(mode)                    ? "a folder"
	       : S_ISCHR(mode) || S_ISBLK(mode) ? "a device"
	       : S_ISFIFO(mode)                 ? "a FIFO"
						: "no plain file";
}
