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


def alone(ctx):
    return [("release: the tarball is always the same, and builds the same program", lambda: test_release(ctx))]


def tests(ctx):
    del ctx
    return []
