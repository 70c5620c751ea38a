# SPDX-License-Identifier: MIT
"""The smallest baton (board/tiny): it moves a real program, to its like and to the plain one,
and its memory stays within its budget."""
import os
import subprocess

from devices import TOP, Failure
from memory_test import budget_kib, measure, text_kib
from real_test import redis

SLACK_KIB = 128
MIB = 256


def tiny():
    """The binary; built when it is not there, or older than its sources."""
    env = {k: v for k, v in os.environ.items() if k not in ("MAKEFLAGS", "CONFIG", "B")}
    done = subprocess.run(["make", "-s", "-C", TOP, "CONFIG=tiny", "all", "print-binary"], capture_output=True,
                          text=True, timeout=900, env=env)
    if done.returncode:
        raise Failure(f"the tiny configuration does not build: {done.stderr[-300:]}")
    return os.path.join(TOP, done.stdout.strip().splitlines()[-1])


def moves_redis(ctx, devices):
    redis(ctx, "lazy", binaries={device: tiny() for device in devices})


def left_out():
    """A command that is not built in names its switch."""
    for args in (["check"], ["help", "check"]):
        done = subprocess.run([tiny(), *args], capture_output=True, text=True, timeout=10)
        if done.returncode != 6 or "check: not built in; build with CONFIG_CMD_CHECK=y\n" not in done.stderr:
            raise Failure(f"{args}: exit {done.returncode}: {done.stderr}")


def memory(ctx, mode):
    binary = tiny()
    limit = budget_kib(binary) + text_kib(binary) + SLACK_KIB
    seen = measure(ctx, MIB, mode, binaries={"a": binary, "b": binary})
    text = f"{MIB} MiB: {seen} KiB, limit {limit} KiB"
    if max(seen.values()) > limit:
        raise Failure(f"more than budget + text + {SLACK_KIB} KiB: {text}")
    print(f"# memory of the tiny baton, {mode}: {text}", flush=True)


def alone(ctx):
    # The other way the plain one's frames are too long (CONFIG_RUN_KIB), which is refused.
    kinds = [("tiny to tiny", "ab"), ("tiny to plain", "a")]
    return ([("a command that the tiny baton lacks", left_out)]
            + [(f"redis-server, {name}", lambda d=devices: moves_redis(ctx, d)) for name, devices in kinds]
            + [(f"memory of the tiny baton, {mode}", lambda m=mode: memory(ctx, m))
               for mode in ("lazy", "eager")])


def tests(ctx):
    del ctx
    return []
