# SPDX-License-Identifier: MIT
"""All figures of a run: of each move and each floor the values of all rounds."""
import os
import statistics


class Summary:
    def __init__(self, values):
        self.values = values
        self.median, self.min, self.max = statistics.median(values), min(values), max(values)


class Row:
    """The rounds of one job."""

    def __init__(self, job):
        self.kind, self.mib, self.link, self.who, self.what = job.kind, job.mib, job.link, job.who, job.what
        self.name, self.on_demand, self.rounds = job.name, job.on_demand, []

    def summary(self, figure):
        """None when no round has it. A figure that only some have (a move without a fault) is of those."""
        values = [r[figure] for r in self.rounds if figure in r]
        return Summary(values) if values else None

    def figures(self):
        names = {}
        for r in self.rounds:
            names.update(dict.fromkeys(key for key in r if key != "hundredths"))
        return list(names)

    def hundredths(self):
        """Of the fault latencies: each the median of all rounds."""
        rounds = [r["hundredths"] for r in self.rounds if "hundredths" in r]
        return [statistics.median(values) for values in zip(*rounds)]


class Run:
    def __init__(self, binary, rounds, peer=None):
        self.rows, self.floors, self.peer, self.failures = {}, {}, peer, []
        self.system = {"kernel": os.uname().release, "machine": os.uname().machine, "cpus": os.cpu_count(),
                       "rounds": rounds, "binary_bytes": os.path.getsize(binary)}

    def add(self, job, figures):
        self.rows.setdefault(job.name, Row(job)).rounds.append(figures)

    def peer_failed(self, job, why):
        """That is no failure of the run: it is told, and the others go on."""
        self.failures.append([job.name, why])

    def add_floors(self, link, figures):
        self.floors.setdefault(link, []).append(figures)

    def floor_summary(self, figure, link="veth"):
        values = [r[figure] for r in self.floors.get(link, []) if figure in r]
        return Summary(values) if values and not isinstance(values[0], (str, list)) else None

    def floor(self, figure, link="veth"):
        found = self.floor_summary(figure, link)
        return found.median if found else float("nan")

    def floor_figures(self, link):
        return [key for key in self.floors[link][0] if self.floor_summary(key, link)]

    def row(self, kind, mib=None, link="veth", who="baton"):
        for row in self.rows.values():
            if (row.kind, row.link, row.who) == (kind, link, who) and mib in (None, row.mib):
                return row
        return None

    def find(self, kind, mib=None, link="veth", who="baton", figure=None):
        """The median of a figure, or None when it was not measured."""
        row = self.row(kind, mib, link, who)
        found = row.summary(figure) if row else None
        return found.median if found else None
