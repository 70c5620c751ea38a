/* SPDX-License-Identifier: MIT */
/*
 * The handover of docs/crash-safety.md between one source and one target, for spin; started by
 * tests/model/run. -DCHECK_... chooses what is claimed, -DBREAK_... takes a rule of the protocol
 * away, to see that it is missed.
 *
 * Each guarded step is one effect on the world: a state written, a message sent, the process
 * touched. A fault can come between any two. A side is
 *
 *     spc, tpc        where its worker stands; lost when it is killed
 *     sled, tled      the ledger: lost when both twins are killed, or the box is rebooted
 *     sdisk, tdisk    the state folder: kept in a reboot, or lost (tmpfs)
 *     sp, tp          the process: survives every engine, but no reboot
 */

/* ---- vocabulary ---- */

/*
 * NEVER, LOST and UNKNOWN are the words of the target's ABORT. GIVEUP is the source's: the process
 * goes on there. GONE is what a source says instead of GO when a reboot took its copy.
 */
mtype = { OFFER, READY, GO, STARTED, COMPLETE, DONE, NEVER, LOST, UNKNOWN, GIVEUP, GONE };

/* Stages, on disk and in the ledger. OFFERED is FROZEN here: both mean "let it run". */
mtype = { NONE, FROZEN, COMMITTED, SERVING, DRAINED, BUILDING, RELEASED, DISCARDED };

/* The process. BUILT: dies with its tracer. STOPPED: by the pipe, when both twins died. */
mtype = { RUN, STILL, BUILT, STOPPED, ENDED, DEAD };

mtype = { S_START, S_FREEZE, S_READY, S_COMMIT, S_WRITE, S_ASK, S_WAIT, S_UNDO, S_THAW, S_DRAIN,
	  S_DRAIN_WRITE, S_KILL, S_TELL, S_TOLD, S_NEW, S_OFF, S_HELD, S_END };
mtype = { T_NOBODY, T_BUILD, T_BUILD_WRITE, T_SAY_READY, T_WAIT_GO, T_START_WRITE, T_RELEASE, T_RUN,
	  T_SAY, T_FILL, T_COMPLETE, T_COMPLETE_WRITE, T_COMPLETE_SAY, T_DISCARD, T_DISCARD_WRITE,
	  T_DISCARD_SAY, T_NEW };

mtype spc = S_START, sled = NONE, sdisk = NONE, sp = RUN;
mtype tpc = T_NOBODY, tled = NONE, tdisk = NONE, tp = NONE;
bool filled;    /* the target has every page */
bool old_boot;  /* tdisk was written before the target's last reboot */
bool quiet;     /* no more faults, and nobody changes his mind */

/* What has happened, for the claims. */
bool s_boot, t_boot;
bool doubled;   /* both twins of a side were killed at once */
bool window;    /* the target's worker was killed in the very moment in which it let go */
bool lonely;    /* BREAK_NO_LOCK: a supervisor that does not know of the worker */
bool said_go, said_never;
bool told_never, told_lost; /* the source was; lost or unknown */
bool told_gone;             /* the target was: the source's copy is gone */
bool taken_back;            /* by an operator */

/* ---- in words, for a trail ---- */

#define S_WRITES(stage) sdisk = stage; printf("source: writes %e\n", stage)
#define T_WRITES(stage) tdisk = stage; old_boot = false; printf("target: writes %e\n", stage)
#define S_PROCESS(what) sp = what; printf("source: the process is %e\n", what)
#define T_PROCESS(what) tp = what; printf("target: the process is %e\n", what)

/* ---- the link ---- */

