# SPDX-License-Identifier: MIT
"""An operator's decisions: what abort and resume do in each state, and what they refuse."""
import os
import signal
import time

from cable import shaped
from devices import Failure, read, wait_for
from faults import kill
from moving import STAGES, Arenas, Moving, moves_in, told


def command(moving, device, *args):
    out = moving.arena.pair.baton(device, *args, keys=False)
    out.wait(30)
    return out


def expect(out, code, *words):
    text = out.stdout + out.stderr
    missing = [w for w in words if w not in text]
    if out.code != code or missing:
        raise Failure(f"{out.name}: exit {out.code}, not {code}, or without {missing}: {text.strip()}")


def begun(arena, options=()):
    """A move that is filling slowly: its id, the move, the process."""
    verifier = arena.verifier(arena.pair.a, mib=16)
    moving = Moving(arena, arena.pair.a, arena.pair.b, verifier.pid, rate=4, options=options)
    moving.operator = False
    moving.begin()
    with told(moving):
        moving.wait(lambda: moving.stage("target") == STAGES["target"].index("started"), "it runs there", 15)
    return next(iter(moves_in(moving.target, "target"))).split("-")[0], moving, verifier


def give_up_on_the_target(arenas):
    with arenas.use() as arena:
        ident, moving, verifier = begun(arena)
        source, target, send = moving.source, moving.target, moving.commands[0]
        with told(moving):
            expect(command(moving, target, "abort", ident), 3, "abort --kill", str(moving.pid))
            expect(command(moving, source, "abort", ident), 3, "cannot be undone")
            expect(command(moving, target, "resume", ident), 3, "is its target")
            if not verifier.exists(target):
                raise Failure("what was refused ended the process")
            expect(command(moving, target, "abort", "--kill", ident), 0, "given up")
            moving.wait(lambda: send.code is not None, "send ends", 30)
            expect(send, 4, "--peer-is-dead")
            expect(command(moving, source, "status"), 0, ident, "held")
            if verifier.exists(target):
                raise Failure("the process is still on the target")
            expect(command(moving, source, "abort", ident), 3, "the only whole copy")
            expect(command(moving, source, "resume", "--peer-is-dead", ident), 0, "runs on here")
            expect(command(moving, target, "abort", ident), 0)
            verifier.expect_beating()
            verifier.check_all()
            moving.expect_tidy("source")
        verifier.end(source, target)


def reason(device, ident, side):
    return read(f"{device.state}/{ident}-{side}.move").partition("\nreason ")[2].partition("\n")[0]


def signal_worker(moving, side, sig=signal.SIGKILL):
    workers = [e for e in moving.engines(side) if e.name == "baton"]
    if not workers or not kill(moving.devices[side], workers[0].pid, sig=sig):
        raise Failure(f"no worker on the {side}")


def peer_is_dead(arenas, workers_die):
    """The target is cut off, and the source has patience for ten minutes more: the operator has not. What is
    given up over there has ended when abort says so, though it cannot tell the source. A worker that dies
    meanwhile takes neither word along."""
    with arenas.use() as arena:
        ident, moving, verifier = begun(arena, ["--keepalive", 2, "--patience", 600])
        source, target, send = moving.source, moving.target, moving.commands[0]
        with told(moving):
            expect(command(moving, source, "resume", "--peer-is-dead", ident), 3, "has not lost")
            verifier.expect_beating()
            moving.network.cut("target down")
            moving.wait(lambda: reason(source, ident, "source") and reason(target, ident, "target"),
                        "both sides say why they stand", 60)
            expect(command(moving, source, "status"), 0, ident, target.address)
            if workers_die:
                signal_worker(moving, "target", signal.SIGSTOP)
            abort = moving.arena.pair.baton(target, "abort", "--kill", ident, keys=False)
            if workers_die:
                time.sleep(0.3)
                signal_worker(moving, "target")
                signal_worker(moving, "source")
                wait_for(lambda: len(moving.engines("source")) > 1, 10, "another worker")
            abort.wait(40)
            expect(abort, 0, "has ended")
            if verifier.exists(target):
                raise Failure("abort has answered, and the process is still there")
            expect(command(moving, source, "resume", "--peer-is-dead", ident), 0,
                   f"still tries to reach {target.address}", "runs on here")
            moving.wait(lambda: send.code is not None, "send ends", 30)
            expect(send, 4)
            moving.network.heal("target down")
            # The next one to dial, in another test, is not to hear of a search for neighbours that began before.
            moving.network.tool(source, "ip", "neigh", "flush", "dev", "veth0", "nud", "all")
            moving.wait(lambda: not moving.engines("target"), "nobody works on it there", 30)
            if reason(target, ident, "target") != "given up here by baton abort":
                raise Failure(f"the target says: {reason(target, ident, 'target')}")
            expect(command(moving, target, "abort", ident), 0)
            verifier.expect_beating()
            verifier.check_all()
            moving.expect_tidy("source")
        verifier.end(source, target)


