"""A finished run as a library: lists, predictions, likenesses and reasons, for its users and for new ones."""

from __future__ import annotations

import math
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import torch

from hierfed.data.ratings import Ratings
from hierfed.data.settings import DataSettings
from hierfed.errors import HierfedError
from hierfed.runs.private_files import all_users, files_by_user
from hierfed.serving.answers import Answer, Reason
from hierfed.serving.every_list import lists_of
from hierfed.serving.item_index import Id, ItemIndex
from hierfed.serving.levels import USUAL_ROUNDS, Level
from hierfed.serving.served import Served, ServedUser
from hierfed.serving.tables import frame_with

EXPECTED = {"rating": pl.Float64, "lowest": pl.Float64, "highest": pl.Float64}
Rated = Mapping[Id, float] | Mapping[str, float] | Mapping[int, float]
"""Stars by item id."""


@dataclass(frozen=True)
class Alike:
    """An item that users judge like another one. likeness: a correlation between users, at most 1."""

    item: str
    title: str
    likeness: float


class Recommender:
    """A finished run that answers: lists, expected ratings with intervals, items alike, and reasons.

    Items and users go by the source's own ids, as text or as whole numbers. Make one with `hierfed.load` or
    `hierfed.fit`. Nothing is written, and nothing of a user is sent anywhere.

    >>> import hierfed
    >>> model = hierfed.fit(ratings, rounds=5)
    >>> [item.rank for item in model.recommend("12", k=2).items]
    [1, 2]
    >>> newcomer = model.recommend(ratings={"1": 5, "2": 1.5, "3": 4}, k=5)
    >>> model.predict(ratings.head(3)).columns
    ['user', 'item', 'rating', 'lowest', 'highest', 'known']
    """

    def __init__(self, folder: str | Path, keep: tempfile.TemporaryDirectory[str] | None = None):
        """folder: of a run, or a node's state. keep: lives as long as this object."""
        self.served = Served(Path(folder))
        self._index = ItemIndex(self.served)
        self._keep = keep
        self._added: dict[str, ServedUser] = {}
        self._more: list[pl.DataFrame] = []

    @property
    def items(self) -> pl.DataFrame:
        """The catalogue: `item_id`, `title`, `year`, `genres` and more, a row an item.

        >>> model.items.height
        20
        """
        return self.served.catalogue.frame

    @property
    def users(self) -> list[str]:
        """The ids of all users whom the run knows; on a node, of its own.

        >>> len(model.users)
        40
        """
        return sorted({*all_users(self.served.folder), *self._added})

    def recommend(
        self,
        user: Id | None = None,
        *,
        ratings: Rated | None = None,
        k: int = 10,
        exclude: Sequence[Id] = (),
        among: Sequence[Id] | None = None,
        genres: Sequence[str] = (),
        years: tuple[int, int] | None = None,
        include_seen: bool = False,
        order: str = "",
        why: bool = True,
    ) -> Answer:
        """The best items for a user of the run, or for anyone with these ratings; seen items are left out.

        user: an id; one whom the run does not know gets what suits a newcomer, and `known` is then False.
        ratings: stars by item id, of a person whom the run need not know; in place of `user`.
        exclude, among: item ids. genres: the item has one of them. years: the first and the last.
        order: `rating` for the expected rating, or a ranking model such as `blend`; empty for the run's own choice.
        why: whether reasons are worked out, which takes as long as all the rest.
        Raises HierfedError for an unknown item, genre or order.

        >>> len(model.recommend("12", k=3, exclude=["3", "18"]).items)
        3
        """
        someone, name, known = self._someone(user, ratings)
        if k < 1:
            raise HierfedError(f"k {k}: expected at least 1")
        allowed = self._index.allowed(exclude, among, genres, years)
        return self.served.listed(name, someone, k, include_seen, known=known, allowed=allowed, order=order, why=why)

    def predict(self, rows: Any = None, *, ratings: Rated | None = None, items: Sequence[Id] = ()) -> pl.DataFrame:
        """Expected ratings with the interval that holds nine in ten: columns rating, lowest, highest and known.

        rows: a table with the columns `user` and `item` (polars, pandas or a mapping of columns); the answer keeps
        both, in the same order. Or `ratings` and `items`: these items for a person with these ratings.
        lowest, highest: null where the model does not say how sure it is. known: whether the run knows the user.
        Raises HierfedError for an unknown item.

        >>> round(model.predict({"user": ["12"], "item": ["3"]})["rating"].item(), 1)
        3.9
        """
        if ratings is not None:
            someone, _, _ = self._someone(None, ratings)
            asked = pl.DataFrame({"item": [str(item) for item in items]}, schema={"item": pl.String})
            return asked.with_columns(self._expected(someone, asked["item"]))
        asked = frame_with(rows, ("user", "item"), "rows to predict")
        asked = asked.select(pl.col("user", "item").cast(pl.String)).with_row_index("row")
        parts = [self._predicted(str(name[0]), part) for name, part in asked.group_by("user", maintain_order=True)]
        schema = {"user": pl.String, "item": pl.String, **EXPECTED, "known": pl.Boolean}
        return pl.concat(parts).sort("row").drop("row") if parts else pl.DataFrame(schema=schema)

    def similar(self, item: Id, k: int = 10) -> list[Alike]:
        """The items that users judge most like this one, by the model's correlation between users.

        Raises HierfedError for an unknown item, and for a method that does not say what is alike.

        >>> round(model.similar("1", k=1)[0].likeness, 1)
        0.6
        """
        number = self.number(item)
        likeness = self.served.newcomer.model.likeness(number)
        if likeness is None:
            raise HierfedError(
                f"method '{self.served.settings.method}' does not say which items are alike: use preset hierarchical "
                "or local"
            )
        likeness[number] = -math.inf
        best = likeness.sort(descending=True, stable=True).indices[: min(k, len(likeness) - 1)].tolist()
        served = self.served
        return [Alike(served.item_id(each), served.title(each), float(likeness[each])) for each in best]

    def explain(self, user: Id | None, item: Id, *, ratings: Rated | None = None) -> tuple[Reason, ...]:
        """The own ratings that moved this item's expected rating most, and by how much; empty where nothing is known.

        >>> round(model.explain("12", "3")[0].moved, 1)
        0.3
        """
        someone, _, _ = self._someone(user if ratings is None else None, ratings)
        return self.served.reasons_of(someone, torch.tensor([self.number(item)]))[0]

    def recommend_all(
        self, k: int = 10, *, out: str | Path | None = None, order: str = "", batch: int = 512
    ) -> pl.LazyFrame:
        """The lists of all users: columns user, rank, item and score, lazily from Parquet where it is written.

        out: a folder, made new, for the Parquet files, one for each `batch` of users; without it, lists are in memory.
        Memory is that of one batch, and of the lists where they stay in memory.

        >>> model.recommend_all(k=3, out="lists").collect().columns
        ['user', 'rank', 'item', 'score']
        """
        paths = files_by_user(self.served.folder)

        def user(name: str) -> ServedUser:
            return self._added.get(name) or self.served.user_at(name, paths[name])

        batches = lists_of(self.served, sorted({*paths, *self._added}), user, k, order, batch)
        if out is None:
            return pl.concat(list(batches)).lazy()
        place = Path(out)
        if place.exists():
            raise HierfedError(f"{place}: exists: name a folder that does not, for the lists")
        place.mkdir(mode=0o700, parents=True)
        for number, part in enumerate(batches):
            part.write_parquet(place / f"{number:06d}.parquet")
        return pl.scan_parquet(place / "*.parquet")

    def update(self, rows: Any, level: Level = "users", *, rounds: int = USUAL_ROUNDS) -> None:
        """Learn from more ratings, in memory; a run's folder is never written.

        rows: a table with the columns user, item and rating, and time if the model knows times. A new rating of an item
        takes the place of the old one.
        level: `users` fits these users' own models alone, and takes no new items. `rounds`: so many further rounds from
        the shared model, which then knows new items too. `all`: a training from the start.

        >>> model.update({"user": ["anna"], "item": ["3"], "rating": [5.0]})
        """
        asked = frame_with(rows, ("user", "item", "rating"), "new ratings")
        if level != "users":
            self._go_on(asked, level, rounds)
            return
        found = {}
        for (name,), part in asked.group_by(pl.col("user").cast(pl.String), maintain_order=True):
            before = self._known(str(name))
            own = {} if before is None else dict(zip(before.own.item.tolist(), before.own.value.tolist(), strict=True))
            new = dict(zip(part["item"].to_list(), part["rating"].to_list(), strict=True))
            learned = self.served.learned(self._rows(own | self._numbered(new)))
            seen = learned.seen if before is None else torch.cat([before.seen, learned.seen])
            found[str(name)] = replace(learned, seen=seen)
        self._added |= found
        self._more.append(asked)

    def _go_on(self, asked: pl.DataFrame, level: Level, rounds: int) -> None:
        """Train a copy of the run over these ratings and those of earlier updates too, and serve from it."""
        from hierfed.serving.update import update_run  # noqa: PLC0415 - training takes a second to load

        keep = tempfile.TemporaryDirectory(prefix="hierfed-")
        folder, table = Path(keep.name) / "run", Path(keep.name) / "new.parquet"
        shutil.copytree(self.served.folder, folder)
        texts = [part.with_columns(pl.col("user", "item").cast(pl.String)) for part in (*self._more, asked)]
        every = pl.concat(texts, how="diagonal_relaxed").unique(["user", "item"], keep="last", maintain_order=True)
        every.write_parquet(table)
        update_run(folder, str(table), level, rounds=rounds, keep=True, how=DataSettings())
        table.unlink()
        self.served, self._keep = Served(folder), keep
        self._index = ItemIndex(self.served)
        self._added, self._more = {}, []

    def find(self, words: str, k: int = 20) -> list[dict[str, Any]]:
        """The items whose titles hold all these words, in any case: item, title, year and genres.

        >>> model.find("a title that no film has")
        []
        """
        return self._index.find(words, k)

    def check(self, ratings: Rated) -> None:
        """Raise HierfedError where these ratings name an unknown item, or are outside the scale."""
        self._numbered(ratings)

    def number(self, item: Id) -> int:
        """The number of an item in the run; raises HierfedError for an unknown one."""
        return self._index.number(item)

    def _someone(self, user: Id | None, ratings: Rated | None) -> tuple[ServedUser, str, bool]:
        if (user is None) == (ratings is None):
            raise HierfedError("name a user, or give ratings={item: stars}: one of the two")
        if ratings is not None:
            return self.served.learned(self._rows(self._numbered(ratings))), "", bool(ratings)
        found = self._known(str(user))
        return found or self.served.newcomer, str(user), found is not None

    def _known(self, user: str) -> ServedUser | None:
        return self._added.get(user) or self.served.user(user)

    def _numbered(self, ratings: Mapping[Any, float]) -> dict[int, float]:
        """Stars by item number; raises HierfedError for what cannot be rated so."""
        low, high = self.served.limits
        found = {}
        for item, stars in ratings.items():
            if isinstance(stars, bool) or not isinstance(stars, (int, float)) or not low <= stars <= high:
                raise HierfedError(f"item '{item}': expected a rating from {low:g} to {high:g}")
            found[self.number(item)] = float(stars)
        return found

    def _rows(self, rated: Mapping[int, float]) -> Ratings:
        items = np.array(sorted(rated), np.int32)
        values = np.array([rated[item] for item in items.tolist()], np.float32)
        return Ratings(np.zeros(len(items), np.int32), items, values)

    def _predicted(self, user: str, part: pl.DataFrame) -> pl.DataFrame:
        found = self._known(user)
        expected = self._expected(found or self.served.newcomer, part["item"])
        return part.with_columns(*expected, pl.lit(found is not None).alias("known"))

    def _expected(self, someone: ServedUser, items: pl.Series) -> list[pl.Series]:
        numbers = torch.tensor([self.number(item) for item in items], dtype=torch.int64)
        columns = zip(EXPECTED, self.served.expected(someone.model, numbers), strict=True)
        return [pl.Series(name, values, pl.Float64) for name, values in columns]


def load(folder: str | Path) -> Recommender:
    """A finished run, or a node's state, ready to answer; its files are only read.

    folder: of a run, such as `runs/hierarchical`, or a node's `--state`.
    Raises HierfedError where there is no run, or one whose users cannot be served.

    >>> hierfed.load("runs/hierarchical").recommend("12", k=3).items[0].rank
    1
    """
    return Recommender(folder)
