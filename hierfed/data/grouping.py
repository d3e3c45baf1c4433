"""Rows in the order of their groups, in time that grows with the rows and hardly more where groups lie together."""

from __future__ import annotations

import numpy as np

_DIGIT = 16
# Rows that are looked at together, which a core's cache holds.
_BLOCK = 1 << 16


def is_grouped(group: np.ndarray) -> bool:
    """Whether no row's group number is below that of the row before it."""
    return bool((group[1:] >= group[:-1]).all())


def by_group(group: np.ndarray, groups: int) -> tuple[np.ndarray, np.ndarray]:
    """The rows by ascending group number, from 0, those of one group in their own order; and where each group begins.

    The first is int64 [rows]; the second int64 [groups + 1], its last entry the number of rows. What is sorted are the
    runs of rows of one group: as many as there are users where a source lists user by user.
    """
    if not len(group):
        return np.empty(0, np.int64), np.zeros(groups + 1, np.int64)
    starts = np.concatenate([[0], np.flatnonzero(group[1:] != group[:-1]) + 1])
    lengths = np.diff(starts, append=len(group))
    offsets = np.zeros(groups + 1, np.int64)
    offsets[1:] = np.cumsum(np.bincount(group[starts], lengths, minlength=groups))
    order = _radix_order(group[starts])
    lengths = lengths[order]
    rows = np.repeat(starts[order] - (np.cumsum(lengths) - lengths), lengths)
    rows += np.arange(len(group))
    return rows, offsets


def distinct(group: np.ndarray) -> np.ndarray:
    """The group numbers that occur, ascending: int64."""
    present = np.zeros(int(group.max(initial=-1)) + 1, bool)
    for start in range(0, len(group), _BLOCK):
        present[group[start : start + _BLOCK]] = True
    return np.flatnonzero(present)


def _radix_order(numbers: np.ndarray) -> np.ndarray:
    """`np.argsort(numbers, kind="stable")` of numbers from 0, digit by digit: NumPy sorts 16 bits by counting."""
    order = np.arange(len(numbers))
    for shift in range(0, max(int(numbers.max()).bit_length(), 1), _DIGIT):
        digit = (numbers[order] >> shift).astype(np.uint16)
        order = order[np.argsort(digit, kind="stable")]
    return order
