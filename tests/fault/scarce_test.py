# SPDX-License-Identifier: MIT
"""Memory or descriptors run out in the middle of a move: who needs them waits or is undone, says what is
missing, and goes on when it is there again."""
from devices import Failure, read
from faults import guards, kill
from moving import STAGES, Arenas, Moving, a_while, moves_in, to_the_end, told
from scarce import Descriptors, MemoryGroup, host_pid


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
            with told(moving):
                moving.begin()
                moving.wait(lambda: moving.reached("source", "serving")
                            and verifier.exists(target), "it runs there", 15)
                verifier.quiet()
                group = MemoryGroup(target, verifier.pid, 1024)
                moving.wait(lambda: "no memory left for pid" in target_log(moving), "it is said", 20)
                a_while(moving, 1.5)
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
                to_the_end(moving, verifier, "target")
                if "lost in stage" in moving.commands[0].stderr:
                    raise Failure("the link was given up for it")
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
            with told(moving):
                moving.begin()
                moving.wait(lambda: verifier.exists(target), "it is being filled there", 15)
                group = MemoryGroup(target, verifier.pid, 1024)
                to_the_end(moving, verifier, "source")
                if moving.commands[0].code != 1 or "no memory left" not in moving.commands[0].stderr:
                    raise Failure("send does not say why")
        finally:
            verifier.end(source, target)
            if group:
                group.close()


def few_from_the_start(arenas):
    """A limit that cannot be enough is told before anything begins."""
    with arenas.use() as arena:
        device = arena.pair.a
        argv = [arena.binary, "receive", "--keys", device.keys, "--state", device.state, "--listen",
                f"{device.address}:7200"]
        out = device.run(["setpriv", "--bounding-set", "-sys_resource", "--inh-caps", "-sys_resource", "sh", "-c",
                          'ulimit -n 60; exec "$@"', "sh", *argv])
        if out.code != 6 or "ulimit -n" not in out.stderr or "60" not in out.stderr:
            raise Failure(f"exit {out.code}: {out.tail()}")


def no_descriptor_for_a_caller(arenas):
    """The receiver can take nobody in: it says so, is idle, and takes who has waited."""
    with arenas.use() as arena:
        source, target = arena.pair.a, arena.pair.b
        verifier = arena.verifier(source)
        moving = Moving(arena, source, target, verifier.pid)
        receiver = arena.services[target.name]
        few = Descriptors(target, receiver.pid)
        try:
            with told(moving):
                moving.begin()
                moving.wait(lambda: "a connection waits" in receiver.log(), "it is said", 10)
                used = cpu_ticks(target, receiver.pid)
                a_while(moving, 1)
                if cpu_ticks(target, receiver.pid) - used > 30:
                    raise Failure("it keeps the processor busy meanwhile")
                if receiver.log().count("a connection waits") != 1:
                    raise Failure("it says so again and again")
                few.enough()
                to_the_end(moving, verifier, "target")
        finally:
            few.enough()
        verifier.end(source, target)


def cpu_ticks(device, pid):
    words = read(device.proc(pid, "stat")).rpartition(")")[2].split()
    return int(words[11]) + int(words[12])


def no_descriptor_to_begin(arenas, limit):
    """A move whose engines on the target may open only so many: it works, or is undone."""
    with arenas.use() as arena:
        source, target = arena.pair.a, arena.pair.b
        verifier = arena.verifier(source, forks=1)
        moving = Moving(arena, source, target, verifier.pid, rate=8)
        few = Descriptors(target, arena.services[target.name].pid, limit=limit)
        try:
            with told(moving):
                moving.begin()
                send = moving.commands[0]
                moving.wait(lambda: send.code is not None or moving.reached("source", "serving"),
                            "it is undone, or handed over")
                # What was handed over must get on; its processes have the limit of their own.
                few.enough()
                for pid in moving.engines("target"):
                    few.before[host_pid(target, pid.pid)] = (1024, 1024)
                few.enough()
                moving.wait(moving.over, "the move's end", each=verifier.expect_right)
                side = moving.expect_over(verifier)
                if side == "source" and send.code != 5 and "descriptors" not in send.stderr:
                    raise Failure(f"send does not say why: {send.tail()}")
        finally:
            few.enough()
        verifier.end(source, target)


