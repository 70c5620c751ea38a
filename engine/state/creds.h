/* SPDX-License-Identifier: MIT */
/* Who a thread is; the leader's is put in force last. */
#ifndef BATON_CREDS_H
#define BATON_CREDS_H

#include "engine/process/remote.h"
#include "engine/state/creds.pb.h"

struct restore;

/* Queues what makes a thread of the new process what the message says, by its own calls, from root's rights. 0
 * or -errno with log_fail. Source: credentials(7), capabilities(7). */
int creds_apply(struct restore *r, struct remote *thread, const baton_Creds *msg);

#endif
