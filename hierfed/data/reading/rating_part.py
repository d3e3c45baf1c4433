"""The ratings of one file as compact columns, made one at a time as the file's columns are read and checked."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import polars as pl

from hierfed.data.ratings import Ratings
from hierfed.data.reading.checks import Rules, check_column
from hierfed.data.reading.numbering import Numbered, array, join_numbered, number

_THREADS = 2


@dataclass(frozen=True, eq=False)
class RatingPart:
    """The checked ratings of one file.

    value: float32 [rows].
    time: int64 [rows], seconds since 1970, or None if the file has no times.
    place: gives the place of row r, as "ratings.csv, line 7".
    """

    user: Numbered
    item: Numbered
    value: np.ndarray
    time: np.ndarray | None
    place: Callable[[int], str]

    def __len__(self) -> int:
        return len(self.value)

    @property
    def ratings(self) -> Ratings:
        """The columns with the part's own numbers of users and items."""
        return Ratings(self.user.numbers, self.item.numbers, self.value, self.time)

    @classmethod
    def of(cls, column: Callable[[str], pl.Series], roles: Collection[str], place: Callable[[int], str]) -> RatingPart:
        """Make a part from columns by role: user, item, rating, and time if there is one.

        Each column is released once it is numbered or copied, so memory holds at most two at a time if `column` reads
        them. If several roles have errors, the first role's is raised.

        column: gives a role's column.
        """

        def numbered(role: str) -> Numbered:
            return number(column(role))

        def copied(role: str) -> np.ndarray:
            return array(column(role))

        with ThreadPoolExecutor(_THREADS) as threads:
            user, item = threads.submit(numbered, "user"), threads.submit(numbered, "item")
            value = threads.submit(copied, "rating")
            time = threads.submit(copied, "time") if "time" in roles else None
            return cls(
                user.result(),
                item.result(),
                value.result().astype(np.float32, copy=False),
                None if time is None else time.result(),
                place,
            )


def checked_part(
    read: Callable[[str], pl.Series], columns: Mapping[str, str], place: Callable[[int], str], rules: Rules
) -> RatingPart:
    """Read and check the columns of a part.

    read: gives a column by its name in the file.
    columns: role to that name.
    Raises DataError at the first invalid id, rating or time.
    """

    def checked(role: str) -> pl.Series:
        return check_column(role, read(columns[role]), columns[role], place, rules).alias(role)

    return RatingPart.of(checked, columns, place)


def join_parts(parts: Sequence[RatingPart]) -> RatingPart:
    """The parts one after the other. Ids become text if any part's are. Times are kept if every part has them."""
    if len(parts) == 1:
        return parts[0]
    first = np.cumsum([0, *map(len, parts)])

    def place(row: int) -> str:
        part = int(np.searchsorted(first, row, side="right")) - 1
        return parts[part].place(row - int(first[part]))

    times = [part.time for part in parts if part.time is not None]
    return RatingPart(
        join_numbered([part.user for part in parts]),
        join_numbered([part.item for part in parts]),
        np.concatenate([part.value for part in parts]),
        np.concatenate(times) if len(times) == len(parts) else None,
        place,
    )
