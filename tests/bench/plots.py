# SPDX-License-Identifier: MIT
"""Plots of a run, by gnuplot: downtime against size, and how fault latencies are spread."""
import shutil
import statistics
import subprocess

from links import LINKS

HEAD = """set terminal svg size 1100,500 font 'sans,13' background 'white'
set output '{path}'
set key outside right
set grid
"""


def block(name, lines):
    return f"${name} << EOD\n" + "\n".join(" ".join(map(str, line)) for line in lines) + "\nEOD\n"


def downtime(run):
    """Median and extremes of the standstill, of each who."""
    curves = {}
    for row in run.rows.values():
        s = row.summary("gap_ms")
        if row.kind == "touch" and row.link == "veth" and s:
            curves.setdefault(row.who, []).append((row.mib, s.median, s.min, s.max))
    script = "set title 'downtime, as the program sees it'\nset xlabel 'MiB'\nset ylabel 'ms'\n" \
             "set logscale x 2\nset logscale y\nset yrange [1:]\n"
    return plot(script, curves, "with yerrorlines")


def faults(run, link):
    """Each hundredth of the faults on a link against what it took; the floor beside them."""
    curves = {}
    for row in run.rows.values():
        hundredths = row.hundredths()
        if hundredths and row.link == link and row.kind in ("touch", "busy", "reader"):
            curves[f"{row.what}; {row.who}"] = [(us, n + 1) for n, us in enumerate(hundredths)]
    floor = zip(*(r["fault_hundredths_us"] for r in run.floors.get(link, [])))
    if curves:
        curves["floor"] = [(statistics.median(values), n + 1) for n, values in enumerate(floor)]
    script = f"set title 'fault latency, as the program sees it; {LINKS[link].label}'\nset xlabel 'us'\n" \
             "set ylabel '% of the faults within'\nset logscale x\nset yrange [0:100]\n" \
             "set xtics rotate by -30\n"
    return plot(script, curves, "with lines lw 2")


def plot(script, curves, style):
    if not curves:
        return None
    data = "".join(block(f"c{n}", lines) for n, lines in enumerate(curves.values()))
    parts = [f"$c{n} title '{name}' noenhanced {style}" for n, name in enumerate(curves)]
    return data + script + "plot " + ", ".join(parts) + "\n"


def draw(run, folder):
    """What it drew, in words."""
    if not shutil.which("gnuplot"):
        return "(no plots: gnuplot is not installed; Debian: gnuplot-nox)"
    drawn = []
    for name, script in (("downtime.svg", downtime(run)), ("faults.svg", faults(run, "veth")),
                         ("faults-slow.svg", faults(run, "10mbit"))):
        if script:
            path = f"{folder}/{name}"
            subprocess.run(["gnuplot"], input=HEAD.format(path=path) + script, text=True, check=True,
                           stderr=subprocess.DEVNULL, timeout=60)
            drawn.append(name)
    return " ".join(drawn)
