# SPDX-License-Identifier: MIT
"""The benchmarks work: each gives every figure it should. No figure is compared with anything."""
import json
import os
import shutil
import subprocess

from devices import TOP, Failure

MOVE = ("downtime_ms", "freeze_ms", "total_s", "wire_mib", "memory_source_kib", "memory_target_kib")
PUSH = MOVE + ("rate_mib_s", "cpu_source_s_gib", "cpu_target_s_gib")
FAULTS = ("gap_ms", "seen_faults", "seen_p50_us", "seen_p99_us", "seen_max_us")
REDIS = ("first_answer_ms", "requests_before_s", "answer_before_p99_us", "requests_after_s",
         "answer_after_p50_us", "answer_after_p99_us")
IMAGE = ("image_memory_mib", "image_fresh_ms", "image_lazy_plain_ms", "image_lazy_lz4_ms", "image_eager_plain_ms",
         "image_eager_lz4_ms", "image_plain_mib", "image_lz4_mib")
FLOOR = ("uffd", "tcp", "fault")

# kind: how many of them, and the figures of each
WANTED = {"touch": (5, FAULTS), "idle": (1, ("gap_ms",)), "busy": (1, FAULTS),
          "reader": (1, FAULTS + ("sweep_s",)), "vmas": (1, FAULTS), "sparse": (1, FAULTS),
          "zeros": (1, FAULTS), "redis": (3, REDIS), "image": (3, IMAGE)}


def expect_positive(where, figures, names):
    bad = [f"{name} = {figures.get(name)}" for name in names if not figures.get(name, 0) > 0]
    if bad:
        raise Failure(f"{where}: {', '.join(bad)}")


def every_figure(ctx):
    out = f"{ctx.root}/bench"
    env = {key: value for key, value in os.environ.items() if key != "CRIU"}
    done = subprocess.run([f"{TOP}/tests/bench/run", "--quick", "--out", out], capture_output=True, text=True,
                          timeout=600, env={**env, "BATON": ctx.binary})
    if done.returncode:
        raise Failure(f"exit {done.returncode}: {done.stdout[-500:]} {done.stderr[-500:]}")
    with open(f"{out}/bench.json") as f:
        found = json.load(f)
    kinds = [move["kind"] for move in found["moves"]]
    for kind, (nr, _) in WANTED.items():
        if kinds.count(kind) != nr:
            raise Failure(f"{kinds.count(kind)} moves of {kind}, not {nr}")
    for move in found["moves"]:
        on_demand = "on-demand" in move["who"]
        of_a_move = () if move["kind"] == "image" else MOVE if on_demand else PUSH
        expect_positive(move["name"], move["median"], of_a_move + WANTED[move["kind"]][1])
    for link, rounds in found["floors"].items():
        names = [f"{name}_{p}_us" for name in FLOOR for p in ("p50", "p99")] + ["stream_mib_s", "cipher_mib_s"]
        expect_positive(link, rounds[0], names + (
            ["busy_fault_p50_us", "pushed_p50_us", "pushed_p99_us"] if link == "veth" else []))
    plots = ["downtime.svg", "faults.svg", "faults-slow.svg"] if shutil.which("gnuplot") else []
    for name in ["bench.csv", "table.md"] + plots:
        if not os.path.getsize(f"{out}/{name}"):
            raise Failure(f"{name} is empty")
    return f"{len(kinds)} moves, {found['system']['seconds']} s"


def alone(ctx):
    return [("the benchmarks give every figure", lambda: every_figure(ctx))]


def tests(ctx):
    del ctx
    return []
