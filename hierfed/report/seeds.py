"""What the figures of several seeds are called, and which of them say something."""

from __future__ import annotations

import math
from collections.abc import Mapping

from hierfed.report import words
from hierfed.results import PairedDifference, Summary

OTHER_LABELS: Mapping[str, str] = {
    "gain_on_tuned_rows": "Gain per node, tuned rows",
    "nodes_harmed": "Nodes harmed",
    "users_harmed": "Users worse off",
    "weight_change_smallest": "First layer's change, smallest",
    "weight_change_largest": "First layer's change, largest",
    "coverage": "Coverage of 90% intervals",
    "ndcg@10": "NDCG@10 of recommendation lists",
    "hr@10": "HR@10 of recommendation lists",
    "seconds": "Seconds",
}


def figure_labels(summary: Summary) -> dict[str, str]:
    """What each figure of a summary is called, by its key."""
    method, rows = _kind(summary)
    names, sets = words.MODEL_NAMES[method], words.ROW_SETS[rows]
    first, last = sets[0][0], sets[-1][0]
    labels = {
        "global_rmse": f"{names.shared_short}, {first}",
        "rmse_before": f"{names.shared_short}, {last if rows == 'two_groups' else first}",
        "rmse_after": f"{names.personal_short}, {last}",
        "gain_per_node": f"Gain per node, {last}",
        **OTHER_LABELS,
    }
    for key, name in words.baseline_names(method).items():
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
    """A figure of a summary: errors to 4 decimals, norms and seconds to 2, counts averaged over seeds to 1."""
    if key.endswith("_harmed"):
        return words.decimals(value, 1)
    return words.decimals(value, 2 if key == "seconds" or key.startswith("weight_change") else 4)


def figure_rows(summary: Summary) -> list[tuple[str, ...]]:
    """The name, mean, deviation, smallest and largest of every figure that is shown."""
    labels = figure_labels(summary)
    return [
        (labels.get(key, key), *(figure_text(key, getattr(summary.figures[key], part)) for part in PARTS))
        for key in shown_figures(summary)
    ]


PARTS = ("mean", "sd", "min", "max")


def difference_rows(summary: Summary) -> list[tuple[str, str, str, str]]:
    """What is compared, the mean difference, its deviation and its p-value, where both figures are defined."""
    labels = figure_labels(summary)
    return [
        (pair_label(each, labels), words.signed(each.mean), words.stars(each.sd), words.p_value(each.p_value))
        for each in summary.differences
        if math.isfinite(each.mean)
    ]


def pair_label(difference: PairedDifference, labels: Mapping[str, str]) -> str:
    """What is compared: two presets by one figure, or two figures."""
    (first, _, figure), (second, _, other) = difference.first.rpartition(": "), difference.second.rpartition(": ")
    if first and figure == other:
        return f"{labels[figure]}: {first} - {second}"
    return " - ".join(
        f"{preset}: {labels[key]}" if preset else labels[key] for preset, key in ((first, figure), (second, other))
    )


def _kind(summary: Summary) -> tuple[str, str]:
    """The method and the set of rows, as hierfed.report.words names them."""
    if summary.protocol in ("two_groups", "cold"):
        return summary.method, summary.protocol
    means = {key: figure.mean for key, figure in summary.figures.items()}
    pairs = ((f"baseline_{key}", f"personal_baseline_{key}") for key in words.BASELINE_NAMES)
    every = all(words.same(means.get(first, 0.0), means.get(last, 0.0)) for first, last in pairs)
    return summary.method, "same" if every else "same users"
