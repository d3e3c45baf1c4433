"""The numbers of a run that trackers show, by name."""

from __future__ import annotations

import math
from collections.abc import Mapping

from hierfed.evaluation.metrics import measured
from hierfed.results import Result, RoundRecord


def of_round(record: RoundRecord) -> Mapping[str, float]:
    """The finite numbers of a round; of the training loss, that of the last local epoch."""
    numbers = {name: value for name, value in record if isinstance(value, int | float) and name != "round"}
    if record.train_loss:
        numbers["train_loss"] = record.train_loss[-1]
    return {name: float(value) for name, value in numbers.items() if math.isfinite(value)}


def of_result(result: Result) -> Mapping[str, float]:
    """The metrics of a run; @ is no letter of a name in every tool, so that ndcg@10 is ndcg_at_10."""
    return {key.replace("@", "_at_"): value for key, _, value in measured(result)}
