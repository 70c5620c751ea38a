# SPDX-License-Identifier: MIT
"""The double fault: both twins of the target killed at the same instant while memory is missing.

Nobody holds the userfaultfds any more. The process must be ended before it reads a zero, the
receiver must say so, the source must keep its copy, and the operator gets it back from there.
"""
import re
import signal
import time

from devices import Failure, wait_for
from faults import guards, kill
from moving import STAGES, Arenas, Moving, moves_in


def wait_filling(moving, verifier):
    """Until the process runs on the target, a worker, a keeper and a guard beside it, memory still
    missing."""
    started = STAGES["target"].index("started")

    def filling():
        return (moving.stage("target") == started and len(moving.engines("target")) >= 2
                and guards(moving.target, moving.arena.binary)
                and verifier.state(moving.target).endswith("tracer 0"))
    moving.wait(filling, "the process runs on the target, and its engine is two processes", 15)
    there = verifier.nr_beats()
    moving.wait(lambda: verifier.nr_beats() > there + 20, "it beats there", 10)


def expect_ended(verifier, device):
    wait_for(lambda: not verifier.exists(device), 2,
             f"the process is ended when its pagers are gone (it is: {verifier.state(device)})")
    if verifier.wrong():
        raise Failure(f"it read what is not its own: {verifier.wrong()}")


def expect_loud(moving):
    """The receiver's log and `baton status` tell the operator which process it is."""
    service = moving.arena.services[moving.target.name]
    wait_for(lambda: re.search(rf"error.*\b{moving.pid}\b", service.log()), 5,
             f"the receiver says that pid {moving.pid} is lost: {service.log()[-300:]}")
    ident = next(iter(moves_in(moving.target, "target"))).split("-")[0]
    out = moving.arena.pair.baton(moving.target, "status", keys=False)
    out.wait(10)
    if ident not in out.stdout or str(moving.pid) not in out.stdout:
        raise Failure(f"baton status does not show it: {out.stdout!r}")
    return ident


def operator(moving, ident):
    """What docs/operations.md says: nothing runs on the target, so resume on the source."""
    out = moving.command(moving.source, "resume", "--peer-is-dead", ident)
    if out.wait(20):
        raise Failure(f"resume --peer-is-dead: exit {out.code}: {out.tail()}")
    if moves_in(moving.target):
        gone = moving.command(moving.target, "abort", ident)
        if gone.wait(20):
            raise Failure(f"abort on the target: exit {gone.code}: {gone.tail()}")


def check_one_after_another(verifier, moving):
    """The source's copy went on from the freeze, when the target's ran no more."""
    nets = [moving.source.netns, moving.target.netns, moving.source.netns]
    beats, seen = verifier.beats(), []
    for beat in beats:
        if not seen or seen[-1] != beat.netns:
            seen.append(beat.netns)
    if seen != nets:
        raise Failure(f"it ran on networks {seen}, not {nets}")


def double_fault(arenas):
    with arenas.use() as arena:
        source, target = arena.pair.a, arena.pair.b
        verifier = arena.verifier(source, mib=16)
        moving = Moving(arena, source, target, verifier.pid, rate=4)
        moving.operator = False
        try:
            moving.begin()
            wait_filling(moving, verifier)
            # Stopped first, so that neither has a moment in which it is the survivor.
            twins = [e.pid for e in moving.engines("target")]
            kill(target, *twins, sig=signal.SIGSTOP)
            time.sleep(0.005)
            kill(target, *twins)
            expect_ended(verifier, target)
            ident = expect_loud(moving)
            send = moving.commands[0]
            moving.wait(lambda: send.code is not None, "send ends")
            if send.code != 4:
                raise Failure(f"send ended with {send.code}, not 4: {send.tail()}")
            # In a freezer of version 1 what is frozen shows as asleep.
            if verifier.state(source)[0] not in "TD":
                raise Failure(f"the source's copy is not held: {verifier.state(source)}")
            operator(moving, ident)
            verifier.expect_beating()
            verifier.check_all()
            check_one_after_another(verifier, moving)
            moving.wait(lambda: not moves_in(source) and not moves_in(target)
                        and not moving.engines("source") and not moving.engines("target"),
                        "both sides are done", 10)
            moving.expect_tidy("source")
        except Failure as why:
            raise Failure(f"{why}\n" + "\n".join(moving.story()))
        verifier.end(source, target)


def number_used_again(arenas):
    """What was lost on the target leaves its number to another process: that is not touched for it, neither when
    the source asks nor by an operator."""
    with arenas.use() as arena:
        source, target = arena.pair.a, arena.pair.b
        verifier = arena.verifier(source, mib=16)
        moving = Moving(arena, source, target, verifier.pid, rate=4)
        moving.operator = False
        try:
            moving.begin()
            wait_filling(moving, verifier)
            moving.network.cut("target down")
            twins = [e.pid for e in moving.engines("target")]
            kill(target, *twins, sig=signal.SIGSTOP)
            time.sleep(0.005)
            kill(target, *twins)
            expect_ended(verifier, target)
            other = target.start(["sh", "-c", f"echo {verifier.pid - 1} >/proc/sys/kernel/ns_last_pid; "
                                  "sleep 60 & wait"])
            wait_for(lambda: target.alive(verifier.pid), 5, "its number is taken")
            ident = expect_loud(moving)
            moving.network.heal_all()
            send = moving.commands[0]
            moving.wait(lambda: send.code is not None, "send ends")
            if send.code != 4:
                raise Failure(f"send ended with {send.code}, not 4: {send.tail()}")
            operator(moving, ident)
            if not target.alive(verifier.pid) or target.status(verifier.pid, "State")[0] != "S":
                raise Failure(f"another process was taken for it: {target.status(verifier.pid, 'State')}")
            kill(target, verifier.pid)
            other.wait(10)
            verifier.expect_beating()
            verifier.check_all()
            moving.expect_tidy("source")
        except Failure as why:
            raise Failure(f"{why}\n" + "\n".join(moving.story()))
        finally:
            moving.network.heal_all()
        verifier.end(source, target)


def tests(ctx):
    arenas = Arenas(ctx)
    ctx.at_end.append(arenas.close)
    return [(f"both twins of the target at once ({n} of 5)", lambda: double_fault(arenas))
            for n in range(1, 6)] + [
                ("a number used again after both twins", lambda: number_used_again(arenas))]
