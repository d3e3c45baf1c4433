"""The names of the figures of several seeds, and the choice of those that say something."""

from __future__ import annotations

import math
from collections.abc import Mapping

from hierfed.evaluation.metrics import METRICS
from hierfed.evaluation.summary import ENOUGH_SEEDS
from hierfed.report import words
from hierfed.results import PairedDifference, Summary


def figure_labels(summary: Summary) -> dict[str, str]:
    """The names of a summary's figures, by key."""
    rows = _rows(summary)
    first, last = words.ROW_SETS[rows][0][0], words.ROW_SETS[rows][-1][0]
    labels = words.metric_labels(summary.words, rows)
    for key, name in words.baseline_names(summary.words).items():
        labels |= {f"baseline_{key}": f"{name}, {first}", f"personal_baseline_{key}": f"{name}, {last}"}
    return labels


def shown_figures(summary: Summary) -> list[str]:
    """The keys of the figures that are defined, but for those that are there twice under one name."""
    labels, named = figure_labels(summary), set()
    shown = []
    for key, figure in summary.figures.items():
        label = labels.get(key, key)
        if math.isfinite(figure.mean) and label not in named:
            named.add(label)
            shown.append(key)
    return shown


def figure_text(key: str, value: float) -> str:
    """A figure of a summary, with the decimals of its metric; baselines and unknown ones with 4."""
    return words.decimals(value, METRICS[key].digits if key in METRICS else 4)


def figure_rows(summary: Summary) -> list[tuple[str, ...]]:
    """The name, mean, deviation, smallest and largest of every figure that is shown."""
    labels = figure_labels(summary)
    return [
        (labels.get(key, key), *(figure_text(key, getattr(summary.figures[key], part)) for part in PARTS))
        for key in shown_figures(summary)
    ]


PARTS = ("mean", "sd", "min", "max")


def p_values(difference: PairedDifference) -> tuple[str, str]:
    """The p-value of a difference, and by Holm's correction over all that are shown with it."""
    return words.p_value(difference.p_value), words.p_value(difference.p_holm)


def caution(number: int) -> str:
    """A warning of p-values of few seeds; empty where there are enough, or none."""
    if not 1 < number < ENOUGH_SEEDS:
        return ""
    return f"p-values from {number} seeds say little: run {ENOUGH_SEEDS} or more."


def difference_rows(summary: Summary) -> list[tuple[str, ...]]:
    """The two figures, their mean difference, its deviation and its p-values, for each pair that is defined."""
    labels = figure_labels(summary)
    return [
        (pair_label(each, labels), words.signed(each.mean), words.stars(each.sd), *p_values(each))
        for each in summary.differences
        if math.isfinite(each.mean)
    ]


def pair_label(difference: PairedDifference, labels: Mapping[str, str]) -> str:
    """The name of a comparison: two presets by one figure, or two figures."""
    (first, _, figure), (second, _, other) = difference.first.rpartition(": "), difference.second.rpartition(": ")
    if first and figure == other:
        return f"{labels[figure]}: {first} - {second}"
    return " - ".join(
        f"{preset}: {labels[key]}" if preset else labels[key] for preset, key in ((first, figure), (second, other))
    )


def _rows(summary: Summary) -> str:
    """The set of rows that models are judged on, as words.ROW_SETS names it."""
    if summary.protocol in ("two_groups", "cold"):
        return summary.protocol
    means = {key: figure.mean for key, figure in summary.figures.items()}
    pairs = ((f"baseline_{key}", f"personal_baseline_{key}") for key in words.BASELINE_NAMES)
    every = all(words.same(means.get(first, 0.0), means.get(last, 0.0)) for first, last in pairs)
    return "same" if every else "same users"