#ifdef BAG
/* A network without connections: whatever was said may be heard at any time, and again. */
bool bag[12];
#define HEARS_S(m) (bag[m])
#define HEARS_T(m) (bag[m])
#define TAKE_S(m) printf("source: hears %e\n", m)
#define TAKE_T(m) printf("target: hears %e\n", m)
#define SAY_S(m) bag[m] = true; printf("source: says %e\n", m)
#define SAY_T(m) bag[m] = true; printf("target: says %e\n", m)
#define S_LINK true
#define S_CUT true
#define T_LINK false
#define T_CUT false
#define S_CLOSE skip
#define T_CLOSE skip
#define SAME_LINK true
#else
/*
 * Two connections at most: the one that a side still holds while the other has opened a new one. sc
 * and tc say which each holds. Frames come in order, and only over a connection that both have
 * opened (TLS: each has shown that it is there now). Closing loses what was not read.
 */
#define NOWHERE 2
chan to_s[2] = [4] of { mtype };
chan to_t[2] = [4] of { mtype };
byte sc = NOWHERE, tc = NOWHERE;
bool open[2]; /* both sides have opened it */
bool cut[2];

#define HEARS_S(m) (sc != NOWHERE && to_s[sc & 1]?[m])
#define HEARS_T(m) (tc != NOWHERE && to_t[tc & 1]?[m])
#define TAKE_S(m) to_s[sc]?m; printf("source: hears %e\n", m)
#define TAKE_T(m) to_t[tc]?m; printf("target: hears %e\n", m)
#define S_LINK (sc != NOWHERE && open[sc & 1])
#define SAME_LINK (sc != NOWHERE && sc == tc && !cut[sc & 1])
#define S_CUT (S_LINK && !SAME_LINK && empty(to_s[sc & 1]))
#define T_LINK (tc != NOWHERE)
#define T_CUT (tc != NOWHERE && !SAME_LINK && empty(to_t[tc & 1]))
#define SAY_S(m)                                                                                   \
	printf("source: says %e\n", m);                                                            \
	if                                                                                         \
	:: SAME_LINK -> assert(nfull(to_t[sc])); to_t[sc]!m                                        \
	:: else /* nobody is there to hear it */                                                   \
	fi
#define SAY_T(m)                                                                                   \
	printf("target: says %e\n", m);                                                            \
	if                                                                                         \
	:: SAME_LINK -> assert(nfull(to_s[tc])); to_s[tc]!m                                        \
	:: else                                                                                    \
	fi
#define S_CLOSE s_close()
#define T_CLOSE t_close()

inline flush(c)
{
	do
	:: c?_
	:: empty(c) -> break
	od
}

inline s_close()
{
	if
	:: sc != NOWHERE ->
		flush(to_s[sc]);
		if :: tc != sc -> open[sc] = false; cut[sc] = false :: else fi;
		sc = NOWHERE
	:: else
	fi
}

inline t_close()
{
	if
	:: tc != NOWHERE ->
		flush(to_t[tc]);
		if :: tc != sc -> open[tc] = false; cut[tc] = false :: else fi;
		tc = NOWHERE
	:: else
	fi
}
#endif

/* ---- properties ---- */

/* A stray SIGCONT wakes what is only stopped. */
#define T_MAY_RUN (tp == RUN || tp == STOPPED)
#define IS_SOMEWHERE (sp == RUN || sp == STILL || (filled && T_MAY_RUN) || tp == ENDED)

#ifdef CHECK_ONCE
active proctype once()
{
end:	atomic { sp == RUN && T_MAY_RUN -> assert(false) }
}
#endif
#ifdef CHECK_NEVER_LOST
active proctype never_lost()
{
end:	atomic { !s_boot && !t_boot && !IS_SOMEWHERE -> assert(false) }
}
#define CLAIM_DRAIN assert(filled || tp == ENDED)
#define CLAIM_COMPLETE assert((filled && tp == RUN) || tp == ENDED)
#else
#define CLAIM_DRAIN skip
#define CLAIM_COMPLETE skip
#endif
#ifdef CHECK_AGREED
#define CLAIM_THAW assert(!said_go || told_never || taken_back)
#define CLAIM_RUN assert(said_go && !said_never)
#else
#define CLAIM_THAW skip
#define CLAIM_RUN skip
#endif

/*
 * How a move may end, when nothing can happen any more. Without double faults and reboots it is
 * done or undone, and no file is left.
 */