def no_descriptor_while_filling(arenas, side):
    """Nobody who works on the move may open anything, and the link is cut: it waits."""
    with arenas.use() as arena:
        source, target = arena.pair.a, arena.pair.b
        device = {"source": source, "target": target}[side]
        verifier = arena.verifier(source, mib=16, forks=2)
        moving = Moving(arena, source, target, verifier.pid, rate=4)
        few = None
        try:
            with told(moving):
                moving.begin()
                moving.wait(lambda: moving.reached("source", "serving")
                            and len(moving.engines(side)) >= 2, "it is served", 15)
                few = Descriptors(device, *(e.pid for e in moving.engines(side)),
                                  *([arena.services[device.name].pid] if side == "target" else []))
                moving.network.cut("reset " + side)
                a_while(moving, 3, verifier.expect_right)
                if moving.commands[0].code is not None or not verifier.exists(target):
                    raise Failure("it did not wait")
                few.enough()
                to_the_end(moving, verifier, "target")
        finally:
            if few:
                few.enough()
        verifier.end(source, target)


def no_descriptor_for_a_guard(arenas):
    """Who ends the process when both twins die is killed, and there is no descriptor for another one: that
    must not be taken for their death, and there is one again."""
    with arenas.use() as arena:
        source, target = arena.pair.a, arena.pair.b
        # It touches all of it itself: the more there is, the longer it is filled.
        verifier = arena.verifier(source, mib=128)
        moving = Moving(arena, source, target, verifier.pid, rate=4)
        few = None
        try:
            with told(moving):
                moving.begin()
                moving.wait(lambda: moving.reached("source", "serving")
                            and guards(target, arena.binary), "it is served, and watched over", 15)
                few = Descriptors(target, *(e.pid for e in moving.engines("target")), limit=32)
                kill(target, *guards(target, arena.binary))
                a_while(moving, 0.5, verifier.expect_right)
                few.enough()
                few = Descriptors(target, *(e.pid for e in moving.engines("target")))
                before = guards(target, arena.binary)
                kill(target, *before)
                moving.wait(lambda: set(guards(target, arena.binary)) - set(before), "there is one again", 5)
                a_while(moving, 0.5, verifier.expect_right)
                if target_log(moving).count("the guard of pid") > 2:
                    raise Failure("it died over and over")
                few.enough()
                to_the_end(moving, verifier, "target")
        finally:
            if few:
                few.enough()
        verifier.end(source, target)


def no_descriptor_for_a_keeper(arenas):
    """The new keeper cannot watch the worker: that must not be taken for the worker's death."""
    with arenas.use() as arena:
        source, target = arena.pair.a, arena.pair.b
        verifier = arena.verifier(source, mib=16)
        moving = Moving(arena, source, target, verifier.pid, rate=4)
        few = None

        def keepers():
            return [e.pid for e in moving.engines("target") if e.name == "baton-keeper"]
        try:
            with told(moving):
                moving.begin()
                moving.wait(lambda: moving.reached("source", "serving") and keepers(),
                            "it is served", 15)
                before = keepers()
                few = Descriptors(target, *(e.pid for e in moving.engines("target")))
                kill(target, *before)
                moving.wait(lambda: set(keepers()) - set(before), "there is a keeper again", 5)
                a_while(moving, 0.5, verifier.expect_right)
                if "the worker of the move died" in target_log(moving):
                    raise Failure("a second worker was made")
                few.enough()
                for pid in keepers():
                    few.before[host_pid(target, pid)] = (1024, 1024)
                few.enough()
                to_the_end(moving, verifier, "target")
        finally:
            if few:
                few.enough()
        verifier.end(source, target)


def target_log(moving):
    """What the commands of the target's side have said."""
    return "".join(c.stderr for c in moving.commands if c.device is moving.target) \
        + moving.arena.services[moving.target.name].log()


def tests(ctx):
    arenas = Arenas(ctx)
    ctx.at_end.append(arenas.close)
    return [*((f"no memory on the target ({mode})", lambda m=mode: no_memory(arenas, m))
              for mode in ("lazy", "pull", "on-demand")),
            ("no memory on the target before the start", lambda: no_memory_before(arenas)),
            ("too few descriptors from the start", lambda: few_from_the_start(arenas)),
            ("no descriptor for a caller", lambda: no_descriptor_for_a_caller(arenas)),
            *((f"at most {n} descriptors to begin with", lambda n=n: no_descriptor_to_begin(arenas, n))
              for n in range(9, 33, 3)),
            *((f"no descriptor left on the {side} while it fills",
               lambda side=side: no_descriptor_while_filling(arenas, side)) for side in STAGES),
            ("no descriptor for a guard", lambda: no_descriptor_for_a_guard(arenas)),
            ("no descriptor for a keeper", lambda: no_descriptor_for_a_keeper(arenas))]
