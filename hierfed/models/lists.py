"""From scores of whole catalogues to lists: the items that users have rated, and the items of the highest scores.

A score ranks an item in one user's list and has no unit. Scores are float64 [users, items]. Equal scores are ranked by
item number, so that a list never depends on the sorting algorithm.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from scipy.sparse import csr_array
from torch import Tensor

from hierfed.data.ratings import Ratings


def rated_matrix(ratings: Ratings, users: int, items: int) -> csr_array:
    """The items that each user has rated: ones, float64 CSR [users, items]. A repeated rating counts once."""
    rated = csr_array((np.ones(len(ratings)), (ratings.user, ratings.item)), shape=(users, items))
    rated.sum_duplicates()
    rated.data[:] = 1.0
    return rated


def exclude(scores: Tensor, seen: Tensor) -> Tensor:
    """The scores, with -inf for items that a user has seen.

    seen: bool [users, items].
    """
    return scores.masked_fill(seen, -math.inf)


def top(scores: Tensor, length: int) -> Tensor:
    """The items of the highest scores, best first, int64 [users, length]; among equal scores the lower number first.

    Lists are shorter if the catalogue is. Raises ValueError if a score is NaN.
    """
    if length >= scores.shape[1]:
        _refuse_nan(scores)
        return _sorted(scores)
    if length == 0:
        _refuse_nan(scores)
        return scores.new_empty(len(scores), 0, dtype=torch.int64)
    # NaN counts as the highest score, so it is among these. One more shows whether the last place is shared.
    values, best = scores.topk(length + 1, dim=1)
    _refuse_nan(values)
    tied = (values[:, -1] == values[:, -2]).nonzero()[:, 0]
    best = best[:, :length]
    if len(tied):
        best[tied] = _lowest_numbers(scores[tied], values[tied, -2, None], length)
    best = best.sort(dim=1).values
    return best.gather(1, _sorted(scores.gather(1, best)))


def _lowest_numbers(scores: Tensor, last: Tensor, length: int) -> Tensor:
    """The items above the last score of a list and, of those with this score, as many of the lowest numbers as fit."""
    above, equal = scores > last, scores == last
    left = length - above.sum(1, keepdim=True)
    chosen = above | (equal & (equal.cumsum(1, dtype=torch.int32) <= left))
    return chosen.nonzero()[:, 1].view(len(scores), length)


def _refuse_nan(scores: Tensor) -> None:
    if scores.isnan().any():
        raise ValueError("a score is NaN, so there is no order of the items")


def _sorted(scores: Tensor) -> Tensor:
    return scores.sort(dim=1, descending=True, stable=True).indices