#ifdef IMPATIENT
#define T_FORGOT true
#else
#define T_FORGOT (tdisk == NONE)
#endif
#define IS_CLEAN                                                                                   \
	((spc == S_END || spc == S_OFF) && tpc == T_NOBODY && sdisk == NONE && T_FORGOT)
#define IS_DONE (IS_CLEAN && sp == DEAD && (tp == RUN || tp == ENDED))
#define IS_UNDONE                                                                                  \
	(IS_CLEAN && sp == RUN && (tp == NONE || tp == DEAD || (tp == ENDED && taken_back)))
#define IS_HELD (spc == S_HELD && sp == STILL && told_lost && tpc == T_NOBODY && !T_MAY_RUN)
#ifdef CHECK_ENDS
#define CLAIM_END                                                                                  \
	if                                                                                         \
	:: !s_boot && !t_boot && !doubled && !window -> assert(IS_DONE || IS_UNDONE)               \
	:: !s_boot && !t_boot && (doubled || window) ->                                            \
		assert(IS_DONE || IS_UNDONE || IS_HELD)                                            \
	:: !s_boot && t_boot -> /* a process that was complete there died with the box */          \
		assert(IS_CLEAN || IS_HELD)                                                        \
	:: s_boot -> /* the copy is gone: what is not complete there says so, and waits */         \
		assert((spc == S_END || spc == S_OFF || spc == S_HELD || spc == S_WAIT) &&         \
		       (tpc == T_NOBODY || tpc == T_FILL) && !(sp == STILL && spc != S_HELD) &&    \
		       (spc != S_WAIT || told_gone))                                               \
	fi
#else
#define CLAIM_END skip
#endif

/* ---- the source ---- */

inline thaw()
{
	if
	:: sp == STILL -> CLAIM_THAW; S_PROCESS(RUN)
	:: else
	fi
}

