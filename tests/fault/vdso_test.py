# SPDX-License-Identifier: MIT
"""Kernels whose vdso differ: a fault point makes the one that both devices have count for two. A process is
moved several times, by kernels that have its own one and by others.
"""
import os

from devices import TOP, Failure, read, wait_for
from moves import check_clean
from moving import Arenas, Moving
import programs

# A letter for each move: the vdso of the target is Another one, or the Same as on the source.
PLANS = (("A", "lazy"), ("A", "pull"), ("A", "eager"), ("SSS", "lazy"), ("ASA", "lazy"), ("SAAAA", "lazy"))


def one_move(arena, source, target, pid, mode, other):
    env = {"target": {"BATON_FAULT": "fail:TARGET_VDSO"}} if other else {}
    moving = Moving(arena, source, target, pid, mode, rate=20, env=env)
    moving.begin()
    moving.wait(moving.over, "the move's end")
    if other and "fault point TARGET_VDSO" not in "".join(c.stderr for c in moving.commands) \
            + arena.services[target.name].log():
        raise Failure("the vdsos were not compared")
    if other and mode != "pull":
        arena.services[target.name].start_anew({})
        arena.wait_ready()
    return moving


def all_moves(arena, plan, mode, pid, expect):
    here, there = arena.pair.a, arena.pair.b
    for letter in plan:
        moving = one_move(arena, here, there, pid, mode, letter == "A")
        try:
            expect(moving)
        except Failure as why:
            raise Failure(f"{why}\n" + "\n".join(moving.story()))
        here, there = there, here
    return here


def bytes_are_right(arenas, plan, mode):
    """Its memory, with each move. Its beats are those of more than one: their history is no test here."""
    def expect(moving):
        verifier.expect_right()
        if moving.where(verifier) != "target":
            raise Failure("it is not on the target")
        verifier.expect_beating()
        verifier.check_all()
        check_clean(moving.target, verifier.pid, moving.maps)
        moving.expect_tidy("target")
    with arenas.use() as arena:
        verifier = arena.verifier(arena.pair.a, mib=8, threads=3, forks=1)
        here = all_moves(arena, plan, mode, verifier.pid, expect)
        verifier.end(here)


def calls_are_right(arenas, program, plan, mode):
    """What it calls, see tests/scenario/vdso.c."""
    def expect(moving):
        if not moving.target.alive(pid) or moving.source.alive(pid):
            raise Failure(f"it is not on the target {read(folder + '/result')}")
    with arenas.use() as arena:
        arena.nr_moves += 1
        arena.wait_ready()
        folder = f"{arena.pair.folder}/calls{arena.nr_moves}"
        os.mkdir(folder)
        arena.pair.a.start([program, folder], name="vdso")
        pid = int(wait_for(lambda: read(f"{folder}/ready") or read(f"{folder}/result"), 30,
                           "the program gets ready"))
        all_moves(arena, plan, mode, pid, expect)
        with open(f"{folder}/go", "w"):
            pass
        result = wait_for(lambda: read(f"{folder}/result"), 40, "the program says how it went")
        with open(f"{folder}/end", "w"):
            pass
        if not result.startswith("ok"):
            raise Failure(result)


def tests(ctx):
    arenas = Arenas(ctx)
    ctx.at_end.append(arenas.close)
    program = programs.Program(f"{TOP}/tests/scenario/vdso.c")
    found = []
    for plan, mode in PLANS:
        found.append((f"vdso {plan} ({mode}): memory",
                      lambda p=plan, m=mode: bytes_are_right(arenas, p, m)))
        for build in program.builds if mode == "lazy" else program.builds[:1]:
            binary = program.binary(ctx.tools, build)
            programs.compile_one(programs.COMPILERS[build] + programs.FLAGS + [program.path]
                                 + program.libs, binary, [program.path])
            found.append((f"vdso {plan} ({mode}): calls {build}",
                          lambda p=plan, m=mode, b=binary: calls_are_right(arenas, b, p, m)))
    return found
