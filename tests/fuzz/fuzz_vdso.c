/* SPDX-License-Identifier: MIT */
/*
 * Images of a vdso, as a program or a peer could have them: nothing is read or written outside.
 *
 * needs: engine/process/vdso.c engine/process/proc.c arch/vdso_redirect.c lib/io.c lib/readers.c
 * needs: lib/text.c lib/log.c
 */
#include "engine/process/vdso.h"

#include "lib/log.h"

#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define OWN_BYTES 4096 /* of our own: has all symbols */

static int inside(void *data, const struct vdso_function *f)
{
	const size_t *size = data;

	if (f->offset > *size || f->size > *size - f->offset || !f->name[0])
		abort();
	return 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	const uint8_t *own = (const uint8_t *)getauxval(AT_SYSINFO_EHDR);
	uint8_t *image;

	if (size > VDSO_IMAGE_MAX)
		return 0;
	image = malloc(size ? size : 1);
	if (size)
		memcpy(image, data, size);
	vdso_each_function(image, size, inside, &size);
	vdso_redirect(image, size, 0x10000, own, OWN_BYTES, (uint64_t)own);
	free(image);
	log_reason_clear();
	return 0;
}
