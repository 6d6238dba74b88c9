"""The kind of program an agent writes: standard library only, tells what it does as it goes, leaves files behind.

    python3 analyse_penguins.py penguins.csv report.json chart.svg

Runs inside the sandbox in `first_session.py`, and anywhere else.
"""

from __future__ import annotations

import csv
import json
import math
import statistics
import sys
from collections import defaultdict
from pathlib import Path

MEASURES = ("bill_length_mm", "bill_depth_mm", "flipper_length_mm", "body_mass_g")
COLOURS = {"Adelie": "#e07b39", "Chinstrap": "#8e5ea2", "Gentoo": "#2a7f9e"}

Row = dict[str, str]


def load(path: Path) -> list[Row]:
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    complete = [row for row in rows if all(row[name] not in ("", "NA") for name in MEASURES)]
    print(f"read {len(rows)} penguins, {len(complete)} with all measurements", flush=True)
    return complete


def summarise(rows: list[Row]) -> dict[str, dict[str, float]]:
    """Mean of each measure by species."""
    groups: dict[str, list[Row]] = defaultdict(list)
    for row in rows:
        groups[row["species"]].append(row)
    table = {}
    for species, members in sorted(groups.items()):
        means = {name: round(statistics.fmean(float(row[name]) for row in members), 1) for name in MEASURES}
        table[species] = {"count": len(members), **means}
        print(f"  {species:<10} n={len(members):<4} flipper {means['flipper_length_mm']:6.1f} mm"
              f"   mass {means['body_mass_g']:7.1f} g", flush=True)  # fmt: skip
    return table


def fit(rows: list[Row]) -> dict[str, float]:
    """Body mass as a straight line of flipper length."""
    xs = [float(row["flipper_length_mm"]) for row in rows]
    ys = [float(row["body_mass_g"]) for row in rows]
    slope, intercept = statistics.linear_regression(xs, ys)
    r = statistics.correlation(xs, ys)
    print(f"mass = {slope:.1f} g/mm x flipper {intercept:+.0f} g   (r2 = {r * r:.3f})", flush=True)
    return {"slope_g_per_mm": slope, "intercept_g": intercept, "r2": r * r}


def classify(rows: list[Row], neighbours: int = 5) -> float:
    """Share of penguins whose species the nearest others tell, each left out in turn."""
    scales = {name: statistics.stdev(float(row[name]) for row in rows) for name in MEASURES}
    points = [(tuple(float(row[name]) / scales[name] for name in MEASURES), row["species"]) for row in rows]
    right = 0
    for index, (point, species) in enumerate(points):
        others = sorted((math.dist(point, other), name) for j, (other, name) in enumerate(points) if j != index)
        right += statistics.mode(name for _, name in others[:neighbours]) == species
        if (index + 1) % 100 == 0:
            print(f"  checked {index + 1} of {len(points)}", flush=True)
    print(f"species told from measurements alone: {right} of {len(points)} right", flush=True)
    return right / len(points)


def chart(rows: list[Row], line: dict[str, float]) -> str:
    """Flipper length against body mass as an SVG picture."""
    width, height, left, bottom = 640, 420, 60, 40
    x0, x1, y0, y1 = 170.0, 235.0, 2500.0, 6500.0

    def place(x: float, y: float) -> tuple[float, float]:
        return (
            left + (x - x0) / (x1 - x0) * (width - left - 20),
            height - bottom - (y - y0) / (y1 - y0) * (height - bottom - 20),
        )

    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" font-family="sans-serif">',
        f'<rect width="{width}" height="{height}" fill="white"/>',
    ]
    for row in rows:
        x, y = place(float(row["flipper_length_mm"]), float(row["body_mass_g"]))
        colour = COLOURS.get(row["species"], "gray")
        parts.append(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3.5" fill="{colour}" fill-opacity="0.65"/>')
    (ax, ay), (bx, by) = (place(x, line["slope_g_per_mm"] * x + line["intercept_g"]) for x in (x0 + 2, x1 - 2))
    parts.append(f'<line x1="{ax:.1f}" y1="{ay:.1f}" x2="{bx:.1f}" y2="{by:.1f}" stroke="black"/>')
    for index, (species, colour) in enumerate(COLOURS.items()):
        parts.append(f'<text x="{left + 10}" y="{30 + 18 * index}" fill="{colour}">{species}</text>')
    parts.append(f'<text x="{width / 2}" y="{height - 10}" text-anchor="middle">flipper length, 170 to 235 mm</text>')
    parts.append(
        f'<text transform="translate(20 {height / 2}) rotate(-90)" text-anchor="middle">body mass, 2.5 to 6.5 kg</text>'
    )
    return "\n".join([*parts, "</svg>\n"])


def main() -> int:
    if len(sys.argv) != 4:
        print(__doc__, file=sys.stderr)
        return 2
    source, report, picture = (Path(argument) for argument in sys.argv[1:])
    rows = load(source)
    means = summarise(rows)
    line = fit(rows)
    accuracy = classify(rows)
    picture.write_text(chart(rows, line))
    report.write_text(
        json.dumps({"means": means, "mass_by_flipper": line, "species_accuracy": accuracy}, indent=2) + "\n"
    )
    print(f"wrote {report} and {picture}", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
