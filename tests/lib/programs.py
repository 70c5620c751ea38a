# SPDX-License-Identifier: MIT
"""Builds the scenario programs, as their first lines say, and the helpers of the tests."""
import glob
import os
import re
import subprocess

from devices import TOP, Failure

COMPILERS = {"musl-static": ["musl-gcc", "-static"], "glibc-static": ["gcc", "-static"],
             "glibc-dynamic": ["gcc"]}
FLAGS = ["-std=gnu11", "-O2", "-g0", "-Wall", "-Wextra", "-Werror"]
TOOLS = {"device_init": ["gcc"], "device_enter": ["gcc"]}


class Program:
    """One source file: what its first comment says."""

    def __init__(self, path):
        self.path, self.name = path, os.path.splitext(os.path.basename(path))[0]
        with open(path) as f:
            head = f.read(3000).split("*/\n", 2)
        self.head = "\n".join(head[:2])
        self.builds = self.field("build", "musl-static").split()
        self.cflags, self.libs = self.field("cflags", "").split(), self.field("libs", "").split()
        self.args = [a.strip() for a in self.field("args", "").split("|")]
        self.modes = self.field("modes", "").split()
        self.settle = float(self.field("settle", "0"))
        self.rate = self.field("rate", "") or None
        self.ahead = [int(s) for s in self.field("ahead", "0").split()]
        self.name = self.field("name", self.name)
        self.machine = self.field("machine", "") or None
        self.private = bool(self.field("private", ""))
        self.helper = bool(self.field("helper", ""))

    def field(self, key, default):
        found = re.search(rf"^[ /]\*\s*{key}:[ \t]*(.*)$", self.head, re.M)
        return found.group(1).replace("*/", "").strip() if found else default

    def binary(self, folder, build):
        return f"{folder}/{self.name}.{build}"


def newer(target, sources):
    return os.path.exists(target) and all(
        os.path.getmtime(target) >= os.path.getmtime(s) for s in sources)


def compile_one(command, target, sources):
    if newer(target, sources):
        return
    done = subprocess.run(command + ["-o", target + ".tmp"], capture_output=True, text=True)
    if done.returncode:
        raise Failure(f"{os.path.basename(target)} does not compile: {done.stderr[:2000]}")
    os.rename(target + ".tmp", target)


def kernel_headers(folder, gcc="gcc"):
    """musl's compiler sees no linux/*.h: a folder of links, as the product's build has one."""
    inc = f"{folder}/include"
    os.makedirs(inc, exist_ok=True)
    machine = subprocess.run([gcc, "-print-multiarch"], capture_output=True,
                             text=True).stdout.strip()
    asm = [f"/usr/include/{machine}/asm", f"/usr/{machine}/include/asm"]  # the second: for a cross compiler
    for name, path in (("linux", "/usr/include/linux"), ("asm-generic", "/usr/include/asm-generic"),
                       ("asm", asm[0] if os.path.exists(asm[0]) else asm[1])):
        if not os.path.islink(f"{inc}/{name}"):
            os.symlink(path, f"{inc}/{name}")
    return ["-isystem", inc]


def build_tools(folder):
    """What makes the devices: not built with musl, so that a demo needs no more than gcc."""
    for tool, compiler in TOOLS.items():
        source = f"{TOP}/tests/lib/{tool}.c"
        compile_one(compiler + FLAGS + [source], f"{folder}/{tool}", [source])


def every(machine):
    """What there is for a machine (uname -m), helpers too."""
    found = [Program(path) for path in sorted(glob.glob(f"{TOP}/tests/scenario/*.c"))]
    return [p for p in found if p.machine in (None, machine)]


def described(machine=os.uname().machine):
    """The same, not built: all but helpers."""
    return [p for p in every(machine) if not p.helper]


def build_static(folder, gcc, musl_gcc):
    """Builds what needs no library on the machine it runs on, with other compilers."""
    os.makedirs(folder, exist_ok=True)
    compilers = {"musl-static": [musl_gcc, "-static"], "glibc-static": [gcc, "-static"]}
    headers, shared = kernel_headers(folder, gcc), glob.glob(f"{TOP}/tests/scenario/*.h")
    machine = subprocess.run([gcc, "-dumpmachine"], capture_output=True, text=True).stdout
    for p in described(machine.split("-")[0]):
        for variant in set(p.builds) & set(compilers):
            extra = headers if variant.startswith("musl") else []
            compile_one(compilers[variant] + FLAGS + extra + p.cflags + [p.path] + p.libs,
                        p.binary(folder, variant), [p.path] + shared)


def build(folder):
    """Builds everything into the folder. Returns (programs, helpers), helpers by name."""
    os.makedirs(folder, exist_ok=True)
    headers = kernel_headers(folder)
    build_tools(folder)
    shared = glob.glob(f"{TOP}/tests/scenario/*.h")
    programs, helpers = [], {}
    for p in every(os.uname().machine):
        for variant in p.builds:
            extra = headers if variant.startswith("musl") else []
            compile_one(COMPILERS[variant] + FLAGS + extra + p.cflags + [p.path] + p.libs,
                        p.binary(folder, variant), [p.path] + shared)
        if p.helper:
            helpers[p.name] = p.binary(folder, p.builds[0])
        else:
            programs.append(p)
    return programs, helpers
