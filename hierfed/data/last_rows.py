"""The last rows of each user, by time or by lot, without sorting all rows."""

from __future__ import annotations

import numpy as np

from hierfed.data.grouping import grouped_order, is_grouped

# Rows that are looked at together, which a core's cache holds, and cells that a user's keys fall into.
_BLOCK = 1 << 16
_CELLS = 64
_NO_SPAN = 1e-300


def last_of_each_user(user: np.ndarray, key: np.ndarray, share: float) -> np.ndarray:
    """Bool [rows]: True for each user's rows of largest key: round(share * rows), at least one, and never all.

    Of rows of one key the last listed come last.
    """
    if not is_grouped(user):
        order = grouped_order(user)
        chosen = np.empty(len(user), bool)
        chosen[order] = last_of_each_user(user[order], key[order], share)
        return chosen
    counts = np.bincount(user)
    counts = counts[counts > 0]
    if not len(counts):
        return np.empty(0, bool)
    wanted = np.minimum(np.maximum(1, np.round(share * counts).astype(np.int64)), counts - 1)
    ends = np.cumsum(counts)
    chosen = np.empty(len(user), bool)
    # Blocks of whole users; one user with more rows than a block is a block.
    cuts = np.unique(np.searchsorted(ends, np.arange(0, len(user), _BLOCK)))
    for first, last in zip(cuts, [*cuts[1:], len(counts)], strict=True):
        rows = slice(ends[first] - counts[first], ends[last - 1])
        chosen[rows] = _last_of_block(key[rows], counts[first:last], wanted[first:last])
    return chosen


def _last_of_block(key: np.ndarray, counts: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """Bool [rows]: the rows of largest key, `wanted` of each group; groups of `counts` rows follow one another.

    Each group's keys fall into cells between its lowest and its highest. Whole cells are taken from the top as long as
    they are wanted; only the rows of the cell that is wanted in part are sorted.
    """
    groups = len(counts)
    starts = np.cumsum(counts) - counts
    low = np.minimum.reduceat(key, starts)
    span = (np.maximum.reduceat(key, starts) - low).astype(np.float64)
    scale = (_CELLS - 0.5) / np.maximum(span, _NO_SPAN)
    member = np.repeat(np.arange(groups), counts)
    cell = ((key - low[member]) * scale[member]).astype(np.int64)
    heights = np.bincount(member * _CELLS + cell, minlength=groups * _CELLS).reshape(groups, _CELLS)
    from_top = np.cumsum(heights[:, ::-1], axis=1)[:, ::-1]
    parted = (from_top >= wanted[:, None]).sum(axis=1) - 1
    above = from_top[np.arange(groups), parted] - heights[np.arange(groups), parted]
    chosen: np.ndarray = cell > parted[member]
    rows = np.flatnonzero(cell == parted[member])
    rows = rows[np.lexsort((key[rows], member[rows]))]
    there = heights[np.arange(groups), parted]
    from_end = np.repeat(np.cumsum(there), there) - np.arange(len(rows))
    chosen[rows] = from_end <= np.repeat(wanted - above, there)
    return chosen
