/* SPDX-License-Identifier: MIT */
/* baton core: a core file for gdb out of an image file. */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "cmd/options.h"
#include "engine/image/core.h"
#include "lib/arena.h"
#include "lib/log.h"

static int outcome_of(int err)
{
	return err == -ENOMEM || err == -ENOSPC || err == -EACCES ? OUTCOME_SYSTEM
								  : OUTCOME_REFUSED;
}

static int make(struct image *image, const char *path)
{
	/* It has what the process had in its memory; and it takes nobody's place, not the image's either. */
	int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	int err;

	if (fd < 0)
		return log_fail(errno, "core file %s: %s", path, strerror(errno));
	err = image_core(image, fd);
	if (close(fd) < 0 && !err)
		err = log_fail(errno, "core file %s: %s", path, strerror(errno));
	if (err)
		unlink(path);
	return err;
}

int cmd_core(int argc, char **argv)
{
	static struct image image;
	struct options options;
	int outcome = options_parse(argc, argv, OPTION_BIT(OPTION_OUTPUT), &options), err;

	if (outcome >= 0)
		return outcome;
	if (options.nr_args != 1 || !options.output)
		return cmd_usage(argv[0], "an image file and -o CORE are wanted");
	err = arena_init() ? log_fail(ENOMEM, CMD_BUDGET_TOO_SMALL)
			   : image_open(&image, options.args[0]);
	if (!err)
		err = image_check_packing(&image);
	if (!err)
		err = make(&image, options.output);
	return err ? cmd_fail(outcome_of(err), "no core file was made") : OUTCOME_DONE;
}
