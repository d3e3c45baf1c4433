"""The figures over rounds: errors of the global model, of one seed or several, and the training loss."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

from hierfed.plain_text import plural
from hierfed.report import words
from hierfed.report.style import (
    BAND,
    INK,
    MODEL,
    MUTED,
    blank,
    few_ticks,
    finite,
    fit,
    label_right,
    set_limits,
    styled,
    whole_ticks,
)
from hierfed.results import Result

MEAN_LINE = (0, (5, 2))
BIASES_LINE = (0, (1, 1.5))


@styled
def global_rmse(result: Result, headline: str) -> Figure:
    """RMSE of the global model over rounds, between two baselines."""
    figure, (panel,) = blank(headline, global_rows(result), 3.9)
    errors = finite([record.global_rmse for record in result.rounds])
    draw_rounds(panel, [record.round for record in result.rounds], errors, words.unit(result))
    draw_baselines(panel, result.baselines.global_mean, result.baselines.biases, errors)
    return fit(figure)


def global_rows(result: Result) -> str:
    """The rows on which the global model is judged after every round, in words."""
    rows = {"two_groups": "the federated users' test rows", "cold": "new users' held-out rows, before any own rating"}
    return f"RMSE of the global model on {rows.get(result.data.protocol, 'the test rows')}"


def draw_rounds(panel: Axes, rounds: Sequence[int], errors: np.ndarray, unit: str) -> None:
    """RMSE by round, with an axis of whole rounds."""
    few = len(rounds) <= 50
    panel.plot(rounds, errors, color=MODEL, marker="o" if few else "", label="global model")
    panel.set_xlim(rounds[0] - 0.5, rounds[-1] + 0.5)
    panel.set_xlabel("Round")
    panel.set_ylabel(f"RMSE ({unit})")
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
def training_loss(result: Result, headline: str) -> Figure:
    """Training loss of every local epoch."""
    losses = finite([loss for record in result.rounds for loss in record.train_loss])
    epochs = np.arange(1, len(losses) + 1)
    missing = int(np.isnan(losses).sum())
    by_epoch = result.words.loss_by_epoch
    note = f"; {plural(missing, 'epoch')} without a finite loss left out" if missing else ""
    figure, (panel,) = blank(headline, f"{result.words.loss}{note}", 3.9)
    panel.plot(epochs, losses, color=MODEL, marker="o" if len(epochs) <= 60 else "", markersize=4)
    panel.set_xlim(0.5, max(len(epochs), 1) + 0.5)
    panel.set_xlabel("Local epoch (all rounds after each other)" if by_epoch else "Round")
    panel.set_ylabel(f"Training loss ({'MSE, ' if by_epoch else ''}{words.unit(result)}²)")
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
def seeds_rmse(results: Sequence[Result]) -> Figure:
    """RMSE of the global model over rounds: a thin line per seed in the band that holds them all, and their mean."""
    rounds = [record.round for record in results[0].rounds]
    errors = np.array([finite([record.global_rmse for record in result.rounds]) for result in results])
    figure, (panel,) = blank(
        f"Global RMSE over {plural(len(results), 'seed')}: {words.stars(float(errors[:, -1].mean()))} at the end",
        f"{global_rows(results[0])}; thin: seeds, thick: their mean",
        3.9,
    )
    panel.fill_between(rounds, errors.min(axis=0), errors.max(axis=0), color=BAND, linewidth=0)
    panel.plot(rounds, errors.T, color=MUTED, linewidth=0.6)
    draw_rounds(panel, rounds, errors.mean(axis=0), words.unit(results[0]))
    mean, biases = np.mean([[result.baselines.global_mean, result.baselines.biases] for result in results], axis=0)
    draw_baselines(panel, mean, biases, errors)
    return fit(figure)
