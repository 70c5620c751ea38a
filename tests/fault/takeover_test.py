# SPDX-License-Identifier: MIT
"""Two things that go wrong in one move, and what somebody outside does to what is handed over: what one
fault of points_test.py, or chance, does not reach."""
import contextlib
import os
import signal
import time

from devices import PORT, Failure, read, wait_for
from faults import kill
from moving import Arenas, Moving, STAGES, moves_in
from stopped_test import hide_freezers
from twins_test import expect_ended, operator, wait_filling


@contextlib.contextmanager
def told(moving):
    """A failure in here comes with the move's story."""
    try:
        yield
    except Failure as why:
        raise Failure(f"{why}\n" + "\n".join(moving.story()))


@contextlib.contextmanager
def asleep(service):
    """A receiver that looks after nothing."""
    pid = service.pid
    kill(service.device, pid, sig=signal.SIGSTOP)
    try:
        yield
    finally:
        kill(service.device, pid, sig=signal.SIGCONT)


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


def guard_of(device):
    return wait_for(lambda: [p for p in device.pids()
                             if read(device.proc(p, "comm")).strip() == "baton-guard"
                             and device.alive(p)], 10, "there is a guard")[0]


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


def guard_made_anew(arenas):
    """The guard is killed, and so is the worker while it makes another one."""
    with arenas.use() as arena:
        source, target = arena.pair.a, arena.pair.b
        verifier = arena.verifier(source, mib=16, forks=2)
        moving = Moving(arena, source, target, verifier.pid, rate=4,
                        env={"target": {"BATON_FAULT": "kill:TARGET_GUARDED:2"}})
        with told(moving):
            moving.begin()
            wait_filling(moving, verifier)
            kill(target, guard_of(target))
            to_the_end(moving, verifier, "target")
            expect_point(moving, target, "TARGET_GUARDED")
            if "was ended" in arena.services[target.name].log():
                raise Failure("a guard that nobody knew took the end of the move for a death")
        verifier.end(source, target)


def guard_dies_with_the_twins(arenas):
    """The guard is killed, and so are both twins before they make another: the process is ended all the same."""
    with arenas.use() as arena:
        source, target = arena.pair.a, arena.pair.b
        verifier = arena.verifier(source, mib=16)
        moving = Moving(arena, source, target, verifier.pid, rate=4)
        moving.operator = False
        with told(moving):
            moving.begin()
            wait_filling(moving, verifier)
            guard, twins = guard_of(target), [e.pid for e in moving.engines("target")]
            kill(target, *twins, sig=signal.SIGSTOP)
            kill(target, guard)
            wait_for(lambda: not target.alive(guard), 5, "the guard dies")
            with asleep(arena.services[target.name]):
                kill(target, *twins)
                expect_ended(verifier, target)
            moving.wait(lambda: moving.commands[0].code is not None, "send ends")
            operator(moving, next(iter(moves_in(target, "target"))).split("-")[0])
            verifier.check_all()
            moving.expect_tidy("source")
        verifier.end(source, target)


def killed_before_it_runs(arenas):
    """Somebody kills what is being filled and has not run: the source's copy is as good as ever."""
    with arenas.use() as arena:
        source, target = arena.pair.a, arena.pair.b
        verifier = arena.verifier(source, mib=16)
        moving = Moving(arena, source, target, verifier.pid, "eager", rate=8)
        with told(moving):
            moving.begin()
            moving.wait(lambda: any(n.endswith("-target.stat") for n in os.listdir(target.state)),
                        "it is being filled", 15)
            if not kill(target, verifier.pid):
                raise Failure("it is not there")
            to_the_end(moving, verifier, "source")
        verifier.end(source, target)


def found_behind_the_door(arenas):
    """A worker dies just after it has found a new receiver."""
    with arenas.use() as arena:
        source, target = arena.pair.a, arena.pair.b
        verifier = arena.verifier(source, mib=16)
        moving = Moving(arena, source, target, verifier.pid, rate=4,
                        env={"target": {"BATON_FAULT": "kill:LINK_DOOR"}})
        service = arena.services[target.name]
        with told(moving):
            moving.begin()
            wait_filling(moving, verifier)
            kill(target, service.pid)
            moving.wait(lambda: service.pid and service.output.listens, "it listens again", 10)
            moving.network.cut("reset source")
            to_the_end(moving, verifier, "target")
            expect_point(moving, target, "LINK_DOOR")
        verifier.end(source, target)


