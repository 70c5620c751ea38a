# SPDX-License-Identifier: MIT
"""Resources that run out in the middle of a move: it is held or undone as the state demands, says what
is missing, and goes on when it is there again."""
import os
import time

from devices import Failure, wait_for
from scarce import MemoryGroup
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


def status_of(moving, device):
    out = moving.arena.pair.baton(device, "status", keys=False)
    out.wait(10)
    return out.stdout


def no_memory(arenas, mode):
    """The control group of the process on the target is full while it is filled: it is said, and goes
    on when there is room. Nobody of baton is in the group."""
    with arenas.use() as arena:
        source, target = arena.pair.a, arena.pair.b
        verifier = arena.verifier(source, mib=24)
        moving = Moving(arena, source, target, verifier.pid, mode, rate=8)
        group = None
        try:
            moving.begin()
            moving.wait(lambda: moving.stage("source") >= STAGES["source"].index("serving")
                        and verifier.exists(target), "it runs there", 15)
            verifier.quiet()
            group = MemoryGroup(target, verifier.pid, 1024)
            moving.wait(lambda: "no memory left for pid" in target_log(moving), "it is said", 20)
            at = time.monotonic()
            moving.wait(lambda: time.monotonic() > at + 1.5, "a while", 5)
            if "no memory left here" not in status_of(moving, target):
                raise Failure(f"status does not say it: {status_of(moving, target)}")
            if not moves_in(target) or not verifier.exists(target):
                raise Failure("it did not wait")
            group.enough()
            moving.wait(lambda: "there is memory for pid" in target_log(moving), "it goes on", 20)
            verifier.loud()
            if mode == "on-demand":
                verifier.check_all()
                verifier.end(source, target)
                return
            moving.wait(moving.over, "the move's end", each=verifier.expect_right)
            if moving.expect_over(verifier) != "target":
                raise Failure("it is not on the target")
            if "lost in stage" in moving.commands[0].stderr:
                raise Failure("the link was given up for it")
        except Failure as why:
            raise Failure(f"{why}\n" + "\n".join(moving.story()))
        finally:
            if group:
                group.enough()
                verifier.end(source, target)
                group.close()


def no_memory_before(arenas):
    """The same before the start: it is undone, and the reason told."""
    with arenas.use() as arena:
        source, target = arena.pair.a, arena.pair.b
        verifier = arena.verifier(source, mib=24)
        moving = Moving(arena, source, target, verifier.pid, "eager", rate=4)
        group = None
        try:
            moving.begin()
            moving.wait(lambda: verifier.exists(target), "it is being filled there", 15)
            group = MemoryGroup(target, verifier.pid, 1024)
            moving.wait(moving.over, "the move's end", each=verifier.expect_right)
            if moving.expect_over(verifier) != "source":
                raise Failure("it is not on the source")
            if moving.commands[0].code != 1 or "no memory left" not in moving.commands[0].stderr:
                raise Failure("send does not say why")
        except Failure as why:
            raise Failure(f"{why}\n" + "\n".join(moving.story()))
        finally:
            verifier.end(source, target)
            if group:
                group.close()


def target_log(moving):
    """What the commands of the target's side have said."""
    return "".join(c.stderr for c in moving.commands if c.device is moving.target) \
        + moving.arena.services[moving.target.name].log()


def tests(ctx):
    arenas = Arenas(ctx)
    bound = Arenas(ctx)
    ctx.at_end += [arenas.close, bound.close]
    return [("the source's state folder becomes read-only", lambda: full_state_folder(bound, "source")),
            ("the target's state folder becomes read-only", lambda: full_state_folder(bound, "target")),
            *((f"no memory on the target ({mode})", lambda m=mode: no_memory(arenas, m))
              for mode in ("lazy", "pull", "on-demand")),
            ("no memory on the target before the start", lambda: no_memory_before(arenas)),
            ("the pid is taken on the target", lambda: pid_taken_meanwhile(arenas))]