active proctype source()
{
end:	do
#ifndef BAG
	/* The side that dials. A slot that the target still holds is not its own to use. */
	:: atomic { (spc == S_START || spc == S_ASK || spc == S_TELL) && sc == NOWHERE ->
		sc = (tc == 0 -> 1 : 0);
		flush(to_s[sc]); flush(to_t[sc]);
		open[sc] = false; cut[sc] = false;
		printf("source: dials\n") }
	:: atomic { (spc == S_START || spc == S_ASK || spc == S_TELL) && S_CUT -> S_CLOSE }
#endif
	:: atomic { spc == S_START && S_LINK -> sled = FROZEN; S_WRITES(FROZEN); spc = S_FREEZE }
	:: atomic { spc == S_FREEZE -> S_PROCESS(STILL); SAY_S(OFFER); spc = S_READY }

	:: atomic { spc == S_READY && HEARS_S(READY) -> TAKE_S(READY); spc = S_COMMIT }
	:: atomic { spc == S_READY && HEARS_S(NEVER) -> TAKE_S(NEVER); spc = S_UNDO }
	:: atomic { spc == S_READY && S_CUT -> S_CLOSE; spc = S_UNDO }
	:: atomic { spc == S_READY && !quiet -> printf("source: changes its mind\n"); spc = S_UNDO }

#ifdef BREAK_GO_FIRST
	:: atomic { spc == S_COMMIT -> SAY_S(GO); said_go = true; sled = COMMITTED; spc = S_WRITE }
#elif defined(BREAK_LEDGER_LAST)
	:: atomic { spc == S_COMMIT -> spc = S_WRITE } /* only when STARTED has come */
#else
	:: atomic { spc == S_COMMIT -> sled = COMMITTED; spc = S_WRITE }
#endif
	:: atomic { spc == S_WRITE -> S_WRITES(COMMITTED); spc = S_ASK }

	:: atomic { spc == S_ASK && S_LINK ->
		if
		:: sp == STILL -> SAY_S(GO); said_go = true
		:: else -> SAY_S(GONE)
		fi;
		spc = S_WAIT }
	:: atomic { spc == S_WAIT && HEARS_S(STARTED) ->
		TAKE_S(STARTED); sled = SERVING; S_WRITES(SERVING) }
	:: atomic { spc == S_WAIT && HEARS_S(COMPLETE) -> TAKE_S(COMPLETE); spc = S_DRAIN }
	:: atomic { spc == S_WAIT && HEARS_S(NEVER) ->
		TAKE_S(NEVER);
		told_never = true;
#ifdef BREAK_ANSWER_FIRST
		SAY_S(GIVEUP);
#endif
		spc = S_UNDO }
	:: atomic { spc == S_WAIT && HEARS_S(LOST) ->
		TAKE_S(LOST); told_lost = true; S_CLOSE;
#ifdef BREAK_ASK_ON
		spc = S_ASK
#else
		sled = NONE; spc = S_HELD
#endif
		}
	:: atomic { spc == S_WAIT && HEARS_S(UNKNOWN) ->
		TAKE_S(UNKNOWN);
#ifdef BREAK_THAW_UNKNOWN
		spc = S_UNDO
#else
		told_lost = true; S_CLOSE; sled = NONE; spc = S_HELD
#endif
		}
	:: atomic { spc == S_WAIT && S_CUT -> S_CLOSE; spc = S_ASK }

	/* It goes on here. Written first: whoever finds the file may let it run. */
	:: atomic { spc == S_UNDO -> sled = FROZEN; S_WRITES(FROZEN); spc = S_THAW }
	:: atomic { spc == S_THAW -> thaw(); spc = S_TELL }

	:: atomic { spc == S_DRAIN -> sled = DRAINED; spc = S_DRAIN_WRITE }
	:: atomic { spc == S_DRAIN_WRITE -> S_WRITES(DRAINED); spc = S_KILL }
	:: atomic { spc == S_KILL ->
		if
		:: sp == STILL -> CLAIM_DRAIN; S_PROCESS(DEAD)
		:: else
		fi;
		spc = S_TELL }

	/* The target's proof was acted upon. The file here goes when the target's is gone. */
	:: atomic { spc == S_TELL && S_LINK ->
		if
		:: sled == DRAINED -> SAY_S(DONE)
		:: else -> SAY_S(GIVEUP)
		fi;
		spc = S_TOLD }
	:: atomic { spc == S_TOLD && HEARS_S(UNKNOWN) ->
		TAKE_S(UNKNOWN); S_CLOSE; sled = NONE; S_WRITES(NONE); spc = S_END }
#ifdef IMPATIENT
	:: atomic { spc == S_TELL || spc == S_TOLD ->
		S_CLOSE; sled = NONE; S_WRITES(NONE); spc = S_END }
#endif
	:: atomic { spc == S_TOLD && HEARS_S(READY) -> TAKE_S(READY) }
	:: atomic { spc == S_TOLD && HEARS_S(STARTED) -> TAKE_S(STARTED) }
	:: atomic { spc == S_TOLD && HEARS_S(LOST) -> TAKE_S(LOST) }
	:: atomic { spc == S_TOLD && HEARS_S(COMPLETE) -> TAKE_S(COMPLETE); spc = S_TELL }
	:: atomic { spc == S_TOLD && HEARS_S(NEVER) -> TAKE_S(NEVER); spc = S_TELL }
	:: atomic { spc == S_TOLD && S_CUT -> S_CLOSE; spc = S_TELL }

	/* The keeper's new worker. What it does may have been done already. */
	:: atomic { spc == S_NEW ->
		if
		:: sled == NONE -> spc = S_END
		:: sled == FROZEN -> spc = S_UNDO
		:: sled == COMMITTED -> spc = S_WRITE
		:: sled == SERVING -> spc = S_ASK
		:: sled == DRAINED -> spc = S_DRAIN_WRITE
		fi }
	/* A new engine, with the state folder only. */
	:: atomic { spc == S_OFF && sdisk != NONE ->
		sled = sdisk;
		if
		:: sdisk == FROZEN -> spc = S_UNDO
		:: sdisk == COMMITTED || sdisk == SERVING -> spc = S_ASK
		:: sdisk == DRAINED -> spc = S_KILL
		fi }
	od
}

