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
    if scores.isnan().any():
        raise ValueError("a score is NaN, so there is no order of the items")
    if length >= scores.shape[1]:
        return _sorted(scores)
    if length == 0:
        return scores.new_empty(len(scores), 0, dtype=torch.int64)
    best = scores.topk(length, dim=1).indices.sort(dim=1).values
    values = scores.gather(1, best)
    best = best.gather(1, _sorted(values))
    # Where items outside the list score as much as its last one, the choice among them is that of the item numbers.
    tied = ((scores >= values.amin(1, keepdim=True)).sum(1) > length).nonzero()[:, 0]
    if len(tied):
        best[tied] = _sorted(scores[tied])[:, :length]
    return best


def _sorted(scores: Tensor) -> Tensor:
    return scores.sort(dim=1, descending=True, stable=True).indices
