"""The ratings that a run's own users keep in their files, as one table, and what becomes of it when they change."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl

from hierfed.data.federation import Node, RowsByNode, rows_by_node
from hierfed.data.ratings import Ratings
from hierfed.errors import HierfedError
from hierfed.runs.private_files import LATER, UserFile, every_user_file

COLUMNS = {"node": pl.String, "user": pl.String, "item": pl.Int32, "rating": pl.Float32, "time": pl.Int64}
PAIR = ("user", "item")


@dataclass(frozen=True)
class KeptRows:
    """Ratings by node and user.

    rows: columns node, user, item (a number), rating and time (null where it is not known), by user and item.
    seen: columns user and item, of what users have seen besides.
    """

    rows: pl.DataFrame
    seen: pl.DataFrame

    @property
    def timed(self) -> bool:
        """True where the run keeps times."""
        return self.rows["time"].count() > 0

    @property
    def user_ids(self) -> pl.Series:
        """The ids of all users, ascending: a user's number is the place here."""
        return pl.concat([self.rows["user"], self.seen["user"]]).unique().sort()

    def nodes(self) -> list[Node]:
        """The nodes, each with all of its rows to learn from."""
        parts = self.rows.partition_by("node", maintain_order=True)
        users = self.user_ids
        found = []
        for number, part in enumerate(sorted(parts, key=lambda part: str(part["node"][0]))):
            rows = ratings_of(part, users)
            found.append(Node(number, str(part["node"][0]), rows, rows.between(0, 0)))
        return found

    def seen_by_user(self) -> RowsByNode:
        """The items that users have seen besides, user by user; these rows bear no rating."""
        users = self.user_ids
        numbers = users.search_sorted(self.seen["user"]).cast(pl.Int32).to_numpy() if len(self.seen) else _none()
        items = self.seen["item"].to_numpy() if len(self.seen) else _none()
        return rows_by_node(Ratings(numbers, items, np.zeros(len(items), np.float32)), numbers, len(users))

    def without(self, users: Sequence[str]) -> KeptRows:
        """All that these users did not give."""
        others = ~pl.col("user").is_in(list(users))
        return KeptRows(self.rows.filter(others), self.seen.filter(others))

    def changed(
        self, new: pl.DataFrame | None, withdrawn: pl.DataFrame | None, keep: bool, seen: pl.DataFrame | None = None
    ) -> KeptRows:
        """The ratings as they are now.

        new: user, item, rating, time. A user whom it names has these ratings and, unless `keep`, no others; where it
        has no time, the one that the run knows stays. New users come to the node `later`.
        withdrawn: user and item of ratings that are taken back. seen: user and item of what has been seen besides; what
        was seen before stays so.
        """
        rows, besides = self.rows, self.seen if seen is None else pl.concat([self.seen, seen]).unique()
        if new is not None:
            known = rows.select(*PAIR, pl.col("time").alias("known"))
            new = new.join(known, on=PAIR, how="left").with_columns(time=pl.coalesce("time", "known"))
            if not self.timed and len(rows):
                new = new.with_columns(time=pl.lit(None, pl.Int64))
            home = rows.group_by("user", maintain_order=True).agg(pl.col("node").first())
            new = new.join(home, on="user", how="left").with_columns(pl.col("node").fill_null(LATER))
            rows = pl.concat([rows.join(new, on=PAIR if keep else "user", how="anti"), new.select(rows.columns)])
        if withdrawn is not None:
            rows, besides = (each.join(withdrawn, on=PAIR, how="anti") for each in (rows, besides))
        return KeptRows(rows.sort(PAIR), besides.join(rows, on=PAIR, how="anti").sort(PAIR))

    def differing(self, other: KeptRows) -> list[str]:
        """The users whose ratings, or other seen items, are others there, ascending."""
        columns = [*PAIR, "rating", "time"]
        one = self.rows.join(other.rows, on=columns, how="anti", nulls_equal=True)["user"]
        two = other.rows.join(self.rows, on=columns, how="anti", nulls_equal=True)["user"]
        seen = [a.seen.join(b.seen, on=PAIR, how="anti")["user"] for a, b in ((self, other), (other, self))]
        return pl.concat([one, two, *seen]).unique().sort().to_list()

    def lost(self, other: KeptRows) -> int:
        """The number of ratings here of pairs of a user and an item that have none there."""
        return len(self.rows.join(other.rows, on=PAIR, how="anti"))

    def refuse_untimed(self) -> None:
        """Raise HierfedError where some ratings have times, and others none."""
        if self.timed and self.rows["time"].null_count():
            raise HierfedError("the run's ratings have times, and some of the new ones none: add a column time")


def kept_rows(folder: Path, kind: str, users: Sequence[str] | None = None) -> KeptRows:
    """The ratings in the users' own files of a run; a rating that lies on two nodes counts once.

    users: only theirs; None for all. Raises HierfedError for files that hold no ratings.
    """
    rows, seen = [_frame({})], [pl.DataFrame(schema={"user": pl.String, "item": pl.Int32})]
    for node, user, file in every_user_file(folder, kind, users):
        if file.tensors:
            rows.append(_rows_of(folder, node, user, file))
        if len(file.seen):
            items = pl.Series("item", file.seen.numpy(), pl.Int32)
            seen.append(pl.DataFrame({"user": [user] * len(items), "item": items}))
    found = pl.concat(rows).unique(PAIR, keep="first", maintain_order=True).sort(PAIR)
    besides = pl.concat(seen).unique().join(found, on=PAIR, how="anti").sort(PAIR)
    return KeptRows(found, besides)


def _rows_of(folder: Path, node: str, user: str, file: UserFile) -> pl.DataFrame:
    if not {"items", "ratings"} <= file.tensors.keys():
        raise HierfedError(f"{folder}: the users of this run keep no ratings, so it cannot go on: train it anew")
    items, values = (file.tensors[name].numpy() for name in ("items", "ratings"))
    times = file.tensors["times"].numpy().astype(np.int64) if "times" in file.tensors else None
    return _frame(
        {
            "node": [node] * len(items),
            "user": [user] * len(items),
            "item": items.astype(np.int32),
            "rating": values.astype(np.float32),
            "time": [None] * len(items) if times is None else times,
        }
    )


def _frame(columns: Mapping[str, object]) -> pl.DataFrame:
    return pl.DataFrame(columns, schema=COLUMNS)


def ratings_of(rows: pl.DataFrame, users: pl.Series) -> Ratings:
    """Rows as ratings, by user and item. users: the ids by number, ascending."""
    rows = rows.with_columns(number=users.search_sorted(rows["user"]).cast(pl.Int32)).sort("number", "item")
    time = None if rows["time"].null_count() else rows["time"].to_numpy(writable=True)
    user, item, value = (rows[name].to_numpy(writable=True) for name in ("number", "item", "rating"))
    return Ratings(user, item, value, time)


def _none() -> np.ndarray:
    return np.empty(0, np.int32)
