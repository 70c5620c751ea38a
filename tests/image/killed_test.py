# SPDX-License-Identifier: MIT
"""baton is killed, or fails, at each step: the process runs on, and a file is the old one or the new one."""
import json
import os
import time

import format
from devices import Failure, read, wait_for
from images import Counter, baton, counted, dump, gone, idle, nothing_started, restore
from whole_test import read_bytes

OLD = b"what was there before"
# What a dump goes through beside its writes, the last of them too late for the process to run on; when it is to run on
# anyway, it is let go.
STEPS = ("DUMP_FREEZE", "DUMP_OPEN", "DUMP_SCRATCH", "DUMP_STATE", "DUMP_STATE:15", "DUMP_PAGES",
         "IMAGE_SYNCED", "IMAGE_RENAMED", "IMAGE_KILLED")
LET_GO = "DUMP_THAW"
# A failure there changes nothing.
HARMLESS = "DUMP_CLOSE"
# What a restore goes through before the process is let go, and after.
BEFORE = ("TARGET_OFFERED", "TARGET_BUILDING", "RESTORE_SPAWN", "RESTORE_SPACE", "RESTORE_STATE:15", "RESTORE_PAGES",
          "RESTORE_UFFD", "RESTORE_ARM", "RESTORE_FINISH", "TARGET_BUILT", "TARGET_READY", "TARGET_GO",
          "TARGET_STARTED", "TARGET_GUARDED")
AFTER = ("RESTORE_START", "TARGET_RUNNING", "TARGET_TOLD", "PAGER_COPY", "PAGER_COPY:40", "PAGER_FETCH", "PAGER_PUSH",
         "TARGET_COMPLETE", "TARGET_SAID", "TARGET_DONE")


def fired(out):
    return "fault point" in out.stderr


def nr_writes(pair, counter, path):
    """How often a dump writes into its file."""
    low, high = 1, 1
    while fired(dump(pair, counter, path, "--leave-running", fault=f"fail:IMAGE_WRITE:{high}",
                     fails="any")):
        low, high = high, high * 2
    while high - low > 1:
        middle = (low + high) // 2
        out = dump(pair, counter, path, "--leave-running", fault=f"fail:IMAGE_WRITE:{middle}",
                   fails="any")
        low, high = (middle, high) if fired(out) else (low, middle)
    return low


def one(pair, counter, path, fault, *options, may_miss=False):
    """A dump in which that happens. True when the new file is there."""
    with open(path, "wb") as f:
        f.write(OLD)
    out = dump(pair, counter, path, *options, fault=fault, fails="any")
    if not fired(out) and may_miss:
        return False
    if not fired(out):
        raise Failure(f"{fault} was not reached: {out.tail()}")
    data = read_bytes(path)
    if data != OLD:
        format.Image(data).check()
    if fault.startswith("fail:") and os.path.exists(path + ".part"):
        raise Failure(f"{fault}: a part of a file is left")
    if out.code == 0 and not fault.endswith((LET_GO, HARMLESS, "IMAGE_KILLED")):
        raise Failure(f"{fault}: it says that all is well: {out.tail()}")
    return data != OLD