def peer_is_back(arenas):
    """A move that was held is picked up, and the target found: then nothing says that it is away."""
    with arenas.use() as arena:
        ident, moving, verifier = begun(arena, ["--keepalive", 2, "--patience", 1])
        source, send = moving.source, moving.commands[0]
        with told(moving):
            moving.network.cut("target down")
            moving.wait(lambda: send.code is not None, "send ends", 60)
            expect(send, 4)
            with shaped(arena.pair, "8mbit"):
                moving.network.heal("target down")
                moving.wait(lambda: moving.engines("source"), "it is picked up", 60)
                moving.wait(lambda: moves_in(source) and not reason(source, ident, "source"), "it says so", 20)
                expect(command(moving, source, "resume", "--peer-is-dead", ident), 3, "has not lost")
            moving.wait(moving.over, "the move's end")
            if verifier.exists(source) or not verifier.exists(moving.target):
                raise Failure("it is not on the target alone")
            verifier.expect_beating()
            verifier.check_all()
        verifier.end(source, moving.target)


def give_up_on_the_source(arenas):
    with arenas.use() as arena:
        ident, moving, verifier = begun(arena)
        source, target = moving.source, moving.target
        with told(moving):
            expect(command(moving, target, "abort", "--kill", ident), 0)
            moving.wait(lambda: moving.commands[0].code is not None, "send ends", 30)
            expect(command(moving, source, "abort", "--kill", ident), 0)
            expect(command(moving, target, "abort", ident), 0)
            moving.wait(lambda: not verifier.exists(source), "the copy is gone", 10)
            for device in (source, target):
                expect(command(moving, device, "status"), 0, "no move is under way")


def what_a_target_keeps(arenas):
    """A proof for a source that does not come back: status says what it is, and abort forgets it without
    touching the process."""
    with arenas.use() as arena:
        ident, moving, verifier = begun(arena)
        target = moving.target
        with told(moving):
            text = read(f"{target.state}/{ident}-target.move")
            for stage, words in (("ready", "never ran here"), ("complete", "runs here, complete")):
                folder = f"{verifier.folder}/proof-{stage}"
                os.mkdir(folder, 0o700)
                with open(f"{folder}/{ident}-target.move", "w") as f:
                    f.write(text.replace("stage started", f"stage {stage}"))
                out = target.run([arena.binary, "status", "--state", folder])
                expect(out, 0, words, f"baton abort {ident}", "kept as the answer for")
                expect(target.run([arena.binary, "abort", "--state", folder, ident]), 0)
                verifier.expect_beating()
                if [n for n in os.listdir(folder) if n.endswith(".move")]:
                    raise Failure("it was not forgotten")
            moving.wait(moving.over, "the move's end")
            if moving.expect_over(verifier) != "target":
                raise Failure("it is not on the target")
        verifier.end(moving.source, target)


def no_such_move(arenas):
    with arenas.use() as arena:
        for word in ("resume", "abort"):
            out = arena.pair.baton(arena.pair.a, word, "0123", keys=False)
            out.wait(10)
            expect(out, 3, "there is no move 0123")
            out = arena.pair.baton(arena.pair.a, word, keys=False)
            out.wait(10)
            expect(out, 2, "usage")


def tests(ctx):
    arenas = Arenas(ctx)
    ctx.at_end.append(arenas.close)
    return [("an operator gives up what is on the target", lambda: give_up_on_the_target(arenas)),
            ("an operator knows that the peer is dead", lambda: peer_is_dead(arenas, False)),
            ("an operator knows that the peer is dead, workers die", lambda: peer_is_dead(arenas, True)),
            ("a held move that is picked up and finds its peer", lambda: peer_is_back(arenas)),
            ("an operator gives up what is on the source", lambda: give_up_on_the_source(arenas)),
            ("what a target keeps for a source that is away", lambda: what_a_target_keeps(arenas)),
            ("resume and abort of no move", lambda: no_such_move(arenas))]
