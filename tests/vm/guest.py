# SPDX-License-Identifier: MIT
"""A guest: a virtual machine that does what it is told over its serial console."""
import ctypes
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import time

from devices import Failure, Skip, read, wait_for
from matrix import ARCHS

# Emulated, on a busy machine: generous, for all that they bound is a hang.
BOOT_S, RUN_S, LIFE_S = 300, 120, 7200


def qemu_of(arch):
    found = shutil.which(ARCHS[arch].qemu)
    if not found:
        raise Skip(f"{ARCHS[arch].qemu} is not there (Debian: {ARCHS[arch].package})")
    return found


def dies_with_us():
    """A guest ends when the process that started it does, however that ends."""
    ctypes.CDLL(None).prctl(1, signal.SIGTERM)


class NotStarted(Failure):
    """A guest that never took a command."""


class Guest:
    def __init__(self, name, kernel, cpu, initramfs, address, pids, net, folder, own_netns=False, more=()):
        self.name, self.address, self.nr, self.dead = name, address, 0, None
        self.console = f"{folder}/{name}.console"
        arch = ARCHS[kernel.arch]
        append = (f"console={arch.console} panic=-1 quiet vm_address={address} vm_pids={pids}"
                  + (" vm_netns=1" if own_netns else ""))
        argv = ["timeout", "-k", "5", str(LIFE_S), qemu_of(kernel.arch), *arch.options, "-cpu", cpu,
                "-accel", "tcg,thread=multi", "-smp", "2", "-m", str(kernel.memory_mb),
                "-nodefaults", "-no-user-config", "-display", "none", "-no-reboot", "-serial", "stdio", "-kernel", kernel.vmlinuz,
                "-initrd", initramfs, "-append", append, "-netdev",
                f"stream,id=n,server={'on' if net[1] else 'off'},addr.type=unix,addr.path={net[0]}",
                "-device", f"virtio-net-pci,netdev=n,romfile=,mac=52:54:00:00:00:{pids % 251:02x}",
                "-qmp", f"unix:{folder}/{name}.qmp,server=on,wait=off", *more]
        self.qmp = f"{folder}/{name}.qmp"
        with open(self.console, "wb") as out:
            self.popen = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=out,
                                          stderr=subprocess.STDOUT, preexec_fn=dies_with_us)

    def booted(self):
        try:
            self.until(r"^@@ready", BOOT_S, "the guest starts", 0)
        except Failure as why:
            raise NotStarted(str(why))

    def tail(self, nr=8):
        lines = [x.strip() for x in read(self.console).splitlines() if x.strip()]
        return " / ".join(lines[-nr:])

    def until(self, pattern, timeout, what, start):
        """Waits for a line of the console, behind its first `start` characters."""
        def seen():
            text = read(self.console)[start:]
            found = re.search(pattern, text, re.M | re.S)
            if not found and self.popen.poll() is not None:
                raise Failure(f"guest {self.name} has ended")
            return found
        try:
            return wait_for(seen, timeout, what, 0.02)
        except Failure as why:
            self.dead = f"{why}; the console of {self.name} ends: {self.tail()}"
            raise Failure(self.dead)

    def begin(self, command):
        """Has a shell command done, in which the functions of lib.sh are known; see finish()."""
        if self.dead:
            raise Failure(self.dead)
        self.nr += 1
        start = len(read(self.console))
        self.popen.stdin.write(f"{self.nr} {command}\n".encode())
        self.popen.stdin.flush()
        return self.nr, start, command

    def finish(self, begun, timeout=RUN_S):
        """(exit code, output) of what was begun."""
        nr, start, command = begun
        found = self.until(rf"^@@begin {nr}\r?\n(.*?)\r?\n@@end {nr} (\d+)", timeout,
                           f"'{command[:60]}' on guest {self.name}", start)
        return int(found.group(2)), found.group(1).replace("\r", "").strip()

    def run(self, command, timeout=RUN_S):
        return self.finish(self.begin(command), timeout)

    def must(self, command, timeout=RUN_S):
        """The output; a failure unless the command is content."""
        code, text = self.run(command, timeout)
        if code:
            raise Failure(f"{self.name}: '{command[:60]}': exit {code}: {' / '.join(text.splitlines()[-6:])}")
        return text

    def press_power(self):
        """What the power button of the machine would do: where there is no ACPI, a GPIO line goes up for 0.1 s."""
        with socket.socket(socket.AF_UNIX) as s:
            s.settimeout(RUN_S)
            s.connect(self.qmp)
            lines = s.makefile("rw")
            for command in ("qmp_capabilities", "system_powerdown"):
                lines.write(json.dumps({"execute": command}) + "\n")
                lines.flush()
                while "return" not in (said := json.loads(lines.readline())):
                    if "error" in said:
                        raise Failure(f"qemu says {said}")

    def close(self):
        if self.popen.poll() is None:
            self.popen.terminate()
            try:
                self.popen.wait(15)
            except subprocess.TimeoutExpired:
                self.popen.kill()
                self.popen.wait()
        self.popen.stdin.close()


class GuestPair:
    """Two guests joined by a cable that trust each other; a sends, b receives."""

    def __init__(self, source, target, folder, nr):
        """source, target: (kernel image, cpu, initramfs)."""
        self.folder = f"{folder}/pair{nr}"
        os.makedirs(self.folder)
        sock, self.guests = f"{self.folder}/cable", []
        began = time.monotonic()
        try:
            self.a = self.add("a", *source, "10.77.0.1", 20000, (sock, True))
            wait_for(lambda: os.path.exists(sock) or self.a.popen.poll() is not None, 20,
                     "qemu makes the cable")
            self.b = self.add("b", *target, "10.77.0.2", 1000, (sock, False), True)
            for guest in self.guests:
                guest.booted()
            self.trust()
        except BaseException:
            self.close()
            raise
        self.boot_s = time.monotonic() - began

    def add(self, name, kernel, cpu, initramfs, address, pids, net, own_netns=False):
        guest = Guest(name, kernel, cpu, initramfs, address, pids, net, self.folder, own_netns)
        self.guests.append(guest)
        return guest

    def trust(self):
        for guest in self.guests:
            guest.must(f"baton keygen --name device-{guest.name}")
        for guest, other in (self.guests, self.guests[::-1]):
            pem = other.must("cat /etc/baton/cert.pem")
            lines = " ".join(f"'{line}'" for line in pem.splitlines())
            guest.must(f"printf '%s\\n' {lines} >/tmp/peer.pem")
            guest.must("baton trust /tmp/peer.pem")

    @property
    def usable(self):
        return not any(g.dead or g.popen.poll() is not None for g in self.guests)

    def close(self):
        for guest in self.guests:
            guest.close()
