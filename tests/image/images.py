# SPDX-License-Identifier: MIT
"""What the tests of image files share: a process that counts, and the commands."""
import contextlib
import json
import os
import subprocess

from devices import TOP, Failure, wait_for


class Counter:
    """counter.c on a device: knows what its memory must be, and says how often it has looked."""

    def __init__(self, ctx, device, folder, kib=1024, threads=1):
        self.device, self.folder = device, folder
        os.makedirs(folder, exist_ok=True)
        os.chmod(folder, 0o777)
        self.output = device.start([ctx.counter, folder, kib, threads])
        self.pid = device.pid_of(self.output)
        self.home = self.instance(device, self.pid)
        wait_for(lambda: self.beat(self.home), 20, "the counter counts")

    @staticmethod
    def instance(device, pid):
        return os.stat(device.proc(pid, "ns/pid")).st_ino

    def beat(self, instance=None):
        try:
            return int(os.readlink(f"{self.folder}/beat.{instance or self.home}"))
        except OSError:
            return 0

    def wrong(self):
        return [name + ": " + os.readlink(f"{self.folder}/{name}") for name in os.listdir(self.folder)
                if name.startswith("wrong.") and not name.endswith(".new")]

    def expect_beats(self, instance=None, more=3):
        """It runs, and has found nothing wrong."""
        before = self.beat(instance)

        def counts():
            if self.wrong():
                raise Failure(f"wrong memory: {self.wrong()}")
            return self.beat(instance) >= before + more
        wait_for(counts, 20, "the counter counts on")


def baton(pair, device, command, *args, timeout=60, fault=None, fails=None, **kw):
    """Runs a command to its end; its exit code must be `fails`, or 0."""
    env = dict(os.environ, BATON_FAULT=fault) if fault else None
    out = pair.baton(device, command, *args, env=env, **kw)
    out.wait(timeout)
    if out.code == 2:
        raise Failure(f"{command}: {out.tail()}")
    if fails != "any" and out.code != (fails or 0):
        raise Failure(f"{command}: exit {out.code} instead of {fails or 0}: {out.tail()}")
    return out


def build_with(ctx, option):
    """baton with another configuration, in a folder of its own; linked at once, for it is only tried."""
    built = os.path.join(ctx.tools, option.lower().replace("=", "-"))
    inner = os.path.join(built, os.path.basename(os.path.dirname(ctx.binary)))
    os.makedirs(inner, exist_ok=True)
    if not os.path.exists(f"{inner}/.config"):
        with open(f"{inner}/.config", "w") as f:
            f.write(f"CONFIG_{option}\n")
    make = os.environ.get("MAKE", "make").split()[0]
    done = subprocess.run([make, "-s", "-C", TOP, f"O={built}", "SRC=" + os.path.join(TOP, "build/src"), "LTO=", "all"],
                          capture_output=True, text=True)
    if done.returncode:
        raise Failure(f"the build with {option} fails: " + done.stderr.strip()[-500:])
    return os.path.realpath(f"{inner}/baton")


def dump(pair, counter, path, *options, **kw):
    return baton(pair, counter.device, "dump", *options, counter.pid, path, **kw)


def restore(pair, device, path, *options, **kw):
    return baton(pair, device, "restore", *options, path, **kw)


def gone(device, pid):
    wait_for(lambda: not os.path.exists(device.proc(pid)), 5, f"pid {pid} has ended")


def expect_refused(out, code, *words):
    if out.code != code or not all(w in out.stderr for w in words):
        raise Failure(f"exit {out.code} instead of {code}, or the reason lacks {words}: {out.tail()}")


def nothing_started(device, before):
    """No process is there that was not there before."""
    wait_for(lambda: set(device.pids()) <= set(before), 5, "nothing is left of what was refused")


def idle(pair, inits=0):
    """No move is left, and no baton but the inits of pid namespaces."""
    for device in (pair.a, pair.b):
        wait_for(lambda d=device: len(d.batons(pair.binary)) <= inits, 5, f"baton ends on device {device.name}")
        left = [n for n in os.listdir(device.state) if n.endswith(".move")]
        if left:
            raise Failure(f"device {device.name} still has {left}")


def report(out):
    return json.loads(out.stdout)


@contextlib.contextmanager
def counted(ctx, **kw):
    """A pair of devices, a counter on a, and where its image goes."""
    with ctx.pair() as pair:
        yield pair, Counter(ctx, pair.a, f"{pair.folder}/counter", **kw), f"{pair.folder}/image"
