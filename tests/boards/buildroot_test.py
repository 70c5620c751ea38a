# SPDX-License-Identifier: MIT
"""The external tree of buildroot, as far as that can be seen without buildroot (docs/buildroot.md has the rest)."""
import glob
import hashlib
import os
import re
import subprocess

from devices import TOP, Failure, read
from firstboot_test import Image, good_pair

TREE = f"{TOP}/board/buildroot"


def test_names(ctx):
    """What the tree says of the rest of this repository is there."""
    del ctx
    for path in glob.glob(f"{TREE}/configs/*"):
        for name in re.findall(r"\$\(BR2_EXTERNAL_BATON_PATH\)(/\S+?)[\s\"]", read(path)):
            if not os.path.isfile(TREE + name):
                raise Failure(f"{path}: there is no {name}")
    text = read(f"{TREE}/package/baton/baton.mk")
    makefiles = "".join(read(f"{TOP}/{name}") for name in ("Makefile", "tools/goals.mk", "tools/config.mk"))
    passed = re.search(r"^BATON_MAKE_OPTS = (.*?[^\\])\n", text, re.M | re.S).group(1)
    names = re.findall(r"^\s*(\w+)=", passed, re.M)
    unknown = [name for name in names if not re.search(rf"\b{name}\b", makefiles)]
    if not names or unknown:
        raise Failure(f"baton's Makefile knows no {unknown}")
    for name in re.findall(r"\$\(@D\)/([\w./*-]+)", text):
        if not glob.glob(f"{TOP}/{name}"):
            raise Failure(f"baton.mk installs {name}, which is not there")
    for board in re.findall(r"\$\(if \$\(BR2_PACKAGE_BATON_TINY\),(\w+),(\w+)\)_defconfig", text)[0]:
        if not glob.glob(f"{TOP}/board/{board}*/defconfig"):
            raise Failure(f"there is no board {board}")


def test_hashes(ctx):
    del ctx
    with open(f"{TOP}/LICENSE", "rb") as f:
        digest = hashlib.sha256(f.read()).hexdigest()
    if f"sha256  {digest}  LICENSE\n" not in read(f"{TREE}/package/baton/baton.hash"):
        raise Failure("baton.hash does not have the licence's hash")
    for path in glob.glob(f"{TREE}/package/*/*.hash"):
        for line in read(path).splitlines():
            if not re.fullmatch(r"#.*|sha256  [0-9a-f]{64}  \S+", line):
                raise Failure(f"{path}: {line}")


def test_scripts(ctx):
    del ctx
    for path in (f"{TREE}/package/baton/S99baton", f"{TOP}/board/common/first-boot",
                 f"{TOP}/board/common/baton-receive"):
        for shell in ("dash", "busybox sh"):
            done = subprocess.run([*shell.split(), "-n", path], capture_output=True, text=True)
            if done.returncode:
                raise Failure(f"{path}: {done.stderr}")


# busybox ends what it started; what it started again must be gone, too.
LIFE = """/etc/init.d/S99baton start || exit 11
listens() { grep -q ':1BCD 0*:0000 0A' /proc/net/tcp /proc/net/tcp6; }
until listens; do sleep 0.1; done
/etc/init.d/S99baton restart || exit 12
until listens; do sleep 0.1; done
/etc/init.d/S99baton stop || exit 13
while listens; do sleep 0.1; done
"""


def test_life(ctx):
    image = Image(ctx, "sysv")
    image.settings("DATA=/data/baton\n")
    os.makedirs(f"{image.image}/etc/init.d")
    with open(f"{image.image}/etc/init.d/S99baton", "w") as f:
        f.write(read(f"{TREE}/package/baton/S99baton").replace("/usr/lib/baton", "/usr/local/lib/baton"))
    os.chmod(f"{image.image}/etc/init.d/S99baton", 0o755)
    said = image.boot("overlay", run=LIFE)
    if "FAIL" in said or said.count("OK") != 4:
        raise Failure(f"S99baton says {said}")
    good_pair(f"{image.data}/baton")


def tests(ctx):
    return [(f"buildroot: {name}", lambda f=function: f(ctx)) for name, function in (
        ("what it names is there", test_names), ("hashes", test_hashes), ("scripts", test_scripts), ("its init script", test_life))]
