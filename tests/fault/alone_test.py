# SPDX-License-Identifier: MIT
"""One fault alone, at a chosen stage: each way to cut a link, and each process killed."""
import contextlib
import os
import threading

from devices import Failure, read
from faults import CUTS, LASTING
from moving import STAGES, Arenas, Moving, moves_in
from plan import Fault, Plan
from rounds import Strike, run_round
from strangers_test import Flood


def one(arenas, kind, side, stage, mode, which):
    after_s = 0 if stage == "building" else 0.02
    fault = Fault(kind, (side, STAGES[side].index(stage)), after_s,
                  0.4 if kind in LASTING else 0, which)
    plan = Plan("alone", 0, mode, mib=8, rate=16, forks=2, faults=[fault])
    with arenas.use() as arena:
        result = run_round(arena, plan)
        if result.failure:
            raise Failure(result.failure + "\n" + "\n".join(result.story))
        if result.faults != [kind]:
            raise Failure("the moment for it never came")
        # STARTED is on disk before it runs: killed in between it has not. That it ran here and there
        # would be in its history.
        if stage == "serving" and result.side != "target":
            raise Failure("it was handed over, but ended on the source")


def in_a_flood(arenas, kind):
    """The same while strangers take every slot of the receiver: the peer comes through again."""
    fault = Fault(kind, ("target", STAGES["target"].index("started")), 0.1)
    with arenas.use() as arena:
        source, target = arena.pair.a, arena.pair.b
        verifier = arena.verifier(source, mib=8)
        moving = Moving(arena, source, target, verifier.pid, rate=8)
        strike = Strike(moving, Plan("flood", 0, faults=[fault]))
        flood = Flood(source, target.address)
        try:
            moving.begin()
            moving.wait(lambda: moving.commands[0].code is not None and not moves_in(target),
                        "the move's end", each=strike.step)
        except Failure as why:
            raise Failure(f"{why}\n" + "\n".join(moving.story()))
        finally:
            flood.stop()
        moving.wait(moving.over, "strangers are sent away")
        if moving.expect_over(verifier) != "target" or not strike.done or flood.made < 50:
            raise Failure(f"{strike.done} happened, {flood.made} strangers came, the process is on "
                          f"the {moving.where(verifier)}")
        verifier.end(source, target)


class Ps(threading.Thread):
    """Reads the arguments of a process without a pause, from the moment it exists."""

    def __init__(self, device, pid):
        super().__init__(daemon=True)
        self.path, self.over, self.read = device.proc(pid, "cmdline"), False, 0
        self.start()

    def run(self):
        while not self.over:
            with contextlib.suppress(OSError), open(self.path, "rb", buffering=0) as file:
                while not self.over:
                    self.read += len(os.pread(file.fileno(), 4096, 0))

    def stop(self):
        self.over = True
        self.join()


def watched_by_ps(arenas):
    """Whoever looks at what is being built leaves no page of zeros there."""
    with arenas.use() as arena:
        source, target = arena.pair.a, arena.pair.b
        verifier = arena.verifier(source, mib=4)
        arguments = read(source.proc(verifier.pid, "cmdline"))
        ps = Ps(target, verifier.pid)
        moving = Moving(arena, source, target, verifier.pid)
        try:
            moving.begin()
            moving.wait(moving.over, "the move's end")
            verifier.check_all()
        except Failure as why:
            raise Failure(f"{why}\n" + "\n".join(moving.story()))
        finally:
            ps.stop()
        if moving.expect_over(verifier) != "target" or not ps.read:
            raise Failure(f"it is on the {moving.where(verifier)}, {ps.read} bytes were read")
        found = read(target.proc(verifier.pid, "cmdline"))
        if found != arguments:
            raise Failure(f"its arguments are {found!r} instead of {arguments!r}")
        verifier.end(source, target)


def tests(ctx):
    arenas = Arenas(ctx)
    ctx.at_end.append(arenas.close)
    cases = [(kind, "source", stage, mode, 0) for kind in CUTS for stage in ("offered", "serving")
             for mode in ("lazy", "pull")]
    for mode in ("lazy", "eager", "on-demand", "pull"):
        # All is there when an eager one starts.
        for stage in ("building", "started") if mode != "eager" else ("building",):
            cases += [(f"kill {side}", "target", stage, mode, which)
                      for side in ("source", "target", "both sides") for which in (0, 0.99)]
            cases += [(kind, "target", stage, mode, 0)
                      for kind in ("kill receiver", "kill source twins")]
    cases.append(("kill target twins", "target", "building", "lazy", 0))
    floods = [(f"{kind} in a flood of strangers", lambda k=kind: in_a_flood(arenas, k))
              for kind in ("reset source", "reset target", "kill receiver")]
    watched = [("ps reads what is being built", lambda: watched_by_ps(arenas))]
    return watched + floods + [(f"{kind} at {side} {stage} ({mode}" + (", the younger twin)" if which else ")"),
             lambda k=kind, s=side, t=stage, m=mode, w=which: one(arenas, k, s, t, m, w))
            for kind, side, stage, mode, which in cases]
