# SPDX-License-Identifier: MIT
"""The cables of the benchmarks: as fast as this machine is, a fast and a slow one."""
import contextlib
import subprocess

import cable
from devices import Failure

DELAY_US = 10000  # in each direction


@contextlib.contextmanager
def plain(ctx, pair):
    del ctx, pair
    yield


@contextlib.contextmanager
def gigabit(ctx, pair):
    del ctx
    cable.shape(pair, "1gbit", burst="64k", queue="pfifo_fast")
    yield


@contextlib.contextmanager
def modem(ctx, pair):
    """10 Mbit/s and 20 ms there and back: tbf for the rate, tests/bench/delay.c for the time on the way,
    since netem is not in every kernel. The cable has its old name, and both devices their addresses."""
    cable.on_net(pair.a, "ip", "link", "del", "veth0")
    relay = subprocess.Popen([f"{ctx.tools}/delay", str(pair.a.init), str(pair.b.init), "veth0",
                              str(DELAY_US)], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    try:
        if relay.stdout.readline() != b"ready\n":
            raise Failure("the delay needs /dev/net/tun")
        for device in (pair.a, pair.b):
            cable.on_net(device, "ip", "addr", "add", f"{device.address}/24", "dev", "veth0")
            cable.on_net(device, "ip", "link", "set", "veth0", "up")
        cable.shape(pair, "10mbit")
        yield
    finally:
        relay.stdin.close()
        relay.wait(10)
        relay.stdout.close()


class Link:
    """faults, mib: how much a floor is measured with."""

    def __init__(self, label, laid, faults, mib):
        self.label, self.laid, self.faults, self.mib = label, laid, faults, mib


LINKS = {"veth": Link("virtual cable", plain, 2000, 256),
         "1gbit": Link("1 Gbit/s", gigabit, 2000, 128),
         "10mbit": Link("10 Mbit/s, 20 ms there and back", modem, 100, 4)}
