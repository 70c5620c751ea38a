# SPDX-License-Identifier: MIT
"""What is moved between which machines: a pair is a row.

A kernel is a Debian package; a name without a version stands for the newest one of that release. Programs
that count in pages need more memory where these are larger.
"""
from collections import namedtuple

Kernel = namedtuple("Kernel", "arch package suite memory_mb", defaults=(1024,))
KERNELS = {
    "amd64 6.1": Kernel("amd64", "linux-image-cloud-amd64", "bookworm"),
    "amd64 6.12": Kernel("amd64", "linux-image-cloud-amd64", "trixie"),
    "arm64 6.1": Kernel("arm64", "linux-image-cloud-arm64", "bookworm"),
    "arm64 6.12": Kernel("arm64", "linux-image-cloud-arm64", "trixie"),
    "arm64 6.12 16k": Kernel("arm64", "linux-image-arm64-16k", "trixie", 3072),
}

# What of them is needed, with what it depends on; what a kernel has built in is no module. Those of ciphers a
# kernel asks for itself (TLS), but guests have nothing that would load them.
MODULES = ("virtio_pci", "virtio_net", "virtio_blk", "unix_diag", "overlay", "tls", "sch_netem",
           "gcm", "ctr", "ghash_generic", "chacha20poly1305", "chacha_generic", "poly1305_generic")

# watchdog: the module of one, which is loaded by the test that wants it, and how many seconds it waits.
# power_line: of the GPIO chip; qemu pulls it up for a moment when it is told to power the guest down.
Arch = namedtuple("Arch", "qemu package options console watchdog power_line", defaults=(None,))
ARCHS = {
    "amd64": Arch("qemu-system-x86_64", "qemu-system-x86", ["-M", "q35", "-device", "i6300esb"], "ttyS0",
                  ("i6300esb", "heartbeat=180")),
    "arm64": Arch("qemu-system-aarch64", "qemu-system-arm", ["-M", "virt"], "ttyAMA0",
                  ("softdog", "soft_margin=180"), ("gpiochip0", 3)),
}

# What reads a GPIO line: package: what of it. Of the release that the kernel is of, since its options differ.
GPIO_TOOLS = {
    "bookworm": {"gpiod": "*/bin/gpiomon", "libgpiod2": "*/libgpiod.so.2*",
                 "libc6": ("*/libc.so.6", "*/ld-linux-*.so.*")},
    "trixie": {"gpiod": "*/bin/gpiomon", "libgpiod3": "*/libgpiod.so.3*",
               "libc6": ("*/libc.so.6", "*/ld-linux-*.so.*")},
}

# Programs of tests/scenario: NAME or NAME:ARG, all arguments without one; a build other than musl-static
# after a slash. `short`: what make check has time for.
PROGRAMS = {
    "all": "memory threads timers signals waits:apart vector identity attributes events fd_events fd_files "
           "fd_options fd_sockets signals/glibc-static threads/glibc-static",
    "some": "memory threads/glibc-static timers signals waits:apart vector events:fork events:mixed "
            "fd_files:file fd_sockets:tcp",
    "short": "memory threads/glibc-static events:fork timers",
    "one": "threads",
}

# group: short is part of make check, pairs is make check-vm, all beside it make check-vm-full.
# programs: as above, and with `refused` the words that name why none of them can be moved.
# faults: also moves in which baton is killed and the link is cut, and a watchdog that bites.
Row = namedtuple("Row", "group source target programs refused faults", defaults=(None, False))

class Machine(namedtuple("Machine", "kernel cpu")):
    @property
    def name(self):
        cpu = self.cpu.replace(",pauth-impdef=on", "")
        return self.kernel if cpu == "max" else f"{self.kernel} {cpu}"


def amd64(version, cpu="max"):
    return Machine("amd64 " + version, cpu)


# The architected algorithm of pointer authentication is slow to emulate.
def arm64(version, cpu="max,pauth-impdef=on"):
    return Machine("arm64 " + version, cpu)


ROWS = [
    Row("short", amd64("6.12"), amd64("6.12"), "short"),
    Row("short", arm64("6.12", "cortex-a72"), arm64("6.12", "cortex-a72"), "short"),

    Row("pairs", amd64("6.12"), amd64("6.12"), "some", faults=True),
    Row("pairs", amd64("6.1"), amd64("6.1"), "some"),
    Row("pairs", amd64("6.1"), amd64("6.12"), "some"),
    Row("pairs", amd64("6.12"), amd64("6.1"), "some"),
    Row("pairs", amd64("6.12"), amd64("6.12", "qemu64"), "one",
        refused="this CPU lacks features of the source"),

    Row("pairs", arm64("6.12", "cortex-a72"), arm64("6.12", "cortex-a72"), "some", faults=True),
    Row("pairs", arm64("6.12"), arm64("6.12"), "some"),
    Row("pairs", arm64("6.12 16k"), arm64("6.12 16k"), "some"),
    Row("pairs", arm64("6.1", "cortex-a72"), arm64("6.12", "cortex-a72"), "some"),
    Row("pairs", arm64("6.12", "cortex-a72"), arm64("6.1", "cortex-a72"), "some"),
    Row("pairs", arm64("6.12 16k", "neoverse-n1"), arm64("6.12", "neoverse-n1"), "one", refused="page"),
    Row("pairs", arm64("6.12"), arm64("6.12", "max,sve=off,pauth-impdef=on"), "one", refused="sve"),
    Row("pairs", arm64("6.12"), arm64("6.12", "max,pauth=off"), "one", refused="paca"),

    Row("all", amd64("6.12"), amd64("6.12"), "all"),
    Row("all", amd64("6.1"), amd64("6.1"), "all", faults=True),
    Row("all", arm64("6.12", "cortex-a72"), arm64("6.12", "cortex-a72"), "all"),
    Row("all", arm64("6.12 16k", "neoverse-n1"), arm64("6.12 16k", "neoverse-n1"), "all", faults=True),
]
