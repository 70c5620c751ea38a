# SPDX-License-Identifier: MIT
"""Images that are whole: written and started again, here and there, once and often."""
import os
import time

import format
from devices import Failure, read, wait_for
from images import (Counter, baton, build_with, counted, dump, expect_refused, gone, idle, nothing_started, report,
                    restore)
from moves import check_clean
from programs_test import check_result, touch
from real_test import HERE as SCENARIO, cli, need, redis_load


def here(ctx, mode):
    with counted(ctx, kib=8192, threads=3) as (pair, counter, path):
        dump(pair, counter, path)
        gone(pair.a, counter.pid)
        if os.stat(path).st_mode & 0o777 != 0o600 or os.listdir(os.path.dirname(path)).count("image.part"):
            raise Failure("the file can be read by others, or a part of it is left")
        before = counter.beat()
        out = restore(pair, pair.a, path, "--json", mode)
        counter.expect_beats()
        check_clean(pair.a, counter.pid)
        if counter.beat() < before:
            raise Failure("it began anew")
        idle(pair)
        return f"{report(out)['downtime_us'] / 1000:.1f} ms"


def leave_running(ctx):
    with counted(ctx) as (pair, counter, path):
        out = dump(pair, counter, path, "--leave-running", "--json")
        counter.expect_beats()
        check_clean(pair.a, counter.pid)
        data = read_bytes(path)
        image = format.Image(data)
        image.check()
        if report(out)["id"] != data[8:16].hex():
            raise Failure(f"id {report(out)['id']}")
        # A fourth of its pages are zeros, which take no room.
        if not 700 << 10 < image.memory_bytes < 1000 << 10 or len(data) > image.memory_bytes + (256 << 10):
            raise Failure(f"{image.memory_bytes} bytes of memory in {len(data)}")
        idle(pair)
        return f"stood {report(out)['downtime_us'] / 1000:.1f} ms, {len(data)} bytes"


def read_bytes(path):
    with open(path, "rb") as f:
        return f.read()


def often(ctx):
    """As often as wanted, more than one at a time, beside the one that goes on."""
    with counted(ctx) as (pair, counter, path):
        dump(pair, counter, path, "--leave-running")
        out = restore(pair, pair.a, path, fails=3)
        expect_refused(out, 3, f"pid {counter.pid} is taken", "--pidns")
        spaces = set()
        for mode in ("--lazy", "--eager", "--lazy"):
            before = set(pair.a.pids())
            restore(pair, pair.a, path, "--pidns", mode)
            fresh = [p for p in set(pair.a.pids()) - before if Counter.instance(pair.a, p) != counter.home]
            spaces |= {Counter.instance(pair.a, p) for p in fresh}
        if len(spaces) != 3:
            raise Failure(f"{len(spaces)} copies run instead of 3")
        for instance in (None, *spaces):
            counter.expect_beats(instance)


def at_once(ctx):
    """Two restores of one file at the same time."""
    with counted(ctx, kib=16384) as (pair, counter, path):
        dump(pair, counter, path)
        both = [pair.baton(pair.a, "restore", "--pidns", path) for _ in range(2)]
        for out in both:
            out.wait(60)
            if out.code:
                raise Failure(f"exit {out.code}: {out.tail()}")
        counted_by = {n for n in os.listdir(counter.folder) if n.startswith("beat.") and n[-1].isdigit()}
        if len(counted_by) != 3:
            raise Failure(f"{counted_by} have counted")
        for name in counted_by - {f"beat.{counter.home}"}:
            counter.expect_beats(int(name[5:]))


