# SPDX-License-Identifier: MIT
"""A device is replaced: docs/operations.md, "A device is replaced", step by step."""
import os
import shutil

from devices import PORT
from fleet import allow_recall, evacuate, expect_on, fleet, run
from victim import Receiver


def certificate(pair, device):
    """A copy of it, as it is carried to the other device."""
    return shutil.copy(f"{device.keys}/cert.pem", f"{pair.folder}/{device.name}.pem")


def switch_off(pair):
    """The old box: its receiver and what it had in memory."""
    pair.a.run(["kill", pair.a.pid_of(pair.receivers[0].output)])
    pair.receivers[0].output.wait(10)
    shutil.rmtree(pair.a.state)
    os.mkdir(pair.a.state, 0o700)


def test_new_key(ctx):
    with fleet(ctx, kinds=("nothing", "memory 4")) as (pair, victims):
        evacuate(pair)
        expect_on(pair.b, pair.a, *victims)
        # The new box: nothing of the old one, and a key of its own.
        switch_off(pair)
        shutil.rmtree(pair.a.keys)
        run(pair, pair.a, "keygen", "--name", "device-a", state=False)
        run(pair, pair.a, "trust", certificate(pair, pair.b), state=False)
        # It has the name and the address, and is not trusted for that.
        pair.receivers[0] = Receiver(pair, device=pair.a)
        run(pair, pair.b, "send", victims[0].pid, f"{pair.a.address}:{PORT}", code=5)
        os.remove(f"{pair.b.keys}/peers/device-a.pem")
        run(pair, pair.b, "trust", certificate(pair, pair.a), state=False)
        allow_recall(pair.b, "device-a")
        # What came from the old key is not given to the new one, but is sent by whoever says so over there.
        run(pair, pair.a, "evacuate", "--back", f"{pair.b.address}:{PORT}", code=None, state=False)
        expect_on(pair.b, pair.a, *victims)
        for victim in victims:
            run(pair, pair.b, "send", victim.pid, f"{pair.a.address}:{PORT}")
        expect_on(pair.a, pair.b, *victims)


def test_old_folder(ctx):
    """The old box's keys folder in the new one: to everybody it is the same device."""
    with fleet(ctx, kinds=("nothing",)) as (pair, victims):
        evacuate(pair)
        switch_off(pair)
        pair.receivers[0] = Receiver(pair, device=pair.a)
        run(pair, pair.a, "evacuate", "--back", f"{pair.b.address}:{PORT}", state=False)
        expect_on(pair.a, pair.b, *victims)


def tests(ctx):
    return [(f"replaced: {name}", lambda f=function: f(ctx)) for name, function in (
        ("a new box with a key of its own", test_new_key), ("a new box with the old keys folder", test_old_folder))]
