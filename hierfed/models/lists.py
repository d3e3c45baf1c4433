"""From scores of whole catalogues to lists: who has rated what, and the items of the highest scores.

A score says where an item stands in one user's list and nothing else: it has no unit. Scores are float64
[users, items]; equal ones are ranked by item number, so that a list never depends on the sorting algorithm.
"""

from __future__ import annotations

import math

import numpy as np
from scipy.sparse import csr_array
from torch import Tensor

from hierfed.data.ratings import Ratings


def rated_matrix(ratings: Ratings, users: int, items: int) -> csr_array:
    """Which of the items each user has rated: ones, float64 CSR [users, items]; a repeated rating counts once."""
    rated = csr_array((np.ones(len(ratings)), (ratings.user, ratings.item)), shape=(users, items))
    rated.sum_duplicates()
    rated.data[:] = 1.0
    return rated


def exclude(scores: Tensor, seen: Tensor) -> Tensor:
    """The scores, with -inf where a user has seen the item; seen: bool [users, items]."""
    return scores.masked_fill(seen, -math.inf)


def top(scores: Tensor, length: int) -> Tensor:
    """The items of the highest scores, best first, int64 [users, length]; of equal ones the lower number first.

    The lists are as long as the catalogue where that is shorter. Raises ValueError where a score is NaN.
    """
    if scores.isnan().any():
        raise ValueError("a score is NaN, so there is no order of the items")
    return scores.sort(dim=1, descending=True, stable=True).indices[:, :length]
