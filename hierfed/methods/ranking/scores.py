"""Scores of whole catalogues, and the blend of several models' scores.

A score ranks an item in one user's list and has no unit. Scores are float64 [users, items]. Equal scores are ranked by
item number, so that a list never depends on the sorting algorithm.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Protocol

import numpy as np
import torch
from scipy.sparse import csr_array
from torch import Tensor

from hierfed.data.rater_classes import rounded_up
from hierfed.data.ratings import Ratings
from hierfed.federated.contract import SharedModel
from hierfed.methods.hierarchical.cohort import Cohort
from hierfed.models.lists import rated_matrix


class Ranker(Protocol):
    """A method whose shared model scores items for a user by the items that the user has rated."""

    def scores(self, shared: SharedModel, seen: csr_array) -> Tensor:
        """Scores, float64 [users, items].

        seen: float64 [users, items], 1 for the items that each user has rated, else 0.
        """
        ...


def own_users_matrix(ratings: Ratings, items: int) -> csr_array:
    """As rated_matrix, but with rows for the users who occur only, ascending. A node calls it for its own rows."""
    users, place = np.unique(ratings.user, return_inverse=True)
    return rated_matrix(replace(ratings, user=place), len(users), items)


def users_matrix(cohort: Cohort, items: int) -> csr_array:
    """As rated_matrix, for the users of a cohort; a user counts separately on each node."""
    rated = csr_array((np.ones(len(cohort.item)), cohort.item, cohort.rows), shape=(len(cohort), items))
    rated.sum_duplicates()
    rated.data[:] = 1.0
    return rated


def catalogue_scores(scores: Tensor, known: Tensor, items: int) -> Tensor:
    """Scores of all items, float64 [users, items], from those of the known ones; 0 for the others.

    scores: [users, known items]. known: their numbers, ascending.
    """
    return scores.new_zeros(len(scores), items, dtype=torch.float64).index_copy_(1, known, scores.double())


def known_raters(raters: Tensor, least: int) -> Tensor:
    """The classes of raters, see hierfed.data.rater_classes; 0 for items with fewer than `least`.

    raters: their exact numbers, [items].
    """
    return torch.from_numpy(rounded_up(raters.numpy(), least))


def known_items(raters: Tensor) -> Tensor:
    """The items that a model may learn from, ascending, int64.

    raters: as known_raters gives them.
    """
    return raters.nonzero()[:, 0]


def popularity(ease: SharedModel, users: int) -> Tensor:
    """Each item's popularity as its score, the same for every user.

    ease: a model of EASE, or its sums. One of an earlier version has numbers of raters alone.
    """
    arrays = ease.arrays
    return arrays.get("popularity", arrays["raters"]).expand(users, -1)


def standardise(scores: Tensor) -> Tensor:
    """Each user's scores with mean 0 and standard deviation 1 over the catalogue; all 0 if they are all equal."""
    return _weighted(scores, 1.0)


def _weighted(scores: Tensor, weight: float) -> Tensor:
    """The standardised scores times a weight."""
    mean = scores.mean(1, keepdim=True)
    centred = scores - mean
    deviation = torch.linalg.vector_norm(centred, dim=1, keepdim=True) / math.sqrt(max(scores.shape[1], 1))
    # The mean of equal numbers may be off by their last digit. Such a remainder is no difference between items.
    return centred.mul_(torch.where(deviation <= 1e-12 * mean.abs(), 0.0, weight / deviation))


def blend(scores: Mapping[str, Tensor], weights: Mapping[str, float]) -> Tensor:
    """The weighted sum of the named models' scores, standardised user by user. Only names with a weight count.

    Raises KeyError if a name with a weight has no scores.
    """
    total = torch.zeros(())
    for name, weight in weights.items():
        part = _weighted(scores[name], weight)
        total = part if not total.dim() else total.add_(part)
    return total