def end_without_keeper(arenas):
    """dump --serve is told to end when the keeper of its move is gone: nobody else is told."""
    with arenas.use() as arena:
        source, target = arena.pair.a, arena.pair.b
        verifier = arena.verifier(source, mib=16)
        moving = Moving(arena, source, target, verifier.pid, "pull", rate=4)
        number = f"{verifier.folder}/other"
        with told(moving):
            moving.began, moving.began_ns = time.monotonic(), time.time_ns()
            moving.dump = source.start(
                ["sh", "-c", f'sleep 100 & echo $! >{number}; exec "$@"', "sh", arena.binary, "dump",
                 "--keys", source.keys, "--state", source.state, "--serve",
                 f"{source.address}:{PORT + 1}", "--max-rate", "4", verifier.pid])
            moving.dump.device, moving.dump.word = source, "dump"
            moving.commands.append(moving.dump)
            wait_for(lambda: moving.dump.listens, 10, "dump --serve listens")
            supervisor = source.pid_of(moving.dump)
            moving.fetch()
            moving.wait(lambda: moving.stage("source") == STAGES["source"].index("serving"),
                        "it is handed over", 15)
            keeper = next(e for e in moving.engines("source") if e.name == "baton-keeper")
            kill(source, keeper.pid)
            moving.wait(lambda: any(e.name == "baton-keeper" and e.pid != keeper.pid
                                    for e in moving.engines("source")), "there is another keeper", 10)
            kill(source, supervisor, sig=signal.SIGTERM)
            moving.wait(lambda: "waiting for those under way" in moving.dump.stderr, "it is told", 5)
            other = int(read(number))
            time.sleep(0.1)
            if not source.alive(other):
                raise Failure("another process of its group was ended, too")
            kill(source, other)
            to_the_end(moving, verifier, "target")
        verifier.end(source, target)


def left_frozen(arena, verifier, point, mode="lazy"):
    """A move whose processes on the source are all killed at once."""
    moving = Moving(arena, arena.pair.a, arena.pair.b, verifier.pid, mode,
                    env={"source": {"BATON_FAULT": f"both:{point}"}})
    moving.operator = False
    moving.begin()
    moving.wait(lambda: moving.commands[0].code is not None, "send is killed", 20)
    return moving


def group_of(device, pid):
    for line in read(device.proc(pid, "cgroup")).splitlines():
        if "/baton-" in line:
            controllers, path = line.split(":", 2)[1:]
            return f"/sys/fs/cgroup/{controllers or 'unified'}{path}"
    return None


def abort_lets_it_run(arenas):
    """Both twins die between the hold and `committed`: abort does not forget a process that stands."""
    with arenas.use() as arena:
        source, target = arena.pair.a, arena.pair.b
        verifier = arena.verifier(source)
        with asleep(arena.services[source.name]):
            moving = left_frozen(arena, verifier, "FILE_WRITTEN:3")
            with told(moving):
                if verifier.state(source)[0] not in "TD":
                    raise Failure(f"it is not held: {verifier.state(source)}")
                ident = next(iter(moves_in(source, "source"))).split("-")[0]
                done = moving.command(source, "abort", ident)
                if done.wait(20):
                    raise Failure(f"abort: exit {done.code}: {done.tail()}")
                verifier.expect_beating()
        with told(moving):
            verifier.check_all()
            # It would wait for the source for half a minute.
            kill(target, *[e.pid for e in moving.engines("target")])
            moving.wait(lambda: not moving.engines("target"), "the target gives it up", 10)
            if moves_in(target) and moving.command(target, "abort", ident).wait(20):
                raise Failure(f"abort on the target: {moving.commands[-1].tail()}")
            moving.expect_tidy("source")
        verifier.end(source, target)


def group_of_the_dead(arenas):
    """A process that ends before its move is picked up leaves no control group."""
    with arenas.use() as arena:
        source, target = arena.pair.a, arena.pair.b
        verifier = arena.verifier(source)
        with asleep(arena.services[source.name]):
            moving = left_frozen(arena, verifier, "SOURCE_FROZEN")
            with told(moving):
                group = group_of(source, verifier.pid)
                if not group or not os.path.isdir(group):
                    raise Failure(f"it is in no group: {read(source.proc(verifier.pid, 'cgroup'))}")
                verifier.end(source)
        with told(moving):
            moving.wait(lambda: not moves_in(source), "it is forgotten", 10)
            if os.path.exists(group):
                raise Failure(f"{group} is left")


