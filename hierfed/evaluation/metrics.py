"""The metrics of a run: one table, for the result, its summary over seeds, comparisons, the terminal and the page."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from statistics import fmean

from hierfed.results import Result


@dataclass(frozen=True)
class Metric:
    """A number of a run.

    label: what it is called. $shared and $personal stand for the names of the method's models, $first and $last for
    the rows on which the shared and the personal models are judged, $before for those of the shared model beside them.
    digits: decimals to show; a whole number is shown without.
    of: computes it from a result; NaN where the result has none.
    column: its heading where presets stand side by side; empty where it has no column there.
    paired: whether presets are compared by it on the same seeds.
    shown: whether the page and the tables of one run show it; those over seeds always do.
    """

    label: str
    digits: int
    of: Callable[[Result], float]
    column: str = ""
    paired: bool = False
    shown: bool = True


def over_nodes(result: Result, field: str, fold: Callable[[list[float]], float]) -> float:
    """One number from a field of all nodes; NaN where no node has it."""
    found = [value for node in result.nodes if math.isfinite(value := getattr(node, field))]
    return float(fold(found)) if found else math.nan


METRICS: Mapping[str, Metric] = {
    "global_rmse": Metric("$shared, $first", 4, lambda result: result.final_rmse, "global RMSE", paired=True),
    "rmse_before": Metric("$shared, $before", 4, lambda result: result.users.rmse_before),
    "rmse_after": Metric("$personal, $last", 4, lambda result: result.users.rmse_after, "personal RMSE", paired=True),
    "rmse_at_times": Metric(
        "$personal, $last, the time of the rating known", 4, lambda result: result.users.rmse_at_times
    ),
    "gain_per_node": Metric("Gain per node, $last", 4, lambda result: result.verdict.gain_mean, "gain per node"),
    "gain_on_tuned_rows": Metric(
        "Gain per node, tuned rows", 4, lambda result: over_nodes(result, "train_gain", fmean)
    ),
    "nodes_harmed": Metric(
        "Nodes harmed",
        1,
        lambda result: result.verdict.nodes_harmed if math.isfinite(over_nodes(result, "gain", fmean)) else math.nan,
    ),
    "users_harmed": Metric(
        "Users worse off", 1, lambda result: result.verdict.users_harmed if result.users.users else math.nan
    ),
    "weight_change_smallest": Metric(
        "First layer's change, smallest", 2, lambda result: over_nodes(result, "weight_change_l2", min)
    ),
    "weight_change_largest": Metric(
        "First layer's change, largest", 2, lambda result: over_nodes(result, "weight_change_l2", max)
    ),
    "coverage": Metric(
        "Coverage of 90% intervals", 4, lambda result: result.intervals.coverage if result.intervals else math.nan
    ),
    "coverage_at_times": Metric(
        "Coverage of 90% intervals, the time of the rating known",
        4,
        lambda result: result.intervals.coverage_at_times if result.intervals else math.nan,
    ),
    "ndcg@10": Metric("NDCG@10 of recommendation lists", 4, lambda result: result.ranking.get("ndcg@10", math.nan)),
    "hr@10": Metric("HR@10 of recommendation lists", 4, lambda result: result.ranking.get("hr@10", math.nan)),
    "recall@20": Metric(
        "Recall@20 of recommendation lists", 4, lambda result: result.ranking.get("recall@20", math.nan)
    ),
    "sampled_ndcg@10": Metric(
        "NDCG@10 among 99 sampled items", 4, lambda result: result.ranking.get("sampled_ndcg@10", math.nan)
    ),
    "sampled_hr@10": Metric(
        "HR@10 among 99 sampled items", 4, lambda result: result.ranking.get("sampled_hr@10", math.nan)
    ),
    # How long the report takes is not known before it is drawn: drawn again, it would say something else.
    "seconds": Metric("Seconds", 2, lambda result: result.seconds.total, shown=False),
}
"""Every metric by its key in `result.json` and `summary.json`."""


def measured(result: Result) -> Iterator[tuple[str, Metric, float]]:
    """Key, metric and value of every metric that a result has."""
    for key, metric in METRICS.items():
        value = metric.of(result)
        if math.isfinite(value):
            yield key, metric, value


def with_metrics(result: Result) -> Result:
    """The result with its metrics filled in."""
    return result.model_copy(update={"metrics": {key: value for key, _, value in measured(result)}})
