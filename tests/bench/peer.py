# SPDX-License-Identifier: MIT
"""The peer: CRIU's lazy migration, as its manual describes it, with everything in its favour.

    source  criu dump --lazy-pages          writes everything but the pages, then serves them
    target  criu lazy-pages --page-server   fetches pages, for faults and in the background
    target  criu restore --lazy-pages       builds the process, which then runs

Both devices see the image folder, which is in memory, so nothing is copied; each step begins the moment
the one before is ready; what CRIU keeps about the kernel is there already.
"""
import os
import shutil
import tempfile
import time

from devices import Failure, read, wait_for

PORT = 7227
MEMORY = "/dev/shm"
# CRIU's source keeps all pages in pipes; where root has no CAP_SYS_RESOURCE, these limits end that.
LIMITS = {"/proc/sys/fs/pipe-user-pages-soft": "0", "/proc/sys/fs/pipe-max-size": str(1 << 30)}


def write(path, text):
    with open(path, "w") as f:
        f.write(text)


class Criu:
    hold, ahead = 0, (0, 0)

    def __init__(self, program, tls=False):
        self.program, self.tls = program, tls
        self.name = "criu, TLS" if tls else "criu"
        self.images, self.limits = None, {}

    def prepare(self, ctx, pair):
        """CRIU keeps what it found out about the kernel in /run, when that is a tmpfs."""
        del ctx
        self.pair = pair
        self.images = tempfile.mkdtemp(prefix="baton-bench-", dir=MEMORY)
        self.limits = {path: read(path) for path in LIMITS}
        for path, value in LIMITS.items():
            write(path, value)
        for device in (pair.a, pair.b):
            device.run(["mount", "-t", "tmpfs", "tmpfs", "/run"])
            out = device.run([self.program, "check"])
            if out.code:
                raise Failure(f"{self.program} check: {out.tail()}")

    def secured(self, device):
        """The keys of the devices serve: each takes the other's certificate for the authority."""
        other = self.pair.b if device is self.pair.a else self.pair.a
        return ["--tls", "--tls-no-cn-verify", "--tls-cacert", f"{other.keys}/cert.pem", "--tls-cert",
                f"{device.keys}/cert.pem", "--tls-key", f"{device.keys}/key.pem"] if self.tls else []

    def start(self, device, command, *args, secured=True, ready=None):
        argv = [self.program, command, "-D", self.images, "-o", f"{command}.log", "-v1",
                "--manage-cgroups=ignore"] + list(args) + (self.secured(device) if secured else [])
        tell = f"--status-fd 3 3>{ready}" if ready else ""
        return device.start(["sh", "-c", f'ulimit -n $(ulimit -Hn); exec "$@" {tell}', "sh"] + argv,
                            name=f"criu-{command}")

    def expect(self, condition, what):
        wait_for(lambda: condition() or any(o.code for o in self.outputs), 300, what, 0.0005)
        for out in self.outputs:
            if out.code:
                raise Failure(f"{out.name}: exit {out.code}: {out.tail()} {self.logs()}")

    def logs(self):
        lines = []
        for name in sorted(os.listdir(self.images)):
            if name.endswith(".log"):
                with open(f"{self.images}/{name}", errors="replace") as f:
                    lines += [f"{name}: {line.strip()}" for line in f.readlines()[-3:]]
        return " / ".join(lines)

    def begin(self, pair, pid):
        where = ["--address", pair.a.address, "--port", PORT]
        ready, there = f"{self.images}/ready", f"{self.images}/lazy-pages.socket"
        self.began = time.monotonic()
        self.dump = self.start(pair.a, "dump", "-t", pid, "-j", "--lazy-pages", *where, ready=ready)
        self.outputs = [self.dump]
        self.expect(lambda: os.path.exists(ready) and os.path.getsize(ready), "criu dump serves pages")
        self.pages = self.start(pair.b, "lazy-pages", "--page-server", *where)
        self.outputs.append(self.pages)
        self.expect(lambda: os.path.exists(there), "criu lazy-pages is ready")
        self.restore = self.start(pair.b, "restore", "-d", "-j", "--lazy-pages", secured=False)
        self.outputs.append(self.restore)

    def wait(self):
        self.expect(lambda: all(o.code is not None for o in self.outputs), "criu ends")
        self.total_s = time.monotonic() - self.began

    def figures(self, mib):
        source, target = [self.dump.cost], [self.pages.cost, self.restore.cost]
        found = {"total_s": self.total_s, "rate_mib_s": mib / self.total_s}
        for side, costs in (("source", source), ("target", target)):
            found[f"cpu_{side}_s_gib"] = sum(us for us, _ in costs) / 1e6 / (mib / 1024)
            found[f"memory_{side}_kib"] = sum(kib for _, kib in costs)
        return found

    def close(self):
        for path, value in self.limits.items():
            write(path, value)
        if self.images:
            shutil.rmtree(self.images, ignore_errors=True)