def drained_and_woken(arenas):
    """What the target has whole is ended here, even if somebody has woken it meanwhile."""
    with arenas.use() as arena:
        source, target = arena.pair.a, arena.pair.b
        verifier = arena.verifier(source)
        hide_freezers(source)
        with asleep(arena.services[source.name]):
            moving = left_frozen(arena, verifier, "SOURCE_DRAINED")
            with told(moving):
                kill(source, verifier.pid, sig=signal.SIGCONT)
                wait_for(lambda: verifier.state(source)[0] in "SR", 5, "it is woken")
        with told(moving):
            moving.operator = True
            moving.wait(moving.over, "the move's end")
            if verifier.exists(source):
                raise Failure(f"the copy is still there: {verifier.state(source)}")
        verifier.end(target)


def add_move(source, stage):
    """Another move of the same process in the folder, but for its stage."""
    name, = moves_in(source, "source")
    text = read(f"{source.state}/{name}")
    for key, value in (("id ", "0123456789abcdef"), ("stage ", stage)):
        was = next(line for line in text.splitlines() if line.startswith(key))
        text = text.replace(was, key + value)
    with open(f"{source.state}/0123456789abcdef-source.move", "w") as f:
        f.write(text)


def another_was_faster(arenas):
    """Another move of it is committed when this one is offered: it is refused, and nothing is stopped."""
    with arenas.use() as arena:
        source, target = arena.pair.a, arena.pair.b
        verifier = arena.verifier(source)
        with asleep(arena.services[source.name]):
            moving = Moving(arena, source, target, verifier.pid, "pull")
            moving.operator = False
            with told(moving):
                moving.fetch, fetch = lambda: None, moving.fetch
                moving.begin()
                began = read(source.proc(verifier.pid, "stat")).rpartition(")")[2].split()[19]
                boot = read("/proc/sys/kernel/random/boot_id").strip()
                with open(f"{source.state}/0123456789abcdef-source.move", "w") as f:
                    f.write("baton-move 2\nid 0123456789abcdef\nrole source\nstage committed\n"
                            f"pid {verifier.pid}\npid-start {began}\nboot {boot}\nend\n")
                fetch()
                wait_for(lambda: moving.restore.code is not None, 20, "restore ends")
                # It had answered yes.
                if moving.restore.code != 1 or "already being moved" not in moving.restore.stderr:
                    raise Failure(f"restore: exit {moving.restore.code}: {moving.restore.tail()}")
                if "already being moved" not in moving.dump.stderr:
                    raise Failure(f"dump does not say why: {moving.dump.tail()}")
                verifier.expect_beating()
                if list(moves_in(source, "source")) != ["0123456789abcdef-source.move"]:
                    raise Failure(f"left: {moves_in(source)}")
                os.unlink(f"{source.state}/0123456789abcdef-source.move")
                kill(source, *(e.pid for e in moving.engines("source")))
        verifier.end(source)


def another_offered_it_first(arenas):
    """A move whose workers died when it was only offered does not wake what a later one has committed."""
    with arenas.use() as arena:
        source, target = arena.pair.a, arena.pair.b
        verifier = arena.verifier(source)
        hide_freezers(source)
        with asleep(arena.services[source.name]):
            moving = left_frozen(arena, verifier, "SOURCE_SERVING")
            with told(moving):
                add_move(source, "offered")
                out = moving.command(source, "resume", "0123456789abcdef")
                if out.wait(20) or "another one has pid" not in out.stderr:
                    raise Failure(f"resume of what was offered: exit {out.code}: {out.tail()}")
                if verifier.state(source)[0] != "T":
                    raise Failure(f"the copy was woken: {verifier.state(source)}")
        with told(moving):
            moving.operator = True
            to_the_end(moving, verifier, "target")
        verifier.end(target)


def offered_twice(arenas):
    """Fetched again after the first worker died: the new move is picked up again by its own name."""
    with arenas.use() as arena:
        source, target = arena.pair.a, arena.pair.b
        verifier = arena.verifier(source, mib=16)
        with asleep(arena.services[source.name]):
            first = Moving(arena, source, target, verifier.pid, "pull",
                           env={"source": {"BATON_FAULT": "both:SOURCE_OFFERED"}})
            first.operator = False
            with told(first):
                first.begin()
                wait_for(lambda: "offered" in moves_in(source, "source").values()
                         and first.restore.code is not None and first.dump.code is not None
                         and not source.listens(PORT + 1), 20, "those that offered it die")
            moving = Moving(arena, source, target, verifier.pid, "pull", rate=8)
            with told(moving):
                moving.begin()
                wait_filling(moving, verifier)
                kill(source, *[e.pid for e in moving.engines("source")])
                to_the_end(moving, verifier, "target")
        verifier.end(source, target)


