"""The figures of a run: the paper's four, every model against baselines, and who gained."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

from hierfed.report import words
from hierfed.report.style import (
    BAND,
    HARM,
    INK,
    MODEL,
    MOST_LABELS,
    MUTED,
    blank,
    few_ticks,
    finite,
    fit,
    label_right,
    name_rows,
    row_fontsize,
    rows_height,
    save,
    styled,
    tidy,
    whole_ticks,
)
from hierfed.results import NodeRecord, Result

MEAN_LINE = (0, (5, 2))
BIASES_LINE = (0, (1, 1.5))


@styled
def global_rmse(result: Result) -> Figure:
    """RMSE of the global model over rounds, between two baselines."""
    figure, (panel,) = blank(
        words.global_headline(result), "RMSE of the global model on the federated users' test rows", 3.9
    )
    errors = finite([record.global_rmse for record in result.rounds])
    draw_rounds(panel, [record.round for record in result.rounds], errors)
    draw_baselines(panel, result.baselines.global_mean, result.baselines.biases, errors)
    return fit(figure)


def draw_rounds(panel: Axes, rounds: Sequence[int], errors: np.ndarray) -> None:
    """RMSE by round, with an axis of whole rounds."""
    few = len(rounds) <= 50
    panel.plot(rounds, errors, color=MODEL, marker="o" if few else "", label="global model")
    panel.set_xlim(rounds[0] - 0.5, rounds[-1] + 0.5)
    panel.set_xlabel("Round")
    panel.set_ylabel("RMSE (stars)")
    panel.xaxis.set_major_locator(whole_ticks())
    panel.yaxis.set_major_locator(few_ticks())


def draw_baselines(panel: Axes, mean: float, biases: float, errors: np.ndarray) -> None:
    """Horizontal lines for the mean and the biases, and labels for them and for the last of the errors."""
    lines = [(mean, "mean", MEAN_LINE), (biases, "biases", BIASES_LINE)]
    for value, name, style in lines:
        if np.isfinite(value):
            panel.axhline(value, color=INK, linewidth=1.3, linestyle=style, label=name)
    shown = [*errors, *(value for value, _, _ in lines)]
    set_limits(panel, "y", shown)
    labels = [(value, f"{name} {words.stars(value)}", INK) for value, name, _ in lines]
    label_right(panel, [(errors[-1], f"model {words.stars(errors[-1])}", MODEL), *labels])


def set_limits(panel: Axes, axis: str, values: Sequence[float]) -> None:
    """Limits that hold every finite value, with some room on both sides."""
    known = [value for value in values if np.isfinite(value)]
    if not known:
        return
    low, high = min(known), max(known)
    room = 0.08 * (high - low) or 0.05
    (panel.set_ylim if axis == "y" else panel.set_xlim)(low - room, high + room)


@styled
def training_loss(result: Result) -> Figure:
    """Training loss of every local epoch."""
    losses = finite([loss for record in result.rounds for loss in record.train_loss])
    epochs = np.arange(1, len(losses) + 1)
    missing = int(np.isnan(losses).sum())
    note = f"; {words.plural(missing, 'epoch')} without a finite loss left out" if missing else ""
    figure, (panel,) = blank(
        words.loss_headline(result), f"Mean squared error on training rows, averaged over nodes{note}", 3.9
    )
    panel.plot(epochs, losses, color=MODEL, marker="o" if len(epochs) <= 60 else "", markersize=4)
    panel.set_xlim(0.5, max(len(epochs), 1) + 0.5)
    panel.set_xlabel("Local epoch (all rounds after each other)")
    panel.set_ylabel("Training loss (MSE, stars²)")
    panel.xaxis.set_major_locator(whole_ticks())
    positive = losses[losses > 0]
    if len(positive) and positive.max() > 10 * positive.min():
        panel.set_yscale("log")
        panel.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        panel.yaxis.set_minor_locator(NullLocator())
        panel.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    else:
        panel.yaxis.set_major_locator(few_ticks())
        set_limits(panel, "y", [0.0, *positive])
        panel.set_ylim(bottom=0)
    return fit(figure)


@styled
def node_rmse(result: Result) -> Figure:
    """RMSE of each node before and after personalisation, with the nodes that were harmed marked."""
    nodes = in_order(result.nodes, "gain")
    before = finite([node.rmse_before for node in nodes])
    after = finite([node.rmse_after for node in nodes])
    gains = finite([node.gain for node in nodes])
    rows, harmed = np.arange(len(nodes)), gains < 0
    key = "○ global model   ● personal model   ▲ personal model, and worse"
    note = left_out(np.isnan(after))
    figure, (panel,) = blank(words.node_headline(result), key + note, rows_height(len(rows)) + 1.25)
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
    panel.set_xlabel("RMSE on held-out rows (stars); left is better")
    panel.set_ylabel(node_label(nodes, "gain"))
    return fit(figure)


def in_order(nodes: Sequence[NodeRecord], field: str) -> Sequence[NodeRecord]:
    """The nodes as they come where each can be named; where they are too many, from the largest value down."""
    if len(nodes) <= MOST_LABELS:
        return nodes
    values = finite([getattr(node, field) for node in nodes])
    return [nodes[row] for row in np.argsort(-values, kind="stable")]  # NaN is sorted last


def node_label(nodes: Sequence[NodeRecord], order: str) -> str:
    """What the axis of nodes is called, with the order that `in_order` gave it."""
    return "Node" if len(nodes) <= MOST_LABELS else f"Node (ordered by {order})"


def left_out(missing: np.ndarray) -> str:
    """A note on the nodes that have no value to draw, or nothing where all have one."""
    return f"\n{words.plural(int(missing.sum()), 'node')} without a value left blank" if missing.any() else ""


def mark_size(rows: int) -> float:
    """The size of marks, in points: smaller where many rows share a panel."""
    return float(np.clip(180 / max(rows, 1), 1.5, 6))


def value_column(panel: Axes, title: str, texts: Sequence[str], colours: Sequence[str]) -> None:
    """Each row's value in writing, right of the panel, where there is room for all of them."""
    if len(texts) > MOST_LABELS:
        return
    edge, fontsize = panel.get_yaxis_transform(), row_fontsize(len(texts))
    panel.annotate(
        title, (1.02, 1), xycoords="axes fraction", xytext=(0, 4), textcoords="offset points", fontsize=8.5, color=MUTED
    )
    for row, (text, colour) in enumerate(zip(texts, colours, strict=True)):
        panel.text(1.02, row, text, transform=edge, va="center", fontsize=fontsize, color=colour)


