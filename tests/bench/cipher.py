#!/usr/bin/python3 -I
# SPDX-License-Identifier: MIT
"""Lines of tests/bench/cipher.c, of several rounds, as a table: the median, and in brackets its bounds."""
import statistics
import sys

figures = {}
for line in sys.stdin:
    maker, cipher, *values = line.split()
    figures.setdefault((maker, cipher), []).append([float(v) for v in values])

print("| GB/s, records of 16 KiB | encrypting | decrypting |\n|---|---|---|")
for (maker, cipher), rounds in figures.items():
    cells = [f"{statistics.median(way):.2f} ({min(way):.2f} to {max(way):.2f})" for way in zip(*rounds)]
    print(f"| {cipher} of {maker} | {' | '.join(cells)} |")
sys.exit(not figures)
