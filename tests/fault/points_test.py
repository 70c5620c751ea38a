# SPDX-License-Identifier: MIT
"""A move fails, or is killed, at each of the points in lib/fault.h: once, on one side. On the source also
both twins are: what they leave behind is picked up by `baton resume`.

Whatever the point: the process runs on exactly one device, with every byte right; commands end with
what is true; both state folders are empty and nobody of baton is left.
"""
import os
import subprocess

from devices import Failure
from moving import Arenas, Moving, told

# Points that are met many times: which times are tried.
TIMES = {"DUMP_STATE": (1, 4, 12, 30), "DUMP_ASK": (1, 2, 4), "RESTORE_STATE": (1, 2, 4, 12, 30),
         "LANE_SEND": (1, 5, 20), "LANE_RECEIVE": (1, 5, 20), "TLS_HANDSHAKE": (1, 2), "FILE_WRITTEN": (1, 2, 3),
         "FILE_RENAMED": (1, 2, 3), "PAGER_COPY": (1, 20),
         "PAGER_EVENT": (1, 3), "PAGER_LOGGED": (1, 10), "PAGER_FETCH": (1, 5), "PAGER_PUSH": (1, 5)}
# What is on the way of a failure only: the other side fails there first.
AFTER_FAILURE = {"DUMP_THAW": "fail:RESTORE_FINISH", "SOURCE_UNDO": "fail:RESTORE_FINISH",
                 "TARGET_DISCARD": "fail:DUMP_STATE:12", "TARGET_DISCARDED": "fail:DUMP_STATE:12"}
# MiB of a move in which the point is met for sure; 4 are enough for the others.
MIB = {"PAGER_CHECKPOINT": 24, "DUMP_PART": 64}
# Met when the mappings stay what they were before the freeze.
STILL = ("DUMP_PART",)
# From here on there is no way back: one fault must not keep the process from the target.
HANDED_OVER = ("SOURCE_COMMITTED", "SOURCE_GO", "SOURCE_STARTED", "SOURCE_SERVING",
               "SOURCE_COMPLETE", "SOURCE_DRAINED", "SOURCE_KILLED", "SOURCE_REMOVED",
               "SOURCE_DONE", "RESTORE_STOP", "TARGET_RUNNING", "TARGET_TOLD", "TARGET_COMPLETE", "TARGET_SAID",
               "TARGET_DONE", "TARGET_REMOVED", "PAGER_EVENT", "PAGER_LOGGED", "PAGER_COPY",
               "PAGER_FETCH", "PAGER_PUSH", "PAGER_FORK")
# But who has not said GO may still give up.
NOT_SAID = ("fail", "SOURCE_COMMITTED")
# Nothing leads there in a move that only has this fault: see takeover_test.py.
ELSEWHERE = ("LINK_DOOR",)
# Tried in the direction of dump --serve and restore --from, too.
PULLED = ("SOURCE_FROZEN", "SOURCE_DESCRIBED", "SOURCE_COMMITTED", "SOURCE_GO", "SOURCE_SERVING",
          "SOURCE_DRAINED", "SOURCE_DONE", "TARGET_BUILDING", "TARGET_READY", "TARGET_STARTED",
          "TARGET_RUNNING", "TARGET_COMPLETE", "TARGET_DONE", "PAGER_COPY", "DUMP_STATE",
          "RESTORE_ARM")


def points(binary):
    """[(name, side)] as the binary itself lists them."""
    done = subprocess.run([binary, "version"], env=dict(os.environ, BATON_FAULT="list"),
                          capture_output=True, text=True, timeout=20)
    found = [tuple(line.split()) for line in done.stdout.splitlines()]
    if done.returncode or not found or any(len(p) != 2 for p in found):
        raise Failure("the binary has no fault points: " + done.stderr.strip())
    return found


def stderr_of(moving, side):
    device = moving.devices[side]
    return "".join(c.stderr for c in moving.commands if c.device is device) \
        + moving.arena.services[device.name].log()


def one(arenas, name, action, times, side, mode):
    """A move with this fault."""
    fault = f"{action}:{name}:{times}"
    env = {side: {"BATON_FAULT": fault}}
    if name in AFTER_FAILURE:
        env["target" if side == "source" else "source"] = {"BATON_FAULT": AFTER_FAILURE[name]}
    with arenas.use() as arena:
        source, target = arena.pair.a, arena.pair.b
        verifier = arena.verifier(source, seed=times, mib=MIB.get(name, 4), threads=2, forks=2)
        if name in STILL:
            verifier.quiet()
        moving = Moving(arena, source, target, verifier.pid, mode, rate=20, env=env)
        with told(moving):
            moving.begin()
            moving.wait(moving.over, "the move's end", each=verifier.expect_right)
            if name in STILL:
                verifier.loud()
            end_side = moving.expect_over(verifier)
        if f"fault point {name}: {action}" not in stderr_of(moving, side):
            raise Failure("the point was not reached")
        if name in HANDED_OVER and (action, name) != NOT_SAID and end_side != "target":
            raise Failure(f"it was handed over, but ended on the {end_side}")
        verifier.end(source, target)


def tests(ctx):
    arenas = Arenas(ctx)
    ctx.at_end.append(arenas.close)
    found = []
    for name, side in points(ctx.binary):
        # Those of images are for tests/image.
        if name in ELSEWHERE or side == "image":
            continue
        for s in ("source", "target") if side == "both" else (side,):
            for action in ("kill", "fail", "both") if s == "source" else ("kill", "fail"):
                for times in TIMES.get(name, (1,)):
                    for mode in ("lazy", "pull") if name in PULLED and times == 1 else ("lazy",):
                        text = f"{action}:{name}" + (f":{times}" if times > 1 else "")
                        found.append((f"fault point {text} ({s}, {mode})",
                                      lambda n=name, a=action, t=times, d=s, m=mode:
                                      one(arenas, n, a, t, d, m)))
    return found
