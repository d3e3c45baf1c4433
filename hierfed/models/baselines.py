"""Baselines that any model of ratings must beat: means and biases, fitted on pooled rows."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from hierfed.data.ratings import Ratings

ITEM_SHRINKAGE = 10.0
USER_SHRINKAGE = 15.0
SWEEPS = 10


@dataclass(frozen=True)
class Biases:
    """mean + user bias + item bias; either bias may be all zeros.

    user, item: float64 [users], [items].
    """

    mean: float
    user: np.ndarray
    item: np.ndarray

    def predict(self, ratings: Ratings) -> np.ndarray:
        """Expected ratings of these rows, float64 [rows]."""
        prediction: np.ndarray = self.mean + self.user[ratings.user] + self.item[ratings.item]
        return prediction


def fit_global_mean(train: Ratings, users: int, items: int) -> Biases:
    """The mean rating for every user and item."""
    return Biases(_mean(train), np.zeros(users), np.zeros(items))


def fit_item_mean(train: Ratings, users: int, items: int) -> Biases:
    """Each item's mean, shrunk to the global mean as if by 10 further ratings of that value."""
    mean = _mean(train)
    return Biases(mean, np.zeros(users), _shrunken(train.item, train.value - mean, items, ITEM_SHRINKAGE))


def fit_user_mean(train: Ratings, users: int, items: int) -> Biases:
    """Each user's mean, shrunk to the global mean as if by 15 further ratings of that value."""
    mean = _mean(train)
    return Biases(mean, _shrunken(train.user, train.value - mean, users, USER_SHRINKAGE), np.zeros(items))


def fit_biases(train: Ratings, users: int, items: int, pooled: np.ndarray | None = None) -> Biases:
    """User and item biases by alternating ridge regressions (Koren, 2010, sec. 2.1; penalties as in Surprise).

    pooled: bool [items], True for items that share one bias; None for none.
    """
    mean = _mean(train)
    residual = train.value - mean
    user, item = np.zeros(users), np.zeros(items)
    group = (
        np.arange(items) if pooled is None or not pooled.any() else np.where(pooled, pooled.argmax(), np.arange(items))
    )
    of_rows = group[train.item]
    for _ in range(SWEEPS):
        item = _shrunken(of_rows, residual - user[train.user], items, ITEM_SHRINKAGE)
        user = _shrunken(train.user, residual - item[of_rows], users, USER_SHRINKAGE)
    return Biases(mean, user, item[group])


def _mean(train: Ratings) -> float:
    return float(train.value.mean(dtype=np.float64))


def _shrunken(group: np.ndarray, value: np.ndarray, groups: int, shrinkage: float) -> np.ndarray:
    sums = np.bincount(group, value, minlength=groups)
    return sums / (np.bincount(group, minlength=groups) + shrinkage)
