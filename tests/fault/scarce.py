# SPDX-License-Identifier: MIT
"""What can be made scarce for one process: memory (a control group), descriptors (a limit)."""
import contextlib
import os
import re
import resource

from devices import Failure, Skip, read, wait_for

ROOT = "/sys/fs/cgroup"


def own_group(controller):
    """Our own group of a hierarchy of version 1."""
    for line in read("/proc/self/cgroup").splitlines():
        _, names, path = line.split(":", 2)
        if controller in names.split(","):
            return path.rstrip("/")
    return ""


def mounts(kind):
    """[(mount point, options)] of file systems of a kind."""
    found = [line.split() for line in read("/proc/self/mounts").splitlines()]
    return [(w[1], w[3].split(",")) for w in found if w[2] == kind]


class Descriptors:
    """Processes that may open nothing more, or so many, until it is undone."""

    def __init__(self, device, *pids, limit=0):
        self.before = {}
        for pid in pids:
            host = host_pid(device, pid)
            used = [int(n) for n in os.listdir(f"/proc/{host}/fd")]
            free = next(n for n in range(len(used) + 1) if n not in used)
            self.before[host] = resource.prlimit(host, resource.RLIMIT_NOFILE)
            resource.prlimit(host, resource.RLIMIT_NOFILE, (limit or free, self.before[host][1]))

    def enough(self):
        for host, limits in self.before.items():
            with contextlib.suppress(ProcessLookupError):
                resource.prlimit(host, resource.RLIMIT_NOFILE, limits)
        self.before = {}


def host_pid(device, pid):
    """The number here of a process that has this one in the device."""
    space = os.readlink(f"/proc/{device.init}/ns/pid")
    for name in os.listdir("/proc"):
        with contextlib.suppress(OSError):
            if name.isdigit() and os.readlink(f"/proc/{name}/ns/pid") == space and \
                    re.search(rf"^NSpid:.*\s{pid}$", read(f"/proc/{name}/status"), re.M):
                return int(name)
    raise Failure(f"pid {pid} of device {device.name} is gone")


class MemoryGroup:
    """A control group for one process, in which no memory is left until it is told otherwise. Nothing in
    it is killed for that: who needs memory waits, or is told."""

    nr = 0

    def __init__(self, device, pid, kib):
        MemoryGroup.nr += 1
        name = f"scarce-{os.getpid()}-{MemoryGroup.nr}"
        old = [m for m, options in mounts("cgroup") if "memory" in options]
        new = [m for m, _ in mounts("cgroup2") if "memory" in read(f"{m}/cgroup.controllers").split()]
        if old:
            self.path, self.limit = f"{old[0]}{own_group('memory')}/{name}", "memory.limit_in_bytes"
        elif new:
            self.path, self.limit = f"{new[0]}/{name}", "memory.max"
            with contextlib.suppress(OSError):
                self.put(f"{new[0]}/cgroup.subtree_control", "+memory")
        else:
            raise Skip("no memory controller here")
        try:
            os.mkdir(self.path)
        except OSError as why:
            raise Skip(f"{self.path}: {why.strerror}")
        self.put(self.limit, kib << 10)
        if old:
            self.put("memory.oom_control", 1)
        # The number is one of the device, and so must be who writes it.
        spare = "" if old else f"echo -1000 >/proc/{pid}/oom_score_adj && "
        done = device.run(["sh", "-c", f"{spare}echo {pid} >{self.path}/cgroup.procs"])
        if done.code:
            raise Failure(f"{self.path}: {done.tail()}")

    def put(self, name, value):
        with open(os.path.join(self.path, name), "w") as f:
            f.write(str(value))

    def enough(self):
        self.put(self.limit, 1 << 40)

    def close(self):
        """It goes when its process has gone."""
        def gone():
            with contextlib.suppress(FileNotFoundError):
                os.rmdir(self.path)
            return True

        def try_it():
            try:
                return gone()
            except OSError:
                return False
        wait_for(try_it, 10, f"{self.path} can be removed")
