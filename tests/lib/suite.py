# SPDX-License-Identifier: MIT
"""The main program of a small suite: groups of tests in GROUP_test.py, each with tests(ctx)."""
import argparse
import os
import signal
import subprocess
import sys

import programs
from devices import TOP, Failure
from tap import Context, Runner


def arguments(text, groups):
    p = argparse.ArgumentParser(description=text)
    p.add_argument("words", nargs="*", help="only tests whose names hold all of these words")
    p.add_argument("--group", action="append", choices=groups, help="only this group")
    p.add_argument("--jobs", type=int, default=3, help="tests at a time (3)")
    p.add_argument("--list", action="store_true", help="print the names only")
    p.add_argument("--keep", action="store_true", help="keep the folders of the tests")
    p.add_argument("--verbose", action="store_true", help="say how long each took")
    return p.parse_args()


def make(goal):
    done = subprocess.run(["make", "-s", "-C", TOP, goal], capture_output=True, text=True)
    lines = done.stdout.strip().splitlines()
    if done.returncode or not lines:
        raise Failure(f"make {goal}: {done.stderr.strip()[-300:]}")
    return lines[-1]


def main(text, groups, goal="print-binary"):
    """`goal`: what makes the binary and prints its path, where BATON does not name one."""
    args = arguments(text, groups)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    if os.geteuid():
        print("not ok - must be run as root")
        return 1
    try:
        binary = os.environ.get("BATON" if goal == "print-binary" else "BATON_" + goal.upper())
        binary = os.path.join(TOP, binary or make(goal))
        folder = os.path.join(os.path.dirname(binary), "scenario")
        _, helpers = programs.build(folder)
    except Failure as why:
        print(f"not ok - {why}")
        return 1
    ctx = Context(binary, folder, args.keep)
    ctx.helpers = helpers
    try:
        tests, alone = [], []
        for group in args.group or groups:
            module = __import__(group + "_test")
            tests += module.tests(ctx)
            alone += module.alone(ctx) if hasattr(module, "alone") else []
        tests, alone = ([t for t in some if all(w in t[0] for w in args.words)]
                        for some in (tests, alone))
        if args.list:
            print("\n".join(name for name, _ in tests + alone))
            return 0
        return 0 if Runner(args.jobs, args.verbose).run(tests, alone) else 1
    finally:
        ctx.close()
