# SPDX-License-Identifier: MIT
"""The tables of a run: for the terminal, as markdown, as JSON and CSV. Ratios first, then absolutes."""
import csv
import json

from goals import GOALS
from links import LINKS

# figure, heading, digits
COLUMNS = (("downtime_ms", "downtime ms", 1), ("gap_ms", "program stood ms", 1),
           ("first_answer_ms", "first answer ms", 0), ("total_s", "total s", 2),
           ("rate_mib_s", "MiB/s", 2), ("packed_ratio", "packed to 1/", 1), ("seen_faults", "faults", 0), ("seen_p50_us", "fault p50 us", 0),
           ("seen_p99_us", "fault p99 us", 0), ("fault_p50_us", "p50, own", 0),
           ("fault_p99_us", "p99, own", 0))
COSTS = (("cpu_source_s_gib", "source: CPU s/GiB", 2), ("cpu_target_s_gib", "target: CPU s/GiB", 2),
         ("memory_source_kib", "source: KiB", 0), ("memory_target_kib", "target: KiB", 0))
IMAGES = (("image_memory_mib", "memory MiB", 0), ("image_fresh_ms", "fresh start ms", 0),
          ("image_lazy_plain_ms", "lazily, plain ms", 0), ("image_lazy_lz4_ms", "LZ4 ms", 0),
          ("image_eager_plain_ms", "eagerly, plain ms", 0), ("image_eager_lz4_ms", "LZ4 ms", 0),
          ("image_plain_mib", "file, plain MiB", 1), ("image_lz4_mib", "LZ4 MiB", 1))
REDIS = (("requests_before_s", "before: requests/s", 0), ("answer_before_p99_us", "p99 us", 0),
         ("requests_after_s", "from the first answer on: requests/s", 0),
         ("answer_after_p50_us", "p50 us", 0), ("answer_after_p99_us", "p99 us", 0),
         ("answer_after_max_us", "max us", 0))


def cell(summary, digits):
    if summary is None:
        return ""
    if len(summary.values) == 1:
        return f"{summary.median:.{digits}f}"
    return f"{summary.median:.{digits}f} ({summary.min:.{digits}f}..{summary.max:.{digits}f})"


def ratio(value, floor):
    return "" if value is None or not floor == floor else f"{value / floor:.2f}"


def label(row):
    link = "" if row.link in ("veth", None) else f"; {LINKS[row.link].label}"
    return row.what + link + ("" if row.who == "baton" else f"; {row.who}")


def figures_table(title, rows, columns):
    shown = [c for c in columns if any(row.summary(c[0]) for row in rows)]
    body = [[label(row)] + [cell(row.summary(key), digits) for key, _, digits in shown]
            for row in rows if any(row.summary(key) for key, _, _ in shown)]
    return title, ["what"] + [heading for _, heading, _ in shown], body


def ratios_table(run):
    """To the floors of the same link, and to the peer."""
    body = []
    for row in run.rows.values():
        if not row.who.startswith("baton") or not row.link:
            continue
        median = {key: row.summary(key).median for key in row.figures()}
        line = [label(row)]
        for floor in ("fault", "pushed"):
            for key in ("seen_p50_us", "seen_p99_us"):
                line.append(ratio(median.get(key), run.floor(key.replace("seen", floor), row.link)))
        line.append(ratio(median.get("rate_mib_s"), run.floor("stream_mib_s", row.link)))
        key = "gap_ms" if "gap_ms" in median else "first_answer_ms"
        for who in ("criu", "criu, TLS"):
            there = run.find(row.kind, row.mib, row.link, who, key) if not row.on_demand else None
            line.append("not given" if not run.peer else
                        f"1/{there / median[key]:.1f}" if there and median.get(key) else "")
        body.append(line)
    return ("Ratios: times the floor of the same link; and of the peer's standstill",
            ["what", "fault p50", "fault p99", "pushed p50", "pushed p99", "stream", "criu", "criu, TLS"],
            body)


