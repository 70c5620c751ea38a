# SPDX-License-Identifier: MIT
"""A round of chaos: a plan is carried out on a pair of devices, and all must be well afterwards."""
import os
import shutil
import sys
import time
import traceback
import zlib

from devices import Failure
from faults import kill
from moving import LIMIT_S, STAGES, Moving
from plan import KILLS
from watched import check_history, pauses

# A kill of one twin right after the other's is the double fault: the survivor gets this long to fork.
TWIN_S = 0.5
# A round that takes longer is told although all was well.
SLOW_S = 20


class Strike:
    """The faults of a plan, as they fall due."""

    def __init__(self, moving, plan):
        self.moving, self.waiting = moving, list(plan.faults)
        self.seen = {}         # (side, stage index): when it was first seen
        self.ends = []         # (when, kind): cuts to be healed
        self.done = []         # (kind, realtime ns)
        self.killed_on, self.killed = {}, set()    # side: (when, how many engines there were)

    def now(self):
        return time.monotonic() - self.moving.began

    def look(self):
        for side in STAGES:
            stage = self.moving.stage(side)
            for i in range(stage + 1):
                self.seen.setdefault((side, i), self.now())

    def due(self, fault):
        start = self.seen.get(fault.stage) if fault.stage else 0
        return start is not None and self.now() >= start + fault.after_s

    def step(self):
        """Does what is due; called every millisecond."""
        self.look()
        for when, kind in [e for e in self.ends if e[0] <= self.now()]:
            self.moving.network.heal(kind)
            self.moving.note(f"healed: {kind}")
            self.ends.remove((when, kind))
        for fault in [f for f in self.waiting if self.due(f)]:
            if self.strike(fault):
                self.waiting.remove(fault)

    def strike(self, fault):
        """False: not yet."""
        moving = self.moving
        if fault.kind not in KILLS:
            if fault.kind in moving.network.cut_now:
                return False
            began = time.time_ns()
            moving.network.cut(fault.kind)
            if fault.lasts_s:
                self.ends.append((self.now() + fault.lasts_s, fault.kind))
            return self.struck(fault.kind, fault.kind, began)
        if fault.kind == "kill receiver":
            device = moving.target if fault.which < 0.7 else moving.source
            victims = [(device, moving.arena.services[device.name].pid)]
        else:
            victims = self.victims(fault)
        if victims is None:
            return False
        began = time.time_ns()
        hit = [(d.name, p) for d, p in victims if p and kill(d, p)]
        return self.struck(fault.kind, f"{fault.kind}: {hit}", began) if hit else True

    def struck(self, kind, text, began):
        self.moving.note(text)
        self.done.append((kind, began))
        return True

    def victims(self, fault):
        """[(device, pid)], None: not yet."""
        sides = ["source", "target"] if "both" in fault.kind else [fault.kind.split()[1]]
        victims = []
        for side in sides:
            # Who was killed a moment ago may still be seen.
            there = [e for e in self.moving.engines(side) if (side, e.pid) not in self.killed]
            when, nr = self.killed_on.get(side, (-9, 0))
            # The guard has no name of its own for a moment.
            twins = {"baton", "baton-keeper"} <= {e.name for e in there}
            if (len(there) < nr or not twins) and self.now() - when < TWIN_S:
                return None
            if not there:
                return None
            chosen = [there[int(fault.which * len(there))]]
            if "twins" in fault.kind:
                # Not the supervisor of dump --serve with them: that would be three at once.
                chosen = [e for e in there if e.name != "baton-guard"][-2:]
            victims += [(self.moving.devices[side], e.pid) for e in chosen]
            self.killed |= {(side, e.pid) for e in chosen}
            self.killed_on[side] = (self.now(), len(there))
        return victims

    def over(self):
        """Nothing more happens: what is still waiting has missed its moment."""
        return not self.ends


class Result:
    def __init__(self, plan):
        self.plan, self.failure, self.story = plan, None, []
        self.faults, self.down_ms, self.end_ms, self.side, self.seconds = [], [], [], None, 0


