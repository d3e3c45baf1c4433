"""Operations on long columns, piece by piece: look-ups, counts, and rows in the order of their groups.

Time grows linearly with the rows if the rows of a group lie together, and hardly faster otherwise.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import chain, islice
from threading import Lock
from typing import TypeVar

import numpy as np

# Rows of a piece: few enough that the memory for them is reused, since fresh memory costs
# more than the work on it, and many enough that two threads seldom wait for Python's lock.
BLOCK = 1 << 17
_DIGIT = 16
_THREADS = 2

Piece = TypeVar("Piece")
Found = TypeVar("Found")


@dataclass(frozen=True, eq=False)
class Order:
    """Rows by ascending group, with each group's rows in their own order, stored as runs of adjacent rows.

    starts: int64 [runs], the first row of each run.
    ends: int64 [runs], the place in the order after its last row.
    offsets: int64 [groups + 1], the place where each group begins, and the number of rows.
    """

    starts: np.ndarray
    ends: np.ndarray
    offsets: np.ndarray

    def __len__(self) -> int:
        return int(self.offsets[-1])

    def rows(self, places: slice) -> np.ndarray:
        """The rows at these places of the order: int64.

        places: at least one.
        """
        first, last = np.searchsorted(self.ends, [places.start, places.stop - 1], side="right").tolist()
        ends = self.ends[first : last + 1]
        begins = np.concatenate([[self.ends[first - 1] if first else 0], ends[:-1]])
        lengths = np.minimum(ends, places.stop) - np.maximum(begins, places.start)
        found: np.ndarray = np.repeat(self.starts[first : last + 1] - begins, lengths)
        found += np.arange(places.start, places.stop)
        return found


def blocks(rows: int) -> Iterator[slice]:
    """Rows 0 to `rows` in pieces, all of one size except the last."""
    return (slice(start, min(start + BLOCK, rows)) for start in range(0, rows, BLOCK))


def on_threads(work: Callable[[Piece], Found], pieces: Iterable[Piece]) -> list[Found]:
    """The results of `work` for each piece, in order. Several pieces are shared by two threads.

    A piece is requested only when a thread is free, so the output of a generator does not pile up.
    """
    ahead = enumerate(pieces)
    begun = list(islice(ahead, _THREADS))
    if len(begun) < _THREADS:
        return [work(piece) for _, piece in begun]
    left, taking, found = chain(begun, ahead), Lock(), dict[int, Found]()

    def work_on() -> None:
        while True:
            with taking:
                taken = next(left, None)
            if taken is None:
                return
            found[taken[0]] = work(taken[1])

    with ThreadPoolExecutor(_THREADS) as threads:
        for each in [threads.submit(work_on) for _ in range(_THREADS)]:
            each.result()
    return [found[place] for place in range(len(found))]


def is_grouped(group: np.ndarray) -> bool:
    """True if group numbers never fall from one row to the next."""
    pairs = (group[block.start : block.stop + 1] for block in blocks(len(group)))
    return all((numbers[1:] >= numbers[:-1]).all() for numbers in pairs)


def count(numbers: np.ndarray, least: int = 0) -> np.ndarray:
    """`np.bincount(numbers, minlength=least)`, without NumPy's int64 copy of all numbers."""
    counts = np.zeros(max(least, int(numbers.max(initial=-1)) + 1), np.int64)
    for block in blocks(len(numbers)):
        lowest = numbers[block].min()
        found = np.bincount(numbers[block] - lowest)
        counts[lowest : lowest + len(found)] += found
    return counts


def runs(group: np.ndarray, rows: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
    """The first row of each run of rows of one group, int64 [runs], and the runs' groups; arguments: see `by_group`."""
    total = len(group if rows is None else rows)

    def runs_of(block: slice) -> tuple[np.ndarray, np.ndarray]:
        before = max(block.start - 1, 0)
        seen = slice(before, block.stop)
        here = group[seen] if rows is None else group.take(rows[seen], mode="clip")
        starts = np.flatnonzero(here[1:] != here[:-1]) + 1
        starts = starts if block.start else np.concatenate([[0], starts])
        return starts + before, here[starts]

    found = on_threads(runs_of, blocks(total)) or [(np.empty(0, np.int64), np.empty(0, group.dtype))]
    starts, group_of_run = map(np.concatenate, zip(*found, strict=True))
    return starts, group_of_run


def by_group(group: np.ndarray, groups: int, rows: np.ndarray | None = None) -> Order:
    """The order of the rows by ascending group number, from 0.

    It sorts runs of rows of one group. A source that lists user by user has one run per user.

    rows: row numbers of `group` to order; the result then holds places in `rows`. None for all rows.
    """
    starts, group_of_run = runs(group, rows)
    lengths = np.diff(starts, append=len(group if rows is None else rows))
    offsets = np.zeros(groups + 1, np.int64)
    offsets[1:] = np.cumsum(np.bincount(group_of_run, lengths, minlength=groups))
    order = _radix_order(group_of_run)
    return Order(starts[order], np.cumsum(lengths[order]), offsets)


def distinct(group: np.ndarray) -> np.ndarray:
    """The group numbers that occur, ascending: int64."""
    present = np.zeros(int(group.max(initial=-1)) + 1, bool)
    for block in blocks(len(group)):
        numbers = group[block]
        # Only the last of equal neighbours is marked: most neighbours in a column of users are equal.
        present[numbers[:-1][numbers[1:] != numbers[:-1]]] = True
        present[numbers[-1]] = True
    return np.flatnonzero(present)


def look_up(table: np.ndarray, numbers: np.ndarray) -> np.ndarray:
    """`table[numbers]` for valid numbers, piece by piece, without NumPy's int64 copy of all numbers."""
    found = np.empty(len(numbers), table.dtype)

    def fill(block: slice) -> None:
        # Clipping is faster than checking.
        table.take(numbers[block], out=found[block], mode="clip")

    on_threads(fill, blocks(len(numbers)))
    return found


def rows_where(mask: np.ndarray) -> np.ndarray:
    """The rows in which the mask is True, ascending: int32, or int64 if there are too many rows for that."""
    pieces = list(blocks(len(mask)))
    ends = np.cumsum([0, *(np.count_nonzero(mask[block]) for block in pieces)]).tolist()
    rows = np.empty(ends[-1], np.int32 if len(mask) <= 1 << 31 else np.int64)

    def fill(piece: int) -> None:
        block, there = pieces[piece], rows[ends[piece] : ends[piece + 1]]
        np.add(np.flatnonzero(mask[block]), block.start, out=there, casting="same_kind")

    on_threads(fill, range(len(pieces)))
    return rows


def _radix_order(numbers: np.ndarray) -> np.ndarray:
    """`np.argsort(numbers, kind="stable")` of numbers from 0, digit by digit, since NumPy sorts 16 bits by counting."""
    order = np.arange(len(numbers))
    for shift in range(0, max(int(numbers.max(initial=0)).bit_length(), 1), _DIGIT):
        digit = (numbers[order] >> shift).astype(np.uint16)
        order = order[np.argsort(digit, kind="stable")]
    return order