/* ---- the target ---- */

#ifdef BREAK_OLD_BOOT
#define OLD_BOOT false
#else
#define OLD_BOOT old_boot
#endif

/* Without twins: the state folder answers. Only whoever has the move's lock may say this. */
inline answer_for_nobody()
{
	if
	:: tdisk == NONE -> SAY_T(UNKNOWN)
	:: tdisk == BUILDING || tdisk == DISCARDED ->
		said_never = true;
		SAY_T(NEVER)
	:: tdisk == STARTED || (tdisk == COMPLETE && OLD_BOOT) ->
#ifndef BREAK_REMAINS
		if :: tp == STOPPED -> T_PROCESS(DEAD) :: else fi;
#endif
		SAY_T(LOST)
	:: tdisk == COMPLETE && !OLD_BOOT -> CLAIM_COMPLETE; SAY_T(COMPLETE)
	fi
}

inline forget()
{
	T_WRITES(NONE);
	SAY_T(UNKNOWN)
}

#define T_LISTENS (tpc == T_NOBODY || tpc == T_WAIT_GO || tpc == T_FILL || lonely)

active proctype target()
{
end:	do
#ifndef BAG
	:: atomic { T_LISTENS && tc == NOWHERE && sc != NOWHERE && !open[sc & 1] ->
		tc = sc; open[sc] = true }
	:: atomic { T_LISTENS && T_CUT -> T_CLOSE }
#endif
	/* OFFER to READY */
	:: atomic { tpc == T_NOBODY && tdisk == NONE && HEARS_T(OFFER) ->
		TAKE_T(OFFER);
#if defined(BAG) && !defined(BREAK_REPLAY)
		bag[OFFER] = false; /* only the first frame of a connection may be one */
#endif
		tpc = T_BUILD }
	:: atomic { tpc == T_BUILD ->
		tled = BUILDING;
		T_PROCESS(BUILT);
		if
		:: filled = false
		:: filled = true /* eager */
		fi;
		tpc = T_BUILD_WRITE }
	:: atomic { tpc == T_BUILD && !quiet -> printf("target: cannot build it\n"); tpc = T_DISCARD }
	:: atomic { tpc == T_BUILD_WRITE -> T_WRITES(BUILDING); tpc = T_SAY_READY }
	:: atomic { tpc == T_SAY_READY -> SAY_T(READY); tpc = T_WAIT_GO }

	/* GO. A new worker that finds RELEASED in the ledger cannot know whether it has run. */
	:: atomic { tpc == T_WAIT_GO && HEARS_T(GO) -> TAKE_T(GO); tpc = T_START_WRITE }
	:: atomic { tpc == T_WAIT_GO && HEARS_T(GIVEUP) -> TAKE_T(GIVEUP); tpc = T_DISCARD }
	:: atomic { tpc == T_WAIT_GO && HEARS_T(GONE) -> TAKE_T(GONE); tpc = T_DISCARD }
	:: atomic { tpc == T_WAIT_GO && !T_LINK ->
		printf("target: waits no longer for GO\n"); tpc = T_DISCARD }
#ifdef BREAK_STARTED_LATE
	:: atomic { tpc == T_START_WRITE -> tpc = T_RELEASE }
#else
	:: atomic { tpc == T_START_WRITE -> T_WRITES(STARTED); tpc = T_RELEASE }
#endif
	:: atomic { tpc == T_RELEASE -> tled = RELEASED; tpc = T_RUN }
	:: atomic { tpc == T_RUN -> CLAIM_RUN; T_PROCESS(RUN); tpc = T_SAY }
#ifdef BREAK_STARTED_LATE
	:: atomic { tpc == T_SAY -> T_WRITES(STARTED); SAY_T(STARTED); tpc = T_FILL }
#else
	:: atomic { tpc == T_SAY -> SAY_T(STARTED); tpc = T_FILL }
#endif

	/* All pages in one step, over a link that stands, from a copy that stands still. */
	:: atomic { tpc == T_FILL && SAME_LINK && spc == S_WAIT && sp == STILL ->
		filled = true; tpc = T_COMPLETE }
	:: atomic { tpc == T_FILL && (filled || tp == ENDED) -> tpc = T_COMPLETE }
	:: atomic { tpc == T_FILL && HEARS_T(GO) -> TAKE_T(GO); tpc = T_SAY }
	:: atomic { tpc == T_FILL && HEARS_T(GONE) -> TAKE_T(GONE); told_gone = true; tpc = T_SAY }
	:: atomic { tpc == T_COMPLETE -> tled = COMPLETE; tpc = T_COMPLETE_WRITE }
#ifdef BREAK_COMPLETE_LATE
	:: atomic { tpc == T_COMPLETE_WRITE -> SAY_T(COMPLETE); tpc = T_COMPLETE_SAY }
	:: atomic { tpc == T_COMPLETE_SAY -> T_WRITES(COMPLETE); tled = NONE; tpc = T_NOBODY }
#else
	:: atomic { tpc == T_COMPLETE_WRITE -> T_WRITES(COMPLETE); tpc = T_COMPLETE_SAY }
	:: atomic { tpc == T_COMPLETE_SAY ->
		CLAIM_COMPLETE;
		SAY_T(COMPLETE);
#ifdef BREAK_FORGET_COMPLETE
		T_WRITES(NONE);
#endif
		tled = NONE; tpc = T_NOBODY }
#endif

	/* It will not run here. */
	:: atomic { tpc == T_DISCARD -> T_PROCESS(DEAD); tled = DISCARDED; tpc = T_DISCARD_WRITE }
#ifdef NO_DISCARDED /* `building` that nobody works on says the same */
	:: atomic { tpc == T_DISCARD_WRITE -> T_WRITES(BUILDING); tpc = T_DISCARD_SAY }
#else
	:: atomic { tpc == T_DISCARD_WRITE -> T_WRITES(DISCARDED); tpc = T_DISCARD_SAY }
#endif
	:: atomic { tpc == T_DISCARD_SAY ->
		said_never = true;
		SAY_T(NEVER);
#ifdef BREAK_FORGET_DISCARDED
		T_WRITES(NONE);
#endif
		tled = NONE; tpc = T_NOBODY }

	/* Nobody works on it. */
#ifdef BREAK_NO_LOCK
	:: atomic { tpc != T_NOBODY && lonely && HEARS_T(GO) -> TAKE_T(GO); answer_for_nobody() }
#endif
	:: atomic { tpc == T_NOBODY && HEARS_T(GO) -> TAKE_T(GO); answer_for_nobody() }
	:: atomic { tpc == T_NOBODY && HEARS_T(GONE) -> TAKE_T(GONE); answer_for_nobody() }
	:: atomic { tpc == T_NOBODY && HEARS_T(DONE) -> TAKE_T(DONE); forget() }
	:: atomic { tpc == T_NOBODY && HEARS_T(GIVEUP) -> TAKE_T(GIVEUP); forget() }

	/* The keeper's new worker. */
	:: atomic { tpc == T_NEW ->
		if
		:: tled == NONE -> tpc = T_NOBODY
		:: tled == BUILDING -> tpc = T_DISCARD /* `started` or not: it did not get to run */
#ifdef BREAK_DEAD_IS_ENDED
		:: tled == RELEASED && tp == DEAD -> tpc = T_COMPLETE
#else
		:: tled == RELEASED && tp == DEAD -> tled = NONE; tpc = T_NOBODY
#endif
		:: tled == RELEASED && tp == BUILT -> tpc = T_RUN
		:: tled == RELEASED && tp != DEAD && tp != BUILT -> tpc = T_FILL
		:: tled == COMPLETE -> tpc = T_COMPLETE_WRITE
		:: tled == DISCARDED -> tpc = T_DISCARD_WRITE
		fi }
	od
}

