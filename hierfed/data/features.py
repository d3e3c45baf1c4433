"""Item features for networks, prepared as in section 3.1 of the paper."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import polars as pl

from hierfed.data.catalogue import NUMERIC_FEATURES, Catalogue
from hierfed.data.ratings import Ratings
from hierfed.errors import DataError

IMPUTED_BY_MEDIAN = ("runtime", "vote_average")
UNMATCHED = "no_metadata"
SHRINKAGE = 10.0


@dataclass(frozen=True)
class Features:
    """One row of standardised features per item.

    matrix: float32 [items, features]. names: one per column. missing: those of the paper's features that the
    catalogue lacks (`genres` stands for all genre flags).
    """

    matrix: np.ndarray
    names: tuple[str, ...]
    missing: tuple[str, ...]


@dataclass(frozen=True)
class Tallies:
    """How often each item is rated in the training rows, and the sum of these ratings: float64 [items], additive."""

    counts: np.ndarray
    sums: np.ndarray

    def __add__(self, other: Tallies) -> Tallies:
        return Tallies(self.counts + other.counts, self.sums + other.sums)


def tally(parts: Iterable[Ratings], items: int) -> Tallies:
    """What nodes may tell of their training rows before there is a model, added in order; items: of the catalogue."""
    total = no_tallies(items)
    for rows in parts:
        counts = np.bincount(rows.item, minlength=items).astype(np.float64)
        total = total + Tallies(counts, np.bincount(rows.item, rows.value, minlength=items))
    return total


def no_tallies(items: int) -> Tallies:
    """What is known of rows where nodes tell nothing of them."""
    return Tallies(np.zeros(items), np.zeros(items))


def prepare_features(catalogue: Catalogue, counts: np.ndarray) -> Features:
    """Impute and standardise the catalogue's features, fitted on the training ratings only.

    counts: [items], training ratings of each, so that an item weighs as often as it is rated. Genres
    are one flag each: the metadata's where metadata were joined, else the rating source's own. Unknown runtime
    and vote_average become the training median; popularity, vote_count and revenue become 0. Flags and numbers are
    then centred and divided by their training standard deviation. Where only some items have metadata, a last
    column `no_metadata` is 1 for the others and 0 else. Columns without variance are centred only, so 0 and not NaN
    in the training rows. Raises DataError where the catalogue has no features at all.

    Source: section 3.1 of the paper.
    """
    flags, genre_names = genre_flags(catalogue)
    numeric = catalogue.numeric_features
    if not genre_names and not numeric:
        raise DataError(
            "this source has no item features, and the network needs some: genres (movies.csv, u.item, movies.dat) "
            f"or {', '.join(NUMERIC_FEATURES)} (movies_metadata.csv, or the embedded data)"
        )
    if not counts.any():
        raise DataError("no training ratings to fit the features on")
    columns = [flags]
    if numeric:
        columns.append(_imputed(catalogue.frame.select(numeric), counts).to_numpy())
    raw = np.hstack(columns)
    matrix = _standardised(raw, counts)
    names = [*genre_names, *numeric]
    matched = catalogue.frame["matched"].to_numpy()
    if matched.any() and not matched.all():
        matrix = np.column_stack([matrix, ~matched])
        names.append(UNMATCHED)
    lacking = [name for name in NUMERIC_FEATURES if name not in numeric]
    missing = tuple(lacking if genre_names else ["genres", *lacking])
    return Features(matrix.astype(np.float32), tuple(names), missing)


def features_of(catalogue: Catalogue, tallies: Tallies) -> Features:
    """The catalogue's features; or, where it has none, what the training ratings say of each item.

    These are log(1 + ratings) and the mean rating shrunk to the mean of all as if by 10 ratings of that value, both
    standardised: sums over nodes, like everything that a federation may share.
    """
    if genre_flags(catalogue)[1] or catalogue.numeric_features:
        return prepare_features(catalogue, tallies.counts)
    counts, sums = tallies.counts, tallies.sums
    means = (sums + SHRINKAGE * sums.sum() / counts.sum()) / (counts + SHRINKAGE)
    raw = np.column_stack([np.log1p(counts), means])
    matrix = _standardised(raw, counts)
    return Features(matrix.astype(np.float32), ("ratings_of_item", "mean_of_item"), ("genres", *NUMERIC_FEATURES))


def _standardised(raw: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Columns with weighted mean 0 and deviation 1; those that are constant where there is weight are centred only."""
    centred = raw - np.average(raw, axis=0, weights=weights)
    spread = np.sqrt(np.average(centred**2, axis=0, weights=weights))
    # Rounding may leave a constant column a spread, which must not be blown up.
    constant = spread <= 1e-12 * np.maximum(np.abs(raw[weights > 0]).max(axis=0), 1.0)
    standardised: np.ndarray = centred / np.where(constant, 1.0, spread)
    return standardised


def _imputed(numbers: pl.DataFrame, counts: np.ndarray) -> pl.DataFrame:
    """The numbers [items] without nulls: the median of the training ratings, or 0, which a column all null gets too."""
    medians = numbers[np.repeat(np.arange(len(counts)), counts.astype(np.int64))].median()
    fills = {name: medians[name][0] if name in IMPUTED_BY_MEDIAN else 0.0 for name in numbers.columns}
    return numbers.with_columns(pl.col(name).fill_null(value or 0.0) for name, value in fills.items())


def genre_flags(catalogue: Catalogue) -> tuple[np.ndarray, tuple[str, ...]]:
    """One 0/1 column per genre and the genres' names in alphabetical order; float64 [items, genres].

    The genres are the metadata's where metadata were joined, else the rating source's own.
    """
    frame = catalogue.frame
    column = "metadata_genres" if frame["metadata_genres"].drop_nulls().list.len().sum() else "genres"
    lists = frame[column].cast(pl.List(pl.String))
    names = sorted(lists.explode().drop_nulls().unique())
    flags = [lists.list.contains(name).fill_null(value=False).to_numpy() for name in names]
    return np.array(flags, np.float64).reshape(len(names), len(frame)).T, tuple(names)
