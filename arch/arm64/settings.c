/* SPDX-License-Identifier: MIT */
/* What arm64 lets a thread switch on for itself. Source: prctl(2), Documentation/arch/arm64. */
#include "arch/arch.h"
#include "arch/arm64/regsets.h"

#include <sys/prctl.h>
#include <sys/syscall.h>

#define SET_TAGGED_ADDR_CTRL 55
#define GET_TAGGED_ADDR_CTRL 56
#define SME_SET_VL 63
#define SME_GET_VL 64
/* What the kernel begins with: all of memory that has no key (POR_EL0_INIT). */
#define POE_USUAL 7

const struct arch_setting arch_settings[] = {
	{
		.id = 35,
		.name = "tagged addresses (PR_SET_TAGGED_ADDR_CTRL)",
		.call = SYS_prctl,
		.get = GET_TAGGED_ADDR_CTRL,
		.set = SET_TAGGED_ADDR_CTRL,
	},
	{
		/* SVE's is part of its registers. */
		.id = 36,
		.name = "length of streaming vectors (PR_SME_SET_VL)",
		.call = SYS_prctl,
		.get = SME_GET_VL,
		.set = SME_SET_VL,
	},
};
const unsigned int arch_nr_settings = sizeof(arch_settings) / sizeof(arch_settings[0]);

static bool vector_in_use(pid_t tid, unsigned int set)
{
	struct regset_vector head = {0};

	return regset_get(tid, set, &head, sizeof(head)) == (ssize_t)sizeof(head) &&
	       head.size > sizeof(head);
}

const char *arch_thread_unfit(pid_t tid)
{
	uint64_t gcs[3] = {0}, overlay = 0;

	if (vector_in_use(tid, REGSET_SSVE))
		return "entered the streaming mode of SME";
	if (vector_in_use(tid, REGSET_ZA))
		return "the ZA array of SME switched on";
	if (regset_get(tid, REGSET_GCS, gcs, sizeof(gcs)) == (ssize_t)sizeof(gcs) && gcs[0])
		return "a guarded control stack (GCS)";
	if (regset_get(tid, REGSET_POE, &overlay, sizeof(overlay)) == (ssize_t)sizeof(overlay) &&
	    overlay != POE_USUAL)
		return "permission overlays (pkey_alloc)";
	return NULL;
}