/* ---- the world ---- */

#define FAULT(words) printf(words); printf("\n")
#define S_WORKS (spc != S_OFF && spc != S_HELD && spc != S_END && spc != S_NEW)
#define T_WORKS (tpc != T_NOBODY && tpc != T_NEW)
#define S_COMMITTED (sdisk == COMMITTED || sdisk == SERVING)
#define T_IS_DEAD (tpc == T_NOBODY && tp == DEAD)

/* Its tracer dies: what was built dies, too. In the middle of letting go, perhaps not. */
inline tracer_dies()
{
	if
#ifdef STOPPED_START /* it waits in group-stop, untraced, when `started` is written */
	:: tp == BUILT && (tpc == T_RELEASE || tpc == T_RUN)
#else
	:: tp == BUILT && tpc == T_RUN -> window = true; T_PROCESS(DEAD)
	:: tp == BUILT && tpc == T_RUN -> window = true; CLAIM_RUN; T_PROCESS(RUN)
	:: tp == BUILT && tpc == T_RELEASE -> T_PROCESS(DEAD)
#endif
	:: tp == BUILT && tpc != T_RELEASE && tpc != T_RUN -> T_PROCESS(DEAD)
	:: tp != BUILT
	fi
}

/*
 * Any number of faults, in any order; then none. While there are some all is progress, after that a
 * run that goes in circles is the protocol's own (pan -l).
 */
