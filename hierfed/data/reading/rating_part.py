"""The ratings of one file as compact columns, made one at a time as the file's columns are read and checked."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace

import numpy as np
import polars as pl

from hierfed.data.ratings import Ratings
from hierfed.data.reading.checks import Rules, check_column
from hierfed.data.reading.numbering import Numbered, array, compress, join_numbered, number
from hierfed.data.reading.times import unit_of_times
from hierfed.errors import DataError

_THREADS = 2


@dataclass(frozen=True, eq=False)
class RatingPart:
    """The checked ratings of one file.

    value: float32 [rows].
    time: int64 [rows], seconds since 1970, or None if the file has no times.
    place: gives the place of row r, as "ratings.csv, line 7".
    dropped: the number of rows that are no ratings, by reason.
    seen: the ids (columns `user`, `item`) of pairs that were seen and not rated; None if there are none.
    remarks: what the reader took the values for, a line each.
    """

    user: Numbered
    item: Numbered
    value: np.ndarray
    time: np.ndarray | None
    place: Callable[[int], str]
    dropped: Mapping[str, int] = field(default_factory=dict)
    seen: pl.DataFrame | None = None
    remarks: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.value)

    @property
    def rows_in(self) -> int:
        """The number of rows that the file has."""
        return len(self) + sum(self.dropped.values())

    @property
    def ratings(self) -> Ratings:
        """The columns with the part's own numbers of users and items."""
        return Ratings(self.user.numbers, self.item.numbers, self.value, self.time)

    def take(self, rows: np.ndarray) -> RatingPart:
        """The part with these rows, in their order; every user and item must keep one."""
        return replace(
            self,
            user=Numbered(self.user.ids, self.user.numbers[rows]),
            item=Numbered(self.item.ids, self.item.numbers[rows]),
            value=self.value[rows],
            time=None if self.time is None else self.time[rows],
            place=lambda row: self.place(int(rows[row])),
        )

    def without_users(self, gone: Callable[[pl.Series], np.ndarray]) -> RatingPart:
        """The part without the rows of some users. gone: bool [ids], of distinct ids."""
        rows = np.flatnonzero(~gone(self.user.ids)[self.user.numbers])

        def left(column: Numbered) -> Numbered:
            kept, numbers = compress(column.numbers[rows], len(column.ids))
            return Numbered(column.ids.gather(kept), numbers)

        seen = self.seen
        if seen is not None:
            users = seen["user"].unique()
            seen = seen.filter(~pl.col("user").is_in(users.filter(pl.Series(gone(users))).implode()))
        return replace(
            self,
            user=left(self.user),
            item=left(self.item),
            value=self.value[rows],
            time=None if self.time is None else self.time[rows],
            place=lambda row: self.place(int(rows[row])),
            seen=seen,
        )

    @classmethod
    def of(cls, column: Callable[[str], pl.Series], roles: Collection[str], place: Callable[[int], str]) -> RatingPart:
        """Make a part from columns by role: user, item, rating, and time if there is one.

        Where there is no rating, each row says "seen", and has the value 1.

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
            value = threads.submit(copied, "rating") if "rating" in roles else None
            time = threads.submit(copied, "time") if "time" in roles else None
            seen = np.ones(len(user.result().numbers), np.float32)
            return cls(
                user.result(),
                item.result(),
                seen if value is None else value.result().astype(np.float32, copy=False),
                None if time is None else time.result(),
                place,
            )


def checked_part(
    read: Callable[[str], pl.Series],
    columns: Mapping[str, str],
    place: Callable[[int], str],
    rules: Rules,
    malformed: int = 0,
) -> RatingPart:
    """Read and check the columns of a part, and leave out what is no rating as the rules say.

    read: gives a column by its name in the file.
    columns: role to that name.
    malformed: the number of rows that the file has besides, with a wrong number of fields.
    Raises DataError at the first invalid id, rating or time, unless the rules skip them.
    """
    remarks: list[str] = []
    if rules.how.time_format and "time" not in columns:
        raise DataError(
            f"{place(0)}: data.time_format, and no column of times among {', '.join(columns.values())}: name it with "
            "--column time=NAME"
        )

    def checked(role: str) -> pl.Series:
        raw = read(columns[role])
        if role == "time" and (unit := unit_of_times(raw, rules.how.time_format)) != "seconds":
            remarks.append(f"column {columns[role]}: the times are taken for {unit}, by their size")
        return check_column(role, raw, columns[role], place, rules).alias(role)

    if rules.how.strict:
        part = RatingPart.of(checked, columns, place)
    else:
        frame = pl.DataFrame([checked(role) for role in columns])
        part = _ratings_of(frame, columns, place, rules, malformed)
    return replace(part, remarks=tuple(remarks))


def _ratings_of(
    frame: pl.DataFrame, columns: Mapping[str, str], place: Callable[[int], str], rules: Rules, malformed: int
) -> RatingPart:
    """The rows of checked columns that are ratings. Nulls are bad fields, and NaN a rating that is none."""
    dropped = {"a wrong number of fields": malformed} if malformed else {}
    good = pl.Series([True] * frame.height, dtype=pl.Boolean)
    for role, name in columns.items():
        bad = frame[role].is_null() & good
        if bad.any():
            dropped[f"column {name}: no {'id' if role in ('user', 'item') else role}"] = int(bad.sum())
            good &= ~bad
    coded = good & (frame["rating"].is_nan().fill_null(False) if "rating" in columns else False)
    seen = None
    if coded.any():
        codes = " or ".join(code if isinstance(code, str) else f"{code:g}" for code in rules.how.no_rating)
        dropped[f"seen, not rated (rating {codes})"] = int(coded.sum())
        seen = frame.filter(coded).select(pl.col("user", "item").cast(pl.String)).unique(maintain_order=True)
        good &= ~coded
    rows = good.arg_true()
    if not len(rows):
        told = "; ".join(f"{count:,}: {reason}" for reason, count in dropped.items())
        raise DataError(f"{place(0)} and after: no row is a rating ({told})")
    part = RatingPart.of(frame[rows].get_column, columns, lambda row: place(int(rows[row])))
    return replace(part, dropped=dropped, seen=seen)


def join_parts(parts: Sequence[RatingPart]) -> RatingPart:
    """The parts one after the other. Ids become text if any part's are. Times are kept if every part has them."""
    if len(parts) == 1:
        return parts[0]
    first = np.cumsum([0, *map(len, parts)])

    def place(row: int) -> str:
        part = int(np.searchsorted(first, row, side="right")) - 1
        return parts[part].place(row - int(first[part]))

    times = [part.time for part in parts if part.time is not None]
    seen = [part.seen for part in parts if part.seen is not None]
    return RatingPart(
        join_numbered([part.user for part in parts]),
        join_numbered([part.item for part in parts]),
        np.concatenate([part.value for part in parts]),
        np.concatenate(times) if len(times) == len(parts) else None,
        place,
        counted([part.dropped for part in parts]),
        pl.concat(seen).unique(maintain_order=True) if seen else None,
        tuple(dict.fromkeys(remark for part in parts for remark in part.remarks)),
    )


def counted(parts: Iterable[Mapping[str, int]]) -> dict[str, int]:
    """The sum of counts by reason."""
    total: dict[str, int] = {}
    for part in parts:
        for reason, count in part.items():
            total[reason] = total.get(reason, 0) + count
    return total
