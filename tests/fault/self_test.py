# SPDX-License-Identifier: MIT
"""The machinery itself: what is wrong must be noticed. A check that cannot fail proves nothing."""
import contextlib
import os

from devices import Failure, wait_for
from faults import kill
from moving import Arenas, Moving
from watched import Beat, check_history

PAGE = 4096
MAGIC = (0x6d656d6f72792e2e).to_bytes(8, "little")  # PAGE_MAGIC in verifier.c


def pages_of(verifier, device, mem):
    """{address: content} of the pages that it watches, which begin with a word of their own."""
    found = {}
    with open(device.proc(verifier.pid, "maps")) as f:
        for line in f:
            words = line.split()
            start, end = (int(x, 16) for x in words[0].split("-"))
            if len(words) == 5 and words[1].startswith("rw"):
                for at in range(start, end, PAGE):
                    page = os.pread(mem, PAGE, at)
                    if page[:8] == MAGIC:
                        found[at] = page
    return found


def expect_wrong(verifier, words):
    wait_for(verifier.wrong, 10, "the verifier notices it")
    if words not in verifier.wrong():
        raise Failure(f"it says {verifier.wrong()!r}, not {words!r}")
    wait_for(lambda: verifier.output.code is not None, 5, "it ends itself")


def tampered(arenas, change, words):
    """change(pages, address) gives what is put there instead; None: nothing."""
    with arenas.use() as arena:
        verifier = arena.verifier(arena.pair.a, mib=1)
        with open(arena.pair.a.proc(verifier.pid, "mem"), "r+b", buffering=0) as mem:
            pages = pages_of(verifier, arena.pair.a, mem.fileno())
            if len(pages) < 100:
                raise Failure(f"only {len(pages)} pages are found")
            wait_for(lambda: verifier.nr_beats() > 100, 5, "it beats")
            for at in pages:
                page = change(pages, at)
                with contextlib.suppress(OSError):  # moved away meanwhile, or it has ended itself
                    if page:
                        os.pwrite(mem.fileno(), page, at)
        expect_wrong(verifier, words)


def one_bit(pages, at):
    page = bytearray(pages[at])
    page[3000] ^= 1
    return bytes(page)


def beats_of(*runs):
    """Beats of (network, first count, last count)."""
    return [Beat(n, net, 1, n * 1000000, 7) for net, first, last in runs
            for n in range(first, last + 1)]


def histories():
    nets = ((11, "source"), (22, "target"))
    check_history(beats_of((11, 1, 5), (22, 6, 9)), nets)
    for wrong in (((11, 1, 5), (22, 6, 9), (11, 6, 8)),    # the old copy went on as well
                  ((11, 1, 5), (22, 5, 9)),                # one moment of it
                  ((11, 1, 5), (22, 7, 9)),                # a beat is missing
                  ((11, 1, 5), (22, 6, 9), (11, 10, 11)),  # back again
                  ((22, 1, 5), (11, 6, 9)), ((11, 1, 5), (33, 6, 9))):
        try:
            check_history(beats_of(*wrong), nets)
        except Failure:
            continue
        raise Failure(f"nothing is found wrong with {wrong}")


def two_copies(arenas):
    """The same program on both devices at once."""
    with arenas.use() as arena:
        a, b = arena.pair.a, arena.pair.b
        verifier = arena.verifier(a, mib=1)
        other = b.start([verifier.program, verifier.folder, 1, 1, 1, 0])
        pid = b.pid_of(other)
        before = verifier.nr_beats()
        wait_for(lambda: verifier.nr_beats() > before + 50, 5, "both beat")
        kill(b, pid)
        verifier.end(a)
        try:
            check_history(verifier.beats(), ((a.netns, "source"), (b.netns, "target")))
        except Failure:
            return
        raise Failure("two copies ran, and nobody noticed")


def not_over(arenas):
    """A process that is stopped, or gone, is none that goes on."""
    with arenas.use() as arena:
        a, b = arena.pair.a, arena.pair.b
        verifier = arena.verifier(a, mib=1)
        moving = Moving(arena, a, b, verifier.pid)
        moving.began = 0
        for sig in (19, 9):
            kill(a, verifier.pid, sig=sig)
            wait_for(lambda: not verifier.state(a).startswith(("R", "S")), 5, "it obeys")
            try:
                moving.expect_over(verifier)
            except Failure:
                continue
            raise Failure(f"signal {sig} is not noticed")


def tests(ctx):
    arenas = Arenas(ctx)
    ctx.at_end.append(arenas.close)
    kinds = (("one wrong bit", one_bit, "instead of"),
             ("zeros", lambda pages, at: bytes(PAGE), "got zeros"),
             ("what was there before", lambda pages, at: pages[at], "of generation"),
             ("pages that were swapped", lambda pages, at: pages.get(at ^ PAGE), "got page"))
    return [(f"the verifier notices {name}", lambda c=change, w=words: tampered(arenas, c, w))
            for name, change, words in kinds] + [
        ("the history of beats shows what went wrong", histories),
        ("two copies are noticed", lambda: two_copies(arenas)),
        ("a process that does not go on is noticed", lambda: not_over(arenas))]
