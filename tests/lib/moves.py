# SPDX-License-Identifier: MIT
"""A move between two test devices, and everything that must hold after it."""
import json
import os
import threading
import time

from devices import PORT, Failure, wait_for

MODES = ("lazy", "eager", "on-demand", "pull")
SEND_KEYS = ("id", "pid", "result", "downtime_us", "freeze_us", "total_us", "pages_total",
             "pages_sent", "pages_zero", "pages_predicted", "bytes_wire", "bytes_packed", "bytes_packed_wire", "faults", "fault_p50_us", "fault_p99_us",
             "reconnects", "peak_rss_kib", "stages_us")


def executable_maps(device, pid):
    """{(addresses, rights): name} of executable mappings: nothing of baton may be among them afterwards."""
    found = {}
    with open(device.proc(pid, "maps")) as f:
        for line in f:
            words = line.split()
            if "x" in words[1] and words[-1] != "[vsyscall]":
                found[words[0], words[1]] = words[-1]
    return found


def gone_of(maps, others):
    """Those that are not among the others. Another kernel's vdso finds a place of its own."""
    return sorted(m for m, name in maps.items() if m not in others and name != "[vdso]")


def check_clean(device, pid, maps_before=None):
    """Nothing of baton is left in the process, which runs on this device."""
    if not device.alive(pid):
        raise Failure(f"pid {pid} does not run on the target")
    if device.status(pid, "TracerPid") != "0":
        raise Failure(f"pid {pid} is still traced by {device.status(pid, 'TracerPid')}")
    for fd in os.listdir(device.proc(pid, "fd")):
        link = os.readlink(device.proc(pid, f"fd/{fd}"))
        if "userfaultfd" in link:
            raise Failure(f"fd {fd} of the process is a userfaultfd")
    if any(" um" in line for line in open(device.proc(pid, "smaps")) if line.startswith("VmFlags:")):
        raise Failure("memory of the process still waits for pages (VmFlags um)")
    if maps_before is not None:
        now = executable_maps(device, pid)
        if gone_of(now, maps_before):
            raise Failure(f"new executable mappings: {gone_of(now, maps_before)}")
        if gone_of(maps_before, now):
            raise Failure(f"lost executable mappings: {gone_of(maps_before, now)}")


class Peaks(threading.Thread):
    """Reads VmHWM of every baton process of some devices until it is stopped."""

    def __init__(self, *devices):
        super().__init__(daemon=True)
        self.devices, self.peaks, self.over = devices, {}, threading.Event()

    def run(self):
        while not self.over.wait(0.02):
            for device in self.devices:
                for pid in device.batons(device.binary):
                    kib = device.status(pid, "VmHWM")
                    if kib:
                        self.peaks[(device.name, pid)] = int(kib.split()[0])

    def stop(self):
        self.over.set()
        self.join()
        return self.peaks


