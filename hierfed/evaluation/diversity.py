"""The diversity of recommendation lists over all users: what they show of the catalogue, and whose tastes they keep.

    coverage: share of the items that are in any list
    novelty: mean over listed items of -log2 (raters + 1) / (users + 1), in bits
    Gini: 0 if all items are listed equally often, towards 1 if few items fill all lists
    miscalibration: mean over users of KL(p | .99 q + .01 p) in nats, where p and q are the shares of genres among what
    a user has rated and in the user's list

Sources: Castells, Hurley and Vargas, Recommender Systems Handbook, 2015; Steck, Calibrated recommendations, RecSys
2018.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

# Steck's: so much of the history's own distribution is mixed in, so that a missing genre costs a finite amount.
MIXED_IN = 0.01


@dataclass(frozen=True)
class Diversity:
    """The diversity of some lists; see this module. miscalibration: NaN where no item has a genre."""

    coverage: float
    novelty: float
    gini: float
    miscalibration: float


def diversity(lists: np.ndarray, rated: np.ndarray, genres: np.ndarray) -> Diversity:
    """The diversity of all users' lists.

    lists: int [users, length], item numbers. rated: bool [users, items], what each user has rated. genres: float
    [items, genres], the share of each genre in an item, rows adding up to 1, or to 0 for items without genres.
    """
    users, items = rated.shape
    shown = np.bincount(lists.ravel(), minlength=items)
    surprise = -np.log2((rated.sum(0) + 1) / (users + 1))
    ascending = np.sort(shown)
    place = np.arange(1, items + 1)
    gini = float(((2 * place - items - 1) * ascending).sum() / (items * ascending.sum()))
    return Diversity(
        coverage=float((shown > 0).mean()),
        novelty=float(surprise[lists].mean()),
        gini=gini,
        miscalibration=_miscalibration(lists, rated, genres),
    )


def _miscalibration(lists: np.ndarray, rated: np.ndarray, genres: np.ndarray) -> float:
    before, after = rated @ genres, genres[lists].sum(1)
    told = (before.sum(1) > 0) & (after.sum(1) > 0)
    if not told.any():
        return float("nan")
    p, q = (each[told] / each[told].sum(1, keepdims=True) for each in (before, after))
    mixed = (1 - MIXED_IN) * q + MIXED_IN * p
    terms = np.where(p > 0, p * np.log(np.where(p > 0, p, 1) / np.where(p > 0, mixed, 1)), 0.0)
    return float(terms.sum(1).mean())