def other_device(ctx):
    """Trust: the other device takes it, one that does not know the signer does not."""
    with counted(ctx) as (pair, counter, path):
        dump(pair, counter, path)
        gone(pair.a, counter.pid)
        trusted = f"{pair.b.keys}/peers"
        os.rename(trusted, trusted + ".away")
        before = pair.b.pids()
        out = restore(pair, pair.b, path, fails=5)
        expect_refused(out, 5, "not trusted here", "baton trust")
        nothing_started(pair.b, before)
        os.rename(trusted + ".away", trusted)
        restore(pair, pair.b, path)
        counter.expect_beats(Counter.instance(pair.b, counter.pid))
        idle(pair)


def unsigned(ctx):
    with counted(ctx) as (pair, counter, path):
        dump(pair, counter, path, "--allow-unsigned")
        if format.Image(read_bytes(path)).signature:
            raise Failure("it is signed")
        before = pair.a.pids()
        expect_refused(restore(pair, pair.a, path, fails=5), 5, "is not signed", "--allow-unsigned")
        nothing_started(pair.a, before)
        restore(pair, pair.a, path, "--allow-unsigned")
        counter.expect_beats()


def packed(ctx):
    """With LZ4: smaller, and the same when it runs; counted in what is said of it."""
    with counted(ctx, kib=4096, threads=2) as (pair, counter, path):
        sizes, before = {}, set(pair.a.pids())
        for when in ("off", "auto", "on"):
            out = dump(pair, counter, path, "--leave-running", "--json", "--compress", when)
            image = format.Image(read_bytes(path))
            image.check()
            sizes[when] = len(image.data)
            memory = [e for e in image.entries if e.key & format.MEMORY]
            nr_packed = sum(map(image.is_packed, memory))
            # Half of it cannot be packed.
            if nr_packed > 0.8 * len(memory) or (nr_packed > 0.2 * len(memory)) != (when != "off"):
                raise Failure(f"{when}: {nr_packed} of {len(memory)} runs are packed")
            if report(out)["bytes_packed"] != sum(e.span for e in memory if image.is_packed(e)):
                raise Failure(f"{when}: bytes_packed of {out.stdout}")
            pages = (image.head_bytes + image.memory_bytes) // os.sysconf("SC_PAGESIZE")
            for mode in ("--lazy", "--eager"):
                told = report(restore(pair, pair.a, path, "--pidns", "--json", mode))
                if told["pages_total"] != pages:
                    raise Failure(f"{told['pages_total']} pages of {pages}")
                fresh = [p for p in set(pair.a.pids()) - before if Counter.instance(pair.a, p) != counter.home]
                before |= set(fresh)
                counter.expect_beats(Counter.instance(pair.a, fresh[0]))
        if max(sizes["auto"], sizes["on"]) > 0.8 * sizes["off"]:
            raise Failure(f"bytes: {sizes}")
        if "packed (LZ4)" not in baton(pair, pair.a, "inspect", path, state=False).stdout:
            raise Failure("inspect does not say that it is packed")
        return ", ".join(f"{when} {size >> 10} KiB" for when, size in sizes.items())


def cannot_unpack(ctx):
    """A baton without LZ4 says so, and starts nothing; what was not packed it starts."""
    other = build_with(ctx, "COMPRESS_LZ4=n")
    with counted(ctx, kib=512) as (pair, counter, path):
        plain = path + ".plain"
        dump(pair, counter, path, "--leave-running")
        dump(pair, counter, plain, "--compress", "off")
        gone(pair.a, counter.pid)
        pair.a.binary, before = other, pair.a.pids()
        for mode in ("--lazy", "--eager"):
            expect_refused(restore(pair, pair.a, path, mode, fails=3), 3, path, "packed with LZ4", "CONFIG_COMPRESS_LZ4")
        core = baton(pair, pair.a, "core", path, "-o", path + ".core", keys=False, state=False, fails=3)
        expect_refused(core, 3, "packed with LZ4")
        if os.path.exists(path + ".core"):
            raise Failure("half a core file is left")
        nothing_started(pair.a, before)
        if "packed (LZ4)" not in baton(pair, pair.a, "inspect", path, state=False).stdout:
            raise Failure("inspect does not say that it is packed")
        restore(pair, pair.a, plain)
        counter.expect_beats()
        dump(pair, counter, plain)
        pair.a.binary = pair.binary
        restore(pair, pair.a, plain)
        counter.expect_beats()


