# SPDX-License-Identifier: MIT
"""What can be done to the cable between two test devices: made slow, cut, deaf."""
import contextlib
import shutil
import subprocess

from devices import Failure, Skip


def on_net(device, *args):
    """Runs one of this machine's own commands in the device's network."""
    done = subprocess.run(["nsenter", "-t", str(device.init), "-n", "--"] + list(args),
                          stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=20)
    if done.returncode:
        raise Failure(f"{' '.join(args)}: {done.stderr.strip()}")
    return done.stdout


def shape(pair, rate, burst="1600", queue=None):
    """Both directions, as a network card of that rate with that queueing discipline (None: one queue for all)."""
    for device in (pair.a, pair.b):
        on_net(device, "tc", "qdisc", "add", "dev", "veth0", "root", "handle", "1:", "tbf", "rate", rate,
               "burst", burst, "latency", "400ms")
        if queue:
            on_net(device, "tc", "qdisc", "add", "dev", "veth0", "parent", "1:1", queue)


@contextlib.contextmanager
def shaped(pair, rate):
    """For a pair that others use after us."""
    shape(pair, rate)
    try:
        yield
    finally:
        for device in (pair.a, pair.b):
            on_net(device, "tc", "qdisc", "del", "dev", "veth0", "root")


class Drop:
    """Packets that arrive at a device are dropped without a word."""

    def __init__(self, *devices):
        if not shutil.which("nft"):
            raise Skip("nft (Debian: nftables) is not installed")
        self.devices = devices

    def on(self):
        for device in self.devices:
            on_net(device, "nft", "add table inet cut; add chain inet cut in "
                   "{ type filter hook input priority 0; policy drop; }")

    def off(self):
        for device in self.devices:
            on_net(device, "nft", "delete table inet cut")


class Unplug:
    """Both ends of the cable are down."""

    def __init__(self, *devices):
        self.devices = devices

    def on(self):
        for device in self.devices:
            on_net(device, "ip", "link", "set", "veth0", "down")

    def off(self):
        for device in self.devices:
            on_net(device, "ip", "link", "set", "veth0", "up")
