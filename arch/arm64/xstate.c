/* SPDX-License-Identifier: MIT */
/*
 * Extended state of a stopped thread: several regsets, one behind the other, each with its number and
 * length in front. Which there are depends on processor and kernel.
 */
#include "arch/arch.h"
#include "arch/arm64/regsets.h"

#include <string.h>

#define ALIGN 8

struct piece {
	uint32_t set, len;
};

static const struct {
	uint32_t set, min, max;
} sets[] = {
	/* SVE's contains the registers of FP, and is alone then. Its vector length comes with it. */
	{REGSET_SVE, sizeof(struct regset_vector), 8784},
	{REGSET_FP, 528, 528},
	{REGSET_TLS, 8, 16}, /* TPIDR2_EL0 is there with SME */
	{REGSET_FPMR, 8, 8},
	{REGSET_PACA_KEYS, 64, 64},
	{REGSET_PACG_KEYS, 16, 16},
	{REGSET_PAC_ENABLED_KEYS, 8, 8},
};
#define NR_SETS (sizeof(sets) / sizeof(sets[0]))

/* The kernel fills the whole buffer; how much of it is meant stands in front. */
static ssize_t vector_bytes(const uint8_t *data, ssize_t len)
{
	struct regset_vector head;

	if (len < (ssize_t)sizeof(head))
		return -EINVAL;
	memcpy(&head, data, sizeof(head));
	return (ssize_t)head.size <= len ? (ssize_t)head.size : -E2BIG;
}

ssize_t arch_xstate_get(pid_t tid, void *buf, size_t cap)
{
	uint8_t *out = buf;
	size_t used = 0;
	bool has_sve = false;

	for (unsigned int i = 0; i < NR_SETS; i++) {
		struct piece piece = {.set = sets[i].set};
		uint8_t *data = out + used + sizeof(piece);
		ssize_t len;

		if (piece.set == REGSET_FP && has_sve)
			continue;
		if (cap < used + sizeof(piece) + sets[i].max + ALIGN)
			return -E2BIG;
		len = regset_get(tid, piece.set, data, sets[i].max);
		if (len >= 0 && piece.set == REGSET_SVE)
			len = vector_bytes(data, len);
		/* What the processor has not, or the kernel knows not. */
		if (len == -EINVAL || len == -ENODEV)
			continue;
		if (len < 0)
			return len;
		has_sve |= piece.set == REGSET_SVE;
		piece.len = (uint32_t)len;
		memcpy(out + used, &piece, sizeof(piece));
		memset(data + len, 0, ALIGN - 1);
		used += sizeof(piece) + (((size_t)len + ALIGN - 1) & ~(size_t)(ALIGN - 1));
	}
	return (ssize_t)used;
}

/* The kernel takes the nearest length of vectors that it has, and only says so when asked. */
static int check_vector(pid_t tid, const uint8_t *data)
{
	struct regset_vector wanted, got = {0};

	memcpy(&wanted, data, sizeof(wanted));
	if (regset_get(tid, REGSET_SVE, &got, sizeof(got)) != (ssize_t)sizeof(got))
		return -EIO;
	return got.vl == wanted.vl ? 0 : -EOPNOTSUPP;
}

static int set_one(pid_t tid, uint32_t set, const uint8_t *data, uint32_t len)
{
	int err;

	for (unsigned int i = 0; i < NR_SETS; i++) {
		if (sets[i].set != set)
			continue;
		if (len < sets[i].min || len > sets[i].max)
			return -EPROTO;
		err = regset_set(tid, set, data, len);
		return err || set != REGSET_SVE ? err : check_vector(tid, data);
	}
	return -EPROTO;
}

int arch_xstate_set(pid_t tid, const void *buf, size_t len)
{
	const uint8_t *in = buf;
	struct piece piece;
	int err = 0;

	while (len && !err) {
		size_t padded;

		if (len < sizeof(piece))
			return -EPROTO;
		memcpy(&piece, in, sizeof(piece));
		padded = ((size_t)piece.len + ALIGN - 1) & ~(size_t)(ALIGN - 1);
		if (padded > len - sizeof(piece))
			return -EPROTO;
		err = set_one(tid, piece.set, in + sizeof(piece), piece.len);
		in += sizeof(piece) + padded;
		len -= sizeof(piece) + padded;
	}
	return err;
}

int arch_live_keep(pid_t tid, struct arch_live *live)
{
	struct regset_vector head;
	ssize_t len = regset_get(tid, REGSET_SVE, live->set, sizeof(live->set));

	live->len = 0;
	if (len == -EINVAL || len == -ENODEV)
		return 0;
	len = len < 0 ? len : vector_bytes(live->set, len);
	if (len < 0)
		return (int)len;
	memcpy(&head, live->set, sizeof(head));
	live->len = head.flags & REGSET_VECTOR_IS_SVE ? (uint32_t)len : 0;
	return 0;
}

int arch_live_put_back(pid_t tid, const struct arch_live *live)
{
	return live->len ? regset_set(tid, REGSET_SVE, live->set, live->len) : 0;
}
