# SPDX-License-Identifier: MIT
"""Many rounds of chaos beside each other, and their figures."""
import contextlib
import statistics
import threading
import time
from collections import Counter

from faults import Network
from moving import Arenas
from plan import draw
from rounds import run_round


class Spoiled(Exception):
    """A round failed: nobody knows what still runs on these devices."""


class Chaos:
    """Numbers are handed out to as many threads as there are jobs, each with a pair of its own."""

    def __init__(self, ctx, seed, numbers, jobs=2, seconds=None, failures=10, verbose=False,
                 only=""):
        self.ctx, self.seed, self.jobs, self.verbose = ctx, seed, jobs, verbose
        self.only, self.arenas = only or "", Arenas(ctx)
        self.numbers, self.lock = iter(numbers), threading.Lock()
        self.until = time.monotonic() + seconds if seconds else float("inf")
        self.failures, self.results, self.broken = failures, [], []

    def next_number(self):
        with self.lock:
            enough = sum(bool(r.failure) for r in self.results) >= self.failures
            return None if enough or time.monotonic() > self.until else next(self.numbers, None)

    def tell(self, result):
        with self.lock:
            self.results.append(result)
            if result.failure:
                print(f"round {result.plan.nr} of seed {self.seed} failed: {result.failure}\n"
                      + "\n".join(result.story) + f"\n  again: make chaos SEED={self.seed} "
                      f"ROUND={result.plan.nr}" + (f" ONLY='{self.only}'" if self.only else ""),
                      flush=True)
            elif result.story:
                print(f"round {result.plan.nr} of seed {self.seed} was slow: {result.seconds:.0f} s\n"
                      + "\n".join(result.story), flush=True)
            elif self.verbose:
                print(f"round {result.plan.nr}: {result.seconds:.1f} s, ended on the {result.side}; "
                      f"{result.plan}", flush=True)

    def work(self):
        try:
            while (nr := self.next_number()) is not None:
                with contextlib.suppress(Spoiled), self.arenas.use() as arena:
                    cuts = Network(arena.pair.a, arena.pair.b).kinds()
                    result = run_round(arena, draw(self.seed, nr, cuts, self.only))
                    self.tell(result)
                    if result.failure:
                        raise Spoiled  # whatever is left there ends with the devices
        except Exception as why:
            self.broken.append(f"{type(why).__name__}: {why}")

    def run(self):
        threads = [threading.Thread(target=self.work) for _ in range(self.jobs)]
        for t in threads:
            t.start()
        for t in threads:
            t.join()
        self.arenas.close()
        return self

    def stop(self):
        """No more rounds. May be called by a signal's handler."""
        self.until = 0

    @property
    def failed(self):
        return [r for r in self.results if r.failure]

    def summary(self):
        """The figures, in one line."""
        kinds = Counter(k for r in self.results for k in r.faults)
        ended = Counter(r.side for r in self.results if r.side)
        told = [f"{len(self.results)} rounds of seed {self.seed}, {len(self.failed)} failed",
                f"ended on the target {ended['target']}, on the source {ended['source']}",
                f"{sum(kinds.values())} faults: "
                + ", ".join(f"{k} {n}" for k, n in sorted(kinds.items()))]
        for what, name in (("down_ms", "from a kill to the process running again"),
                           ("end_ms", "from a kill to the move's end")):
            values = [(v, r.plan.nr) for r in self.results if not r.failure
                      for v in getattr(r, what)]
            if values:
                most, nr = max(values)
                told.append(f"{name}: median {statistics.median(v for v, _ in values):.0f} ms, "
                            f"maximum {most:.0f} ms (round {nr}) of {len(values)}")
        return "; ".join(told)
