"""A node's own ratings, numbered by a catalogue that all nodes share and by users that no one else sees."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import polars as pl

from hierfed.data.catalogue import Catalogue
from hierfed.data.grouping import look_up
from hierfed.data.last_rows import last_of_each_user
from hierfed.data.ratings import Ratings
from hierfed.data.reading.assembly import Source, refuse_repeated_pairs
from hierfed.data.reading.rating_part import join_parts
from hierfed.errors import DataError
from hierfed.randomness import generator


@dataclass(frozen=True)
class OwnRatings:
    """What one node holds: the rows it learns from, the rows it is judged on, and its users' own ids.

    user_ids: entry u is the source's id of user u of these rows. unknown: rows left out, of items that the catalogue
    does not know.
    """

    train: Ratings
    test: Ratings
    user_ids: pl.Series
    unknown: int

    @property
    def limits(self) -> tuple[float, float]:
        """The lowest and the highest rating."""
        values = np.concatenate([self.train.value, self.test.value])
        return float(values.min()), float(values.max())

    @cached_property
    def digest(self) -> str:
        """sha256 of the rows to learn from: equal while they are the same, in the same order."""
        state = hashlib.sha256()
        for column in (self.train.user, self.train.item, self.train.value):
            state.update(np.ascontiguousarray(column).tobytes())
        state.update("\n".join(self.user_ids.cast(pl.String)).encode())
        return state.hexdigest()


def own_ratings(source: Source, catalogue: Catalogue, test_share: float = 0.0) -> OwnRatings:
    """Number a source's ratings; rows keep their order.

    test_share: of each user's rows that the catalogue knows, drawn at random and never learned from, all but one at
    most; 0 where the source names test rows itself. Raises DataError for a (user, item) pair that stands twice, and
    where the catalogue leaves nothing to learn from.
    """
    parts = [source.train] if source.test is None else [source.train, source.test]
    whole = join_parts(parts)
    refuse_repeated_pairs(whole, len(source.train))
    user, item_ids = whole.user.numbers, whole.item.ids
    item = look_up(_places(item_ids, catalogue.frame["item_id"]), whole.item.numbers)
    known = item >= 0
    held = np.arange(len(whole)) >= len(source.train)
    if not known.any():
        raise DataError(
            f"{source.terms.name}: the federation's catalogue knows none of its {len(whole):,} ratings' items, such as "
            f"{item_ids[int(whole.item.numbers[0])]}; it knows {catalogue.frame['item_id'][0]}, for instance"
        )
    ratings = Ratings(user, item, whole.value, whole.time)
    if source.test is None and test_share > 0:
        key = generator(0, 0, 0, "own test rows").random(len(whole))
        held[known] = last_of_each_user(user[known], key[known], test_share)
    if not (known & ~held).any():
        raise DataError(
            f"{source.terms.name}: the federation's catalogue knows items of its test rows alone, so there is nothing "
            "to learn from"
        )
    return OwnRatings(ratings.take(known & ~held), ratings.take(known & held), whole.user.ids, int((~known).sum()))


def _places(ids: pl.Series, item_ids: pl.Series) -> np.ndarray:
    """Each id's number in the catalogue, int32; -1 where it has none."""
    if ids.dtype != item_ids.dtype:
        ids, item_ids = ids.cast(pl.String), item_ids.cast(pl.String)
    numbers = pl.DataFrame({"id": item_ids, "number": np.arange(len(item_ids), dtype=np.int32)})
    joined = pl.DataFrame({"id": ids}).join(numbers, on="id", how="left", maintain_order="left")
    return joined["number"].fill_null(-1).to_numpy()