def on_demand(ctx):
    """Only what is touched is read: it touches all of it."""
    with counted(ctx) as (pair, counter, path):
        dump(pair, counter, path)
        out = pair.baton(pair.a, "restore", "--on-demand", path)
        counter.expect_beats()
        pair.a.run(["kill", "-9", counter.pid])
        out.wait(30)


PARENT = """import os, subprocess, sys, time
child = subprocess.Popen(sys.argv[2:])
while not os.path.exists(sys.argv[1] + "/wait"):
    time.sleep(0.01)
child.wait()
time.sleep(3600)
"""


def zombie(ctx):
    """The parent of what was dumped does not wait for it; it is told, and waited for while it is about to."""
    with ctx.pair() as pair:
        a, folder, path = pair.a, f"{pair.folder}/counter", f"{pair.folder}/image"
        os.makedirs(folder)
        a.start(["/usr/bin/python3", "-c", PARENT, folder, ctx.counter, folder, 256, 1])
        pid = int(wait_for(lambda: [os.readlink(f"{folder}/{n}") for n in os.listdir(folder)
                                    if n.startswith("ready.") and not n.endswith(".new")], 20, "it counts")[0])
        baton(pair, a, "dump", pid, path)
        expect_refused(restore(pair, a, path, fails=3), 3, f"pid {pid} is taken", "counter, which has ended",
                       "does not wait for it")
        out = pair.baton(a, "restore", path)
        touch(f"{folder}/wait")
        out.wait(60)
        if out.code or read_status(a, pid) not in "SRDt":
            raise Failure(f"exit {out.code}: {out.tail()}")
        idle(pair)


def read_status(device, pid):
    return (read(device.proc(pid, "stat")) or ") ?").rsplit(") ", 1)[1][0]


def refused(ctx):
    """What cannot be carried is refused before anything is written or stopped."""
    with ctx.pair() as pair:
        out = pair.a.start(["sh", "-c", "sleep 100 & wait"])
        pid = pair.a.pid_of(out)
        wait_for(lambda: read(pair.a.proc(pid, f"task/{pid}/children")), 5, "it has a child")
        path = f"{pair.folder}/image"
        expect_refused(baton(pair, pair.a, "dump", pid, path, fails=3), 3, "child")
        expect_refused(baton(pair, pair.a, "dump", pid, f"{pair.folder}/none/image", fails="any"), 3)
        os.mkdir(path)
        out = pair.a.start(["sleep", "100"])
        pid = pair.a.pid_of(out)
        for name, words in ((path, "image is a folder: give the name of a file in it"), (f"{path}/", "is a folder"),
                            ("/dev/null", "/dev/null is a device: give the name of a file for")):
            expect_refused(baton(pair, pair.a, "dump", pid, name, fails=3), 3, words)
        if os.listdir(path):
            raise Failure(f"{os.listdir(path)} is left")
        if [n for n in os.listdir(pair.folder) if n.endswith(".part")]:
            raise Failure("a part of a file is left")


def python(ctx, mode):
    need("python3")
    with ctx.pair() as pair:
        folder, path = f"{pair.folder}/d", f"{pair.folder}/image"
        os.mkdir(folder)
        out = pair.a.start(["/usr/bin/python3", "-I", "-B", f"{SCENARIO}/real_threads.py", folder])
        pid = int(wait_for(lambda: read(f"{folder}/ready"), 20, "the program is ready"))
        time.sleep(0.1)
        baton(pair, pair.a, "dump", pid, path)
        gone(pair.a, pid)
        folder = pair.separate(folder)
        restore(pair, pair.b, path, mode)
        touch(f"{folder}/go")
        check_result(pair, folder, out)
        touch(f"{folder}/end")
        gone(pair.b, pid)


