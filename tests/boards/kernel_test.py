# SPDX-License-Identifier: MIT
"""Kernel options and settings: none that no kernel knows, none that baton asks for and no board has."""
import glob
import lzma
import os
import re
import threading

from devices import TOP, Failure, read
from images import package

COMMON = f"{TOP}/board/common"
# Debian's configurations: package, suite.
CONFIGS = (("linux-config-6.1", "bookworm"), ("linux-config-6.12", "trixie"))
BOARDS = {"gateway-x86_64": "amd64", "gateway-arm64": "arm64"}
LOCK = threading.Lock()


def fragments(board):
    """All that this board's kernel wants, one file after the other."""
    return [f"{COMMON}/linux.config", f"{COMMON}/gateway.config", f"{TOP}/board/{board}/linux.config"]


def options(path):
    return re.findall(r"^(CONFIG_\w+)=(\S+)$", read(path), re.M)


def debian(ctx, name, suite, arch):
    """The options of Debian's kernel for everything, {name: value}."""
    folder = os.path.join(os.path.dirname(os.path.dirname(ctx.binary)), "vm")
    with LOCK:
        os.makedirs(folder, exist_ok=True)
        top = package(folder, name, arch, suite, f"{folder}/{name}-{arch}", "./usr/src/*")
    path = glob.glob(f"{top}/usr/src/*/config.{arch}_none_{arch}.xz")[0]
    with lzma.open(path, "rt") as f:
        return dict(re.findall(r"^(CONFIG_\w+)=(\S+)$", f.read(), re.M))


def test_known(ctx, board):
    """Debian has each of them, built in or as a module: a name that is misspelt or was given up is none."""
    kernels = [debian(ctx, name, suite, BOARDS[board]) for name, suite in CONFIGS]
    for path in fragments(board):
        wanted = options(path)
        if not wanted:
            raise Failure(f"{path} wants nothing")
        for name, value in wanted:
            if value != "y" or not any(kernel.get(name) in ("y", "m") for kernel in kernels):
                raise Failure(f"{path}: {name}={value}: Debian's kernels have "
                              f"{[kernel.get(name) for kernel in kernels]}")


def test_reasons(ctx):
    del ctx
    for path in glob.glob(f"{TOP}/board/*/*.config"):
        before = ""
        for nr, line in enumerate(read(path).splitlines(), 1):
            if line.startswith("CONFIG_") and not before:
                raise Failure(f"{path}:{nr}: {line} has no reason above it")
            before = line


def test_asked_for(ctx):
    """What the program's own messages tell people to build their kernel with, and the README."""
    ours = set(re.findall(r"^config (\w+)$", read(f"{TOP}/Kconfig"), re.M))
    wanted = {name for name, _ in options(f"{COMMON}/linux.config") + options(f"{COMMON}/gateway.config")}
    with open(ctx.binary, "rb") as f:
        said = set(re.findall(r"CONFIG_(\w+[A-Z0-9])", f.read().decode("latin-1")))
    needs = read(f"{TOP}/README.md").split("## What it needs")[1].split("##")[0]
    readme = set(re.findall(r"CONFIG_(\w+)", needs))
    if "USERFAULTFD" not in said or "USERFAULTFD" not in readme:
        raise Failure("nobody asks for CONFIG_USERFAULTFD: this test looks at the wrong place")
    missing = [name for name in (said | readme) - ours if "CONFIG_" + name not in wanted]
    if missing:
        raise Failure(f"asked for, and in no file of {COMMON}: {' '.join(missing)}")


def test_sysctl(ctx):
    del ctx
    for name in re.findall(r"^([\w.]+) = ", read(f"{COMMON}/sysctl.conf"), re.M):
        if not os.path.exists("/proc/sys/" + name.replace(".", "/")):
            raise Failure(f"this kernel has no {name}")


def tests(ctx):
    return ([(f"kernel: {board}: Debian's kernels know each option", lambda b=board: test_known(ctx, b))
             for board in BOARDS]
            + [(f"kernel: {name}", lambda f=function: f(ctx)) for name, function in (
                ("each option has a reason", test_reasons),
                ("what messages ask for is among them", test_asked_for),
                ("each setting of sysctl.conf is one", test_sysctl))])
