"""From checked ratings, films and a join to a Dataset with dense ids. Every row is accounted for."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import polars as pl

from hierfed.data.catalogue import NUMERIC_FEATURES, Catalogue
from hierfed.data.grouping import count
from hierfed.data.ids import compact, places, strangers
from hierfed.data.order import in_order
from hierfed.data.ratings import Dataset, JoinReport, Provenance, SourceFile
from hierfed.data.reading.joins import Join, Match
from hierfed.data.reading.licences import Terms
from hierfed.data.reading.numbering import compress
from hierfed.data.reading.rating_part import RatingPart, join_parts
from hierfed.data.reading.repeats import has_repeats
from hierfed.errors import DataError

Unmatched = Literal["keep", "drop"]


@dataclass(frozen=True)
class Source:
    """The result of a reader.

    train: the ratings.
    test: ratings that the source itself names test ratings, or None.
    films: columns `item_id`, `title`, `year` and `genres`; None if the source has no data on its items.
    """

    terms: Terms
    files: tuple[SourceFile, ...]
    train: RatingPart
    test: RatingPart | None = None
    films: pl.DataFrame | None = None
    notes: tuple[str, ...] = ()


def assemble(source: Source, join: Join, unmatched: Unmatched | None) -> Dataset:
    """Number users and items densely by sorted id, join metadata, and drop unmatched ratings if asked to.

    `unmatched` asks, or else the join. Ratings are sorted by user and item, with test ratings last. Raises DataError
    for a (user, item) pair that occurs twice, and if no rating is left.
    """
    parts = [source.train] if source.test is None else [source.train, source.test]
    whole = join_parts(parts)
    refuse_repeated_pairs(whole, len(source.train))
    user_ids, films = whole.user.ids, _films_of(whole.item.ids, source.films)
    ratings = in_order(whole.ratings, len(source.train))
    user, item = ratings.user, ratings.item
    match = join.match(films)
    matched = match.row.is_not_null().to_numpy()
    drop = join.drops if unmatched is None else unmatched == "drop"
    per_item = count(item, len(films))
    described = _describe_items(films, match, join)
    test_rows = None if source.test is None else np.arange(len(whole)) >= len(source.train)
    if drop and not matched.all():
        keep = matched[item]
        if not keep.any():
            raise DataError(
                f"{source.terms.name}: join {join.name} finds metadata for none of the {len(whole)} ratings"
            )
        kept_users, user = compress(user[keep], len(user_ids))
        kept_items, item = compress(item[keep], len(films))
        user_ids, described = _tidy(user_ids[kept_users]), described[kept_items]
        described = described.with_columns(_tidy(described["item_id"]))
        ratings = replace(ratings.take(keep), user=user, item=item)
        test_rows = None if test_rows is None else test_rows[keep]
    metadata = () if join.metadata is None else (join.metadata,)
    provenance = Provenance(
        name=source.terms.name,
        licence=source.terms.licence,
        citation=source.terms.citation,
        files=source.files + join.files + tuple(table.file for table in metadata),
        join=_join_report(join, match, per_item),
        rows_in=whole.rows_in,
        dropped={**whole.dropped, **({f"no metadata (join {join.name})": len(whole) - len(ratings)} if drop else {})},
        notes=source.notes + tuple(note for table in metadata for note in table.notes) + match.describe(per_item),
        warnings=unknown_test_ids(source) + _unknown_films(whole.item.ids, source.films) + whole.remarks,
    )
    seen = seen_pairs(whole.seen, user_ids, described["item_id"])
    alone = seen_alone(whole.seen, user_ids, described["item_id"])
    return Dataset(ratings, Catalogue(described), user_ids, provenance, test_rows, seen, alone)


def seen_pairs(seen: pl.DataFrame | None, user_ids: pl.Series, item_ids: pl.Series) -> np.ndarray:
    """User and item numbers, int32 [pairs, 2], of pairs that were seen and not rated; strangers are left out."""
    if seen is None:
        return np.empty((0, 2), np.int32)
    found = pl.DataFrame({"user": places(seen["user"], user_ids), "item": places(seen["item"], item_ids)})
    return found.drop_nulls().cast(pl.Int32).to_numpy()


def seen_alone(seen: pl.DataFrame | None, user_ids: pl.Series, item_ids: pl.Series) -> dict[str, list[int]]:
    """The numbers of the items that users without any rating have seen, by the user's id, without unknown items."""
    if seen is None:
        return {}
    numbered = seen.with_columns(user_row=places(seen["user"], user_ids), row=places(seen["item"], item_ids))
    found = numbered.filter(pl.col("user_row").is_null() & pl.col("row").is_not_null())
    return {str(user): sorted(rows) for user, rows in found.group_by("user").agg("row").sort("user").iter_rows()}


