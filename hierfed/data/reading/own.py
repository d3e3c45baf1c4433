"""A node's own ratings, with item numbers of the shared catalogue and user numbers that no one else sees."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np
import polars as pl

from hierfed.data.catalogue import Catalogue
from hierfed.data.grouping import look_up
from hierfed.data.ids import places, strangers
from hierfed.data.last_rows import last_of_each_user
from hierfed.data.order import in_order
from hierfed.data.ratings import Ratings
from hierfed.data.reading.assembly import Source, refuse_repeated_pairs, seen_alone, seen_pairs, unknown_test_ids
from hierfed.data.reading.rating_part import join_parts
from hierfed.errors import DataError
from hierfed.randomness import stream_keys


@dataclass(frozen=True)
class OwnRatings:
    """A node's train and test rows, and its users' own ids.

    user_ids: entry u is the source's id of user u of these rows.
    unknown: number of rows left out, since the catalogue lacks their items.
    warnings: warnings on the node's ids, a line each.
    seen: int32 [pairs, 2], user and item of pairs that are no ratings: the user has seen the item.
    seen_alone: the numbers of the items that users without any rating have seen, by the user's id.
    """

    train: Ratings
    test: Ratings
    user_ids: pl.Series
    unknown: int
    warnings: tuple[str, ...] = ()
    seen: np.ndarray = field(default_factory=lambda: np.empty((0, 2), np.int32))
    seen_alone: Mapping[str, list[int]] = field(default_factory=dict)

    @property
    def limits(self) -> tuple[float, float]:
        """The lowest and the highest rating."""
        values = np.concatenate([self.train.value, self.test.value])
        return float(values.min()), float(values.max())

    @cached_property
    def digest(self) -> str:
        """sha256 of the train rows: equal for the same rows in any order."""
        state = hashlib.sha256()
        for column in (self.train.user, self.train.item, self.train.value):
            state.update(np.ascontiguousarray(column).tobytes())
        state.update("\n".join(self.user_ids.cast(pl.String)).encode())
        return state.hexdigest()


def own_ratings(source: Source, catalogue: Catalogue, test_share: float = 0.0) -> OwnRatings:
    """Number a source's ratings; rows are sorted by user and item.

    test_share: share of each user's rows with known items that is drawn at random as test rows; at least one row stays
    to learn from. 0 if the source names test rows itself. A user whose rows are the same has the same test rows,
    whatever rows others have.
    Raises DataError for a (user, item) pair that occurs twice, and if the catalogue leaves no train row.
    """
    parts = [source.train] if source.test is None else [source.train, source.test]
    whole = join_parts(parts)
    refuse_repeated_pairs(whole, len(source.train))
    ratings = in_order(whole.ratings, len(source.train))
    item_ids, known_ids = whole.item.ids, catalogue.frame["item_id"]
    numbers = places(item_ids, known_ids).fill_null(-1).cast(pl.Int32).to_numpy()
    ratings = replace(ratings, item=look_up(numbers, ratings.item))
    user, item = ratings.user, ratings.item
    known = item >= 0
    held = np.arange(len(whole)) >= len(source.train)
    if not known.any():
        raise DataError(
            f"{source.terms.name}: the federation's catalogue knows none of its {len(whole):,} ratings' items: "
            f"{strangers(item_ids, known_ids, 'item ids', 'the catalogue')}"
        )
    if source.test is None and test_share > 0:
        key = _drawn(whole.user.ids, known_ids, user[known], item[known])
        held[known] = last_of_each_user(user[known], key, test_share)
    if not (known & ~held).any():
        raise DataError(
            f"{source.terms.name}: the federation's catalogue knows items of its test rows alone, so there is nothing "
            "to learn from"
        )
    warning = strangers(item_ids, known_ids, "rated item ids", "the federation's catalogue")
    warnings = (*unknown_test_ids(source), *([warning] if warning else []))
    train, test = ratings.take(known & ~held), ratings.take(known & held)
    seen = seen_pairs(whole.seen, whole.user.ids, known_ids)
    alone = seen_alone(whole.seen, whole.user.ids, known_ids)
    return OwnRatings(train, test, whole.user.ids, int((~known).sum()), (*warnings, *whole.remarks), seen, alone)


def _drawn(user_ids: pl.Series, item_ids: pl.Series, user: np.ndarray, item: np.ndarray) -> np.ndarray:
    """A random number from 0 to 1 for each row, of the ids of its user and its item alone."""
    pairs = id_numbers(user_ids, "user")[user] ^ id_numbers(item_ids, "item")[item]
    drawn: np.ndarray = (stream_keys(0, 0, pairs, "own test rows") >> np.uint64(11)) * 2.0**-53
    return drawn


def id_numbers(ids: pl.Series, what: str) -> np.ndarray:
    """A number for each id, as good as random, the same everywhere: uint64 [ids]. what: such as "user"."""
    texts = (f"{what} {each}".encode() for each in ids.cast(pl.String))
    digests = b"".join(hashlib.sha256(text).digest()[:8] for text in texts)
    return np.frombuffer(digests, "<u8")
