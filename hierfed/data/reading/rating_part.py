"""The ratings of one file as compact columns, made one by one as the file's own are read and checked."""

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

    value: float32 [rows]. time: int64 [rows], seconds since 1970, or None where the file has no times. place: says
    where row r stands, as "ratings.csv, line 7".
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
        """A part of the columns that `column` gives by their roles: user, item, rating, and time where there is one.

        Each is let go once it was numbered or copied, so no more than two of them lie in memory at a time where
        `column` reads them. Of several errors, that of the first role is raised.
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
    """The part whose columns `read` gives by their names in the file; columns: role to that name.

    Raises DataError at the first id, rating or time that is none.
    """

    def checked(role: str) -> pl.Series:
        return check_column(role, read(columns[role]), columns[role], place, rules).alias(role)

    return RatingPart.of(checked, columns, place)


def join_parts(parts: Sequence[RatingPart]) -> RatingPart:
    """The parts one after the other; ids become text where any part's are, times are kept where every part has them."""
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
