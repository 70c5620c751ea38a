# SPDX-License-Identifier: MIT
"""What the programs of tests/fault share: the folder of tools, the binary, the context."""
import os
import subprocess
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path[:0] = [HERE, os.path.join(os.path.dirname(HERE), "lib"),
                os.path.join(os.path.dirname(HERE), "scenario")]

import programs  # noqa: E402
from devices import TOP, Failure  # noqa: E402
from tap import Context  # noqa: E402


def find_binary():
    path = os.environ.get("BATON")
    if not path:
        path = subprocess.run(["make", "-s", "-C", TOP, "print-binary"], capture_output=True,
                              text=True).stdout.strip()
    path = path if os.path.isabs(path) else os.path.join(TOP, path)
    if not os.access(path, os.X_OK):
        raise Failure(f"{path} is not there: run make first")
    return path


def context(keep=False, binary=None):
    """A Context with the verifier built."""
    if os.geteuid():
        raise Failure("must be run as root")
    binary = binary or find_binary()
    folder = os.path.join(os.path.dirname(os.path.abspath(find_binary())), "fault.tools")
    os.makedirs(folder, exist_ok=True)
    programs.build_tools(folder)
    verifier = programs.Program(f"{HERE}/verifier.c")
    built = verifier.binary(folder, "musl-static")
    programs.compile_one(programs.COMPILERS["musl-static"] + programs.FLAGS + [verifier.path]
                         + verifier.libs, built, [verifier.path])
    ctx = Context(binary, folder, keep)
    ctx.verifier = built
    return ctx
