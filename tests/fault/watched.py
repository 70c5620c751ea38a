# SPDX-License-Identifier: MIT
"""The verifier (verifier.c) as the tests see it: where it runs, whether it is right, when it stood."""
import os
import struct
from collections import namedtuple

from devices import Failure, read, wait_for
from faults import kill

Beat = namedtuple("Beat", "count netns pid realtime_ns cookie")
RECORD = struct.Struct("<QIIQQ")


class Verifier:
    """A verifier started on a device; it may be found on the other one later."""

    def __init__(self, program, folder, device, seed=1, mib=4, threads=2, forks=0):
        self.program, self.folder = os.path.realpath(program), folder
        self.nr_asked = 0
        os.mkdir(folder)
        self.output = device.start([program, folder, seed, mib, threads, forks], name="verifier")

        def ready():
            if self.output.code is not None:
                raise Failure(f"the verifier does not start: {self.wrong() or self.output.tail()}")
            return read(f"{folder}/ready").strip()
        self.pid = int(wait_for(ready, 20, "the verifier is ready", 0.002))

    def wrong(self):
        """What it found wrong, '' when nothing."""
        return read(f"{self.folder}/wrong").strip()

    def expect_right(self):
        if self.wrong():
            raise Failure(self.wrong())

    def exists(self, device):
        """Alive, or about to be, on this device: stopped and traced count."""
        try:
            return device.alive(self.pid) and os.readlink(
                device.proc(self.pid, "exe")) == self.program
        except OSError:
            return False

    def state(self, device):
        return f"{device.status(self.pid, 'State')}, tracer {device.status(self.pid, 'TracerPid')}"

    def beats(self):
        try:
            with open(f"{self.folder}/beats", "rb") as f:
                data = f.read()
        except OSError:
            return []
        whole = len(data) - len(data) % RECORD.size
        return [Beat(*r) for r in RECORD.iter_unpack(data[:whole])]

    def nr_beats(self):
        try:
            return os.stat(f"{self.folder}/beats").st_size // RECORD.size
        except OSError:
            return 0

    def expect_beating(self, timeout=10):
        before = self.nr_beats()

        def beats():
            self.expect_right()
            return self.nr_beats() > before + 3
        wait_for(beats, timeout, "the heartbeat goes on", 0.002)

    def ask(self):
        """Has it check all its memory. Returns a function that gives what it says, '' until then."""
        self.nr_asked += 1
        answer = f"{self.folder}/answer.{self.nr_asked}"
        with open(f"{self.folder}/ask.{self.nr_asked}", "w"):
            pass

        def answered():
            self.expect_right()
            return read(answer).strip()
        return answered

    def check_all(self, timeout=30):
        return wait_for(self.ask(), timeout, "the verifier checks all its memory", 0.002)

    def quiet(self):
        """From here on it only reads; returns when all of it does."""
        with open(f"{self.folder}/quiet", "w"):
            pass
        wait_for(lambda: os.path.exists(f"{self.folder}/hushed"), 10, "the verifier is quiet")

    def loud(self):
        os.unlink(f"{self.folder}/quiet")

    def end(self, *devices):
        """Kills it, wherever it is."""
        for device in devices:
            if self.exists(device):
                kill(device, self.pid)
        for device in devices:
            wait_for(lambda d=device: not self.exists(d), 10, "the verifier is gone")


def check_history(beats, networks):
    """That one copy ran at a time: each count once, in order, on the devices in this order."""
    networks = list(networks)
    for before, beat in zip(beats, beats[1:]):
        if beat.cookie != before.cookie:
            raise Failure("two programs beat in one folder: the harness is wrong")
        if beat.count != before.count + 1:
            raise Failure(f"two copies ran: beat {beat.count} on device {name_of(beat, networks)} after "
                          f"beat {before.count} on device {name_of(before, networks)}, "
                          f"{(beat.realtime_ns - before.realtime_ns) / 1e6:.1f} ms later")
        if beat.netns != before.netns and [before.netns, beat.netns] != [n for n, _ in networks]:
            raise Failure(f"it went from device {name_of(before, networks)} to "
                          f"{name_of(beat, networks)} (beat {beat.count})")


def name_of(beat, networks):
    return dict(networks).get(beat.netns, f"of network {beat.netns}")


def pauses(beats, longer_ms=20):
    """(begin, end) in ns of CLOCK_REALTIME: when nothing ran."""
    return [(a.realtime_ns, b.realtime_ns) for a, b in zip(beats, beats[1:])
            if b.realtime_ns - a.realtime_ns > longer_ms * 1000000]