def measure(result, strike, beats, end_ns):
    """How long the process stood after each kill, and until the move was over."""
    stood = pauses(beats)
    for kind, at in strike.done:
        if kind not in KILLS:
            continue
        result.end_ms.append((end_ns - at) / 1e6)
        result.down_ms += [(e - max(b, at)) / 1e6 for b, e in stood if e > at and b < at + 5e8][:1]


class Watch:
    """Fails as soon as nothing can become well any more, and does what is due meanwhile."""

    def __init__(self, moving, strike, verifier):
        self.moving, self.strike, self.verifier = moving, strike, verifier
        self.nowhere, self.looked = 0, 0

    def __call__(self):
        self.strike.step()
        self.verifier.expect_right()
        if time.monotonic() - self.looked < 0.1:
            return
        self.looked = time.monotonic()
        exists = any(self.verifier.exists(d) for d in self.moving.devices.values())
        self.nowhere = 0 if exists else self.nowhere + 1
        if self.nowhere > 3 and not self.moving.ended:
            raise Failure("the process is lost: it is on no device")
        held = [c.word for c in self.moving.commands if c.code == 4]
        if held:
            raise Failure(f"{held[0]} gave up (exit 4) after a fault that is none for good")


def until_the_end(moving, watch, result):
    """Until the move is over, with the faults on the way; then the checks."""
    strike, verifier = watch.strike, watch.verifier
    if moving.mode == "on-demand":
        on_demand(moving, watch)
    moving.wait(lambda: moving.over() and strike.over(), "the move's end", LIMIT_S, watch)
    result.end_ns = time.time_ns()
    if not moving.ended:
        result.side = moving.expect_over(verifier)
        return
    moving.expect_words("target")
    for side, device in moving.devices.items():
        if verifier.exists(device):
            raise Failure(f"the process ended, but there is one on the {side}")
    result.side = "target"


def on_demand(moving, watch):
    """Such a move ends with the process: after the faults it is checked, and ended."""
    strike, verifier = watch.strike, watch.verifier

    def runs_there():
        return moving.over() or (moving.stage("source") >= STAGES["source"].index("serving")
                                 and verifier.exists(moving.target))
    moving.wait(runs_there, "the process runs on the target", LIMIT_S, watch)
    patience = time.monotonic() + 1.5
    moving.wait(lambda: moving.over() or strike.over() and (
        not strike.waiting or time.monotonic() > patience), "the faults", LIMIT_S, watch)
    if moving.over():
        return
    answer = verifier.ask()
    moving.wait(answer, "the verifier checks all its memory", LIMIT_S, watch)
    check_history(verifier.beats(), moving.networks())
    moving.ended = True
    kill(moving.target, verifier.pid)


def carry_out(arena, plan, result):
    devices = (arena.pair.a, arena.pair.b)
    source, target = devices if plan.forward else devices[::-1]
    seed = zlib.crc32(f"{plan.seed}/{plan.nr}".encode()) + 1
    verifier = arena.verifier(source, seed, plan.mib, plan.threads, plan.forks)
    moving = Moving(arena, source, target, verifier.pid, plan.mode, plan.rate)
    strike = Strike(moving, plan)
    try:
        moving.begin()
        until_the_end(moving, Watch(moving, strike, verifier), result)
        if time.monotonic() - moving.began > SLOW_S:
            result.story = ["  planned: " + str(plan)] + moving.story()
        measure(result, strike, verifier.beats(), result.end_ns)
    except Exception:
        result.story = ["  planned: " + str(plan)] + moving.story()
        if verifier.wrong():
            result.story.append("  the process says: " + verifier.wrong())
        raise
    finally:
        result.faults = [kind for kind, _ in strike.done]
        moving.network.heal_all()
    verifier.end(*devices)
    shutil.rmtree(verifier.folder, ignore_errors=True)


def run_round(arena, plan):
    """Never raises: what failed is in the result."""
    result = Result(plan)
    began = time.monotonic()
    try:
        carry_out(arena, plan, result)
    except Failure as why:
        result.failure = str(why)
    except Exception as why:  # a broken harness is a failed round
        where = traceback.extract_tb(sys.exc_info()[2])[-1]
        result.failure = (f"{type(why).__name__} at {os.path.basename(where.filename)}:"
                          f"{where.lineno}: {why}")
    result.seconds = time.monotonic() - began
    return result
