# SPDX-License-Identifier: MIT
"""Two plots of a run, by gnuplot: downtime against size, and how fault latencies are spread."""
import shutil
import statistics
import subprocess

HEAD = """set terminal svg size 800,500 font 'sans,13' background 'white'
set output '{path}'
set key top left
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


def faults(run):
    """Each hundredth of the faults against what it took; the floor beside them."""
    curves = {}
    for row in run.rows.values():
        hundredths = row.hundredths()
        if hundredths and row.kind in ("touch", "busy", "reader"):
            curves[row.name] = [(us, n + 1) for n, us in enumerate(hundredths)]
    for link, rounds in run.floors.items():
        merged = [statistics.median(values) for values in zip(*(r["fault_hundredths_us"] for r in rounds))]
        curves[f"floor; {link}"] = [(us, n + 1) for n, us in enumerate(merged)]
    script = "set title 'fault latency, as the program sees it'\nset xlabel 'us'\n" \
             "set ylabel '% of the faults within'\nset logscale x\nset yrange [0:100]\n" \
             "set key outside below\nset terminal svg size 900,750 font 'sans,13' background 'white'\n"
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
    for name, script in (("downtime.svg", downtime(run)), ("faults.svg", faults(run))):
        if script:
            path = f"{folder}/{name}"
            subprocess.run(["gnuplot"], input=HEAD.format(path=path) + script, text=True, check=True,
                           stderr=subprocess.DEVNULL, timeout=60)
            drawn.append(name)
    return " ".join(drawn)
