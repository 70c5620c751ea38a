# SPDX-License-Identifier: MIT
"""Images that are looked at: inspect, and core with gdb."""
import datetime
import json
import os
import shutil
import time

import format
from devices import Failure, Skip
from images import baton, counted, dump, expect_refused, gone, restore
from whole_test import read_bytes


def core(ctx):
    """gdb finds every thread, what it is in, its registers and memory of each sort."""
    if not shutil.which("gdb"):
        raise Skip("gdb is not installed")
    with ctx.pair() as pair:
        path, made = f"{pair.folder}/image", f"{pair.folder}/core"
        out = pair.a.start([ctx.deep])
        pid = pair.a.pid_of(out)
        time.sleep(0.3)
        baton(pair, pair.a, "dump", "--leave-running", pid, path)
        live = pair.a.threads(pid)
        baton(pair, pair.a, "core", path, "-o", made, keys=False, state=False)
        said = pair.a.run(["gdb", "-q", "-nx", "-batch", "-ex", "set pagination off", "-ex", "info threads",
                           "-ex", "thread apply all bt", "-ex", "p known_data", "-ex", "p on_heap + 100000",
                           "-ex", "p in_shared + 5000", "-ex", "info auxv", "-ex", "info proc mappings",
                           "-ex", "info all-registers", ctx.deep, made], timeout=60)
        text = said.stdout + said.stderr
        for word in ("= 815", '"text on the heap"', '"text in shared memory"', "AT_SYSINFO_EHDR", "deep_one (nr=0x64",
                     "deep_three (nr=nr@entry=101)", "libc.so"):
            if word not in text and not (word.startswith("deep_") and word.split("(")[0] in text):
                raise Failure(f"gdb does not say {word}: {text[-600:]}")
        if text.count("in deep_two (") != 4 or text.count("(LWP ") < 4 or "too small" in text:
            raise Failure(f"not all of {len(live)} threads: {text[-600:]}")
        if os.stat(made).st_mode & 0o777 != 0o600:
            raise Failure("the core file can be read by others")
        for there in (path, made):
            before = read_bytes(there)
            out = baton(pair, pair.a, "core", path, "-o", there, keys=False, state=False, fails=3)
            expect_refused(out, 3, "exists")
            if read_bytes(there) != before:
                raise Failure("what stood there is gone")
        return f"{len(live)} threads"


def core_of_nothing(ctx):
    """The head does not say what it is of: memory, or state, without an offer."""
    with counted(ctx, kib=64) as (pair, counter, path):
        dump(pair, counter, path)
        whole = format.Image(read_bytes(path))
        for kind in (format.PAGES, format.STATE):
            head = [raw for raw in whole.head() if raw[0] == kind]
            with open(path, "wb") as f:
                f.write(format.build(head, {}, whole.data[:format.PREAMBLE]))
            out = baton(pair, pair.a, "core", path, "-o", path + ".core", keys=False, state=False, fails=3)
            expect_refused(out, 3, "does not say what it is of")


def core_broken(ctx):
    with counted(ctx, kib=64) as (pair, counter, path):
        dump(pair, counter, path, "--leave-running")
        data = bytearray(read_bytes(path))
        data[len(data) // 2] ^= 1
        with open(path, "wb") as f:
            f.write(data)
        out = baton(pair, pair.a, "core", path, "-o", path + ".core", keys=False, state=False, fails=3)
        expect_refused(out, 3, "damaged")
        if os.path.exists(path + ".core"):
            raise Failure("half a core file is left")


def inspect(ctx):
    with counted(ctx, kib=64, threads=3) as (pair, counter, path):
        dump(pair, counter, path)
        gone(pair.a, counter.pid)
        text = baton(pair, pair.a, "inspect", path, state=False).stdout
        told = json.loads(baton(pair, pair.a, "inspect", "--json", path, state=False).stdout)
        if told["comm"] != "counter" or told["pid"] != counter.pid or len(told["threads"]) != 3 \
                or told["signature"] != "trusted" or not told["mappings"] or told["signer"] != "device-a":
            raise Failure(f"--json says {told}")
        made = datetime.datetime.fromtimestamp(told["time"], datetime.timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")
        if told["made"] != made or f"made at {made}\n" not in text or abs(told["time"] - time.time()) > 600:
            raise Failure(f"it was made at {made}, and they say {told['made']}, {text[:200]}")
        for word in ("image of counter", f"pid {counter.pid}", "trusted device-a", "threads", "descriptors", "needs"):
            if word not in text:
                raise Failure(f"{word} is not in {text}")
        if ctx.counter not in [f["path"] for f in told["files"]]:
            raise Failure(f"its program is not among the files: {told['files']}")
        os.rename(f"{pair.b.keys}/peers", f"{pair.b.keys}/away")
        there = json.loads(baton(pair, pair.b, "inspect", "--json", path, state=False).stdout)
        if there["signature"] != "not trusted here":
            raise Failure(f"on the other device: {there['signature']}")
        restore(pair, pair.a, path)
        counter.expect_beats()


def tests(ctx):
    return [(name, lambda f=function: f(ctx)) for name, function in (
        ("gdb and a core file", core), ("no core file of a damaged image", core_broken), ("no core file of nothing", core_of_nothing), ("inspect", inspect))]
