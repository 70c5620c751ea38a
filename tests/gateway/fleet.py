# SPDX-License-Identifier: MIT
"""Two devices that receive, with some processes that matter."""
import contextlib
import os

from devices import PORT, Failure, read, wait_for
from victim import Receiver, Victim


def allow_recall(device, name):
    """This device gives back to `name` what came from it."""
    with open(f"{device.keys}/policy", "a") as f:
        f.write(f"allow-recall {name}\n")


@contextlib.contextmanager
def fleet(ctx, kinds=("nothing", "memory 4", "nothing"), recall=True, receive=()):
    """(pair, victims): device a has the victims v0, v1, ... protected; both devices receive."""
    with ctx.pair() as pair:
        if recall:
            allow_recall(pair.b, "device-a")
            allow_recall(pair.a, "device-b")
        pair.receivers = [Receiver(pair, *receive, device=d) for d in (pair.a, pair.b)]
        yield pair, [protect(ctx, pair, f"v{i}", kind) for i, kind in enumerate(kinds)]


def protect(ctx, pair, name, kind="nothing", *options, device=None):
    victim = Victim(ctx, pair, kind, device=device)
    victim.name, victim.pidfile = name, f"{pair.folder}/{name}.pid"
    with open(victim.pidfile, "w") as f:
        f.write(f"{victim.pid}\n")
    run(pair, device or pair.a, "protect", "add", name, "--pidfile", victim.pidfile, *options, state=False)
    return victim


def run(pair, device, command, *args, code=0, timeout=60, **kw):
    out = pair.baton(device, command, *args, **kw)
    out.wait(timeout)
    if code is not None and out.code != code:
        raise Failure(f"baton {command} {' '.join(map(str, args))}: exit {out.code}, not {code}: "
                      f"{out.stdout.strip()} {out.tail()}")
    return out


def evacuate(pair, *options, device=None, **kw):
    device = device or pair.a
    other = pair.b if device is pair.a else pair.a
    return run(pair, device, "evacuate", *options, f"{other.address}:{PORT}", **kw)


def expect_on(device, other, *victims):
    """They run on the device, and nowhere else."""
    for v in victims:
        wait_for(lambda v=v: device.alive(v.pid) and not other.alive(v.pid), 20,
                 f"{v.name} runs on device {device.name} alone")
        before = v.beat()[0]
        wait_for(lambda v=v: v.beat()[0] > before, 10, f"the heart of {v.name} beats")


def host_pid(output):
    """Of what was started in a device, as seen from outside."""
    enter = output.popen.pid
    return int(wait_for(lambda: read(f"/proc/{enter}/task/{enter}/children").split(), 5, "it starts")[0])


def moves(device):
    return [n for n in os.listdir(device.state) if n.endswith(".move")]


def stages(device):
    return [line.split()[1] for name in moves(device)
            for line in read(f"{device.state}/{name}").splitlines() if line.startswith("stage ")]
