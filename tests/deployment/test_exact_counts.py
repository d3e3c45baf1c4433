"""Arithmetic by which nodes could compute numbers of raters: it finds them where they are, not in what is sent."""

from __future__ import annotations

import numpy as np
import torch
from leaks.exact_counts import exact_counts

from hierfed.data.federation import Node
from hierfed.data.ratings import Ratings
from hierfed.engines.in_process import run_rounds
from hierfed.methods.ranking.ease import Ease


def test_numbers_of_raters_cannot_be_computed_from_weights(make_pairs):
    """From exact weights they can: the inverse of I - B is G + penalty I, but for a factor of each row."""
    rows = make_pairs(users=60, items=25, seed=3)
    ease, nodes = Ease(25, penalty=20.0, least_raters=5), [Node(0, "1", rows, rows.take(np.empty(0, np.int64)))]
    raters = np.bincount(rows.item, minlength=25).astype(float)[None]
    found = run_rounds(ease, nodes, 1).shared.arrays
    assert exact_counts([("", found)], raters) == []
    matrix = torch.from_numpy(_rated(rows, 60, 25)[:, raters[0] >= 5])
    inverse = torch.linalg.inv(matrix.T @ matrix + 20.0 * torch.eye(matrix.shape[1], dtype=torch.float64))
    exact = {"raters": found["raters"], "weights": (inverse / -inverse.diagonal()).fill_diagonal_(0.0)}
    assert ": weights tells exact numbers of raters of all nodes" in exact_counts([("", exact)], raters)


def _rated(rows: Ratings, users: int, items: int) -> np.ndarray:
    rated = np.zeros((users, items))
    rated[rows.user, rows.item] = 1
    return rated