active proctype world()
{
progress:
end:	do
#ifndef BAG
	:: atomic { sc != NOWHERE && open[sc & 1] && !cut[sc & 1] ->
		FAULT("the link is cut"); flush(to_s[sc]); flush(to_t[sc]); cut[sc] = true }
#endif
	:: atomic { S_WORKS ->
		FAULT("source: its worker is killed"); S_CLOSE; spc = S_NEW }
	:: atomic { (S_WORKS || spc == S_NEW) ->
		FAULT("source: both twins are killed");
		S_CLOSE; doubled = true; sled = NONE; spc = S_OFF }
	:: atomic { true ->
		FAULT("source: rebooted"); S_CLOSE; s_boot = true; sled = NONE;
		S_PROCESS(DEAD); spc = S_OFF;
		if
		:: skip
		:: sdisk != NONE -> S_WRITES(NONE)
		fi }
	:: atomic { T_WORKS ->
		FAULT("target: its worker is killed"); T_CLOSE; tracer_dies(); tpc = T_NEW }
#ifdef BREAK_NO_LOCK
	:: atomic { tpc != T_NOBODY ->
		FAULT("target: a new supervisor does not know of the worker"); lonely = true }
#endif
	:: atomic { tpc != T_NOBODY ->
		FAULT("target: both twins are killed");
		T_CLOSE; doubled = true; tracer_dies(); tled = NONE; tpc = T_NOBODY;
		if
		:: (tp == RUN || tp == BUILT) && tdisk != COMPLETE -> T_PROCESS(STOPPED)
		:: else
		fi }
	:: atomic { true ->
		FAULT("target: rebooted"); T_CLOSE; t_boot = true; tled = NONE; tpc = T_NOBODY;
		if :: tp != NONE && tp != ENDED -> T_PROCESS(DEAD) :: else fi;
		if
		:: old_boot = (tdisk != NONE)
		:: tdisk != NONE -> T_WRITES(NONE)
		fi }
	:: atomic { tp == RUN -> T_PROCESS(ENDED) } /* the process exits */
	/* `resume --peer-is-dead`, from a source that was told so, or by who has seen it. */
	:: atomic { sp == STILL && S_COMMITTED &&
		    (spc == S_HELD || ((spc == S_ASK || spc == S_WAIT || spc == S_OFF) && T_IS_DEAD)) ->
		printf("source: baton resume --peer-is-dead\n");
		taken_back = true; S_CLOSE; sled = FROZEN; spc = S_UNDO }
	:: atomic { quiet = true; break }
	od;
	atomic { timeout -> CLAIM_END }
}
