"""Joins of ratings with their film's metadata: through links, id to id as the paper did, by title, or none."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import polars as pl

from hierfed.data.ids import places
from hierfed.data.ratings import SourceFile
from hierfed.data.reading.columns import nearest
from hierfed.data.reading.titles import STEPS, match_titles
from hierfed.errors import DataError

_PAPER_WARNING = (
    "the join `paper` takes MovieLens ids for TMDB ids, which number films differently: films get the metadata of "
    "other films; use it to reproduce the paper only, and `links` for anything else"
)


@dataclass(frozen=True)
class Metadata:
    """Another source's data on films, one row per film.

    frame: `title`, `year`, `copies` (number of rows with the film's id in the file), and any of `id`, `metadata_genres`
    (list[str]) and the numeric features (float64).
    """

    frame: pl.DataFrame
    file: SourceFile
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Match:
    """The row of each item's metadata (int64, null if there is none).

    warning: a warning to show to users.
    describe: maps the number of ratings of each item to notes.
    """

    row: pl.Series
    warning: str = ""
    describe: Callable[[np.ndarray], tuple[str, ...]] = field(default=lambda ratings: ())


@dataclass(frozen=True)
class Join:
    """A way to match films with metadata.

    match: maps films (`item_id`, `title`, `year`) to their matches.
    drops: True if unmatched ratings are dropped by default.
    files: those that the join read, besides the metadata's.
    """

    name: str
    match: Callable[[pl.DataFrame], Match]
    drops: bool
    metadata: Metadata | None
    files: tuple[SourceFile, ...] = ()


def no_join() -> Join:
    """The join that matches nothing."""
    return Join("none", lambda films: Match(pl.Series([None] * films.height, dtype=pl.Int64)), False, None)


def links_join(links: pl.DataFrame, file: SourceFile, metadata: Metadata) -> Join:
    """The join of item id to metadata id through links.

    links: columns `item_id` and `metadata_id`.
    file: the file that they were read from.
    """

    def match(films: pl.DataFrame) -> Match:
        linked = links["metadata_id"].gather(places(films["item_id"], links["item_id"]))
        return Match(places(linked, metadata.frame["id"]))

    return Join("links", match, True, metadata, (file,))


def paper_join(metadata: Metadata) -> Join:
    """The paper's join: item id equal to metadata id.

    The two kinds of ids are unrelated, so films get other films' metadata.
    """

    def match(films: pl.DataFrame) -> Match:
        rows = places(films["item_id"], metadata.frame["id"])

        def describe(ratings: np.ndarray) -> tuple[str, ...]:
            known = rows.is_not_null().to_numpy()
            if not known.any():
                return ()
            most = int(np.argmax(ratings * known))
            title = films["title"][most] or f"film {films['item_id'][most]}"
            return (f"join paper: {title!r}, for one, gets the metadata of {metadata.frame['title'][rows[most]]!r}",)

        return Match(rows, _PAPER_WARNING, describe)

    return Join("paper", match, True, metadata)


def title_join(metadata: Metadata) -> Join:
    """The join by normalised title and year; see `match_titles` for the steps and for ambiguous titles."""

    def match(films: pl.DataFrame) -> Match:
        found = match_titles(films, metadata.frame)
        step = found.step.fill_null(len(STEPS)).to_numpy()

        def describe(ratings: np.ndarray) -> tuple[str, ...]:
            share = np.cumsum(np.bincount(step, weights=ratings, minlength=len(STEPS) + 1)) / ratings.sum()
            steps = ", ".join(f"{name} {100 * part:.1f}%" for name, part in zip(STEPS, share, strict=False))
            ties = f"{found.ambiguous} films had several equally good matches: the one with the most votes was taken"
            return (f"ratings matched by title, cumulative: {steps}", *([ties] if found.ambiguous else []))

        return Match(found.row, "", describe)

    return Join("title", match, False, metadata)


def choose_join(asked: Sequence[str], available: Mapping[str, Join], source: str) -> Join:
    """The first available join among those asked for; the first available one if none is asked for.

    Raises DataError, with the names of the available joins, if none of those asked for is available.
    """
    if not asked:
        return next(iter(available.values()))
    for name in asked:
        if name in available:
            return available[name]
    raise DataError(
        f"{source}: join {' or '.join(map(repr, asked))} is not possible here{nearest(asked[0], list(available))}; "
        f"possible: {', '.join(available)}"
    )