class Move:
    """One move of a process from a pair's device a to device b, in one of MODES."""

    def __init__(self, pair, pid, mode="lazy", rate=None, timeout=40, send_options=(),
                 receive_options=()):
        self.pair, self.pid, self.mode, self.timeout = pair, pid, mode, timeout
        self.rate, self.send_options = rate, list(send_options)
        self.receive_options = list(receive_options)
        self.maps_before = executable_maps(pair.a, pid)
        self.source = self.target = None

    def begin(self):
        """Starts both sides; whoever listens is started first."""
        pair, a, b = self.pair, self.pair.a, self.pair.b
        rate = ["--max-rate", self.rate] if self.rate else []
        if self.mode == "pull":
            self.source = pair.baton(a, "dump", "--json", "--serve", f"{a.address}:{PORT}",
                                     *rate, *self.send_options, self.pid)
            self.listening(self.source, a)
            self.target = pair.baton(b, "restore", "--json", *self.receive_options, "--from",
                                     f"{a.address}:{PORT}")
        else:
            self.target = pair.baton(b, "receive", "--json", "--once", "--listen",
                                     f"{b.address}:{PORT}", *self.receive_options)
            self.listening(self.target, b)
            mode = [] if self.mode == "lazy" else ["--" + self.mode]
            self.source = pair.baton(a, "send", "--json", *mode, *rate, *self.send_options,
                                     self.pid, f"{b.address}:{PORT}")
        self.began = time.monotonic()
        return self

    @staticmethod
    def listening(output, device):
        began = time.monotonic()
        # A build that logs little does not say it.
        wait_for(lambda: output.listens or output.code is not None
                 or time.monotonic() > began + 0.5 and device.listens(PORT), 10, "baton listens")
        if output.code is not None:
            raise Failure(f"{output.name} ended at once, exit {output.code}: {output.tail()}")

    def wait_started(self):
        """Until the process runs on b: stopped or gone on a, and free on b for a while."""
        a, b, seen = self.pair.a, self.pair.b, []

        def started():
            if self.source.code not in (None, 0) or self.target.code not in (None, 0):
                return True
            free = (a.status(self.pid, "TracerPid") != "0" and b.alive(self.pid)
                    and b.status(self.pid, "TracerPid") == "0"
                    and b.status(self.pid, "State")[0] in "RSD")
            seen.append(free)
            return seen[-4:] == [True] * 4
        wait_for(started, self.timeout, "the process starts on the target")
        self.expect_no_failure()

    def expect_no_failure(self):
        for side in (self.source, self.target):
            if side.code not in (None, 0):
                other = self.target if side is self.source else self.source
                raise Failure(f"{side.name}: exit {side.code}: {side.tail()}; {other.name}: exit "
                              f"{other.code}: {other.tail()}")

    def wait_complete(self):
        deadline = time.monotonic() + self.timeout
        while self.source.code is None or self.target.code is None:
            self.expect_no_failure()
            if time.monotonic() > deadline:
                raise Failure(f"not complete within {self.timeout} s; {self.source.name}: exit "
                              f"{self.source.code}: {self.source.tail()}; {self.target.name}: exit "
                              f"{self.target.code}: {self.target.tail()}")
            time.sleep(0.005)
        self.expect_no_failure()
        self.seconds = time.monotonic() - self.began

    def report(self, side):
        """The JSON object of one side, with every member that is promised."""
        text = side.stdout.strip()
        try:
            report = json.loads(text)
        except ValueError:
            raise Failure(f"{side.name} --json printed no JSON object: {text[:200]!r}")
        missing = [key for key in SEND_KEYS if key not in report]
        if missing:
            raise Failure(f"{side.name} --json lacks {', '.join(missing)}")
        return report

    def check_reports(self):
        for side in (self.source, self.target):
            report = self.report(side)
            if report["pid"] != self.pid:
                raise Failure(f"{side.name} --json: pid {report['pid']}, is {self.pid}")
            if side is self.source and not report["reconnects"] \
                    and sum(report["stages_us"].values()) != report["downtime_us"]:
                raise Failure(f"the stages are not the downtime: {report}")
            if not report["pages_total"]:
                raise Failure(f"{side.name} --json: a process without a page")

    def check_gone(self):
        """The old copy does not exist any more, and neither folder holds a move."""
        a = self.pair.a
        wait_for(lambda: not a.alive(self.pid), 3, f"the old copy (pid {self.pid}) is gone")
        for device in (self.pair.a, self.pair.b):
            left = [n for n in os.listdir(device.state) if n.endswith(".move")]
            if left:
                raise Failure(f"device {device.name} still has {' '.join(left)} in its state folder")

    def check_clean(self, same_code=True):
        check_clean(self.pair.b, self.pid, self.maps_before if same_code else None)

    def check_idle(self):
        """No baton process is left on either device."""
        for device in (self.pair.a, self.pair.b):
            wait_for(lambda d=device: not d.batons(d.binary), 5,
                     f"baton processes on device {device.name} end")

    def check_all(self, same_code=True):
        self.check_reports()
        self.check_gone()
        self.check_clean(same_code)
        self.check_idle()


def move(pair, pid, mode="lazy", same_code=True, **kw):
    """A whole move with all its checks; for programs that need no push in the middle."""
    m = Move(pair, pid, mode, **kw).begin()
    m.wait_started()
    if mode != "on-demand":
        m.wait_complete()
        m.check_all(same_code)
    return m