def at_each_write(ctx, word):
    """Every write into a small file."""
    with counted(ctx, kib=64) as (pair, counter, path):
        total = nr_writes(pair, counter, path)
        numbers = sorted({*range(1, 6), *range(6, total, max(1, total // 40)), *range(total - 4, total + 1)})
        for nr in numbers:
            # Not every dump has as many.
            last = nr > total - 8
            if one(pair, counter, path, f"{word}:IMAGE_WRITE:{nr}", "--leave-running" if nr % 2 or last else "--json",
                   may_miss=last):
                raise Failure(f"write {nr} of {total}: the file has its name already")
            counter.expect_beats(more=2)
        idle(pair)
        return f"{len(numbers)} of {total} writes"


def at_each_step(ctx, word):
    with counted(ctx, kib=64) as (pair, counter, path):
        new = set()
        steps = [(LET_GO, "--leave-running"), (HARMLESS, "--leave-running")]
        for step, option in steps + [(s, o) for s in STEPS for o in ("--leave-running", "--json")
                                     if s != STEPS[-1] or o == "--json"]:
            if one(pair, counter, path, f"{word}:{step}", option):
                new.add(step)
            if step != STEPS[-1]:
                counter.expect_beats(more=2)
        gone(pair.a, counter.pid)
        if new - {LET_GO, HARMLESS} != {"IMAGE_RENAMED", "IMAGE_KILLED"}:
            raise Failure(f"a new file was there after {new}")
        restore(pair, pair.a, path)
        counter.expect_beats()


def parting(ctx, word):
    """While a large mapping is parted, to be looked at without the rest."""
    with counted(ctx, kib=64 << 10) as (pair, counter, path):
        def mappings():
            return len(read(pair.a.proc(counter.pid, "maps")).splitlines())
        before = mappings()
        for option in ("--leave-running", "--json"):
            if one(pair, counter, path, f"{word}:DUMP_PART", option):
                raise Failure("the file has its name already")
            counter.expect_beats(more=2)
        if word == "fail" and mappings() != before:
            raise Failure(f"it has {mappings()} mappings, and had {before}")
        dump(pair, counter, path)
        gone(pair.a, counter.pid)
        restore(pair, pair.a, path)
        counter.expect_beats(more=2)


def left_over(ctx):
    """What a baton that was killed has left is in nobody's way."""
    with counted(ctx, kib=64) as (pair, counter, path):
        one(pair, counter, path, "kill:IMAGE_WRITE:30", "--json")
        if not os.path.exists(path + ".part"):
            raise Failure("nothing is left: the test is none")
        dump(pair, counter, path)
        if os.path.exists(path + ".part"):
            raise Failure("a part of a file is left")
        restore(pair, pair.a, path)
        counter.expect_beats()


def restore_before(ctx):
    """Killed before it runs: nothing is started, and the file is as good as before."""
    with counted(ctx, kib=256) as (pair, counter, path):
        dump(pair, counter, path)
        gone(pair.a, counter.pid)
        before = pair.a.pids()
        for step in BEFORE:
            out = restore(pair, pair.a, path, fault=f"kill:{step}", fails="any")
            if not fired(out):
                raise Failure(f"{step} was not reached: {out.tail()}")
            # Before there are twins it is the command itself.
            nothing_started(pair.a, before)
            if out.code == 0:
                raise Failure(f"{step}: it says that all is well")
        restore(pair, pair.a, path)
        counter.expect_beats()
        idle(pair)
        return f"{len(BEFORE)} steps"


def restore_after(ctx):
    """Killed while it runs and is filled: another worker goes on, from the very same file."""
    with counted(ctx, kib=8192) as (pair, counter, path):
        dump(pair, counter, path, "--leave-running")
        nr = 0
        for step in AFTER:
            before = set(pair.a.pids())
            out = restore(pair, pair.a, path, "--pidns", fault=f"kill:{step}")
            nr += fired(out)
            fresh = [p for p in set(pair.a.pids()) - before if Counter.instance(pair.a, p) != counter.home]
            if not fresh:
                raise Failure(f"{step}: nothing runs: {out.tail()}")
            counter.expect_beats(Counter.instance(pair.a, fresh[0]))
        if nr < len(AFTER) - 2:
            raise Failure(f"only {nr} of {len(AFTER)} steps were reached")
        idle(pair, inits=len(AFTER))
        return f"{nr} steps"


def twins(ctx):
    """Both of its processes at once: it is ended before it reads a zero, and the file starts it again."""
    with counted(ctx, kib=8192) as (pair, counter, path):
        dump(pair, counter, path)
        out = restore(pair, pair.a, path, fault="both:PAGER_COPY:20", fails="any")
        if not fired(out):
            raise Failure("it was not reached")
        nothing_started(pair.a, [])
        if counter.wrong():
            raise Failure(f"wrong memory: {counter.wrong()}")
        # What is left is shown, goes by abort, and else by itself.
        for way in ("abort", "restore"):
            (left,) = json.loads(baton(pair, pair.a, "status", "--json", keys=False).stdout)
            said = baton(pair, pair.a, "status", keys=False).stdout
            if left["alive"] or left["stage"] != "started" or "start it again" not in said:
                raise Failure(f"status says {said}")
            if way == "abort":
                baton(pair, pair.a, "abort", left["id"], keys=False)
                if [n for n in os.listdir(pair.a.state) if not n.startswith("pid-")]:
                    raise Failure(f"left after abort: {os.listdir(pair.a.state)}")
                restore(pair, pair.a, path, fault="both:PAGER_COPY:20", fails="any")
                nothing_started(pair.a, [])
        restore(pair, pair.a, path)
        counter.expect_beats()
        idle(pair)


def inner(ctx, how):
    """A stack in a frame of the main stack: nothing below it is nobody's. A filter counts as soon as baton is gone."""
    with ctx.pair() as pair:
        a, path = pair.a, f"{pair.folder}/image"
        out = a.start([ctx.inner, how])
        pid = a.pid_of(out)
        wait_for(lambda: "ready" in out.stdout, 20, "it looks at its stack")
        # Who has no room for a way back must not be let go in the middle: docs/crash-safety.md.
        kills = () if how == "neighbour" else ("kill:DUMP_ASK", "kill:DUMP_ASK:2", "kill:DUMP_STATE:4")
        for fault in (None, *kills, None):
            baton(pair, a, "dump", "--leave-running", pid, path, fault=fault, fails="any" if fault else 0)
            time.sleep(0.1)
            if not a.alive(pid):
                raise Failure(f"{fault}: it has ended: {out.code}")
        baton(pair, a, "dump", pid, path)
        gone(a, pid)
        restore(pair, a, path)
        time.sleep(0.1)
        if not a.alive(pid):
            raise Failure("out of the file it finds its stack changed")


def tests(ctx):
    return [(f"dump: {word} at {name}", lambda f=function, w=word: f(ctx, w))
            for word in ("kill", "fail") for name, function in (("each write", at_each_write),
                                                                ("each step", at_each_step),
                                                                ("the parting of a mapping", parting))] + \
           [(name, lambda f=function: f(ctx)) for name, function in (
               *((f"dump: a stack within the stack, {how}", lambda c, h=how: inner(c, h))
                 for how in ("alone", "filter", "neighbour")),
               ("dump: what is left over", left_over), ("restore: killed before it runs", restore_before),
               ("restore: killed while it is filled", restore_after), ("restore: both twins killed", twins))]
