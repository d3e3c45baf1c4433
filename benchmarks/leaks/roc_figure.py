"""The ROC curves of likelihood ratios, on logarithmic axes, where the few that are found for certain can be seen."""

import numpy as np
from leaks.findings import Finding
from leaks.membership import ALL_COUNTS, NODE_COUNTS, OF_NODE, RATIO, SHARED
from matplotlib.figure import Figure

from hierfed.report.style import HARM, INK, MODEL, MUTED, blank, fit, styled

LEAST_RATE = 1e-3
POINTS = np.geomspace(LEAST_RATE, 1, 200)
COLOURS = {"hierarchical": MODEL, "network": HARM, "private": INK}
LINES = {SHARED: "-", OF_NODE: "--", NODE_COUNTS: "--", ALL_COUNTS: ":"}
PANELS = {"user": (SHARED, OF_NODE), "rating": (SHARED, NODE_COUNTS, ALL_COUNTS)}
RATES = {0.001: "0.1%", 0.01: "1%", 0.1: "10%", 1.0: "100%"}


@styled
def draw(findings: list[Finding]) -> Figure:
    """Users above, ratings below; a colour for each target, paler under differential privacy."""
    figure, axes = blank(
        "What is summed tells more than the model that comes of it",
        "Likelihood-ratio attacks: share of members found, against share of others taken for members",
        8.6,
        panels=2,
    )
    for panel, (unit, shown) in zip(axes, PANELS.items(), strict=True):
        for finding in findings:
            known = finding.target in COLOURS and finding.seen in shown
            if finding.attack != f"{unit}: {RATIO}" or finding.curve is None or not known:
                continue
            protected = "epsilon" in finding.protection
            name = f"{finding.target}{f' ({finding.protection})' if protected else ''}: {finding.seen}"
            panel.plot(
                POINTS,
                [finding.curve.true_positive_at(rate) for rate in POINTS],
                color=COLOURS[finding.target],
                linestyle=LINES[finding.seen],
                alpha=0.45 if protected else 1,
                label=name,
            )
        panel.plot(POINTS, POINTS, color=MUTED, linewidth=1, label="a guess")
        panel.set(xscale="log", yscale="log", xlim=(LEAST_RATE, 1), ylim=(LEAST_RATE, 1), ylabel=f"{unit}s found")
        panel.set_xticks(list(RATES), list(RATES.values()))
        panel.set_yticks(list(RATES), list(RATES.values()))
        panel.minorticks_off()
        panel.legend(loc="lower right", fontsize=7.5, frameon=False)
    axes[-1].set_xlabel("others taken for members")
    return fit(figure, (1, 1))