def drained_and_nobody_comes(arenas):
    """Who served it died when all was handed over, and who fetched it is gone: the copy is ended. Not
    forgotten while another program has the address."""
    with arenas.use() as arena:
        source, target = arena.pair.a, arena.pair.b
        verifier = arena.verifier(source)
        with asleep(arena.services[source.name]):
            moving = left_frozen(arena, verifier, "SOURCE_DRAINED", "pull")
            with told(moving):
                moving.wait(lambda: moving.restore.code is not None, "restore ends", 40)
                name, = moves_in(source, "source")
                ident = name.split("-")[0]
                other = source.start(["/usr/bin/python3", "-c", "import socket, time\n"
                                      f"s = socket.create_server(('{source.address}', {PORT + 1}))\n"
                                      "time.sleep(60)"])
                wait_for(lambda: source.listens(PORT + 1), 5, "the address is taken")
                out = moving.command(source, "resume", ident)
                if out.wait(20) != 6 or not moves_in(source, "source"):
                    raise Failure(f"resume without the address: exit {out.code}: {out.tail()}, and "
                                  f"{moves_in(source)}")
                kill(source, source.pid_of(other))
                wait_for(lambda: not source.listens(PORT + 1), 5, "the address is free")
                out = moving.command(source, "resume", ident)
                if out.wait(30) or moves_in(source, "source") or verifier.exists(source):
                    raise Failure(f"resume: exit {out.code}: {out.tail()}; left: {moves_in(source)}, "
                                  f"the copy: {verifier.state(source)}")
                verifier.check_all()
        verifier.end(target)


def a_number_used_again(arenas):
    """A lost move's process and a later one have the same pid: what is said of the one does not mean
    the other."""
    with arenas.use() as arena:
        source, target = arena.pair.a, arena.pair.b
        verifier = arena.verifier(source, mib=16)
        first = Moving(arena, source, target, verifier.pid, rate=4)
        first.operator = False
        with told(first):
            first.begin()
            wait_filling(first, verifier)
            twins = [e.pid for e in first.engines("target")]
            kill(target, *twins, sig=signal.SIGSTOP)
            kill(target, *twins)
            expect_ended(verifier, target)
            first.wait(lambda: first.commands[0].code is not None, "send ends")
            ident = next(iter(moves_in(target, "target"))).split("-")[0]
            done = first.command(source, "resume", "--peer-is-dead", ident)
            if done.wait(20):
                raise Failure(f"resume --peer-is-dead: exit {done.code}: {done.tail()}")
        moving = Moving(arena, source, target, verifier.pid)
        with told(moving):
            moving.begin()
            moving.wait(lambda: moving.commands[0].code is not None, "send ends")
            done = moving.command(target, "abort", ident)
            if done.wait(20):
                raise Failure(f"abort of the move that was lost: exit {done.code}: {done.tail()}")
            verifier.expect_beating()
            moving.wait(moving.over, "the move's end")
        verifier.end(source, target)


def tests(ctx):
    arenas, bare = Arenas(ctx), Arenas(ctx)
    ctx.at_end += [arenas.close, bare.close]
    return [("killed while the leader's signals are blocked", lambda: mask_is_its_own(arenas)),
            ("guard and worker killed", lambda: guard_made_anew(arenas)),
            ("guard and both twins at once", lambda: guard_dies_with_the_twins(arenas)),
            ("killed by somebody before it runs", lambda: killed_before_it_runs(arenas)),
            ("killed when it has found a new receiver", lambda: found_behind_the_door(arenas)),
            ("SIGTERM when the keeper was killed", lambda: end_without_keeper(arenas)),
            ("abort of what is held and not committed", lambda: abort_lets_it_run(arenas)),
            ("the group of a process that ended", lambda: group_of_the_dead(arenas)),
            ("drained, and woken by somebody", lambda: drained_and_woken(bare)),
            ("offered before another move", lambda: another_offered_it_first(bare)),
            ("another move was faster", lambda: another_was_faster(arenas)),
            ("offered twice", lambda: offered_twice(arenas)),
            ("drained, and nobody comes", lambda: drained_and_nobody_comes(arenas)),
            ("a pid that is used again", lambda: a_number_used_again(arenas))]
