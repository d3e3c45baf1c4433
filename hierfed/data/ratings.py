"""Ratings as compact columns, and a data set: ratings, public data on the items, and their origin."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import polars as pl
from numpy.typing import ArrayLike

from hierfed.data.catalogue import Catalogue
from hierfed.data.grouping import blocks, on_threads, rows_where


@dataclass(frozen=True)
class Ratings:
    """Ratings as columns of equal length; users and items are numbered densely from 0.

    user, item: int32 [rows].
    value: float32 [rows], in the source's own unit (stars).
    time: int64 [rows], seconds since 1970, or None if the source has no times.
    """

    user: np.ndarray
    item: np.ndarray
    value: np.ndarray
    time: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.value)

    @property
    def limits(self) -> tuple[float, float]:
        """The lowest and the highest rating."""
        return float(self.value.min()), float(self.value.max())

    @property
    def untimed(self) -> Ratings:
        """The same rows without their times."""
        return Ratings(self.user, self.item, self.value)

    def between(self, start: int, stop: int) -> Ratings:
        """Rows `start` to `stop`, as views."""
        time = None if self.time is None else self.time[start:stop]
        return Ratings(self.user[start:stop], self.item[start:stop], self.value[start:stop], time)

    def take(self, rows: np.ndarray) -> Ratings:
        """The ratings in these rows, in the order of `rows`.

        rows: row numbers or a boolean mask.
        """
        numbers = rows_where(rows) if rows.dtype == bool else rows
        return self.gather(lambda block: numbers[block], len(numbers))

    def gather(self, rows: Callable[[slice], np.ndarray], count: int) -> Ratings:
        """`count` ratings.

        rows: gives the row numbers for each piece of the result.
        """
        columns = [column for column in (self.user, self.item, self.value, self.time) if column is not None]
        gathered = [np.empty(count, column.dtype) for column in columns]

        def fill(block: slice) -> None:
            numbers = rows(block).astype(np.intp, copy=False)
            if not 0 <= numbers.min() <= numbers.max() < len(self):
                raise IndexError(f"rows {numbers.min()} to {numbers.max()} of {len(self)}")
            for column, part in zip(columns, gathered, strict=True):
                # Clipping is faster than checking each column again.
                column.take(numbers, out=part[block], mode="clip")

        on_threads(fill, blocks(count))
        return Ratings(*gathered)


def rows_to_predict(user: ArrayLike, item: ArrayLike, time: ArrayLike | None = None) -> Ratings:
    """Rows whose ratings are asked for, so that their values are NaN.

    user, item: whole numbers [rows]. time: seconds since 1970 [rows], of the moment for which one asks.
    """
    asked = np.asarray(user), np.asarray(item)
    return Ratings(*asked, np.full(len(asked[0]), np.nan, np.float32), None if time is None else np.asarray(time))


def concatenated(parts: Sequence[Ratings]) -> Ratings:
    """The rows of one part after the other, without times if any part has none. A single part is returned as it is."""
    if len(parts) == 1:
        return parts[0]
    times = [part.time for part in parts if part.time is not None]
    user, item, value = (np.concatenate([getattr(part, name) for part in parts]) for name in ("user", "item", "value"))
    return Ratings(user, item, value, np.concatenate(times) if len(times) == len(parts) else None)


@dataclass(frozen=True)
class SourceFile:
    """One file that was read: its name, size in bytes, sha256, and number of data rows.

    For a database, bytes and sha256 are those of the selected rows, as CSV sorted by user and item.
    """

    name: str
    bytes: int
    sha256: str
    rows: int


@dataclass(frozen=True)
class JoinReport:
    """The result of the join of ratings with item metadata.

    name: `links`, `paper`, `title` or `none`.
    kept and items: ratings and items with metadata, after de-duplication.
    kept_before_deduplication: ratings with metadata before rows doubled by repeated metadata ids were removed.
    warning: a warning to read before the join is used, or "".
    """

    name: str
    kept: int
    items: int
    kept_before_deduplication: int
    warning: str = ""


@dataclass(frozen=True)
class Provenance:
    """The origin of a data set and the fate of each row: rows_in = rows used + sum of dropped.

    warnings: warnings to read before the figures are believed, a line each.
    """

    name: str
    licence: str
    citation: str
    files: tuple[SourceFile, ...]
    join: JoinReport
    rows_in: int
    dropped: dict[str, int]
    notes: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True)
class Dataset:
    """Ratings with dense ids, the catalogue of their items, and their provenance.

    user_ids: a polars Series; entry u is the source's own id of user u.
    test_rows: bool [rows], True for test rows that the source itself names; None if it names none.
    seen: int32 [pairs, 2], user and item of pairs that are no ratings: the user has seen the item.
    seen_alone: the numbers of the items that users without any rating have seen, by the user's id.
    Raises ValueError if rows in are not rows used + rows dropped.
    """

    ratings: Ratings
    catalogue: Catalogue
    user_ids: pl.Series
    provenance: Provenance
    test_rows: np.ndarray | None = field(default=None)
    seen: np.ndarray = field(default_factory=lambda: np.empty((0, 2), np.int32))
    seen_alone: Mapping[str, list[int]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Check that every row of the source is accounted for."""
        accounted = len(self.ratings) + sum(self.provenance.dropped.values())
        if accounted != self.provenance.rows_in:
            raise ValueError(f"{self.provenance.rows_in} rows in, but {accounted} used and dropped")

    @property
    def users(self) -> int:
        """Number of users."""
        return len(self.user_ids)

    @property
    def items(self) -> int:
        """Number of items."""
        return len(self.catalogue)
