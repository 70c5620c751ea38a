# SPDX-License-Identifier: MIT
"""Images that are not as they were made: refused by name, or caught before a wrong byte."""
import hashlib
import os
import random
import shutil

import format
from devices import Failure, wait_for
from images import counted, dump, expect_refused, gone, idle, nothing_started, restore
from whole_test import read_bytes

FLIPS, CUTS = 60, 25


def write(path, data):
    with open(path, "wb") as f:
        f.write(data)


def refused_all(pair, before, path, variants):
    """Each of [(name, bytes)] is refused with code 3, in both modes, and nothing is started."""
    for nr, (name, data) in enumerate(variants):
        write(path, data)
        out = restore(pair, pair.a, path, "--eager" if nr % 2 else "--lazy", fails="any")
        if out.code != 3 or path not in out.stderr:
            raise Failure(f"{name}: exit {out.code}: {out.tail()}")
    nothing_started(pair.a, before)


def cut(ctx):
    with counted(ctx, kib=256) as (pair, counter, path):
        dump(pair, counter, path)
        gone(pair.a, counter.pid)
        data, dice = read_bytes(path), random.Random(1)
        places = {0, 1, 23, 24, 39, len(data) - 1, len(data) - 15, len(data) - 16, len(data) - 17}
        places |= {dice.randrange(len(data)) for _ in range(CUTS)}
        before = pair.a.pids()
        refused_all(pair, before, path, [(f"{n} of {len(data)} bytes", data[:n]) for n in sorted(places)])
        refused_all(pair, before, path, [("bytes behind it", data + b"\0"), ("twice", data + data)])
        return f"{len(places) + 2} files"


