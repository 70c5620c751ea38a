# SPDX-License-Identifier: MIT
"""Resources that run out in the middle of a move: it is held or undone as the state demands, says what
is missing, and goes on when it is there again."""
import os

from devices import Failure, wait_for
from moving import Arenas, Moving, STAGES, moves_in

def full_state_folder(arenas, side):
    """It fills up while the process is running on its way: what is committed stays, nothing is doubled."""
    with arenas.use() as arena:
        source, target = arena.pair.a, arena.pair.b
        device = {"source": source, "target": target}[side]
        verifier = arena.verifier(source, mib=16)
        moving = Moving(arena, source, target, verifier.pid, rate=8)
        try:
            moving.begin()
            moving.wait(lambda: moving.stage("target") == STAGES["target"].index("started"),
                        "it runs there", 15)
            os.chmod(device.state, 0o500)
            out = device.run(["mount", "--bind", "-o", "ro", device.state, device.state])
            if not out.code:
                out = device.run(["mount", "-o", "remount,ro,bind", device.state])
            if out.code:
                raise Failure(f"read-only folder: {out.tail()}")
            moving.wait(lambda: verifier.exists(target) and not verifier.exists(source),
                        "the copy on the source is gone", 40)
            verifier.expect_beating()
            verifier.check_all()
            device.run(["umount", device.state])
            os.chmod(device.state, 0o700)
            moving.wait(lambda: not moves_in(source) and not moves_in(target), "both forget it", 60)
        except Failure as why:
            raise Failure(f"{why}\n" + "\n".join(moving.story()))
        verifier.end(source, target)


def pid_taken_meanwhile(arenas):
    """The target's pid is taken between the answer and the building: undone."""
    with arenas.use() as arena:
        source, target = arena.pair.a, arena.pair.b
        verifier = arena.verifier(source, mib=4)
        moving = Moving(arena, source, target, verifier.pid)
        try:
            other = target.run(["sh", "-c", f"echo {verifier.pid - 1} >/proc/sys/kernel/ns_last_pid && "
                                "exec sleep 0"])
            if other.code:
                raise Failure(f"ns_last_pid: {other.tail()}")
            blocker = target.start(["sh", "-c", f"echo {verifier.pid - 1} >/proc/sys/kernel/ns_last_pid; "
                                    "sleep 30 & wait"])
            wait_for(lambda: target.alive(verifier.pid), 5, "the pid is taken")
            moving.begin()
            send = moving.commands[0]
            moving.wait(lambda: send.code is not None, "send ends", 30)
            if send.code not in (1, 3) or "is taken" not in send.stderr:
                raise Failure(f"send: {send.code}: {send.tail()}")
            verifier.expect_beating()
            verifier.check_all()
            target.run(["kill", "-9", str(verifier.pid)])
            blocker.wait(10)
        except Failure as why:
            raise Failure(f"{why}\n" + "\n".join(moving.story()))
        verifier.end(source, target)


def tests(ctx):
    arenas = Arenas(ctx)
    bound = Arenas(ctx)
    ctx.at_end += [arenas.close, bound.close]
    return [("the source's state folder becomes read-only", lambda: full_state_folder(bound, "source")),
            ("the target's state folder becomes read-only", lambda: full_state_folder(bound, "target")),
            ("the pid is taken on the target", lambda: pid_taken_meanwhile(arenas))]
