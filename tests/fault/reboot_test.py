# SPDX-License-Identifier: MIT
"""The target is rebooted while memory is missing, with a state folder on tmpfs and with one on flash; and
what a source does that was rebooted. Nothing runs twice, and the operator gets the process back."""
import os
import re
import signal
import time

from devices import Failure, wait_for
from faults import kill
from moving import Arenas, moves_in, told
from operator_test import begun, command, expect


def reboot(moving, device, verifier, keep):
    """All that ran there is gone in one instant. `keep`: the state folder is on flash."""
    service = moving.arena.services[device.name]
    victims = set()
    # Stopped first: else who is reached last may have put another in the place of who is reached first.
    while victims != (there := set(device.batons(moving.arena.binary))):
        kill(device, *(there - victims), sig=signal.SIGSTOP)
        victims = there
        time.sleep(0.01)
    kill(device, *victims, verifier.pid)
    wait_for(lambda: not device.alive(verifier.pid), 5, "the process is gone")
    for name in os.listdir(device.state):
        path = f"{device.state}/{name}"
        if not keep:
            os.unlink(path)
        elif name.endswith(".move"):
            with open(path) as f:
                text = f.read()
            with open(path, "w") as f:
                f.write(re.sub("boot ........", "boot 00000000", text))
    wait_for(lambda: service.tend() or device.listens(7117), 10, "baton receive is back")


def target_rebooted(arenas, keep, word):
    with arenas.use() as arena:
        ident, moving, verifier = begun(arena)
        source, target, send = moving.source, moving.target, moving.commands[0]
        with told(moving):
            reboot(moving, target, verifier, keep)
            moving.wait(lambda: send.code is not None, "send ends", 40)
            expect(send, 4, word, "--peer-is-dead")
            expect(command(moving, source, "status"), 0, ident, "held", word)
            again = moving.command(source, "resume", ident)
            again.wait(40)
            expect(again, 4, word)
            expect(command(moving, source, "resume", "--peer-is-dead", ident), 0, "runs on here")
            if moves_in(target):
                expect(command(moving, target, "abort", ident), 0)
            verifier.expect_beating()
            verifier.check_all()
            moving.expect_tidy("source")
        verifier.end(source, target)


def tests(ctx):
    arenas = Arenas(ctx)
    ctx.at_end.append(arenas.close)
    return [("the target is rebooted, its state folder is gone",
             lambda: target_rebooted(arenas, False, "nothing is known here")),
            ("the target is rebooted, its state folder is kept",
             lambda: target_rebooted(arenas, True, "its memory was lost"))]
