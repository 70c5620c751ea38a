# SPDX-License-Identifier: MIT
"""The holder program as the tests of refusals, strangers and memory use it."""
import os

from devices import PORT, Failure, read, wait_for

# A process that was not stopped sees no gap near this; a busy test machine stays below it.
GAP_MS = 700


class Victim:
    """A holder running on device a (or another), with its heartbeat."""

    def __init__(self, ctx, pair, kind="nothing", arg="", device=None, binary=None):
        self.device = device or pair.a
        self.folder = f"{pair.folder}/v{self.device.name}{self.device.count}"
        os.mkdir(self.folder)
        self.output = self.device.start([binary or ctx.helpers["holder"], self.folder] + kind.split()
                                        + ([str(arg)] if arg else []), name="holder")

        def ready():
            if self.output.code is not None:
                raise Failure(f"the victim does not start: {read(self.folder + '/result')}")
            return read(f"{self.folder}/ready")
        self.pid = int(wait_for(ready, 150, "the victim is ready"))

    def beat(self):
        """(count, longest pause in ms)"""
        try:
            return os.stat(f"{self.folder}/beat").st_size, os.stat(f"{self.folder}/gap").st_size
        except OSError:
            return 0, 0

    def check_unharmed(self, gap_ms=GAP_MS):
        """It runs, here, untraced, and its heart goes on."""
        before, _ = self.beat()
        wait_for(lambda: self.beat()[0] > before + 5, 5, "the heartbeat goes on")
        if not self.device.alive(self.pid):
            raise Failure(f"pid {self.pid} is gone")
        if self.device.status(self.pid, "TracerPid") != "0":
            raise Failure(f"pid {self.pid} is still traced")
        if self.beat()[1] > gap_ms:
            raise Failure(f"the process stood still for {self.beat()[1]} ms")

    def check_after_move(self, device):
        """Every byte of it, on the device it runs on now."""
        before, _ = self.beat()
        wait_for(lambda: self.beat()[0] > before, 10, "the heartbeat goes on after the move")
        with open(f"{self.folder}/go", "w"):
            pass
        wait_for(lambda: read(f"{self.folder}/result"), 30, "the moved process checks itself")
        if not read(f"{self.folder}/result").startswith("ok"):
            raise Failure(read(f"{self.folder}/result"))
        if not device.alive(self.pid):
            raise Failure(f"pid {self.pid} does not run on device {device.name}")


class Receiver:
    """baton receive on device b, without --once."""

    def __init__(self, pair, *options, device=None, keys=True, state=True, **kw):
        self.device = device or pair.b
        self.port_file = f"{pair.folder}/port.{self.device.name}.{self.device.count}"
        self.output = pair.baton(self.device, "receive", "--listen", f"{self.device.address}:{PORT}",
                                 "--port-file", self.port_file, *options, keys=keys, state=state, **kw)

        def listening():
            if self.output.code is not None:
                raise Failure(f"receive ended at once, exit {self.output.code}: {self.output.tail()}")
            return read(self.port_file).strip()
        port = wait_for(listening, 10, "baton receive writes its port file")
        if port != str(PORT):
            raise Failure(f"--port-file holds {port!r}, not {PORT}")

    def check_alive(self):
        if self.output.code is not None:
            raise Failure(f"the receiver ended, exit {self.output.code}: {self.output.tail()}")


def send(pair, pid, *options, to=None, timeout=20, **kw):
    """A whole `baton send`; returns its output."""
    out = pair.baton(pair.a, "send", *options, pid, to or f"{pair.b.address}:{PORT}", **kw)
    out.wait(timeout)
    return out
