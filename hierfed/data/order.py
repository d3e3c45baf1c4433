"""Rows sorted by user and item, so that the order of the source has no influence."""

from __future__ import annotations

import numpy as np

from hierfed.data.grouping import blocks
from hierfed.data.ratings import Ratings


def in_order(ratings: Ratings, train_rows: int) -> Ratings:
    """The rows by user and item; the first `train_rows` rows and the others are sorted separately.

    No (user, item) pair may occur twice in either part, so the order is unique.
    """
    parts = (0, train_rows), (train_rows, len(ratings))
    if all(_is_ordered(ratings.user[slice(*part)], ratings.item[slice(*part)]) for part in parts):
        return ratings
    items = int(ratings.item.max()) + 1
    pairs = ratings.user.astype(np.int64)
    pairs *= items
    pairs += ratings.item
    return ratings.take(np.concatenate([start + np.argsort(pairs[start:stop]) for start, stop in parts]))


def _is_ordered(user: np.ndarray, item: np.ndarray) -> bool:
    """True if each row's user and item come after those of the row before it."""
    for block in blocks(len(user)):
        users, items = user[block.start : block.stop + 1], item[block.start : block.stop + 1]
        same = users[1:] == users[:-1]
        if not ((users[1:] > users[:-1]) | (same & (items[1:] > items[:-1]))).all():
            return False
    return True
