/* SPDX-License-Identifier: MIT */
/* Extended state as notes of a core file: the sets of xstate.c, whose numbers are those of notes. */
#include "arch/arch.h"
#include "arch/arm64/regsets.h"

#include <errno.h>
#include <string.h>

struct piece {
	uint32_t set, len;
};

#define NR_VECTORS 32
#define VECTOR_BYTES 16

/* struct user_fpsimd_state */
struct fp {
	uint8_t vectors[NR_VECTORS][VECTOR_BYTES];
	uint32_t fpsr, fpcr, reserved[2];
};

/* SVE's set has the registers of FP in it: as they are, or as the low ends of the Z registers. */
static int fp_of_sve(const uint8_t *set, size_t len, struct fp *fp)
{
	struct regset_vector head;
	size_t vl, at;

	if (len < sizeof(head))
		return -EBADMSG;
	memcpy(&head, set, sizeof(head));
	vl = head.vl;
	set += sizeof(head);
	len -= sizeof(head);
	if (!(head.flags & REGSET_VECTOR_IS_SVE)) {
		if (len < sizeof(*fp))
			return -EBADMSG;
		memcpy(fp, set, sizeof(*fp));
		return 0;
	}
	/* Z0 to Z31, P0 to P15 and FFR of an eighth each, then fpsr and fpcr at a multiple of 16. */
	at = (NR_VECTORS * vl + 17 * (vl / 8) + 15) / 16 * 16;
	if (vl < VECTOR_BYTES || len < at + 8)
		return -EBADMSG;
	for (size_t i = 0; i < NR_VECTORS; i++)
		memcpy(fp->vectors[i], set + i * vl, VECTOR_BYTES);
	memcpy(&fp->fpsr, set + at, 8);
	return 0;
}

static int one(const struct piece *piece, const uint8_t *bytes, arch_core_note_fn *note, void *data)
{
	struct fp fp = {0};
	int err = 0;

	if (piece->set == REGSET_FP)
		return note(data, "CORE", REGSET_FP, bytes, piece->len);
	if (piece->set == REGSET_SVE) {
		err = fp_of_sve(bytes, piece->len, &fp);
		if (!err)
			err = note(data, "CORE", REGSET_FP, &fp, sizeof(fp));
	}
	return err ? err : note(data, "LINUX", piece->set, bytes, piece->len);
}

int arch_core_notes(const uint8_t *xstate, size_t len, arch_core_note_fn *note, void *data)
{
	int err = 0;

	while (len && !err) {
		struct piece piece;
		size_t padded;

		if (len < sizeof(piece))
			return -EBADMSG;
		memcpy(&piece, xstate, sizeof(piece));
		padded = ((size_t)piece.len + 7) & ~(size_t)7;
		if (padded > len - sizeof(piece))
			return -EBADMSG;
		err = one(&piece, xstate + sizeof(piece), note, data);
		xstate += sizeof(piece) + padded;
		len -= sizeof(piece) + padded;
	}
	return err;
}
