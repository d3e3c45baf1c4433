"""The figures with a row per node: RMSE before and after personalisation, and how far the first layer moved."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure

from hierfed.plain_text import plural
from hierfed.report import words
from hierfed.report.style import (
    HARM,
    INK,
    MODEL,
    MOST_LABELS,
    MUTED,
    blank,
    finite,
    fit,
    name_rows,
    rows_height,
    set_limits,
    styled,
    tidy,
    value_column,
)
from hierfed.results import NodeRecord, Result


@styled
def node_rmse(result: Result, headline: str) -> Figure:
    """RMSE of each node before and after personalisation, with the nodes that were harmed marked."""
    nodes = in_order(result.nodes, "gain")
    before = finite([node.rmse_before for node in nodes])
    after = finite([node.rmse_after for node in nodes])
    gains = finite([node.gain for node in nodes])
    rows, harmed = np.arange(len(nodes)), gains < 0
    names = result.words
    key = f"○ {names.shared_short.lower()}   ● {names.mark}   ▲ {names.mark}, and worse"
    note = left_out(np.isnan(after))
    figure, (panel,) = blank(headline, key + note, rows_height(len(rows)) + 1.25)
    size = mark_size(len(rows))
    for chosen, colour, style in ((~harmed, MODEL, (0.0, ())), (harmed, HARM, (0.0, (2, 1)))):
        panel.hlines(rows[chosen], before[chosen], after[chosen], colors=colour, linestyles=style, linewidths=size / 3)
    panel.plot(before, rows, "o", color=INK, markerfacecolor="white", markersize=size, label="before")
    panel.plot(after[~harmed], rows[~harmed], "o", color=MODEL, markersize=size, label="after")
    panel.plot(after[harmed], rows[harmed], "^", color=HARM, markersize=max(1.25 * size, 4.5), label="after, worse")
    name_rows(panel, [tidy(node.node) for node in nodes])
    texts = [words.signed(gain) + (" worse" if gain < 0 else "") for gain in gains]
    value_column(panel, "Gain", texts, [HARM if worse else MUTED for worse in harmed])
    set_limits(panel, "x", [*before, *after])
    panel.set_xlabel(f"RMSE on held-out rows ({words.unit(result)}); left is better")
    panel.set_ylabel(node_label(nodes, "gain"))
    return fit(figure)


@styled
def weight_change(result: Result, headline: str) -> Figure:
    """L2 norm of the change of the first layer's weights, per node."""
    nodes = in_order(result.nodes, "weight_change_l2")
    norms = finite([node.weight_change_l2 for node in nodes])
    rows = np.arange(len(nodes))
    largest = np.max(norms, initial=0.0, where=np.isfinite(norms))
    subtitle = "L2 norm of the change of the first layer's weights by personalisation" + left_out(np.isnan(norms))
    figure, (panel,) = blank(headline, subtitle, rows_height(len(rows)) + 1.25)
    size = mark_size(len(rows))
    panel.hlines(rows, 0, norms, colors=MODEL, linewidths=size / 3)
    panel.plot(norms, rows, "s", color=MODEL, markersize=size)
    name_rows(panel, [tidy(node.node) for node in nodes])
    texts = [words.norm(norm) for norm in norms]
    value_column(panel, "Norm", texts, [MUTED] * len(texts))
    panel.set_xlim(0, 1.06 * largest or 1)
    panel.set_xlabel("L2 norm of the weights' change (no unit)")
    panel.set_ylabel(node_label(nodes, "norm"))
    return fit(figure)


def in_order(nodes: Sequence[NodeRecord], field: str) -> Sequence[NodeRecord]:
    """The nodes as they come where each can be named; where they are too many, from the largest value down."""
    if len(nodes) <= MOST_LABELS:
        return nodes
    values = finite([getattr(node, field) for node in nodes])
    return [nodes[row] for row in np.argsort(-values, kind="stable")]  # NaN is sorted last


def node_label(nodes: Sequence[NodeRecord], order: str) -> str:
    """The name of the axis of nodes, with the order that `in_order` gave it."""
    return "Node" if len(nodes) <= MOST_LABELS else f"Node (ordered by {order})"


def left_out(missing: np.ndarray) -> str:
    """A note on the nodes that have no value to draw, or nothing where all have one."""
    return f"\n{plural(int(missing.sum()), 'node')} without a value left blank" if missing.any() else ""


def mark_size(rows: int) -> float:
    """The size of marks, in points: smaller where many rows share a panel."""
    return float(np.clip(180 / max(rows, 1), 1.5, 6))
