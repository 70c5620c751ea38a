# SPDX-License-Identifier: MIT
"""Who moves, and what it costs: baton in one of its modes. The peer is in peer.py."""
from devices import AHEAD
from moves import Move


class Baton:
    """hold: in a move on demand, so many seconds it is touched; then the process ends, and the move too."""

    def __init__(self, mode="lazy", hold=0, compress=None):
        self.name, self.mode, self.hold = "baton", mode, hold
        if mode != "lazy":
            self.name += " --" + mode
        self.options = ["--compress", compress] if compress else []
        if compress:
            self.name += " --compress " + compress
        self.ahead = AHEAD

    def prepare(self, ctx, pair):
        pass

    def begin(self, pair, pid):
        self.move = Move(pair, pid, self.mode, timeout=300, send_options=self.options).begin()

    def wait(self):
        self.move.wait_complete()

    def figures(self, mib):
        """What both sides report, and what the system says of their processes."""
        m = self.move
        source, target = m.report(m.source), m.report(m.target)
        found = {"downtime_ms": source["downtime_us"] / 1e3, "freeze_ms": source["freeze_us"] / 1e3,
                 "total_s": source["total_us"] / 1e6,
                 "wire_mib": source["bytes_wire"] / (1 << 20)}
        if source["bytes_packed"]:
            found["packed_ratio"] = source["bytes_packed"] / source["bytes_packed_wire"]
        if target["faults"]:
            found.update(faults=target["faults"], fault_p50_us=target["fault_p50_us"],
                         fault_p99_us=target["fault_p99_us"])
        for name, us in source.get("stages_us", {}).items():
            found[f"stage_{name}_us"] = us
        for side, output, report in (("source", m.source, source), ("target", m.target, target)):
            found[f"memory_{side}_kib"] = report["peak_rss_kib"]
            if not self.hold:
                found[f"cpu_{side}_s_gib"] = output.cost[0] / 1e6 / (mib / 1024)
        if not self.hold:
            found["rate_mib_s"] = mib / found["total_s"]
        return found

    def close(self):
        pass
