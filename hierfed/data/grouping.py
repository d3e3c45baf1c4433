"""Rows in the order of their groups, in time that grows with the rows and hardly more where groups lie together."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

# Rows that are looked at together, which a core's cache holds: beyond it, most of the time goes into fresh memory.
BLOCK = 1 << 16
_DIGIT = 16


def blocks(rows: int) -> Iterator[slice]:
    """Rows 0 to `rows` in pieces, all of one size but for the last."""
    return (slice(start, min(start + BLOCK, rows)) for start in range(0, rows, BLOCK))


def is_grouped(group: np.ndarray) -> bool:
    """Whether no row's group number is below that of the row before it."""
    return all((np.diff(group[block.start : block.stop + 1]) >= 0).all() for block in blocks(len(group)))


def count(numbers: np.ndarray, least: int = 0) -> np.ndarray:
    """`np.bincount(numbers, minlength=least)`, which makes an int64 copy of all numbers first."""
    counts = np.zeros(max(least, int(numbers.max(initial=-1)) + 1), np.int64)
    for block in blocks(len(numbers)):
        lowest = numbers[block].min()
        found = np.bincount(numbers[block] - lowest)
        counts[lowest : lowest + len(found)] += found
    return counts


def by_group(group: np.ndarray, groups: int, rows: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
    """The rows by ascending group number, from 0, those of one group in their own order; and where each group begins.

    rows: what stands for each row in the answer, its number where None. The second answer is int64 [groups + 1], its
    last entry the number of rows. What is sorted are the runs of rows of one group: as many as there are users where a
    source lists user by user.
    """
    if not len(group):
        return np.empty(0, np.int64), np.zeros(groups + 1, np.int64)
    starts = np.concatenate([[0], np.flatnonzero(group[1:] != group[:-1]) + 1])
    lengths = np.diff(starts, append=len(group))
    offsets = np.zeros(groups + 1, np.int64)
    offsets[1:] = np.cumsum(np.bincount(group[starts], lengths, minlength=groups))
    order = _radix_order(group[starts])
    lengths = lengths[order]
    ordered = np.repeat(starts[order] - (np.cumsum(lengths) - lengths), lengths)
    for block in blocks(len(group)):
        ordered[block] += np.arange(block.start, block.stop)
        if rows is not None:
            ordered[block] = rows[ordered[block]]
    return ordered, offsets


def distinct(group: np.ndarray) -> np.ndarray:
    """The group numbers that occur, ascending: int64."""
    present = np.zeros(int(group.max(initial=-1)) + 1, bool)
    for block in blocks(len(group)):
        present[group[block]] = True
    return np.flatnonzero(present)


def _radix_order(numbers: np.ndarray) -> np.ndarray:
    """`np.argsort(numbers, kind="stable")` of numbers from 0, digit by digit: NumPy sorts 16 bits by counting."""
    order = np.arange(len(numbers))
    for shift in range(0, max(int(numbers.max()).bit_length(), 1), _DIGIT):
        digit = (numbers[order] >> shift).astype(np.uint16)
        order = order[np.argsort(digit, kind="stable")]
    return order
