# SPDX-License-Identifier: MIT
"""Runs tests/bench/floors.c between two devices: sleeping, as baton does, and busy."""
import json
import os
import subprocess

from devices import Failure, wait_for
from links import LINKS

PORT = 7337


def warm(ctx, mib):
    """Memory that is free now, and fast to get: of a virtual machine's the host may have taken it back."""
    subprocess.run([ctx.floors, "warm", str(int(mib * 1.25) + 64)], check=True)


def once(ctx, link_name, busy):
    link = LINKS[link_name]
    how = ["busy"] if busy else ["pushed"] if link_name == "veth" else []
    with ctx.pair() as pair, link.laid(ctx, pair):
        warm(ctx, link.mib)
        server = pair.a.start([ctx.floors, "serve", PORT] + (["busy"] if busy else []))
        wait_for(lambda: "listening" in server.stderr, 10, "floors listens")
        out = pair.b.run([ctx.floors, "measure", pair.a.address, PORT, link.faults,
                          0 if busy else link.mib] + how, timeout=120)
        if out.code:
            raise Failure(f"floors: exit {out.code}: {out.tail()} {server.tail()}")
        return json.loads(out.stdout)


def measure(ctx, link_name):
    """One round: the figures of both set-ups, those of the busy one with `busy_` in front."""
    found = once(ctx, link_name, False)
    # With a real-time policy one that never sleeps keeps the others from the processor.
    if link_name == "veth" and os.sched_getscheduler(0) == os.SCHED_OTHER:
        busy = once(ctx, link_name, True)
        found.update({f"busy_{key}": value for key, value in busy.items()
                      if key.split("_")[0] in ("uffd", "tcp", "fault") and key.endswith("_us")
                      and "hundredths" not in key})
    return found
