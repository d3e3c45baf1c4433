"""The figures of what users get: from personalisation, with few ratings of their own, and in their lists."""

from __future__ import annotations

import numpy as np
from matplotlib.figure import Figure

from hierfed.report import words
from hierfed.report.style import (
    HARM,
    INK,
    MODEL,
    MUTED,
    blank,
    few_ticks,
    finite,
    fit,
    label_right,
    name_rows,
    set_limits,
    styled,
    value_column,
    whole_ticks,
)
from hierfed.results import Result

NEW_USER_LINES = (
    ("model", "model", MODEL, "o", "-"),
    ("biases", "biases", INK, "s", (0, (1, 1.5))),
    ("network", "network", INK, "^", (0, (5, 2))),
)
RANKING_METRICS = (("ndcg_at_10", "NDCG@10"), ("hr_at_10", "HR@10"), ("recall_at_20", "Recall@20"))


@styled
def user_gain(result: Result, headline: str) -> Figure:
    """The distribution over users of the gain of personalisation."""
    gains = finite(result.users.gains)
    gains = gains[np.isfinite(gains)]
    figure, (panel,) = blank(headline, "Each user's RMSE before minus after personalisation, on held-out rows", 3.9)
    edges = bins_around_zero(gains)
    for chosen, colour, hatch in ((edges[:-1] < 0, HARM, "////"), (edges[:-1] >= 0, MODEL, None)):
        counts = np.histogram(gains, edges)[0][chosen]
        kept = edges[np.concatenate([chosen, [False]]) | np.concatenate([[False], chosen])]
        panel.stairs(counts, kept, fill=True, facecolor=colour, edgecolor="white", hatch=hatch)
    panel.axvline(0, color=INK, linewidth=1.3)
    panel.set_xlabel(f"Gain in RMSE ({words.unit(result)}); right of zero is better")
    panel.set_ylabel("Users")
    panel.yaxis.set_major_locator(whole_ticks())
    panel.grid(visible=False, axis="x")
    if len(gains):
        better = float(np.mean(gains > 0))
        for x, side, text, colour in (
            (0.01, "left", f"← {words.share(result.users.share_worse)} worse", HARM),
            (0.99, "right", f"{words.share(better)} better →", MODEL),
        ):
            panel.text(x, 1.02, text, transform=panel.transAxes, ha=side, fontweight="bold", color=colour)
    return fit(figure)


def bins_around_zero(gains: np.ndarray) -> np.ndarray:
    """Edges of equal bins that hold every gain, one edge being 0, so that no bin mixes better and worse."""
    largest = float(np.abs(gains).max(initial=0.0)) or 0.1
    width = 2 * largest / 40
    lowest = np.floor(min(gains.min(initial=0.0), -width) / width)
    highest = np.ceil(max(gains.max(initial=0.0), width) / width)
    return np.arange(lowest, highest + 1) * width


@styled
def new_users(result: Result, headline: str) -> Figure:
    """RMSE of new users over how many ratings of their own they begin with."""
    records = sorted(result.new_users, key=lambda record: record.ratings)
    ratings = [record.ratings for record in records]
    places = np.log1p(ratings)  # like a logarithm, and none at all has a place
    figure, (panel,) = blank(
        headline,
        "RMSE on new users' held-out rows, by how many of their own ratings each begins with",
        3.9,
    )
    drawn = {name: finite([getattr(record, name) for record in records]) for name, *_ in NEW_USER_LINES}
    set_limits(panel, "y", np.concatenate([*drawn.values()]).tolist())
    labels = []
    for name, called, colour, marker, style in NEW_USER_LINES:
        face = colour if name == "model" else "white"
        panel.plot(
            places, drawn[name], color=colour, marker=marker, linestyle=style, markerfacecolor=face, label=called
        )
        labels.append((float(drawn[name][-1]), f"{called} {words.stars(drawn[name][-1])}", colour))
    panel.set_xticks(places, [words.count(number) for number in ratings])
    panel.set_xlim(places[0] - 0.12, places[-1] + 0.12)
    panel.set_xlabel("Own ratings of each new user (spaced as a logarithm)")
    panel.set_ylabel(f"RMSE ({words.unit(result)})")
    panel.yaxis.set_major_locator(few_ticks())
    label_right(panel, labels)
    return fit(figure)


@styled
def ranking(result: Result, headline: str) -> Figure:
    """The quality of every ranking model's lists, beside popularity's."""
    records = sorted(result.rankers, key=lambda record: -np.nan_to_num(record.ndcg_at_10, nan=-1.0))
    names = [words.ranker(record.model, result) for record in records]
    simple = np.array([record.model == "popularity" for record in records])
    rows = np.arange(len(records))
    figure, panels = blank(
        headline,
        "■ ranking models   ○ popularity, the baseline, and the dashed line; means over users, from 0 to 1",
        1.6 + 0.28 * len(RANKING_METRICS) * (len(rows) + 1),
        panels=len(RANKING_METRICS),
    )
    for panel, (field, title) in zip(panels, RANKING_METRICS, strict=True):
        values = finite([getattr(record, field) for record in records])
        for value in values[simple & np.isfinite(values)]:
            panel.axvline(value, color=INK, linewidth=1.3, linestyle=(0, (5, 2)), label="popularity")
        panel.plot(values[~simple], rows[~simple], "s", color=MODEL, markersize=7, label="models")
        panel.plot(values[simple], rows[simple], "o", color=INK, markerfacecolor="white", label="baseline")
        name_rows(panel, names)
        panel.set_title(title, loc="left", fontsize=9, color=INK)
        texts = [words.decimals(value, 3) for value in values]
        value_column(panel, "", texts, [MUTED if baseline else MODEL for baseline in simple])
        panel.set_xlim(0, 1.06 * np.max(values, initial=0.0, where=np.isfinite(values)) or 1)
    panels[-1].set_xlabel("Mean over users (no unit); right is better")
    return fit(figure, [1] * len(panels))