def stages_table(rows):
    body = []
    for row in rows:
        stages = [key for key in row.figures() if key.startswith("stage_")]
        body += [[label(row), key[len("stage_"):-len("_us")], cell(row.summary(key), 0)] for key in stages]
    return "Stages of the downtime, us", ["what", "stage", "us"], body


def floors_table(run):
    body = [[LINKS[link].label, key, cell(run.floor_summary(key, link), 1)]
            for link in run.floors for key in run.floor_figures(link)]
    return "Floors", ["link", "figure", "value"], body


def tables(run):
    ours = [row for row in run.rows.values() if row.who.startswith("baton")]
    theirs = [row for row in run.rows.values() if row not in ours]
    found = [("Goals", ["goal", "value", "wanted", ""], [goal.row(run) for goal in GOALS]),
             ratios_table(run),
             figures_table("Figures: median (min..max)", ours, COLUMNS),
             figures_table("Cost", ours, COSTS),
             figures_table("redis-benchmark", ours + theirs, REDIS),
             figures_table("First answer of a service, out of its image and without", ours, IMAGES),
             stages_table(ours),
             figures_table("The peer", theirs, COLUMNS),
             figures_table("Cost of the peer", theirs, COSTS),
             ("Failures of the peer", ["what", "why"], run.failures),
             floors_table(run)]
    return [t for t in found if t[2]]


def headline(run):
    s = run.system
    cipher = next((rounds[0]["cipher"] for rounds in run.floors.values()), "?")
    peer = "" if run.peer else "; peer: not given (CRIU=/path/to/criu)"
    return (f"{s['machine']}, {s['cpus']} processors, Linux {s['kernel']}, {cipher}; rounds: {s['rounds']}, "
            f"{s['seconds']} s; binary: {s['binary_bytes']:,} bytes{peer}")


def as_text(title, header, body):
    widths = [max(len(line[i]) for line in [header] + body) for i in range(len(header))]
    lines = ["", title]
    for line in [header] + body:
        cells = [text.ljust(w) if i == 0 else text.rjust(w) for i, (text, w) in enumerate(zip(line, widths))]
        lines.append("    " + "  ".join(cells).rstrip())
    return "\n".join(lines)


def as_markdown(title, header, body):
    lines = [f"**{title}**", "", "| " + " | ".join(header) + " |", "|" + "---|" * len(header)]
    return "\n".join(lines + ["| " + " | ".join(line) + " |" for line in body] + [""])


def text(run):
    return "\n".join([headline(run)] + [as_text(*table) for table in tables(run)])


def as_json(run):
    moves = []
    for row in run.rows.values():
        moves.append({"name": row.name, "kind": row.kind, "mib": row.mib, "link": row.link, "who": row.who,
                      "median": {key: row.summary(key).median for key in row.figures()},
                      "rounds": row.rounds})
    goals = [dict(zip(("goal", "value", "wanted", "met"), goal.row(run))) for goal in GOALS]
    return {"system": run.system, "peer": run.peer or "not given", "goals": goals, "moves": moves,
            "floors": run.floors, "peer_failures": run.failures}


def write_csv(run, path):
    with open(path, "w", newline="") as f:
        out = csv.writer(f)
        out.writerow(["what", "link", "who", "figure", "median", "min", "max", "rounds"])
        for row in run.rows.values():
            for key in row.figures():
                s = row.summary(key)
                out.writerow([row.what, row.link, row.who, key, s.median, s.min, s.max, len(s.values)])
        for link in run.floors:
            for key in run.floor_figures(link):
                s = run.floor_summary(key, link)
                out.writerow(["floor", link, "", key, s.median, s.min, s.max, len(s.values)])


def write(run, folder):
    with open(f"{folder}/bench.json", "w") as f:
        json.dump(as_json(run), f, indent=1)
    write_csv(run, f"{folder}/bench.csv")
    with open(f"{folder}/table.md", "w") as f:
        f.write(headline(run) + "\n\n" + "\n".join(as_markdown(*table) for table in tables(run)))
