# SPDX-License-Identifier: MIT
"""The release: the same bytes each time, and a program that is the one of the checkout."""
import glob
import hashlib
import os
import re
import subprocess
import tempfile

from devices import TOP, Failure, Skip, read

HASH = "board/buildroot/package/baton/baton.hash"


def run(args, where, **kw):
    env = {k: v for k, v in os.environ.items() if k not in ("MAKEFLAGS", "MAKELEVEL", "CONFIG", "B", "BATON", "O")}
    done = subprocess.run(args, cwd=where, capture_output=True, text=True, timeout=1200, env=env, **kw)
    if done.returncode:
        raise Failure(f"{' '.join(args)}: exit {done.returncode}: {done.stdout[-200:]} {done.stderr[-400:]}")
    return done.stdout


def changed():
    return run(["git", "status", "--porcelain"], TOP)


def dist(clone):
    run(["make", "dist"], clone)
    path, = glob.glob(f"{clone}/build/dist/baton-*.tar.gz")
    with open(path, "rb") as f:
        digest = hashlib.sha256(f.read()).hexdigest()
    if f"sha256  {digest}  {os.path.basename(path)}" not in read(f"{clone}/{HASH}").splitlines():
        raise Failure(f"{HASH} does not have the hash of what was made")
    return path, digest


def built(folder, version):
    """The program that is built in there, with the sources that this build has."""
    os.makedirs(f"{folder}/build", exist_ok=True)
    if os.path.isdir(f"{TOP}/build/src"):
        os.symlink(f"{TOP}/build/src", f"{folder}/build/src")
    # Nothing that generates messages: they are there.
    run(["make", f"-j{os.cpu_count()}", f"VERSION={version}", "GENERATOR=false"], folder)
    with open(f"{folder}/{run(['make', '-s', 'print-binary'], folder).strip()}", "rb") as f:
        return f.read()


def test_release(ctx):
    if not os.path.exists(f"{TOP}/.git"):
        raise Skip("this is no git checkout")
    # Not below this checkout: a build must not need one around it.
    with tempfile.TemporaryDirectory(prefix="baton-release-") as top:
        clone = f"{top}/clone"
        run(["git", "clone", "-q", "--shared", TOP, clone], top)
        path, digest = dist(clone)
        run(["git", "-c", "user.name=t", "-c", "user.email=t@t", "commit", "-qam", "hash", "--allow-empty"], clone)
        if dist(clone)[1] != digest:
            raise Failure("the commit that records the hash gives another tarball")
        run(["tar", "-xf", path], top)
        folder = f"{top}/{os.path.basename(path)[:-len('.tar.gz')]}"
        if not re.fullmatch(r"[\w.-]+", read(f"{folder}/.version").strip()):
            raise Failure(f".version has {read(f'{folder}/.version')!r}")
        version = run([ctx.binary, "version"], top).split()[1]
        here = built(folder, version)
        with open(ctx.binary, "rb") as f:
            if here != f.read():
                if not changed() and "-" not in os.path.basename(os.path.dirname(ctx.binary)):
                    raise Failure(f"the program of the tarball is not {ctx.binary}")
                print("# release: not compared: changes that are not committed, or CONFIG=", flush=True)
        with open(f"{folder}/transport/wire.proto", "a") as f:
            f.write("// changed\n")
        done = subprocess.run(["make", "messages", "GENERATOR=false"], cwd=folder, capture_output=True)
        if not done.returncode:
            raise Failure("a message that was changed is not generated anew")


def test_shallow(ctx):
    """What is missing is said, and no other tarball is made."""
    del ctx
    if not os.path.exists(f"{TOP}/.git"):
        raise Skip("this is no git checkout")
    with tempfile.TemporaryDirectory(prefix="baton-release-") as top:
        run(["git", "clone", "-q", "--depth", "1", f"file://{TOP}", f"{top}/clone"], top)
        done = subprocess.run(["make", "dist"], cwd=f"{top}/clone", capture_output=True, text=True, timeout=60)
        if not done.returncode or "git fetch --unshallow --tags" not in done.stderr:
            raise Failure(f"exit {done.returncode}: {done.stdout[-200:]} {done.stderr[-400:]}")
        if glob.glob(f"{top}/clone/build/dist/*"):
            raise Failure("something was made")


def test_told(ctx):
    """An architecture that there is not, and what an old .config sets."""
    del ctx
    env = {k: v for k, v in os.environ.items() if k not in ("MAKEFLAGS", "MAKELEVEL", "CONFIG", "B", "BATON", "O", "ARCH")}
    with tempfile.TemporaryDirectory(prefix="baton-make-") as top:
        done = subprocess.run(["make", f"O={top}", "ARCH=mips"], cwd=TOP, capture_output=True, text=True, env=env,
                              timeout=60)
        if not done.returncode or "no baton for mips: ARCH=x86_64 and ARCH=arm64" not in done.stderr:
            raise Failure(f"ARCH=mips: exit {done.returncode}: {done.stderr[-400:]}")
        folder = f"{top}/{run(['make', '-s', 'print-arch'], TOP).strip()}"
        os.mkdir(folder)
        with open(f"{folder}/.config", "w") as f:
            f.write("CONFIG_MAX_THREADS=77\nCONFIG_NO_SUCH_THING=y\n")
        done = subprocess.run(["make", f"O={top}", f"{folder}/auto.conf"], cwd=TOP, capture_output=True, text=True,
                              env=env, timeout=60)
        if done.returncode or "NO_SUCH_THING" not in done.stderr or "MAX_THREADS" in done.stderr:
            raise Failure(f"an old .config: exit {done.returncode}: {done.stderr[-400:]}")


def alone(ctx):
    return [("release: a shallow clone", lambda: test_shallow(ctx)),
            ("make tells of what it does not know", lambda: test_told(ctx)),
            ("release: the tarball is always the same, and builds the same program", lambda: test_release(ctx))]


def tests(ctx):
    del ctx
    return []
