"""Several seeds of one preset, and presets side by side on the same seeds."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np

from hierfed.evaluation.metrics import METRICS
from hierfed.evaluation.paired import paired_p_value
from hierfed.results import Baselines, PairedDifference, Result, Spread, Summary

SIGNIFICANT = 0.05
# A t-test of fewer differences hangs on the assumption that they are normal, and finds hardly anything.
ENOUGH_SEEDS = 5


def summarise(name: str, results: Sequence[Result]) -> Summary:
    """Mean and spread over seeds of each figure, and paired differences to the baselines on the same rows."""
    figures = {key: spread([metric.of(result) for result in results]) for key, metric in METRICS.items()}
    for rival in Baselines.model_fields:
        figures[f"baseline_{rival}"] = spread([getattr(result.baselines, rival) for result in results])
        figures[f"personal_baseline_{rival}"] = spread(
            [getattr(result.personal_baselines, rival) for result in results]
        )
    differences = [
        paired("global_rmse", f"baseline_{rival}", *_columns(results, "final_rmse", "baselines", rival))
        for rival in Baselines.model_fields
    ]
    after = [result.users.rmse_after for result in results]
    before = [result.users.rmse_before for result in results]
    differences.append(paired("rmse_after", "rmse_before", after, before))
    differences += [
        paired(
            "rmse_after",
            f"personal_baseline_{rival}",
            after,
            [getattr(result.personal_baselines, rival) for result in results],
        )
        for rival in Baselines.model_fields
    ]
    differences = with_holm([difference for difference in differences if math.isfinite(difference.mean)])
    return Summary(
        name=name,
        preset=results[0].preset,
        words=results[0].words,
        protocol=results[0].data.protocol,
        seeds=[result.seed for result in results],
        figures={key: figure for key, figure in figures.items() if math.isfinite(figure.mean)},
        differences=differences,
        verdict=_words(differences, results),
    )


def compare(results: Mapping[str, Sequence[Result]]) -> list[PairedDifference]:
    """Each pair of presets on the same seeds: differences of the metrics that presets are compared by."""
    names = list(results)
    pairs = [(first, second) for place, first in enumerate(names) for second in names[place + 1 :]]
    found = [
        paired(
            f"{first}: {key}",
            f"{second}: {key}",
            [metric.of(result) for result in results[first]],
            [metric.of(result) for result in results[second]],
        )
        for key, metric in METRICS.items()
        if metric.paired
        for first, second in pairs
    ]
    return with_holm(found)


def with_holm(differences: Sequence[PairedDifference]) -> list[PairedDifference]:
    """The differences with their p-values by Holm's correction; a difference without one counts as no test.

    Source: Holm, A simple sequentially rejective multiple test procedure, Scandinavian Journal of Statistics 6, 1979.
    """
    tested = [place for place, each in enumerate(differences) if each.p_value is not None]
    ascending = sorted(tested, key=lambda place: differences[place].p_value or 0.0)
    corrected, largest = dict[int, float](), 0.0
    for rank, place in enumerate(ascending):
        largest = max(largest, min(1.0, (len(ascending) - rank) * (differences[place].p_value or 0.0)))
        corrected[place] = largest
    return [each.model_copy(update={"p_holm": corrected.get(place)}) for place, each in enumerate(differences)]


def spread(values: Sequence[float]) -> Spread:
    """Mean, standard deviation (n - 1; 0 for one value), smallest and largest."""
    array = np.asarray(values, np.float64)
    deviation = float(array.std(ddof=1)) if len(array) > 1 else 0.0
    return Spread(mean=float(array.mean()), sd=deviation, min=float(array.min()), max=float(array.max()))


def paired(first: str, second: str, left: Sequence[float], right: Sequence[float]) -> PairedDifference:
    """The difference left - right on the same seeds, with the p-value of a paired t-test."""
    difference = np.asarray(left, np.float64) - np.asarray(right, np.float64)
    over_seeds = spread(difference.tolist())
    return PairedDifference(
        first=first, second=second, mean=over_seeds.mean, sd=over_seeds.sd, p_value=paired_p_value(difference)
    )


def _columns(results: Sequence[Result], figure: str, group: str, rival: str) -> tuple[list[float], list[float]]:
    return [getattr(result, figure) for result in results], [
        getattr(getattr(result, group), rival) for result in results
    ]


def _words(differences: Sequence[PairedDifference], results: Sequence[Result]) -> list[str]:
    named = {(difference.first, difference.second): difference for difference in differences}
    few = len(results) if len(results) < ENOUGH_SEEDS else 0
    harmed = sum(result.verdict.nodes_harmed for result in results)
    nodes = sum(len(result.nodes) for result in results)
    asked = [
        ("The global model", ("global_rmse", "baseline_global_mean"), "predicting the mean"),
        ("The global model", ("global_rmse", "baseline_biases"), "user and item biases"),
        ("Personalisation", ("rmse_after", "rmse_before"), "the global model alone"),
        ("The personalised model", ("rmse_after", "personal_baseline_biases"), "user and item biases"),
    ]
    if results[0].words.names_alone:
        rival = f"{results[0].words.alone_short}, with nothing sent"
        asked.append(("The personalised model", ("rmse_after", "personal_baseline_local_only"), rival))
    words = [_sentence(who, named[pair], rival) for who, pair, rival in asked if pair in named]
    if not words:
        return list(results[0].verdict.words)
    tested = any(difference.p_value is not None for difference in differences)
    caution = (
        f"p-values from {few} seeds, by Holm's correction, say little: run {ENOUGH_SEEDS} or more."
        if few and tested
        else ""
    )
    return [*words, f"{harmed} of {nodes} nodes harmed over {len(results)} seeds.", *filter(None, [caution])]


def _sentence(who: str, difference: PairedDifference, rival: str) -> str:
    verb = "beats" if difference.mean < 0 else "does not beat"
    p_value = difference.p_holm
    chance = "" if p_value is None or math.isnan(p_value) else f", p = {p_value:.2g}"
    chance += "" if p_value is not None and p_value < SIGNIFICANT else " (not significant)"
    return f"{who} {verb} {rival}: RMSE {difference.mean:+.4f} ± {difference.sd:.4f} over seeds{chance}."
