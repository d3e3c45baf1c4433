"""The figure of judging, then learning: each strategy's error, block after block, beside the frozen model's."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from matplotlib.figure import Figure

from hierfed.report.style import HARM, INK, MODEL, MUTED, blank, fit, label_right, styled

LINES = {"retrain": INK, "rounds": MODEL, "forgetting": HARM, "users": MUTED}


@styled
def by_block(labels: Sequence[str], rmse: Mapping[str, Sequence[float]]) -> Figure:
    """RMSE of each strategy minus that of the frozen model, by block; below zero is better.

    labels: of the blocks. rmse: by strategy, for each block.
    """
    figure, (panel,) = blank("What learning from each block is worth", "RMSE minus that of the frozen model", 3.6)
    places, ends = range(len(labels)), []
    for name, colour in LINES.items():
        if name in rmse:
            gained = [one - other for one, other in zip(rmse[name], rmse["frozen"], strict=True)]
            panel.plot(places, gained, color=colour, marker="o")
            ends.append((gained[-1], name, colour))
    panel.axhline(0, color=INK, linewidth=1.3)
    step = max(len(labels) // 8, 1)
    panel.set_xticks(list(places)[::step], list(labels)[::step])
    panel.set_ylabel("Stars; below zero is better")
    label_right(panel, ends)
    return fit(figure)
