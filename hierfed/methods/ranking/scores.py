"""Scores of whole catalogues, and how several models' scores make one list.

A score says where an item stands in one user's list and nothing else: it has no unit. Scores are float64
[users, items]; equal ones are ranked by item number, so that a list never depends on the sorting algorithm.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Protocol

import numpy as np
import torch
from scipy.sparse import csr_array
from torch import Tensor

from hierfed.data.ratings import Ratings
from hierfed.federated.contract import SharedModel
from hierfed.methods.hierarchical.cohort import Cohort
from hierfed.models.lists import rated_matrix

# The highest NDCG@10 on validation rows of MovieLens; neighbours in the grid differ by less than seeds do.
BLEND_WEIGHTS: Mapping[str, float] = {"ease": 1.0, "implicit": 1.5, "rating": 1.2}


class Ranker(Protocol):
    """A method whose shared model scores items for a user by what that user has rated."""

    def scores(self, shared: SharedModel, seen: Tensor) -> Tensor:
        """Scores, float64 [users, items]; seen: which items each user has rated, 0 or 1, float64 [users, items]."""
        ...


def own_users_matrix(ratings: Ratings, items: int) -> csr_array:
    """As rated_matrix, for the users who occur alone, ascending: what a node makes of its own rows."""
    users, place = np.unique(ratings.user, return_inverse=True)
    return rated_matrix(replace(ratings, user=place), len(users), items)


def users_matrix(cohort: Cohort, items: int) -> csr_array:
    """As rated_matrix, for the users of a cohort, each node's on their own."""
    rated = csr_array((np.ones(len(cohort.item)), cohort.item, cohort.rows), shape=(len(cohort), items))
    rated.sum_duplicates()
    rated.data[:] = 1.0
    return rated


def known_raters(raters: Tensor, least: int) -> Tensor:
    """The numbers of raters that may be known, and 0 for the items with fewer than `least`; raters: [items]."""
    return torch.where(raters >= least, raters, torch.zeros_like(raters))


def known_items(raters: Tensor) -> Tensor:
    """The items that anything may be learned of, ascending, int64; raters: as known_raters gives them."""
    return raters.nonzero()[:, 0]


def popularity(raters: Tensor, users: int) -> Tensor:
    """The same scores for every user: how many have rated each item; raters: [items]."""
    return raters.expand(users, -1)


def standardise(scores: Tensor) -> Tensor:
    """Each user's scores with mean 0 and standard deviation 1 over the catalogue; all 0 where they are all alike."""
    centred = scores - scores.mean(1, keepdim=True)
    deviation = centred.square().mean(1, keepdim=True).sqrt()
    # The mean of equal numbers may be off by their last digit; what is left then is no difference between items.
    alike = deviation <= 1e-12 * scores.abs().amax(1, keepdim=True)
    return torch.where(alike, torch.zeros_like(centred), centred / deviation)


def blend(scores: Mapping[str, Tensor], weights: Mapping[str, float]) -> Tensor:
    """The weighted sum of the named models' scores, each standardised user by user; only names with a weight count.

    Raises KeyError where a name with a weight has no scores.
    """
    parts = [weight * standardise(scores[name]) for name, weight in weights.items()]
    return torch.stack(parts).sum(0)