@styled
def weight_change(result: Result) -> Figure:
    """L2 norm of the change of the first layer's weights, per node."""
    nodes = in_order(result.nodes, "weight_change_l2")
    norms = finite([node.weight_change_l2 for node in nodes])
    rows = np.arange(len(nodes))
    largest = np.max(norms, initial=0.0, where=np.isfinite(norms))
    subtitle = "L2 norm of the change of the first layer's weights by personalisation" + left_out(np.isnan(norms))
    figure, (panel,) = blank(words.weight_headline(result), subtitle, rows_height(len(rows)) + 1.25)
    size = mark_size(len(rows))
    panel.hlines(rows, 0, norms, colors=MODEL, linewidths=size / 3)
    panel.plot(norms, rows, "s", color=MODEL, markersize=size)
    name_rows(panel, [tidy(node.node) for node in nodes])
    texts = [f"{norm:.2f}" if np.isfinite(norm) else words.MISSING for norm in norms]
    value_column(panel, "Norm", texts, [MUTED] * len(texts))
    panel.set_xlim(0, 1.06 * largest or 1)
    panel.set_xlabel("L2 norm of the weights' change (no unit)")
    panel.set_ylabel(node_label(nodes, "norm"))
    return fit(figure)


@styled
def baselines(result: Result) -> Figure:
    """Every model and baseline, on the rows of the global model's test and on those of personalisation."""
    upper = [("Federated, global model", result.final_rmse), *words.baseline_rows(result.baselines)]
    lower = [
        ("Federated, global model", result.users.rmse_before),
        ("Federated, personal models", result.users.rmse_after),
        *words.baseline_rows(result.personal_baselines),
    ]
    figure, panels = blank(
        words.baseline_headline(result), "■ federated models   ○ baselines; best on top of each part", 5.6, panels=2
    )
    parts = (("Federated users' test rows", upper), ("Personalisation users' held-out rows", lower))
    for panel, (title, entries) in zip(panels, parts, strict=True):
        draw_models(panel, entries)
        panel.set_title(title, loc="left", fontsize=9, color=INK)
        set_limits(panel, "x", [value for _, value in (*upper, *lower)])
    panels[-1].set_xlabel("RMSE (stars); left is better")
    return fit(figure, [len(upper), len(lower)])


