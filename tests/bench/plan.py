# SPDX-License-Identifier: MIT
"""What is measured: which workload, over which link, moved by whom; and one round of it."""
import time

import floors
import services
from links import LINKS
from movers import Baton
from peer import Criu
from workloads import TOUCHERS, Redis, Toucher

SLOW_KEYS = 60000  # about 20 MB: a redis-server for the slow link
HOLD_S = 4  # so long a process is touched on the slow link in a move on demand


class Job:
    def __init__(self, workload, link="veth", mover=None):
        self.workload, self.link, self.mover = workload, link, mover or (lambda: Baton())
        made, who = workload(), self.mover()
        self.kind, self.mib, self.who = made.kind, made.mib, who.name
        size = f"{self.mib} MiB" if self.mib else "200 MB" if link == "veth" else "20 MB"
        self.what = f"redis-server, {size}" if made.kind == "redis" else \
            f"{TOUCHERS[made.kind][0]}, {size}"
        self.on_demand, self.peer = bool(who.hold), isinstance(who, Criu)
        self.name = f"{self.what}; {LINKS[link].label}; {self.who}"

    def round(self, ctx):
        """The figures of one move."""
        workload, mover = self.workload(), self.mover()
        with ctx.pair(ahead=mover.ahead) as pair, LINKS[self.link].laid(ctx, pair):
            try:
                mover.prepare(ctx, pair)
                pid = workload.start(ctx, pair)
                floors.warm(ctx, workload.mib)
                began = time.monotonic()
                mover.begin(pair, pid)
                if mover.hold:
                    time.sleep(mover.hold)
                    seen = workload.finish(pair)
                    mover.wait()
                else:
                    workload.during(pair, began)
                    mover.wait()
                    seen = workload.finish(pair)
                return {**mover.figures(workload.mib), **seen}
            finally:
                mover.close()


def toucher(kind, mib, **more):
    return lambda: Toucher(kind, mib, **more)


def peers(program):
    return [lambda tls=tls: Criu(program, tls) for tls in (False, True)]


def jobs(sizes, program=None, quick=False):
    """All of them. quick: the same, but small."""
    middle, large = (16, 16) if quick else (256, 1024)
    redis = (lambda: Redis(20000, 2000)) if quick else Redis
    found = [Job(toucher("touch", mib)) for mib in sizes]
    found += [Job(toucher("idle", large)), Job(toucher("busy", middle)), Job(toucher("reader", middle)),
              Job(toucher("vmas", middle, **({"vmas": 1000} if quick else {}))),
              Job(toucher("sparse", large, **({"span_mib": 1024} if quick else {}))),
              Job(toucher("zeros", large)), Job(redis), Job(toucher("touch", middle), "1gbit")]
    slow = 2 if quick else 8
    found += [Job(toucher("touch", slow), "10mbit"),
              Job(toucher("touch", slow, check=0), "10mbit",
                  lambda: Baton("on-demand", 1 if quick else HOLD_S))]
    small = (lambda: Redis(4000, 500, True)) if quick else (lambda: Redis(SLOW_KEYS, 2000, True))
    found += [Job(small, "10mbit"), Job(small, "10mbit", lambda: Baton(compress="off"))]
    found += services.jobs(quick)
    for mover in peers(program) if program else []:
        found += [Job(toucher("touch", mib), "veth", mover) for mib in sizes]
        found += [Job(toucher("idle", large), "veth", mover), Job(redis, "veth", mover)]
    return found
