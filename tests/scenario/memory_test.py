# SPDX-License-Identifier: MIT
"""Peak resident memory of every baton process: the same for a small and a large process."""
import os
import re
import subprocess

from devices import Failure, read
from moves import Move, Peaks
from victim import Victim

SMALL_MIB, LARGE_MIB = 64, 2048
SLACK_KIB = 256
NOISE_KIB = 64


def budget_kib(binary):
    found = re.search(r"CONFIG_MEMORY_BUDGET_KIB=(\d+)",
                      read(os.path.join(os.path.dirname(binary), "auto.conf")))
    return int(found.group(1)) if found else 1024


def text_kib(binary):
    """What of the file can become resident: its loaded segments, but not zeroed memory."""
    out = subprocess.run(["size", binary], capture_output=True, text=True, check=True).stdout
    text, data = out.splitlines()[1].split()[:2]
    return (int(text) + int(data) + 1023) // 1024


def measure(ctx, mib, mode, **kw):
    """The highest VmHWM among the processes of each side, by device name. kw: the pair's."""
    with ctx.pair(**kw) as pair:
        victim = Victim(ctx, pair, "memory", mib)
        peaks = Peaks(pair.a, pair.b)
        peaks.start()
        try:
            m = Move(pair, victim.pid, mode, timeout=200).begin()
            m.wait_started()
            m.wait_complete()
        finally:
            seen = peaks.stop()
        reports = {"a": m.report(m.source), "b": m.report(m.target)}
        victim.check_after_move(pair.b)
        result = {}
        for (device, _), kib in seen.items():
            result[device] = max(result.get(device, 0), kib)
        for device, report in reports.items():
            result[device] = max(result.get(device, 0), report["peak_rss_kib"])
        return result


def same_memory(ctx, mode):
    limit = budget_kib(ctx.binary) + text_kib(ctx.binary) + SLACK_KIB
    small, large = measure(ctx, SMALL_MIB, mode), measure(ctx, LARGE_MIB, mode)
    text = f"{SMALL_MIB} MiB: {small} KiB, {LARGE_MIB} MiB: {large} KiB, limit {limit} KiB"
    for device in "ab":
        if max(small[device], large[device]) > limit:
            raise Failure(f"more than budget + text + {SLACK_KIB} KiB: {text}")
        if abs(small[device] - large[device]) > NOISE_KIB:
            raise Failure(f"depends on the size of the process: {text}")
    print(f"# memory, {mode}: {text}", flush=True)


def alone(ctx):
    return [(f"memory of baton, {mode}", lambda m=mode: same_memory(ctx, m))
            for mode in ("lazy", "eager")]


def tests(ctx):
    del ctx
    return []
