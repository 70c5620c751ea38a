/* SPDX-License-Identifier: MIT */
/*
 * Numbered points at which a test can make a move fail, or kill the process that works on it:
 *
 *	BATON_FAULT=kill:NAME		SIGKILL to whoever gets there
 *	BATON_FAULT=both:NAME		SIGKILL to its whole process group: to its twin as well, and to
 *					the supervisor where there is one
 *	BATON_FAULT=fail:NAME		fault_point() gives -EIO there
 *	BATON_FAULT=fail:NAME:N		the N-th time it is reached, not the first
 *	BATON_FAULT=list		`baton version` prints a line for each: NAME SIDE
 *
 * A fault fires once, in all processes that were forked since fault_init: the worker that takes a
 * dead one's place gets past the point. Without CONFIG_FAULT_POINTS nothing of it is built in.
 */
#ifndef BATON_FAULT_H
#define BATON_FAULT_H

#include "lib/config.h"

/*
 * X(NAME, side). NAME says what has just been done when the point is reached: a state written, a
 * message sent (or read, where "got"), a system call made.
 */
#define FAULT_POINTS(X)                                                                            \
	/* source, the sequence: engine/move/ */                                                   \
	X(SOURCE_OFFERED, source)   /* `offered` is on disk, OFFER not sent */                     \
	X(SOURCE_ANSWERED, source)  /* the ANSWER was good; nothing is stopped */                  \
	X(SOURCE_FROZEN, source)    /* `frozen` is on disk and the process stopped */              \
	X(SOURCE_DESCRIBED, source) /* DESCRIBED sent, READY not yet here */                       \
	X(SOURCE_READY, source)     /* READY got, nothing written */                               \
	X(SOURCE_COMMITTED, source) /* `committed` is on disk, GO not sent */                      \
	X(SOURCE_GO, source)        /* GO sent */                                                  \
	X(SOURCE_STARTED, source)   /* STARTED got, `serving` not written */                       \
	X(SOURCE_SERVING, source)   /* `serving` is on disk */                                     \
	X(SOURCE_COMPLETE, source)  /* COMPLETE got, nothing written */                            \
	X(SOURCE_DRAINED, source)   /* `drained` is on disk, the copy alive */                     \
	X(SOURCE_KILLED, source)    /* the copy is gone, its file is not */                        \
	X(SOURCE_REMOVED, source)   /* its file is gone, DONE not sent */                          \
	X(SOURCE_DONE, source)      /* DONE sent */                                                \
	X(SOURCE_UNDO, source)      /* it failed; the process not let go yet */                    \
	/* target, the sequence: engine/move/ */                                                   \
	X(TARGET_OFFERED, target)   /* OFFER got, not answered */                                  \
	X(TARGET_VDSO, target)      /* the vdsos were compared; fail: they differ */               \
	X(TARGET_BUILDING, target)  /* `building` is on disk, nothing built */                     \
	X(TARGET_BUILT, target)     /* built and armed, READY not sent */                          \
	X(TARGET_READY, target)     /* READY sent */                                               \
	X(TARGET_GO, target)        /* GO got, `started` not written */                            \
	X(TARGET_STARTED, target)   /* `started` is on disk, no thread runs */                     \
	X(TARGET_GUARDED, target)   /* who waits for the death of us all was made */               \
	X(TARGET_RUNNING, target)   /* it runs, STARTED not sent */                                \
	X(TARGET_TOLD, target)      /* STARTED sent */                                             \
	X(TARGET_COMPLETE, target)  /* `complete` is on disk, COMPLETE not sent */                 \
	X(TARGET_SAID, target)      /* COMPLETE sent */                                            \
	X(TARGET_DONE, target)      /* DONE got, its file still there */                           \
	X(TARGET_REMOVED, target)   /* its file is gone */                                         \
	X(TARGET_DISCARD, target)   /* it failed; what was built still there */                    \
	X(TARGET_DISCARDED, target) /* `discarded` is on disk, ABORT not sent */                   \
	/* target, memory: engine/paging/ */                                                       \
	X(PAGER_EVENT, target)      /* an event was read from a userfaultfd */                     \
	X(PAGER_LOGGED, target)     /* a change of the todo lists is written down, not done */     \
	X(PAGER_COPY, target)       /* a run was filled, the todo list not cut */                  \
	X(PAGER_FETCH, target)      /* FETCH sent */                                               \
	X(PAGER_PUSH, target)       /* PUSH sent */                                                \
	X(PAGER_FORK, target)       /* the memory of a forked child was taken in */                \
	X(PAGER_CHECKPOINT, target) /* a checkpoint of the lists was made */                       \
	/* source, the process: engine/process/ */                                                 \
	X(DUMP_FREEZE, source)  /* all its threads stand still */                                  \
	X(DUMP_OPEN, source)    /* its /proc is open, registers read, signals blocked */           \
	X(DUMP_SCRATCH, source) /* argument memory is mapped in it */                              \
	X(DUMP_ASK, source)     /* N-th time a thread is about to answer many questions at once */ \
	X(DUMP_PART, source)    /* a large mapping is parted, to see its flags */                  \
	X(DUMP_STATE, source)   /* N-th state message queued */                                    \
	X(DUMP_PAGES, source)   /* N-th frame of pages that cannot be lazy queued */               \
	X(DUMP_CLOSE, source)   /* the argument memory is unmapped again, registers not back */    \
	X(DUMP_THAW, source)    /* memory and registers are its own again; it is let go next */    \
	/* target, the process: engine/process/ */                                                 \
	X(RESTORE_SPAWN, target)  /* the new process exists, and is not ours yet */                \
	X(RESTORE_SPACE, target)  /* its address space is empty but for scratch area and vdso */   \
	X(RESTORE_STATE, target)  /* N-th state message done */                                    \
	X(RESTORE_PAGES, target)  /* N-th frame of pages written */                                \
	X(RESTORE_UFFD, target)   /* its userfaultfd is ours */                                    \
	X(RESTORE_ARM, target)    /* its mappings are watched */                                   \
	X(RESTORE_FINISH, target) /* scratch area gone, registers and mask its own */              \
	X(RESTORE_STOP,                                                                            \
	  target) /* its leader, all signals blocked, is about to meet its SIGSTOP */              \
	X(RESTORE_START, target) /* half of its threads are let go */                              \
	X(LINK_DOOR, target)     /* a new supervisor was told which move comes to it */            \
	/* image files: engine/image/ */                                                           \
	X(IMAGE_WRITE, image)   /* N-th write into an image made */                                \
	X(IMAGE_SYNCED, image)  /* an image is on disk, not under its name */                      \
	X(IMAGE_RENAMED, image) /* under its name, the folder not synced */                        \
	X(IMAGE_KILLED, image)  /* it is safe, and the process was ended */                        \
	/* both: lib/, transport/; fail: is the end of that connection */                          \
	X(FILE_WRITTEN, both)  /* N-th state file synced, not under its name */                    \
	X(FILE_RENAMED, both)  /* under its name, the folder not synced */                         \
	X(TLS_HANDSHAKE, both) /* N-th handshake done */                                           \
	X(LANE_SEND, both)     /* N-th write to a connection made */                               \
	X(LANE_RECEIVE, both)  /* N-th frame got */