def flipped(ctx):
    """Bits all over the file. What is in the memory is found when that is read; all else before anything."""
    with counted(ctx, kib=256) as (pair, counter, path):
        dump(pair, counter, path)
        gone(pair.a, counter.pid)
        data, dice = bytearray(read_bytes(path)), random.Random(2)
        image = format.Image(bytes(data))
        memory = [(e.at, e.at + e.length) for e in image.entries if e.key & format.MEMORY]
        before, caught = pair.a.pids(), 0
        for nr in range(FLIPS):
            bit = dice.randrange(len(data) * 8)
            data[bit // 8] ^= 1 << bit % 8
            write(path, data)
            late = any(start <= bit // 8 < end for start, end in memory)
            lazy = late and nr % 2
            out = restore(pair, pair.a, path, "--lazy" if lazy else "--eager", fails="any")
            if out.code != (1 if lazy else 3) or "damaged" not in out.stderr and "version" not in out.stderr \
                    and "no image" not in out.stderr and "end is missing" not in out.stderr:
                raise Failure(f"bit {bit}: exit {out.code}: {out.tail()}")
            caught += bool(lazy)
            data[bit // 8] ^= 1 << bit % 8
            nothing_started(pair.a, before)
        if counter.wrong():
            raise Failure(f"wrong memory: {counter.wrong()}")
        write(path, data)
        restore(pair, pair.a, path)
        counter.expect_beats()
        idle(pair)
        return f"{FLIPS} bits, {caught} of them found while it ran"


def damaged_while_it_runs(ctx):
    """The file goes bad when it is half read: the process is ended, loudly, and has read nothing wrong."""
    with counted(ctx, kib=65536, threads=2) as (pair, counter, path):
        dump(pair, counter, path)
        gone(pair.a, counter.pid)
        image = format.Image(read_bytes(path))
        entry = [e for e in image.entries if e.key & format.MEMORY][-3]
        with open(path, "r+b") as f:
            f.seek(entry.at + 100)
            f.write(b"\xff" if image.data[entry.at + 100] != 255 else b"\0")
        before = pair.a.pids()
        out = restore(pair, pair.a, path, fails=1)
        expect_refused(out, 1, "is ended here", "damaged", f"byte {entry.at}")
        nothing_started(pair.a, before)
        if counter.wrong():
            raise Failure(f"wrong memory: {counter.wrong()}")
        idle(pair)


def foreign(ctx):
    with counted(ctx, kib=64) as (pair, counter, path):
        dump(pair, counter, path)
        gone(pair.a, counter.pid)
        good, before = format.Image(read_bytes(path)), pair.a.pids()
        head, memory, preamble = good.head(), good.memory(), good.data[:format.PREAMBLE]

        def expect(what, data, *words):
            write(path, data)
            out = restore(pair, pair.a, path, "--allow-unsigned", fails="any")
            expect_refused(out, 3, *words)

        expect("a program", read_bytes("/bin/true"), "no image file of baton")
        expect("a connection", good.data[:6] + b"\0\0" + good.data[8:], "no image file of baton")
        expect("another preamble", good.data[:5] + b"\2" + good.data[6:], "another version")
        expect("a newer one", format.build(head, memory, preamble, major=2), "newer version", "format 2.0")
        # HELLO: version_major is field 1, a varint.
        expect("a newer packing", format.build(head, memory, preamble, packing=2), "packed in a way (0x2)")
        hello = head[0][:format.HEADER]
        body = head[0][format.HEADER:]
        expect("a newer protocol", format.build([hello + body[:1] + b"\x63" + body[2:]] + head[1:], memory, preamble),
               "version 99 of the protocol")
        here = os.uname().machine
        arch, other = (b"x86_64", b"x86_46") if here == "x86_64" else (b"arm64", b"arm46")
        offer = head[1].replace(arch, other, 1)
        expect("another architecture", format.build([head[0], offer] + head[2:], memory, preamble),
               f"the process is for {other.decode()}, this device is {arch.decode()}")
        expect("no description", format.build(head[:-1], memory, preamble), "its description has no end")
        expect("a folder instead", b"", "no image file of baton")
        out = restore(pair, pair.a, pair.folder, fails="any")
        expect_refused(out, 3, f"{pair.folder} is a folder: give the name of an image file in it")
        expect_refused(restore(pair, pair.a, path + ".none", fails="any"), 3, "No such file")
        nothing_started(pair.a, before)
        # The same parts put together again are as good as the first.
        write(path, format.build(head, memory, preamble))
        expect_refused(restore(pair, pair.a, path, fails="any"), 5, "is not signed")
        restore(pair, pair.a, path, "--allow-unsigned")
        counter.expect_beats()


def somebody_elses_seal(ctx):
    """A signature is of one file: under another it fits as little as a changed one."""
    with counted(ctx, kib=64) as (pair, counter, path):
        dump(pair, counter, path, "--leave-running")
        first = format.Image(read_bytes(path))
        dump(pair, counter, path)
        second = format.Image(read_bytes(path))
        if first.data == second.data:
            raise Failure("both files are the same")
        before = pair.a.pids()
        unsigned = format.build(second.head(), second.memory(), second.data[:format.PREAMBLE])
        at = len(unsigned) - format.END
        seal_at = int.from_bytes(unsigned[at:at + 8], "little")
        body = unsigned[seal_at + format.HEADER:at]
        body = body[:format.FRONT - 2] + len(first.cert).to_bytes(2, "little") + first.cert
        digest = hashlib.sha256(unsigned[:format.PREAMBLE] + body).digest()
        body += digest + len(first.signature).to_bytes(2, "little") + first.signature
        forged = (unsigned[:seal_at] + format.frame(format.SEAL, body, 0, seal_at)
                  + seal_at.to_bytes(8, "little") + b"BATONEND")
        format.Image(forged).check()
        write(path, forged)
        expect_refused(restore(pair, pair.a, path, fails="any"), 3, "the signature", "does not fit")
        nothing_started(pair.a, before)


def replaced(ctx):
    """A file that gets another content under its name while it is read stays what it was."""
    with counted(ctx, kib=65536) as (pair, counter, path):
        dump(pair, counter, path)
        gone(pair.a, counter.pid)
        shutil.copy(path, path + ".copy")
        out = pair.baton(pair.a, "restore", path)
        wait_for(lambda: pair.a.alive(counter.pid) or out.code is not None, 20, "it starts", 0.001)
        write(path + ".new", b"nothing")
        os.rename(path + ".new", path)
        out.wait(60)
        if out.code:
            raise Failure(f"exit {out.code}: {out.tail()}")
        counter.expect_beats(more=2)


def tests(ctx):
    return [(name, lambda f=function: f(ctx)) for name, function in (
        ("files that are cut off", cut), ("bits that are flipped", flipped),
        ("a page is damaged: found while it runs", damaged_while_it_runs),
        ("foreign, newer, of another architecture", foreign),
        ("another file's signature", somebody_elses_seal), ("a file that is replaced while it is read", replaced))]
