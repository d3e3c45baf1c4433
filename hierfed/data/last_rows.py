"""The last rows of each user, by time or at random, without sorting all rows."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np

from hierfed.data.grouping import by_group, on_threads, runs

# Rows of a block, and cells that a user's keys fall into.
_BLOCK = 1 << 16
_CELLS = 64
_NO_SPAN = 1e-300

Keys = np.ndarray | Callable[[int], np.ndarray]


def last_of_each_user(user: np.ndarray, key: Keys, share: float) -> np.ndarray:
    """Bool [rows]: True for the rows of largest key of each user: round(share * rows), at least one, and never all.

    Among rows of equal key, those listed last come last.

    key: of each row, or a function that draws the keys of the next so many rows.
    """
    starts, listed = runs(user)
    if (listed[1:] < listed[:-1]).any():
        key = key(len(user)) if callable(key) else key
        order = by_group(user, int(user.max()) + 1)
        rows, chosen = order.rows(slice(0, len(order))), np.empty(len(order), bool)
        chosen[rows] = last_of_each_user(user[rows], key[rows], share)
        return chosen
    if not len(user):
        return np.empty(0, bool)
    counts = np.diff(starts, append=len(user))
    wanted = np.minimum(np.maximum(1, np.round(share * counts).astype(np.int64)), counts - 1)
    ends = np.cumsum(counts)
    chosen = np.empty(len(user), bool)
    # Blocks of whole users; a user with more rows than a block is a block. A row's result does not depend on its block.
    cuts = np.unique(np.searchsorted(ends, np.arange(0, len(user), _BLOCK)))

    def pieces() -> Iterator[tuple[slice, slice, np.ndarray]]:
        for users in map(slice, cuts, [*cuts[1:], len(counts)]):
            rows = slice(int(ends[users.start] - counts[users.start]), int(ends[users.stop - 1]))
            yield users, rows, key(rows.stop - rows.start) if callable(key) else key[rows]

    def choose(piece: tuple[slice, slice, np.ndarray]) -> None:
        users, rows, keys = piece
        chosen[rows] = _last_of_block(keys, counts[users], wanted[users])

    on_threads(choose, pieces())
    return chosen


def _last_of_block(key: np.ndarray, counts: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """Bool [rows]: True for the rows of largest key, `wanted` of each group.

    Each group's keys fall into cells, from its highest key to its lowest. Whole cells are taken as long as they fit.
    Only the rows of the cell that fits in part are sorted.

    counts: number of rows of each group; the groups follow one another.
    """
    starts = np.cumsum(counts) - counts
    high = np.maximum.reduceat(key, starts)
    span = (high - np.minimum.reduceat(key, starts)).astype(np.float64)
    depth = np.subtract(np.repeat(high, counts), key, dtype=np.float64)
    depth *= np.repeat((_CELLS - 0.5) / np.maximum(span, _NO_SPAN), counts)
    first = np.arange(0, len(counts) * _CELLS, _CELLS)
    cell = depth.astype(np.int64)
    cell += np.repeat(first, counts)
    inside = np.bincount(cell, minlength=len(counts) * _CELLS)
    so_far = np.cumsum(inside.reshape(-1, _CELLS), axis=1)
    parted = first + (so_far < wanted[:, None]).sum(axis=1)
    cell -= np.repeat(parted, counts)
    chosen: np.ndarray = cell < 0
    rows, there = np.flatnonzero(cell == 0), inside[parted]
    group = np.repeat(np.arange(len(counts)), there)
    rows = rows[np.lexsort((key[rows], group))]
    from_end = np.repeat(np.cumsum(there), there) - np.arange(len(rows))
    still_wanted = wanted - so_far.reshape(-1)[parted] + there
    chosen[rows] = from_end <= still_wanted[group]
    return chosen
