# SPDX-License-Identifier: MIT
"""What is moved between which machines: a pair is a row.

A kernel is a Debian package; a name without a version stands for the newest one of that release.
"""
from collections import namedtuple

Kernel = namedtuple("Kernel", "arch package suite")
KERNELS = {
    "amd64 6.1": Kernel("amd64", "linux-image-cloud-amd64", "bookworm"),
    "amd64 6.12": Kernel("amd64", "linux-image-cloud-amd64", "trixie"),
    "arm64 6.1": Kernel("arm64", "linux-image-cloud-arm64", "bookworm"),
    "arm64 6.12": Kernel("arm64", "linux-image-cloud-arm64", "trixie"),
    "arm64 6.12 16k": Kernel("arm64", "linux-image-arm64-16k", "trixie"),
}

# What of them is needed, with what it depends on; what a kernel has built in is no module.
MODULES = ("virtio_pci", "virtio_net", "unix_diag", "overlay", "tls", "sch_netem")

Arch = namedtuple("Arch", "qemu package options console")
ARCHS = {
    "amd64": Arch("qemu-system-x86_64", "qemu-system-x86", ["-M", "q35"], "ttyS0"),
    "arm64": Arch("qemu-system-aarch64", "qemu-system-arm", ["-M", "virt"], "ttyAMA0"),
}

# Programs of tests/scenario: NAME or NAME:ARG, all arguments without one; a build other than musl-static
# after a slash. `short`: what make check has time for.
PROGRAMS = {
    "all": "memory threads timers signals waits vector identity attributes events fd_events fd_files "
           "fd_options fd_sockets signals/glibc-static threads/glibc-static",
    "some": "memory threads/glibc-static timers signals waits vector events:fork events:mixed "
            "fd_files:file fd_sockets:tcp",
    "short": "memory threads/glibc-static events:fork timers",
    "one": "threads",
}

# group: the part of the tests it belongs to. From, to: kernel and processor. programs: as above, and with
# `refused` the words that name why none of them can be moved. faults: also moves in which baton is killed
# and the link is cut.
Row = namedtuple("Row", "group source target programs refused faults", defaults=(None, False))
Machine = namedtuple("Machine", "kernel cpu")


def machine(kernel, cpu="max"):
    return Machine(kernel, cpu)


ROWS = [
    Row("short", machine("amd64 6.12"), machine("amd64 6.12"), "short"),
    Row("full", machine("amd64 6.12"), machine("amd64 6.12"), "all", faults=True),
    Row("full", machine("amd64 6.1"), machine("amd64 6.1"), "all", faults=True),
]
