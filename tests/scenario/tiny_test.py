# SPDX-License-Identifier: MIT
"""The smallest baton (board/tiny): it moves a real program, to its like and to the plain one,
its memory stays within its budget, and what it is built without it refuses by name."""
import os
import re
import subprocess

from devices import TOP, Failure
from memory_test import budget_kib, measure, text_kib
from real_test import redis
from refusals_test import expect, leftovers
from victim import Receiver, Victim, send

SLACK_KIB = 128
MIB = 256
# What a process may have, CONFIG_STATE_*, and this baton is built without.
LEFT_OUT = ("unix", "inotify", "memfd", "timer")


def make(*variables):
    """The binary; built when it is not there, or older than its sources."""
    env = {k: v for k, v in os.environ.items() if k not in ("MAKEFLAGS", "CONFIG", "B")}
    done = subprocess.run(["make", "-s", "-C", TOP, "CONFIG=tiny", *variables, "all", "print-binary"],
                          capture_output=True, text=True, timeout=900, env=env)
    if done.returncode:
        raise Failure(f"the tiny configuration does not build: {done.stderr[-300:]}")
    return os.path.join(TOP, done.stdout.strip().splitlines()[-1])


def tiny():
    return make()


def fuller():
    """The same with all that a process may have, a peer that sends it; and with fault points."""
    folder = os.path.dirname(tiny())
    out = os.path.join(folder, "fuller", os.path.basename(folder))
    os.makedirs(out, exist_ok=True)
    with open(f"{folder}/.config") as f, open(f"{out}/.config", "w") as g:
        g.write(re.sub(r"# (CONFIG_(?:STATE_\w+|OTHER_VDSO|FAULT_POINTS)) is not set", r"\1=y", f.read()))
    return make(f"O={folder}/fuller", f"SRC={os.path.dirname(folder)}/src")


def moves_redis(ctx, devices):
    redis(ctx, "lazy", binaries={device: tiny() for device in devices})


def command_left_out(ctx):
    """It names its switch, where there are words for anybody."""
    for binary, command, words in ((tiny(), "check", "check: not built in\n"),
                                   (ctx.binary, "console", "console: not built in; build with CONFIG_CMD_CONSOLE=y\n")):
        for args in ([command], ["help", command]):
            done = subprocess.run([binary, *args, "--help"], capture_output=True, text=True, timeout=10)
            built_in = binary == ctx.binary and not done.returncode
            if not built_in and (done.returncode != 6 or words not in done.stderr):
                raise Failure(f"{args}: exit {done.returncode}: {done.stderr}")


def left_out(ctx, kind):
    """Before anything is stopped."""
    with ctx.pair(binaries={device: tiny() for device in "ab"}) as pair:
        victim = Victim(ctx, pair, "optional", kind)
        receiver = Receiver(pair)
        expect(send(pair, victim.pid), 3, rf"not built in here \(CONFIG_STATE_{kind.upper()}\)")
        victim.check_unharmed()
        receiver.check_alive()


def left_out_there(ctx, kind):
    """Only the other device is built without it: what had come there is gone, and it runs on here."""
    with ctx.pair(binaries={"a": fuller(), "b": tiny()}) as pair:
        victim = Victim(ctx, pair, "optional", kind)
        receiver = Receiver(pair)
        expect(send(pair, victim.pid), 1, rf"not built in here \(CONFIG_STATE_{kind.upper()}\)")
        victim.check_unharmed()
        receiver.check_alive()
        leftovers(pair, victim)


def other_vdso(ctx):
    """The kernels differ, as a fault point has it."""
    with ctx.pair(binaries={"a": tiny(), "b": fuller()}) as pair:
        victim = Victim(ctx, pair)
        receiver = Receiver(pair, env=dict(os.environ, BATON_FAULT="fail:TARGET_VDSO"))
        expect(send(pair, victim.pid), 3, r"refused by device-b.*TARGET_VDSO")
        victim.check_unharmed()
        receiver.check_alive()


def policy(ctx):
    """Nothing is taken while there is one that would not be kept."""
    with ctx.pair(binaries={device: tiny() for device in "ab"}) as pair:
        with open(f"{pair.b.keys}/policy", "w") as f:
            f.write("allow-uid 0\n")
        victim = Victim(ctx, pair)
        receiver = Receiver(pair)
        expect(send(pair, victim.pid), 3, r"policy: not built in here \(CONFIG_POLICY\)")
        victim.check_unharmed()
        receiver.check_alive()


def terse(ctx):
    """No help, and JSON without being asked."""
    del ctx
    for words, code, text in ((["--help"], 0, "CONFIG_TERSE"), (["send", "--help"], 0, "CONFIG_TERSE"),
                              (["send", "--nosuch"], 2, "--nosuch"), (["version"], 6, "not built in"),
                              (["status", "--state", "/nonexistent"], 0, "[]")):
        done = subprocess.run([tiny(), *words], capture_output=True, text=True, timeout=20)
        if done.returncode != code or text not in done.stdout + done.stderr:
            raise Failure(f"baton {' '.join(words)}: exit {done.returncode}: {done.stdout}{done.stderr}")


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
    return ([("a command that the tiny baton lacks", lambda: command_left_out(ctx))]
            + [(f"redis-server, {name}", lambda d=devices: moves_redis(ctx, d)) for name, devices in kinds]
            + [(f"not built in: {kind}{where}", lambda t=test, k=kind: t(ctx, k))
               for test, where in ((left_out, ""), (left_out_there, ", at the target only"))
               for kind in LEFT_OUT]
            + [("not built in: the vdso of another kernel", lambda: other_vdso(ctx)),
               ("not built in: a policy", lambda: policy(ctx)),
               ("not built in: help, and results as text", lambda: terse(ctx))]
            + [(f"memory of the tiny baton, {mode}", lambda m=mode: memory(ctx, m))
               for mode in ("lazy", "eager")])


def tests(ctx):
    del ctx
    return []
