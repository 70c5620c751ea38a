# SPDX-License-Identifier: MIT
"""One fault alone, at a chosen stage: each way to cut a link, and each process killed."""
from devices import Failure
from faults import CUTS, LASTING
from moving import STAGES, Arenas
from plan import Fault, Plan
from rounds import run_round


def one(arenas, kind, side, stage, mode):
    fault = Fault(kind, (side, STAGES[side].index(stage)), 0.02,
                  0.4 if kind in LASTING else 0, which=0.99)
    plan = Plan("alone", 0, mode, mib=8, rate=16, forks=2, faults=[fault])
    with arenas.use() as arena:
        result = run_round(arena, plan)
        if result.failure:
            raise Failure(result.failure + "\n" + "\n".join(result.story))
        if result.faults != [kind]:
            raise Failure("the moment for it never came")
        if stage in ("serving", "started") and result.side != "target":
            raise Failure("it was handed over, but ended on the source")


def tests(ctx):
    arenas = Arenas(ctx)
    ctx.at_end.append(arenas.close)
    cases = [(kind, "source", stage, mode) for kind in CUTS for stage in ("offered", "serving")
             for mode in ("lazy", "pull")]
    cases += [(kind, "target", stage, mode)
              for kind in ("kill source", "kill target", "kill both sides", "kill receiver",
                           "kill source twins")
              for stage in ("building", "started") for mode in ("lazy", "eager", "on-demand", "pull")]
    cases.append(("kill target twins", "target", "building", "lazy"))
    return [(f"{kind} at {side} {stage} ({mode})",
             lambda k=kind, s=side, t=stage, m=mode: one(arenas, k, s, t, m))
            for kind, side, stage, mode in cases]
