# SPDX-License-Identifier: MIT
"""The self-checking programs, each in every mode it can be moved in."""
import os
import re
import time

from devices import Failure, read, wait_for
from moves import MODES, Move

RESULT_S = 40


def text_of_ready(folder):
    return read(f"{folder}/ready").strip()


def result_of(folder, output):
    def done():
        return os.path.exists(f"{folder}/result") or output.code not in (None, 137, -9)
    wait_for(done, RESULT_S, "the program says how it went")
    return read(f"{folder}/result") or f"no result, exit {output.code} {output.tail()}"


def touch(path):
    with open(path, "w"):
        pass


def prepared(pair, program, binary, arg, broken=False):
    """Starts the program on device a and waits until it may be moved. Returns (output, pid, dir)."""
    folder = f"{pair.folder}/d"
    os.mkdir(folder)
    os.chmod(folder, 0o777)
    argv = [binary, folder] + (["--broken"] if broken else []) + ([arg] if arg else [])
    output = pair.a.start(argv, name=program.name)

    def ready():
        if os.path.exists(f"{folder}/result"):
            raise Failure("before the move: " + read(f"{folder}/result"))
        if output.code is not None:
            raise Failure(f"ended before it was ready, exit {output.code}: {output.tail()}")
        return text_of_ready(folder)
    return output, int(wait_for(ready, 20, "the program gets ready")), folder


def run_native(ctx, program, build, arg, broken):
    """Without a move: is the program itself right, and can it fail?"""
    with ctx.pair(keys=False) as pair:
        output, _, folder = prepared(pair, program, program.binary(ctx.tools, build), arg, broken)
        time.sleep(program.settle)
        touch(f"{folder}/go")
        touch(f"{folder}/end")
        result = result_of(folder, output)
        if result.startswith("ok") == broken:
            raise Failure(f"{'was spoiled and says' if broken else 'without a move'}: {result}")


def run_moved(ctx, program, build, arg, mode, ahead=0):
    with ctx.pair(ahead=(max(0, -ahead), max(0, ahead))) as pair:
        output, pid, folder = prepared(pair, program, program.binary(ctx.tools, build), arg)
        time.sleep(program.settle)
        if program.private:
            folder = pair.separate(folder)
        same_code = arg not in ("exec",)
        rate = program.rate if mode in ("lazy", "pull") else None
        m = Move(pair, pid, mode, rate=rate).begin()
        m.wait_started()
        if mode != "on-demand":
            wait_complete_or_result(m, folder)
        touch(f"{folder}/go")
        check_result(pair, folder, output)
        if mode != "on-demand":
            m.check_all(same_code)
        touch(f"{folder}/end")
        wait_for(lambda: not pair.b.alive(pid), 5, "the program ends when told")
        if mode == "on-demand":
            m.wait_complete()
            m.check_reports()
            m.check_gone()
            m.check_idle()


def wait_complete_or_result(m, folder):
    """A program that failed while it was filled says more than a time limit does."""
    try:
        m.wait_complete()
    except Failure as why:
        result = read(f"{folder}/result")
        raise Failure(f"{why}{'; program: ' + result if result else ''}")


def check_result(pair, folder, output):
    result = result_of(folder, output)
    if not result.startswith("ok"):
        raise Failure(f"program: {result}; {pair.b.name}: alive there "
                      f"{bool(pair.b.alive(int(text_of_ready(folder))))}")
    where = int(re.search(r"netns (\d+)", result).group(1))
    if where not in (0, pair.b.netns):
        raise Failure("the program ran to its end, but not on the target")
    if os.path.exists(f"{folder}/result.twice"):
        raise Failure("two copies of the program ran")


def tests(ctx, programs, native):
    """(name, function) of every test."""
    found = []
    for p in programs:
        for build in p.builds:
            for arg in p.args:
                name = " ".join(filter(None, [p.name, arg, build if len(p.builds) > 1 else ""]))
                if native:
                    found.append((f"{name} (not moved)", lambda p=p, b=build, a=arg:
                                  run_native(ctx, p, b, a, False)))
                    found.append((f"{name} (spoiled)", lambda p=p, b=build, a=arg:
                                  run_native(ctx, p, b, a, True)))
                    continue
                for mode in p.modes or MODES:
                    for s in p.ahead:
                        what = mode if len(p.ahead) == 1 else f"{mode}, target {s} s ahead"
                        found.append((f"{name} ({what})", lambda p=p, b=build, a=arg, m=mode, s=s:
                                      run_moved(ctx, p, b, a, m, s)))
    return found
