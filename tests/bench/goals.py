# SPDX-License-Identifier: MIT
"""What is wanted, as data: each goal is a value made of the figures of one run, and its limit."""


class Goal:
    """value(run): a number, or None when it was not measured. at_most, or else at least."""

    def __init__(self, what, unit, limit, value, at_most=True):
        self.what, self.unit, self.limit, self.value, self.at_most = what, unit, limit, value, at_most

    def row(self, run):
        """what, value, goal, met or not."""
        value = self.value(run)
        sign = "<=" if self.at_most else ">="
        goal = f"{sign} {self.limit:g}{self.unit}"
        if value is None:
            return [self.what, "not measured", goal, "-"]
        met = value <= self.limit if self.at_most else value >= self.limit
        return [self.what, f"{value:.2f}{self.unit}", goal, "met" if met else "NOT met"]


def touch_growth(run):
    """Of what the program sees, from the smallest to the largest size."""
    small, large = (run.find("touch", mib, figure="gap_ms") for mib in (16, 4096))  # MiB, not a page
    return None if None in (small, large) else large - small


def over_floor(figure, floor):
    """Of the largest process up to 1 GiB: the longest push that every run has."""
    def value(run):
        sizes = [row.mib for row in run.rows.values() if (row.kind, row.link, row.who) ==
                 ("touch", "veth", "baton") and row.mib <= 1024 and row.summary(figure)]
        return run.find("touch", max(sizes), figure=figure) / run.floor(floor) if sizes else None
    return value


def slow_link(run):
    """Faults with the push running, over those without."""
    with_push = run.find("touch", link="10mbit", figure="seen_p50_us")
    without = run.find("touch", link="10mbit", who="baton --on-demand", figure="seen_p50_us")
    return None if None in (with_push, without) else with_push / without


def packing(run):
    """What packing makes of a slow link: memory a second, over that without."""
    packed = run.find("redis", link="10mbit", figure="rate_mib_s")
    plain = run.find("redis", link="10mbit", who="baton --compress off", figure="rate_mib_s")
    return None if None in (packed, plain) else packed / plain


def stream(run):
    rate = run.find("idle", figure="rate_mib_s")
    return None if rate is None else rate / run.floor("stream_mib_s")


GOALS = (
    Goal("downtime, 16 MiB, as the program sees it", " ms", 5,
         lambda run: run.find("touch", 16, figure="gap_ms")),
    Goal("its growth from 16 MiB to 4 GiB", " ms", 1, touch_growth),
    Goal("downtime, redis-server 200 MB, as baton reports it", " ms", 10,
         lambda run: run.find("redis", figure="downtime_ms")),
    Goal("fault p50 during the push, times the floor's during its stream", "", 1.5,
         over_floor("seen_p50_us", "pushed_p50_us")),
    Goal("fault p99 during the push, times the floor's during its stream", "", 3,
         over_floor("seen_p99_us", "pushed_p99_us")),
    Goal("slow link: fault p50 with the push, times without", "", 1.3, slow_link),
    Goal("slow link: redis-server's memory a second, times that without packing", "", 2, packing,
         at_most=False),
    Goal("stream over TLS, of the plain floor", "", 0.8, stream, at_most=False),
)
