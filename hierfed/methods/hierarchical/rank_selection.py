"""Selection of the number of factors on validation rows; see hierfed.methods.hierarchical.selection."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from hierfed.data.ratings import Ratings
from hierfed.federated.method import Trained
from hierfed.methods.hierarchical.hierarchical import HierarchicalFactors
from hierfed.methods.hierarchical.settings import SelectionSettings
from hierfed.methods.hierarchical.validation import Validators
from hierfed.results import Trial


def larger_ranks(wanted: SelectionSettings, ratings: int, items: int) -> Sequence[int]:
    """The ranks to try after the first, ascending; none of few ratings."""
    if ratings >= wanted.ratings_per_item * items:
        ranks = [wanted.larger_rank]
        while ranks[-1] * 2 <= wanted.largest_rank:
            ranks.append(ranks[-1] * 2)
        return ranks
    return [wanted.larger_rank] if ratings >= wanted.larger_rank_from else []


def best_rank(
    method: HierarchicalFactors,
    trained: Trained,
    ranks: Sequence[int],
    try_out: Callable[[HierarchicalFactors], Trained],
    wanted: SelectionSettings,
    validators: Validators,
    rows: Mapping[int, Ratings],
) -> tuple[HierarchicalFactors, Trained, list[Trial]]:
    """The candidate of the best rank, its training, and what was tried: the last rank that gained on the one before."""

    def error_of(candidate: HierarchicalFactors, found: Trained) -> float:
        """Without kriging, which is expensive: the gain of a factor shows without it."""
        return validators.rmse(validators.personalise(replace(candidate, kernel=None), found, rows), rows)

    least_gain = wanted.least_gain * float(trained.shared.arrays["scale"][1])
    errors = {method.rank: error_of(method, trained)}
    for rank in ranks:
        larger = replace(method, rank=rank)
        found = try_out(larger)
        errors[rank] = error_of(larger, found)
        if errors[rank] >= errors[method.rank] - least_gain:
            break
        method, trained = larger, found
    tried = [Trial(setting="rank", value=rank, rmse=rmse, chosen=rank == method.rank) for rank, rmse in errors.items()]
    return method, trained, tried
