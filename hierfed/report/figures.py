"""The figures of a run, and which of them it has: over rounds, every model against baselines, and who gained."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

from hierfed.report import contents, headlines, words
from hierfed.report.node_figures import node_rmse, weight_change
from hierfed.report.style import (
    BAND,
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
    save,
    set_limits,
    styled,
    value_column,
    whole_ticks,
)
from hierfed.report.user_figures import new_users, ranking
from hierfed.results import Result

MEAN_LINE = (0, (5, 2))
BIASES_LINE = (0, (1, 1.5))


@styled
def global_rmse(result: Result) -> Figure:
    """RMSE of the global model over rounds, between two baselines."""
    figure, (panel,) = blank(headlines.global_headline(result), global_rows(result), 3.9)
    errors = finite([record.global_rmse for record in result.rounds])
    draw_rounds(panel, [record.round for record in result.rounds], errors)
    draw_baselines(panel, result.baselines.global_mean, result.baselines.biases, errors)
    return fit(figure)


def global_rows(result: Result) -> str:
    """Which rows the global model is judged on after every round."""
    rows = {"two_groups": "the federated users' test rows", "cold": "new users' held-out rows, before any own rating"}
    return f"RMSE of the global model on {rows.get(result.data.protocol, 'the test rows')}"


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
    """Horizontal lines for the mean and the biases, with labels for them and for the last errors [..., rounds]."""
    lines = [(mean, "mean", MEAN_LINE), (biases, "biases", BIASES_LINE)]
    set_limits(panel, "y", [*errors.ravel(), mean, biases])
    for value, name, style in lines:
        if np.isfinite(value):
            panel.axhline(value, color=INK, linewidth=1.3, linestyle=style, label=name)
    labels = [(value, f"{name} {words.stars(value)}", INK) for value, name, _ in lines]
    last = float(errors[..., -1].mean())
    label_right(panel, [(last, f"model {words.stars(last)}", MODEL), *labels])


@styled
def training_loss(result: Result) -> Figure:
    """Training loss of every local epoch."""
    losses = finite([loss for record in result.rounds for loss in record.train_loss])
    epochs = np.arange(1, len(losses) + 1)
    missing = int(np.isnan(losses).sum())
    by_epoch = words.method_of(result) == words.AVERAGING
    drawn = "Mean" if by_epoch else "Expected"
    over = ", averaged over nodes" if by_epoch else " of all nodes"
    note = f"; {words.plural(missing, 'epoch')} without a finite loss left out" if missing else ""
    figure, (panel,) = blank(
        headlines.loss_headline(result), f"{drawn} squared error on training rows{over}{note}", 3.9
    )
    panel.plot(epochs, losses, color=MODEL, marker="o" if len(epochs) <= 60 else "", markersize=4)
    panel.set_xlim(0.5, max(len(epochs), 1) + 0.5)
    panel.set_xlabel("Local epoch (all rounds after each other)" if by_epoch else "Round")
    panel.set_ylabel(f"Training loss ({'MSE, ' if by_epoch else ''}stars²)")
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
def baselines(result: Result) -> Figure:
    """Every model and baseline, on the rows of the global model's test and on those of personalisation."""
    models, sets = contents.model_rows(result), words.row_sets(result)
    parts = [
        [(row.name, row.own, value) for row in models if (value := row.values[place]) is not None]
        for place in range(len(sets))
    ]
    own = words.EACH_USER_ALONE.lower() if words.method_of(result) == words.LOCAL else "federated models"
    best = "best on top of each part" if len(parts) > 1 else "best on top"
    height = 1.4 + 0.28 * sum(len(entries) for entries in parts)
    figure, panels = blank(
        headlines.baseline_headline(result), f"■ {own}   ○ baselines; {best}", height, panels=len(parts)
    )
    for panel, (_, title), entries in zip(panels, sets, parts, strict=True):
        draw_models(panel, entries)
        panel.set_title(title, loc="left", fontsize=9, color=INK)
        set_limits(panel, "x", [value for every in parts for _, _, value in every])
    panels[-1].set_xlabel("RMSE (stars); left is better")
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


@styled
def user_gain(result: Result) -> Figure:
    """How the gain of personalisation is distributed over users."""
    gains = finite(result.users.gains)
    gains = gains[np.isfinite(gains)]
    figure, (panel,) = blank(
        headlines.user_headline(result), "Each user's RMSE before minus after personalisation, on held-out rows", 3.9
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
    "new_users": new_users,
    "ranking": ranking,
}
"""The function that draws each figure, by the figure's name, in the order of the report."""

APPLIES: Mapping[str, Callable[[Result], bool]] = {
    "global_rmse": contents.had_rounds,
    "training_loss": lambda result: any(record.train_loss for record in result.rounds),
    "weight_change": lambda result: words.any_measured(result.nodes, "weight_change_l2"),
    "new_users": lambda result: words.any_measured(result.new_users, "model"),
    "ranking": lambda result: bool(result.rankers),
}
"""Whether a result has what a figure shows; the others apply to every result."""


def figure_names(result: Result) -> list[str]:
    """The figures that a result has something to show in, in the order of the report."""
    return [name for name in FIGURES if name not in APPLIES or APPLIES[name](result)]


def all_figures(result: Result) -> dict[str, Figure]:
    """Every figure of a run, by name."""
    return {name: FIGURES[name](result) for name in figure_names(result)}


@styled
def save_figures(result: Result, folder: Path) -> list[Path]:
    """Draw every figure and write it as NAME.png and NAME.svg; returns the paths written."""
    folder.mkdir(parents=True, exist_ok=True)
    return [path for name, figure in all_figures(result).items() for path in save(figure, name, folder)]


@styled
def seeds_rmse(results: Sequence[Result]) -> Figure:
    """RMSE of the global model over rounds: a thin line per seed in the band that holds them all, and their mean."""
    rounds = [record.round for record in results[0].rounds]
    errors = np.array([finite([record.global_rmse for record in result.rounds]) for result in results])
    figure, (panel,) = blank(
        f"Global RMSE over {words.plural(len(results), 'seed')}: {words.stars(float(errors[:, -1].mean()))} at the end",
        f"{global_rows(results[0])}; thin: seeds, thick: their mean",
        3.9,
    )
    panel.fill_between(rounds, errors.min(axis=0), errors.max(axis=0), color=BAND, linewidth=0)
    panel.plot(rounds, errors.T, color=MUTED, linewidth=0.6)
    draw_rounds(panel, rounds, errors.mean(axis=0))
    mean, biases = np.mean([[result.baselines.global_mean, result.baselines.biases] for result in results], axis=0)
    draw_baselines(panel, mean, biases, errors)
    return fit(figure)
