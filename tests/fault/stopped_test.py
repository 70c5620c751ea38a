# SPDX-License-Identifier: MIT
"""The source's copy stands still, whoever sends it a SIGCONT: in a freezer group, and without one."""
import signal
import time

from devices import Failure, read
from faults import kill
from moving import Arenas, Moving, STAGES


def hide_freezers(device):
    """As on a device without control groups."""
    for mount in ("freezer", "unified"):
        device.run(["umount", f"/sys/fs/cgroup/{mount}"])
    left = [line for line in read(device.proc("self", "mountinfo")).splitlines()
            if " - cgroup2 " in line or (" - cgroup " in line and "freezer" in line)]
    if left:
        raise Failure(f"the freezer cannot be hidden: {left}")


def stands_still(arenas, freezer, killing, waking=True):
    with arenas.use() as arena:
        source, target = arena.pair.a, arena.pair.b
        verifier = arena.verifier(source, mib=16)
        if not freezer:
            hide_freezers(source)
        moving = Moving(arena, source, target, verifier.pid, rate=8)
        try:
            moving.begin()
            moving.wait(lambda: moving.stage("source") == STAGES["source"].index("serving"),
                        "it is handed over", 15)
            if freezer != ("baton-" in read(source.proc(verifier.pid, "cgroup"))):
                raise Failure(f"control groups: {read(source.proc(verifier.pid, 'cgroup')).split()}")
            beats = [b for b in verifier.beats() if b.netns == source.netns]
            for n in range(40):
                if waking:
                    kill(source, verifier.pid, sig=signal.SIGCONT)
                if killing and n % 8 == 0:
                    kill(source, moving.engines("source")[-1].pid)
                time.sleep(0.02)
                state = verifier.state(source)
                if moving.stage("source") != STAGES["source"].index("serving"):
                    break
                if state[0] not in "TtD":
                    raise Failure(f"the copy was woken: {state}")
            if n < 5:
                raise Failure("the move was over before anything was tried")
            moving.wait(moving.over, "the move's end")
            if [b for b in verifier.beats() if b.netns == source.netns] != beats:
                raise Failure("the copy has run")
            if moving.expect_over(verifier) != "target":
                raise Failure("it is not on the target")
        except Failure as why:
            raise Failure(f"{why}\n" + "\n".join(moving.story()))
        verifier.end(source, target)


def tests(ctx):
    arenas = Arenas(ctx)
    # What is hidden from a device stays so.
    bare = Arenas(ctx)
    ctx.at_end += [arenas.close, bare.close]
    return [("a SIGCONT in a freezer group", lambda: stands_still(arenas, True, False)),
            ("a SIGCONT in a freezer group, workers killed", lambda: stands_still(arenas, True, True)),
            ("a SIGCONT without a freezer", lambda: stands_still(bare, False, False)),
            # A SIGCONT that comes while nobody traces the copy does wake it.
            ("workers killed without a freezer", lambda: stands_still(bare, False, True, waking=False))]
