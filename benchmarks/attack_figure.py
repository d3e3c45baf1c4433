"""Draw damage by the share of colluding nodes, by rule, from the lines of benchmarks/attack.py.

    python benchmarks/attack.py --data FOLDER --nodes 8 --attacks none --settings sum rule=screen ... --out LINES
    python benchmarks/attack.py --data FOLDER --nodes 8 --attacks collusion --share .125 .25 .375 .5 --settings ... \\
        --out LINES
    python benchmarks/attack_figure.py LINES docs/images

A panel for each preset; means over the seeds. A training that broke is drawn at the top.
"""

from __future__ import annotations

import argparse
import json
from collections import defaultdict
from pathlib import Path

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from hierfed.report.style import HARM, INK, MODEL, MUTED, WIDTH, save, styled

COLOURS = (INK, MODEL, HARM, "#3d8b5f", "#8a6bb8", MUTED)
# The axis is linear below the first and ends at the second.
LINEAR, MOST = 1e-3, 1.0


def points(lines: list[dict]) -> dict[str, dict[str, list[tuple[float, float]]]]:
    """The mean damage at each share of liars, by preset and rule."""
    found: dict[tuple[str, str], dict[float, list[float]]] = defaultdict(lambda: defaultdict(list))
    for line in lines:
        if line["attack"] in ("none", "collusion"):
            share = 0.0 if line["attack"] == "none" else line["liars"] / line["nodes"]
            found[line["preset"], line["rule"]][share].append(line["damage"])
    by_preset: dict[str, dict[str, list[tuple[float, float]]]] = defaultdict(dict)
    for (preset, rule), damages in found.items():
        means = [(share, float(np.mean(each))) for share, each in sorted(damages.items())]
        by_preset[preset][rule.removeprefix("rule=").split()[0]] = means
    return by_preset


@styled
def figure(lines: list[dict]) -> Figure:
    """A panel for each preset, and a line for each rule."""
    by_preset = points(lines)
    drawn = Figure(figsize=(WIDTH, 3.4), layout="constrained")
    FigureCanvasAgg(drawn)
    drawn.suptitle("Where each rule breaks", x=0.01, ha="left", fontsize=12, fontweight="bold")
    panels = drawn.subplots(1, len(by_preset), sharey=True, squeeze=False)[0]
    for axes, (preset, by_rule) in zip(panels, by_preset.items(), strict=True):
        for colour, (rule, means) in zip(COLOURS, by_rule.items(), strict=False):
            shares, damages = zip(*means, strict=True)
            axes.plot(shares, np.minimum(damages, MOST), "o-", color=colour, label=rule)
        axes.set_yscale("symlog", linthresh=LINEAR)
        axes.set_ylim(-LINEAR * 3, MOST * 1.2)
        axes.set_title(preset, loc="left")
        axes.set_xlabel("share of colluding nodes, of 8")
        axes.legend(frameon=False, fontsize=7.5, loc="upper left")
    panels[0].set_ylabel("RMSE over that without liars")
    return drawn


def main() -> None:
    """Read the lines, and save robustness.png and robustness.svg."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("lines", type=Path)
    parser.add_argument("folder", type=Path)
    options = parser.parse_args()
    save(figure([json.loads(line) for line in options.lines.read_text().splitlines()]), "robustness", options.folder)


if __name__ == "__main__":
    main()