def redis(ctx, mode):
    server = need("redis-server", "redis-cli")[0]
    with ctx.pair() as pair:
        a, path = pair.a, f"{pair.folder}/image"
        out = a.start([server, "--port", "6379", "--bind", "127.0.0.1", "--save", "", "--enable-debug-command",
                       "yes", "--dir", pair.folder])
        pid = a.pid_of(out)
        wait_for(lambda: a.listens(6379), 10, "redis-server listens")
        redis_load(a)
        digest = cli(a, "DEBUG", "DIGEST")
        wait_for(lambda: "connected_clients:1\r" in cli(a, "INFO", "clients"), 5, "clients are gone")
        time.sleep(0.1)
        baton(pair, a, "dump", pid, path)
        gone(a, pid)
        # Asked while it is being filled.
        filling = pair.baton(a, "restore", mode, path)
        wait_for(lambda: a.listens(6379) or filling.code, 20, "it listens again")
        if not cli(a, "GET", "key:77").startswith("value:77"):
            raise Failure("GET of a key gives another value")
        filling.wait(60)
        if filling.code or cli(a, "DEBUG", "DIGEST") != digest:
            raise Failure(f"DEBUG DIGEST differs; exit {filling.code}: {filling.tail()}")
        cli(a, "SET", "after", "the image")


def verifier(ctx, mode):
    """The program of the fault tests: threads that change their memory, children while it comes."""
    with ctx.pair() as pair:
        folder, path = f"{pair.folder}/v", f"{pair.folder}/image"
        os.mkdir(folder)
        os.chmod(folder, 0o777)
        out = pair.a.start([ctx.verifier, folder, "7", "24", "3", "2"])
        pid = int(wait_for(lambda: read(f"{folder}/ready"), 30, "the verifier is ready"))
        baton(pair, pair.a, "dump", pid, path)
        gone(pair.a, pid)
        restore(pair, pair.b, path, mode)
        touch(f"{folder}/ask.1")
        wait_for(lambda: os.path.exists(f"{folder}/answer.1") or read(f"{folder}/wrong"), 60, "it has looked")
        if read(f"{folder}/wrong"):
            raise Failure("wrong: " + read(f"{folder}/wrong"))
        touch(f"{folder}/end")
        wait_for(lambda: not pair.b.alive(pid), 20, "the verifier ends")
        return out.name and read(f"{folder}/answer.1").strip()


def many_pieces(ctx):
    """More frames than one level of the index has room for, and than two have."""
    with counted(ctx, kib=100 << 10) as (pair, counter, path):
        dump(pair, counter, path)
        image = format.Image(read_bytes(path))
        image.check()
        level = format.header(image.data, image.root.at)[2]
        if level < 2:
            raise Failure(f"{len(image.entries)} frames, root at level {level}")
        restore(pair, pair.a, path)
        counter.expect_beats(more=2)
        return f"{len(image.entries)} frames, {level + 1} levels"


def tests(ctx):
    found = []
    for mode in ("--lazy", "--eager"):
        for name, function in (("a counter", here), ("python3", python), ("redis", redis),
                               ("the verifier, on the other device", verifier)):
            found.append((f"{name}, {mode[2:]}", lambda f=function, m=mode: f(ctx, m)))
    return found + [(name, lambda f=function: f(ctx)) for name, function in (
        ("it goes on with --leave-running", leave_running), ("one file, started three times", often),
        ("one file, started twice at once", at_once), ("only a trusted device's file is started", other_device),
        ("without a signature", unsigned), ("on demand", on_demand), ("its parent does not wait", zombie),
        ("refused before anything", refused), ("packed with LZ4", packed),
        ("packed, for a baton that cannot unpack", cannot_unpack),
        ("an index of three levels", many_pieces))]
