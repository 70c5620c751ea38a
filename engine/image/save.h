/* SPDX-License-Identifier: MIT */
/* A process into an image file. */
#ifndef BATON_SAVE_H
#define BATON_SAVE_H

#include "engine/move/link.h"
#include "engine/move/move.h"

struct image_save {
	const char *path;
	bool leave_running; /* it goes on here; else it ends when the file is safe */
	bool sign;          /* with this device's key; tls_setup has been done */
};

/* Takes what it needs from the arena; before arena_seal. -ENOMEM. */
int image_save_init(void);

/*
 * Looks at options->pid, stops it, writes it, and ends it or lets it go on. Whatever fails before the file is safe lets it
 * go on. So does our death: threads that nobody traces any more find back by themselves. `link` is one of link_init,
 * of which a lane is used. options->finish is called in all cases.
 */
enum outcome image_save(struct link *link, const struct move_options *options,
			const struct image_save *save);

#endif
