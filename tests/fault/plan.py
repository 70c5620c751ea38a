# SPDX-License-Identifier: MIT
"""What is done in a round of chaos: drawn from seed and number alone, so that it can be done again."""
import random
from dataclasses import dataclass, field

from faults import LASTING
from moving import STAGES

KILLS = ("kill source", "kill target", "kill receiver", "kill both sides", "kill source twins",
         # Once the process runs there this is the double fault: twins_test.py.
         "kill target twins")
WEIGHTS = (6, 8, 2, 2, 2, 0)


@dataclass
class Fault:
    kind: str           # one of KILLS or CUTS
    stage: tuple = ()   # (side, index into STAGES): not before that
    after_s: float = 0  # this long after the beginning, or after the stage was seen
    lasts_s: float = 0  # a cut
    which: float = 0    # picks one of the processes that are there: 0 <= which < 1

    def __str__(self):
        when = f"{self.after_s * 1000:.0f} ms after "
        when += f"{self.stage[0]} {STAGES[self.stage[0]][self.stage[1]]}" if self.stage else "the start"
        return self.kind + (f" for {self.lasts_s:.1f} s" if self.lasts_s else "") + ", " + when


@dataclass
class Plan:
    seed: str
    nr: int
    mode: str = "lazy"
    forward: bool = True  # from a to b
    mib: int = 4
    threads: int = 2
    forks: int = 0
    rate: int = 40
    faults: list = field(default_factory=list)

    def __str__(self):
        return (f"{self.mode}, {'a to b' if self.forward else 'b to a'}, {self.mib} MiB at {self.rate} MiB/s, "
                f"{self.threads} threads, {self.forks} forks; "
                + "; ".join(map(str, self.faults)))


def draw_kind(rng, cuts, only):
    weights = dict(zip(KILLS, WEIGHTS))
    weights.update((c, 9 / len(cuts)) for c in cuts)
    kinds = [k for k, w in weights.items() if w and only in k]
    return rng.choices(kinds, [weights[k] for k in kinds])[0] if kinds else None


def draw_fault(rng, kind, fill_s):
    fault = Fault(kind, which=rng.random())
    if rng.random() < 0.5:
        side = rng.choice(("source", "target"))
        fault.stage = (side, rng.randrange(len(STAGES[side])))
        fault.after_s = rng.choice((0, rng.uniform(0, 0.02), rng.uniform(0, fill_s)))
    else:
        fault.after_s = rng.uniform(0, 0.15 + fill_s)
    if kind in LASTING:
        fault.lasts_s = 0.1 * 30 ** rng.random() ** 2  # 0.1 to 3 s, mostly short
    return fault


def draw(seed, nr, cuts, only=""):
    """The plan of one round; `cuts`: those that can be made on this machine. `only`: leaves out all
    kinds of faults that lack this word."""
    rng = random.Random(f"{seed}/{nr}")
    plan = Plan(str(seed), nr)
    plan.mode = rng.choices(("lazy", "eager", "on-demand", "pull"), (14, 2, 2, 3))[0]
    plan.forward = rng.random() < 0.5
    plan.mib = rng.choice((2, 4, 8, 8, 16, 24))
    plan.threads = rng.choice((1, 2, 2, 3, 4))
    plan.forks = rng.choice((0, 0, 1, 3, 6))
    fill_s = rng.choice((0.1, 0.2, 0.4, 0.8))
    plan.rate = max(1, round(plan.mib / fill_s))
    kinds = [draw_kind(rng, cuts, only) for _ in range(rng.choice((1, 1, 2, 2, 3, 4)))]
    plan.faults = [draw_fault(rng, kind, fill_s) for kind in kinds if kind]
    return plan
