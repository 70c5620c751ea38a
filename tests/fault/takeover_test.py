# SPDX-License-Identifier: MIT
"""Two things that go wrong in one move, and what somebody outside does to what is handed over: what one
fault of points_test.py, or chance, does not reach."""
import contextlib

from devices import Failure
from faults import kill
from moving import Arenas, Moving


@contextlib.contextmanager
def told(moving):
    """A failure in here comes with the move's story."""
    try:
        yield
    except Failure as why:
        raise Failure(f"{why}\n" + "\n".join(moving.story()))


def to_the_end(moving, verifier, side):
    moving.wait(moving.over, "the move's end", each=verifier.expect_right)
    ended = moving.expect_over(verifier)
    if ended != side:
        raise Failure(f"it is on the {ended}")


def expect_point(moving, device, name):
    logs = moving.arena.services[device.name].log() + "".join(
        c.stderr for c in moving.commands if c.device is device)
    if f"fault point {name}" not in logs:
        raise Failure("the point was not reached")


def mask_is_its_own(arenas):
    """Killed while the leader's signals are blocked: they do not stay so."""
    with arenas.use() as arena:
        source, target = arena.pair.a, arena.pair.b
        verifier = arena.verifier(source)
        mask = source.status(verifier.pid, "SigBlk")
        moving = Moving(arena, source, target, verifier.pid,
                        env={"target": {"BATON_FAULT": "kill:RESTORE_STOP"}})
        with told(moving):
            moving.begin()
            to_the_end(moving, verifier, "target")
            expect_point(moving, target, "RESTORE_STOP")
            now = target.status(verifier.pid, "SigBlk")
            if now != mask:
                raise Failure(f"its leader blocks the signals {now} instead of {mask}")
        verifier.end(source, target)


def tests(ctx):
    arenas = Arenas(ctx)
    ctx.at_end.append(arenas.close)
    return [("killed while the leader's signals are blocked", lambda: mask_is_its_own(arenas))]
