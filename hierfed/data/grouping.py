"""Rows in the order of their groups, in time that grows with the rows and hardly more where groups lie together."""

from __future__ import annotations

import numpy as np

_DIGIT = 16


def is_grouped(group: np.ndarray) -> bool:
    """Whether no row's group number is below that of the row before it."""
    return bool((group[1:] >= group[:-1]).all())


def grouped_order(group: np.ndarray) -> np.ndarray:
    """The rows by ascending group number (from 0), those of one group in their own order: int64 [rows].

    What is sorted are the runs of rows of one group: as many as there are users where a source lists user by user.
    """
    if not len(group):
        return np.empty(0, np.int64)
    starts = np.concatenate([[0], np.flatnonzero(group[1:] != group[:-1]) + 1])
    order = _radix_order(group[starts])
    lengths = np.diff(starts, append=len(group))[order]
    before = np.cumsum(lengths) - lengths
    rows = np.repeat(starts[order] - before, lengths)
    rows += np.arange(len(group))
    return rows


def offsets_of(group: np.ndarray, groups: int) -> np.ndarray:
    """Where each group begins once rows are in the order of their groups, and where the last ends: int64 [groups + 1]."""
    return np.concatenate([[0], np.cumsum(np.bincount(group, minlength=groups))])


def _radix_order(numbers: np.ndarray) -> np.ndarray:
    """`np.argsort(numbers, kind="stable")` of numbers from 0, digit by digit: NumPy sorts 16 bits by counting."""
    order = np.arange(len(numbers))
    for shift in range(0, max(int(numbers.max()).bit_length(), 1), _DIGIT):
        digit = (numbers[order] >> shift).astype(np.uint16)
        order = order[np.argsort(digit, kind="stable")]
    return order
