# SPDX-License-Identifier: MIT
"""Kernels from Debian's packages, and the small file system that a guest starts with."""
import glob
import lzma
import os
import re
import stat
import subprocess

from devices import TOP, Failure
from matrix import ARCHS, GPIO_TOOLS, KERNELS, MODULES


def package(folder, name, arch, suite, dest, *patterns):
    """Fetches and unpacks a Debian package, unless what is wanted of it is there already. Returns its folder."""
    wanted = "\n".join(patterns).encode()
    if not os.path.isdir(dest) or not os.path.exists(f"{dest}/wanted") or read(f"{dest}/wanted") != wanted:
        done = subprocess.run([f"{TOP}/tools/debian-package", f"{folder}/apt", name, arch, suite, dest,
                               *patterns], stdin=subprocess.DEVNULL, capture_output=True, text=True)
        if done.returncode:
            raise Failure(f"cannot fetch {name} ({arch}, {suite}): {done.stderr.strip()[-500:]}")
        with open(f"{dest}/wanted", "wb") as f:
            f.write(wanted)
    return dest


class KernelImage:
    """An unpacked kernel package: the image and the modules."""

    def __init__(self, folder, name):
        k = KERNELS[name]
        self.name, self.arch, self.suite, self.memory_mb = name, k.arch, k.suite, k.memory_mb
        top = package(folder, k.package, k.arch, k.suite, f"{folder}/{name.replace(' ', '-')}",
                      "./boot/vmlinuz-*", "*/kernel/drivers/virtio/*", "*/kernel/drivers/net/*",
                      "*/kernel/drivers/block/*", "*/kernel/drivers/watchdog/*",
                      "*/kernel/net/*", "*/kernel/fs/overlayfs/*", "*/kernel/lib/*", "*/kernel/crypto/*")
        self.vmlinuz = glob.glob(f"{top}/boot/vmlinuz-*")[0]
        self.files = {}
        for path in glob.glob(f"{top}/**/*.ko*", recursive=True):
            self.files[re.sub(r"\.ko.*", "", os.path.basename(path)).replace("-", "_")] = path

    @staticmethod
    def content(path):
        opener = lzma.open if path.endswith(".xz") else open
        with opener(path, "rb") as f:
            return f.read()

    def modules(self, names):
        """(file name, content) of what these need, in the order in which they can be loaded. The
        package has no list of dependencies: each module says its own."""
        found = {}

        def add(name):
            if name in found or name not in self.files:
                return  # built in
            content = self.content(self.files[name])
            said = re.search(rb"\0depends=([^\0]*)\0", content)
            for other in (said.group(1).decode() if said else "").split(","):
                add(other.replace("-", "_"))
            found[name] = content
        for name in names:
            add(name)
        return [(f"{name}.ko", content) for name, content in found.items()]


class Archive:
    """A cpio archive as the kernel unpacks it (Documentation/driver-api/early-userspace/buffer-format)."""

    def __init__(self):
        self.parts, self.ino = [], 0

    def entry(self, name, mode, content=b"", rdev=(0, 0)):
        self.ino += 1
        fields = (self.ino, mode, 0, 0, 1, 1, len(content), 0, 0, *rdev, len(name) + 1, 0)
        self.pad(b"070701" + b"".join(b"%08X" % f for f in fields) + name.encode() + b"\0")
        self.pad(content)

    def pad(self, data):
        self.parts.append(data + b"\0" * (-len(data) % 4))

    def folder(self, name):
        self.entry(name, stat.S_IFDIR | 0o755)

    def file(self, name, content, mode=0o755):
        self.entry(name, stat.S_IFREG | mode, content)

    def write(self, path):
        self.entry("dev/console", stat.S_IFCHR | 0o600, rdev=(5, 1))
        self.entry("TRAILER!!!", 0)
        with open(path + ".part", "wb") as f:
            f.write(b"".join(self.parts))
        os.rename(path + ".part", path)


def read(path):
    with open(path, "rb") as f:
        return f.read()


def add_gpio_tools(archive, folder, kernel):
    """gpiomon, and the libraries it is linked with, where its loader looks for them."""
    archive.folder("lib")
    for name, patterns in GPIO_TOOLS[kernel.suite].items():
        dest = package(folder, name, kernel.arch, kernel.suite, f"{folder}/{name}-{kernel.suite}-{kernel.arch}",
                       *([patterns] if isinstance(patterns, str) else patterns))
        for path in glob.glob(f"{dest}/**/*", recursive=True):
            if os.path.isfile(path) and path != f"{dest}/wanted":
                where = "bin" if "/bin/" in path else "lib"
                archive.file(f"{where}/{os.path.basename(path)}", read(path))


def initramfs(folder, kernel, baton, full, programs, path):
    """Writes the file system of a guest: busybox, modules, our scripts, baton, the one with every
    command, the programs (paths)."""
    box = package(folder, "busybox-static", kernel.arch, "bookworm", f"{folder}/busybox-{kernel.arch}",
                  "./bin/*")
    archive = Archive()
    for name in ("bin", "dev", "etc", "failover", "modules", "programs", "vm"):
        archive.folder(name)
    archive.file("bin/busybox", read(f"{box}/bin/busybox"))
    archive.file("bin/baton", read(baton))
    archive.file("bin/baton-full", read(full))
    here = os.path.dirname(os.path.abspath(__file__))
    archive.file("init", read(f"{here}/init"))
    for name in ("network", "agent", "lib.sh"):
        archive.file(f"vm/{name}", read(f"{here}/{name}"))
    arch = ARCHS[kernel.arch]
    # The second list is loaded by those who want it.
    for order, names in (("order", MODULES), ("watchdog", arch.watchdog[:1])):
        modules = kernel.modules(names)
        for name, content in modules:
            archive.file(f"modules/{name}", content, 0o644)
        archive.file(f"modules/{order}", "".join(f"{n}\n" for n, _ in modules).encode(), 0o644)
    for path_of_hook in glob.glob(f"{TOP}/board/failover/*"):
        archive.file(f"failover/{os.path.basename(path_of_hook)}", read(path_of_hook))
    if arch.power_line:
        add_gpio_tools(archive, folder, kernel)
    for program in programs:
        archive.file(f"programs/{os.path.basename(program)}", read(program))
    archive.write(path)
