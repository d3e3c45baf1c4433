"""The figure of every model beside the simple ones."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from hierfed.report import contents, words
from hierfed.report.style import INK, MODEL, MUTED, blank, finite, fit, name_rows, set_limits, styled, value_column
from hierfed.results import Result


@styled
def baselines(result: Result, headline: str) -> Figure:
    """Every model and baseline, on the rows of the global model's test and on those of personalisation."""
    models, sets = contents.model_rows(result), words.row_sets(result)
    parts = [
        [(row.name, row.own, value) for row in models if (value := row.values[place]) is not None]
        for place in range(len(sets))
    ]
    best = "best on top of each part" if len(parts) > 1 else "best on top"
    height = 1.4 + 0.28 * sum(len(entries) for entries in parts)
    key = f"■ {result.words.own}   ○ baselines; {best}"
    figure, panels = blank(headline, key, height, panels=len(parts))
    for panel, (_, title), entries in zip(panels, sets, parts, strict=True):
        draw_models(panel, entries)
        panel.set_title(title, loc="left", fontsize=9, color=INK)
        set_limits(panel, "x", [value for every in parts for _, _, value in every])
    panels[-1].set_xlabel(f"RMSE ({words.unit(result)}); left is better")
    return fit(figure, [len(entries) for entries in parts])


def draw_models(panel: Axes, entries: Sequence[tuple[str, bool, float]]) -> None:
    """One row per (name, own, RMSE), the best on top and those without a value last; the run's own stand out."""
    entries = sorted(entries, key=lambda entry: (not np.isfinite(entry[2]), entry[2]))
    values = finite([value for _, _, value in entries])
    rows = np.arange(len(entries))
    ours = np.array([own for _, own, _ in entries])
    panel.plot(values[~ours], rows[~ours], "o", color=INK, markerfacecolor="white", label="baselines")
    panel.plot(values[ours], rows[ours], "s", color=MODEL, markersize=7, label="federated")
    name_rows(panel, [name for name, _, _ in entries])
    texts = [words.stars(value) if np.isfinite(value) else "not measured" for value in values]
    value_column(panel, "RMSE", texts, [MODEL if own else MUTED for own in ours])
    for label, own in zip(panel.get_yticklabels(), ours, strict=True):
        label.set_fontweight("bold" if own else "normal")