enum fault_point {
#define FAULT_ENUM(name, side) FAULT_##name,
	FAULT_POINTS(FAULT_ENUM)
#undef FAULT_ENUM
		FAULT_NR,
};

/* What stands behind the inline functions below; built in with CONFIG_FAULT_POINTS only. */
int fault_set_up(int *shared);
int fault_reached(enum fault_point point);

/*
 * Reads BATON_FAULT, before the first fork. `shared` is a word in memory that is shared by all
 * processes of a move, 0 at first; NULL: it gets one of its own. -EINVAL with a reason when
 * BATON_FAULT makes no sense: a misspelt name must not pass for a fault that was survived.
 */
static inline int fault_init(int *shared)
{
	return IS_ENABLED(CONFIG_FAULT_POINTS) ? fault_set_up(shared) : 0;
}

/*
 * 0, or -EIO with a reason when this point is to fail now; does not return when it is to kill.
 * What fires says so on standard error first: `fault point NAME: kill`.
 */
static inline int fault_point(enum fault_point point)
{
	return IS_ENABLED(CONFIG_FAULT_POINTS) ? fault_reached(point) : 0;
}

/* "source_offered", for 0 <= point < FAULT_NR; *side: "source", "target", "image" or "both". */
const char *fault_name(int point, const char **side);

/* True when BATON_FAULT asks for the list of points. */
int fault_list_wanted(void);

#endif