def draw_models(panel: Axes, entries: Sequence[tuple[str, float]]) -> None:
    """One row per (name, RMSE), the best on top and those without a value last; federated models stand out."""
    entries = sorted(entries, key=lambda entry: (not np.isfinite(entry[1]), entry[1]))
    values = finite([value for _, value in entries])
    rows = np.arange(len(entries))
    ours = np.array([name.startswith("Federated") for name, _ in entries])
    panel.plot(values[~ours], rows[~ours], "o", color=INK, markerfacecolor="white", label="baselines")
    panel.plot(values[ours], rows[ours], "s", color=MODEL, markersize=7, label="federated")
    name_rows(panel, [name for name, _ in entries])
    texts = [words.stars(value) if np.isfinite(value) else "not measured" for value in values]
    value_column(panel, "RMSE", texts, [MODEL if own else MUTED for own in ours])
    for label, own in zip(panel.get_yticklabels(), ours, strict=True):
        label.set_fontweight("bold" if own else "normal")


@styled
def user_gain(result: Result) -> Figure:
    """How the gain of personalisation is distributed over users."""
    gains = finite(result.users.gains)
    gains = gains[np.isfinite(gains)]
    figure, (panel,) = blank(
        words.user_headline(result), "Each user's RMSE before minus after personalisation, on held-out rows", 3.9
    )
    edges = bins_around_zero(gains)
    for chosen, colour, hatch in ((edges[:-1] < 0, HARM, "////"), (edges[:-1] >= 0, MODEL, None)):
        counts = np.histogram(gains, edges)[0][chosen]
        kept = edges[np.concatenate([chosen, [False]]) | np.concatenate([[False], chosen])]
        panel.stairs(counts, kept, fill=True, facecolor=colour, edgecolor="white", hatch=hatch)
    panel.axvline(0, color=INK, linewidth=1.3)
    panel.set_xlabel("Gain in RMSE (stars); right of zero is better")
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


FIGURES: Mapping[str, Callable[[Result], Figure]] = {
    "global_rmse": global_rmse,
    "training_loss": training_loss,
    "node_rmse": node_rmse,
    "weight_change": weight_change,
    "baselines": baselines,
    "user_gain": user_gain,
}
"""The function that draws each figure, by the figure's name, in the order of the report."""


def all_figures(result: Result) -> dict[str, Figure]:
    """Every figure of a run, by name."""
    return {name: draw(result) for name, draw in FIGURES.items()}


@styled
def save_figures(result: Result, folder: Path) -> list[Path]:
    """Draw every figure and write it as NAME.png and NAME.svg; returns the paths written."""
    folder.mkdir(parents=True, exist_ok=True)
    return [path for name, figure in all_figures(result).items() for path in save(figure, name, folder)]


@styled
def seeds_rmse(results: Sequence[Result]) -> Figure:
    """RMSE of the global model over rounds: the mean of the seeds, and the band that holds them all."""
    rounds = [record.round for record in results[0].rounds]
    errors = np.array([finite([record.global_rmse for record in result.rounds]) for result in results])
    figure, (panel,) = blank(
        f"Global RMSE over {words.plural(len(results), 'seed')}: {words.stars(float(errors[:, -1].mean()))} at the end",
        "RMSE on the federated users' test rows: mean of the seeds, and band from the smallest to the largest",
        3.9,
    )
    panel.fill_between(rounds, errors.min(axis=0), errors.max(axis=0), color=BAND, linewidth=0, label="seeds")
    draw_rounds(panel, rounds, errors.mean(axis=0))
    mean, biases = np.mean([[result.baselines.global_mean, result.baselines.biases] for result in results], axis=0)
    draw_baselines(panel, mean, biases, errors.mean(axis=0))
    return fit(figure)
