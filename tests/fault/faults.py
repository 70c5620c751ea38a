# SPDX-License-Identifier: MIT
"""What goes wrong: processes of baton that are killed, links that are cut. And who is there to be."""
import os
import shutil
import signal
import subprocess
import time
from collections import namedtuple

from devices import PORT, Failure, read, wait_for

Engine = namedtuple("Engine", "pid ppid start name")

CUTS = ("source down", "target down", "drop all", "drop to target", "drop to source",
        "reset source", "reset target")
LASTING = CUTS[:5]


def is_guard(device, pid):
    """It only waits for the death of both others. Until it has run it still has the worker's name."""
    return read(device.proc(pid, "comm")).strip() == "baton-guard"


def guards(device, binary):
    return [pid for pid in device.batons(binary) if is_guard(device, pid)]


def engines(device, binary, *but):
    """The processes of baton on a device, the oldest first; without these pids. (A process that is
    being built is still a copy of baton.)"""
    found = []
    for pid in device.batons(binary):
        if pid in but or is_guard(device, pid):
            continue
        name, _, rest = read(device.proc(pid, "stat")).rpartition(")")
        words = rest.split()
        if words and words[0] not in "ZX":
            found.append(Engine(pid, int(words[1]), int(words[19]), name.partition("(")[2]))
    return sorted(found, key=lambda e: (e.start, e.pid))


def kill(device, *pids, sig=signal.SIGKILL):
    """SIGKILL to all of them at once: nothing but the system calls lies between. Returns whom it
    reached. A descriptor of /proc/PID never means another process that has the number later."""
    fds, reached = [], []
    for pid in pids:
        try:
            fds.append((pid, os.open(device.proc(pid), os.O_RDONLY | os.O_DIRECTORY)))
        except OSError:
            pass
    for pid, fd in fds:
        try:
            signal.pidfd_send_signal(fd, sig)
            reached.append(pid)
        except OSError:
            pass
        os.close(fd)
    return reached


class Network:
    """The cable between a source and a target, to be cut in one of CUTS."""

    nft = None  # whether packets can be dropped here; asked once

    def __init__(self, source, target):
        self.source, self.target = source, target
        self.cut_now = []

    @staticmethod
    def tool(device, *argv):
        done = subprocess.run(["nsenter", "-t", str(device.init), "-n", *argv],
                              stdin=subprocess.DEVNULL, capture_output=True, timeout=20)
        return done.returncode == 0

    def kinds(self):
        """Those of CUTS that can be made on this machine."""
        if Network.nft is None:
            Network.nft = bool(shutil.which("nft", path="/usr/sbin:/sbin:/usr/bin")) and self.drop(
                self.source, "input")
            self.undrop(self.source)
        return [k for k in CUTS if Network.nft or not k.startswith("drop")]

    def drop(self, device, *hooks):
        side = {"input": "iifname", "output": "oifname"}
        text = "".join(f"add chain inet cut {h} {{ type filter hook {h} priority 0; }}; "
                       f"add rule inet cut {h} {side[h]} \"veth0\" drop; " for h in hooks)
        return self.tool(device, "nft", "add table inet cut; " + text)

    def undrop(self, device):
        return self.tool(device, "nft", "delete table inet cut")

    def cut(self, kind):
        if kind in LASTING:
            self.cut_now.append(kind)
        where = self.source if "source" in kind else self.target
        if kind.endswith("down"):
            self.tool(where, "ip", "link", "set", "veth0", "down")
        elif kind == "drop all":
            self.drop(self.target, "input", "output")
        elif kind.startswith("drop"):
            self.drop(where, "input")
        else:
            # It says EINVAL about itself on some kernels, and does it.
            self.tool(where, "ss", "-K", f"( sport = :{PORT} or dport = :{PORT} )")

    def heal(self, kind):
        where = self.source if "source" in kind else self.target
        if kind in self.cut_now:
            self.cut_now.remove(kind)
        if kind.endswith("down"):
            self.tool(where, "ip", "link", "set", "veth0", "up")
        elif kind.startswith("drop"):
            self.undrop(self.target if kind == "drop all" else where)

    def heal_all(self):
        for kind in list(self.cut_now):
            self.heal(kind)


class Service:
    """`baton receive` on a device, started again whenever it was killed, as an init script would."""

    AGAIN_S = 0.05

    def __init__(self, pair, device):
        self.pair, self.device = pair, device
        self.outputs, self.ended_badly, self.died, self.nr_killed = [], [], None, 0
        self.start()

    def start(self, env=None):
        self.output = self.pair.baton(self.device, "receive", "--listen",
                                      f"{self.device.address}:{PORT}", env=env)
        self.outputs.append(self.output)
        self.died = None

    def start_anew(self, env):
        """Once with these variables in its environment; when it dies, without them."""
        kill(self.device, self.pid, sig=signal.SIGTERM)
        if self.output.wait(10):
            raise Failure(f"baton receive ended with {self.output.code} when it was told to end: "
                          f"{self.output.tail()}")
        self.start(dict(os.environ, **env))
        wait_for(lambda: self.device.listens(PORT), 10, "baton receive listens", 0.001)

    @property
    def pid(self):
        """Its supervisor's, or None while it starts."""
        if self.output.code is not None:
            return None
        enter = self.output.popen.pid
        for host in read(f"/proc/{enter}/task/{enter}/children").split():
            for line in read(f"/proc/{host}/status").splitlines():
                if line.startswith("NSpid:"):
                    return int(line.split()[-1])
        return None

    def tend(self):
        """To be called over and over."""
        code = self.output.code
        if code is None:
            return
        if self.died is None:
            self.died = time.monotonic()
            if code != -signal.SIGKILL:
                self.ended_badly.append(f"exit {code}: {self.output.tail(2)}; {self.sockets()}")
            else:
                self.nr_killed += 1
        elif time.monotonic() - self.died > self.AGAIN_S:
            self.start()

    def sockets(self):
        """Who has the port: for the story of a failure."""
        done = subprocess.run(["nsenter", "-t", str(self.device.init), "-n", "ss", "-tanp",
                               f"( sport = :{PORT} )"], capture_output=True, text=True, timeout=20)
        return " | ".join(" ".join(line.split()) for line in done.stdout.splitlines()[1:8])

    def mark(self):
        """From here on log() tells what it said."""
        self.outputs, self.ended_badly = [self.output], []
        self.skip = len(self.output.stderr)

    def log(self):
        return "".join(o.stderr for o in self.outputs)[self.skip:]
