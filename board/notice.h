/* SPDX-License-Identifier: MIT */
/* Moves that begin, end, are held on this device: told when it happens, from the state folder. */
#ifndef BATON_NOTICE_H
#define BATON_NOTICE_H

/*
 * Begins to watch; what is there already is not told, but if it is held. A descriptor to poll for reading, or
 * -errno: nothing can be watched (the folder is not there yet); call again later.
 */
int notice_open(const char *state_dir);

/*
 * Looks: when the descriptor is readable, and now and then (that nobody works on a move any more is told by
 * no event). Each piece of news is one line, given to `say`.
 */
void notice_look(void (*say)(const char *line));

/* True while there are moves, so that notice_look is to be called now and then. */
int notice_has_moves(void);

#endif