def refuse_repeated_pairs(part: RatingPart, train_rows: int) -> None:
    """Raise DataError, with both places, for the first (user, item) pair that occurs twice.

    train_rows: number of rows before the first test rating.
    """
    user, item = part.user.numbers, part.item.numbers
    if not has_repeats(user, item):
        return
    pairs = user.astype(np.int64) * len(part.item.ids) + item
    order = np.argsort(pairs, kind="stable")
    repeats = order[1:][pairs[order][1:] == pairs[order][:-1]]
    second = int(repeats.min())
    first = int(np.flatnonzero(pairs == pairs[second])[0])
    user_id, item_id = part.user.ids[int(user[second])], part.item.ids[int(item[second])]
    crossing = "; test ratings must not repeat train ratings" if first < train_rows <= second else ""
    raise DataError(
        f"{part.place(second)}: user {user_id} rates item {item_id} again, first in {part.place(first)}; "
        f"{len(repeats)} rows repeat a (user, item) pair, expected each pair once{crossing}"
    )


def unknown_test_ids(source: Source) -> tuple[str, ...]:
    """Warnings if most of the users, or most of the items, of the test ratings have no train ratings."""
    if source.test is None:
        return ()
    train, test, there = source.train, source.test, "the train rows"
    users = strangers(test.user.ids, train.user.ids, "user ids of test rows", there)
    items = strangers(test.item.ids, train.item.ids, "item ids of test rows", there)
    return tuple(filter(None, [users, items]))


def _unknown_films(item_ids: pl.Series, films: pl.DataFrame | None) -> tuple[str, ...]:
    if films is None:
        return ()
    return tuple(filter(None, [strangers(item_ids, films["item_id"], "rated item ids", "the source's list of items")]))


def _tidy(ids: pl.Series) -> pl.Series:
    """Ids that remain of a column, in the type that they would have on their own."""
    return compact(ids) if ids.dtype == pl.String else ids


def _films_of(item_ids: pl.Series, films: pl.DataFrame | None) -> pl.DataFrame:
    """`item_id`, `title`, `year` and `genres` of each item, null if unknown."""
    items = pl.DataFrame({"item_id": item_ids})
    if films is None:
        return items.with_columns(
            title=pl.lit(None, pl.String), year=pl.lit(None, pl.Int32), genres=pl.lit(None, pl.List(pl.String))
        )
    rows = places(item_ids, films["item_id"])
    return items.with_columns(films[name].gather(rows) for name in ("title", "year", "genres"))


def _describe_items(films: pl.DataFrame, match: Match, join: Join) -> pl.DataFrame:
    """The catalogue's columns: films with the metadata of their matches."""
    frame = films.with_columns(matched=match.row.is_not_null())
    if join.metadata is not None:
        known = [name for name in ("metadata_genres", *NUMERIC_FEATURES) if name in join.metadata.frame.columns]
        metadata = join.metadata.frame.select(*known, row=pl.int_range(pl.len()))
        found = pl.DataFrame({"row": match.row}).join(metadata, on="row", how="left", maintain_order="left")
        frame = pl.concat([frame, found.drop("row")], how="horizontal")
    if "metadata_genres" not in frame.columns:
        frame = frame.with_columns(metadata_genres=pl.lit(None, pl.List(pl.String)))
    return frame


def _join_report(join: Join, match: Match, per_item: np.ndarray) -> JoinReport:
    matched = match.row.is_not_null().to_numpy()
    kept = int(per_item[matched].sum())
    before = kept
    if join.metadata is not None:
        copies = join.metadata.frame["copies"].to_numpy()[match.row.drop_nulls().to_numpy()]
        before = int((per_item[matched] * copies).sum())
    return JoinReport(join.name, kept, int((per_item[matched] > 0).sum()), before, match.warning)
