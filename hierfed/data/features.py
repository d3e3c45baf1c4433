"""Item features for networks, prepared as in section 3.1 of the paper."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import polars as pl

from hierfed.data.catalogue import NUMERIC_FEATURES, Catalogue
from hierfed.data.rater_classes import rounded_means, rounded_up
from hierfed.data.ratings import Ratings
from hierfed.errors import DataError

IMPUTED_BY_MEDIAN = ("runtime", "vote_average")
UNMATCHED = "no_metadata"
SHRINKAGE = 10.0
# Exact numbers of ratings: the server's own, until it has the means.
EXACT = "exact"
# For a median, the ratings of at least so many items with similar numbers are counted together.
GROUP = 5
# The largest spread, of numbers up to 1, that counts as none.
CONSTANT = 1e-12

Arrays = Mapping[str, np.ndarray]


@dataclass(frozen=True)
class Features:
    """One row of standardised features per item.

    matrix: float32 [items, features].
    names: one per column.
    missing: the paper's features that the catalogue lacks (`genres` stands for all genre flags).
    """

    matrix: np.ndarray
    names: tuple[str, ...]
    missing: tuple[str, ...]


@dataclass(frozen=True)
class Imputed:
    """A column with unknown numbers, which become the median over the training ratings.

    The median follows from sums over groups.

    column: its place.
    unknown: bool [items].
    group: int64 [items], groups of items with similar numbers; 0 if unknown.
    middles: float64 [groups], ascending, the median of each group's items.
    """

    column: int
    unknown: np.ndarray
    group: np.ndarray
    middles: np.ndarray

    def totals(self, counts: np.ndarray) -> np.ndarray:
        """The number of training ratings of each group's items, float64 [groups].

        counts: ratings of each item, [items].
        """
        return np.bincount(self.group, np.where(self.unknown, 0.0, counts), minlength=len(self.middles))

    def median(self, totals: np.ndarray) -> float:
        """The median number over so many ratings in each group; 0 if there are none."""
        if not totals.any():
            return 0.0
        rows, upto = totals.sum(), np.cumsum(totals)
        places = np.searchsorted(upto, [(rows - 1) // 2, rows // 2], side="right")
        return float(self.middles[places].mean())


@dataclass(frozen=True)
class CatalogueFeatures:
    """The catalogue's features, imputed and standardised by sums over the training ratings.

    Genres are one flag each: the metadata's if metadata were joined, else the rating source's own. Unknown runtime and
    vote_average become the training median; popularity, vote_count and revenue become 0. Flags and numbers are then
    centred and divided by their training standard deviation. If only some items have metadata, a last column
    `no_metadata` is 1 for the others and 0 else. Columns without variance are centred only, so they are 0 and not NaN
    in the training rows.

    The sums are of numbers that the catalogue gives to each rated item, so they reveal no single item: their total,
    then that of squares, and, for a median, the number of ratings in each group of GROUP or more items with similar
    numbers. A group's median is that of its items, so the median is exact if that many items share the number in the
    middle.

    Source: section 3.1 of the paper.

    columns: float64 [items, columns], genre flags and numbers between -1 and 1, 0 if unknown.
    one: [columns], the value in each column that stands for 1 of the catalogue.
    imputed: the columns whose unknown numbers become a median.
    unmatched: bool [items], True without metadata; None if all items have metadata, or none.
    names, missing: see Features.
    """

    columns: np.ndarray
    one: np.ndarray
    imputed: tuple[Imputed, ...]
    unmatched: np.ndarray | None
    names: tuple[str, ...]
    missing: tuple[str, ...]

    def sums(self, known: Arrays, train: Ratings) -> dict[str, np.ndarray]:
        """A node's sums over its ratings.

        known: the quantities learned from the sums before.
        """
        return self.sums_of_counts(known, np.bincount(train.item, minlength=len(self.columns)).astype(np.float64))

    def sums_of_counts(self, known: Arrays, counts: np.ndarray) -> dict[str, np.ndarray]:
        """The same sums, from the number of training ratings of each item.

        counts: [items].
        """
        rows = counts.sum().reshape(1)
        if known:
            return {"rows": rows, "squares": counts @ (self.filled(known) - known["centre"]) ** 2}
        sums = {"rows": rows, "sums": counts @ self.columns}
        if self.imputed:
            sums["groups"] = np.concatenate([each.totals(counts) for each in self.imputed])
        return sums

    def learn(self, known: Arrays, sums: Arrays) -> dict[str, np.ndarray]:
        """The quantities that follow from the sums over all nodes: the columns' centre and fills; then their spread."""
        rows = sums["rows"][0]
        if known:
            return {**known, "spread": np.sqrt(np.maximum(sums["squares"] / rows, 0.0))}
        if not rows:
            raise DataError("no training ratings to fit the features on")
        fill, total, groups = np.zeros(self.columns.shape[1]), sums["sums"].copy(), sums.get("groups", np.zeros(0))
        for each in self.imputed:
            own, groups = np.split(groups, [len(each.middles)])
            fill[each.column] = each.median(own)
            total[each.column] += (rows - own.sum()) * fill[each.column]
        return {"centre": total / rows, "fill": fill}

    def features(self, known: Arrays) -> Features:
        """The features, once all quantities are known."""
        # Rounding may leave a tiny spread in a constant column, which must not be scaled up.
        spread = np.where(known["spread"] <= CONSTANT, self.one, known["spread"])
        matrix = (self.filled(known) - known["centre"]) / spread
        if self.unmatched is not None:
            matrix = np.column_stack([matrix, self.unmatched])
        return Features(matrix.astype(np.float32), self.names, self.missing)

    def filled(self, known: Arrays) -> np.ndarray:
        """The columns with unknown numbers filled in, [items, columns]."""
        filled = self.columns.copy()
        for each in self.imputed:
            filled[each.unknown, each.column] = known["fill"][each.column]
        return filled


@dataclass(frozen=True)
class RatingFeatures:
    """Features of each item from its training ratings, for a catalogue without features.

    They are log(1 + ratings), and the mean rating shrunk to the mean of all as if by 10 ratings of that value, both
    standardised. Items with fewer ratings than the threshold count as unrated, and their ratings are never summed.
    Nodes are told classes and rounded means; see hierfed.data.rater_classes.

    limits: the lowest and the highest possible rating.
    """

    items: int
    threshold: int
    limits: tuple[float, float]

    def sums(self, known: Arrays, train: Ratings) -> dict[str, np.ndarray]:
        """The ratings of each item; then the sums for items at or above the threshold. See CatalogueFeatures."""
        if not known:
            return {"counts": np.bincount(train.item, minlength=self.items).astype(np.float64)}
        sums = np.bincount(train.item, train.value, minlength=self.items).astype(np.float64)
        return {"ratings": sums[known["counts"] > 0]}

    def learn(self, known: Arrays, sums: Arrays) -> dict[str, np.ndarray]:
        """The classes of the numbers of ratings, and the numbers themselves; then the means. See CatalogueFeatures."""
        if known:
            edges, ratings = known["counts"], np.zeros(self.items)
            ratings[edges > 0] = sums["ratings"]
            return {"counts": edges, "means": rounded_means(ratings, known[EXACT], edges, self.limits)}
        counts = rounded_up(sums["counts"], self.threshold)
        if not counts.any():
            raise DataError(
                "this source has no item features, so the network needs the items' own ratings, and no item has "
                f"min_raters = {self.threshold} of them"
            )
        return {"counts": counts, EXACT: sums["counts"]}

    def features(self, known: Arrays) -> Features:
        """The features, once all quantities are known."""
        counts = known["counts"]
        sums = counts * known["means"]
        means = (sums + SHRINKAGE * sums.sum() / counts.sum()) / (counts + SHRINKAGE)
        raw = np.column_stack([np.log1p(counts), means])
        centred = raw - np.average(raw, axis=0, weights=counts)
        spread = np.sqrt(np.average(centred**2, axis=0, weights=counts))
        matrix = centred / np.where(spread <= CONSTANT * np.maximum(np.abs(raw).max(axis=0), 1.0), 1.0, spread)
        return Features(matrix.astype(np.float32), ("ratings_of_item", "mean_of_item"), ("genres", *NUMERIC_FEATURES))


def has_features(catalogue: Catalogue) -> bool:
    """True if the catalogue has any public feature that a network can learn from."""
    return bool(genre_flags(catalogue)[1] or catalogue.numeric_features)


def catalogue_features(catalogue: Catalogue) -> CatalogueFeatures:
    """The catalogue's features before they are fitted. Raises DataError if it has none."""
    flags, genre_names = genre_flags(catalogue)
    numeric = catalogue.numeric_features
    if not genre_names and not numeric:
        raise DataError(
            "this source has no item features, and the network needs some: genres (movies.csv, u.item, movies.dat) "
            f"or {', '.join(NUMERIC_FEATURES)} (movies_metadata.csv, or the embedded data)"
        )
    columns, imputed, names = [*flags.T], list[Imputed](), [*genre_names, *numeric]
    one = [1.0] * len(columns)
    for name in numeric:
        values = catalogue.frame[name].cast(pl.Float64).to_numpy()
        unknown = np.isnan(values)
        largest = np.abs(values[~unknown]).max(initial=0.0)
        # Scaled by a power of two, which changes no digit, since secure sums have bounds.
        power = -int(np.frexp(largest)[1])
        scaled = np.ldexp(values, power)
        one.append(np.ldexp(1.0, power))
        if name in IMPUTED_BY_MEDIAN and unknown.any():
            imputed.append(_grouped(len(columns), scaled, unknown))
        columns.append(np.where(unknown, 0.0, scaled))
    matched, unmatched = catalogue.frame["matched"].to_numpy(), None
    if matched.any() and not matched.all():
        unmatched = ~matched
        names.append(UNMATCHED)
    lacking = [name for name in NUMERIC_FEATURES if name not in numeric]
    missing = tuple(lacking if genre_names else ["genres", *lacking])
    return CatalogueFeatures(np.column_stack(columns), np.array(one), tuple(imputed), unmatched, tuple(names), missing)


def prepare_features(catalogue: Catalogue, counts: np.ndarray) -> Features:
    """The catalogue's features, fitted on numbers of ratings; see CatalogueFeatures.

    counts: ratings of each item, [items].
    """
    fitting, known = catalogue_features(catalogue), dict[str, np.ndarray]()
    for _ in range(2):
        known = fitting.learn(known, fitting.sums_of_counts(known, counts))
    return fitting.features(known)


def _grouped(column: int, values: np.ndarray, unknown: np.ndarray) -> Imputed:
    """Groups of GROUP or more items with neighbouring numbers. Items of the same number are in the same group."""
    distinct, place, items = np.unique(values[~unknown], return_inverse=True, return_counts=True)
    group, number, size = np.zeros(len(distinct), np.int64), 0, 0
    for each, here in enumerate(items.tolist()):
        group[each], size = number, size + here
        if size >= GROUP:
            number, size = number + 1, 0
    if size and number:
        # The last items are too few for a group of their own.
        group[group == number] = number - 1
    of_items = np.zeros(len(values), np.int64)
    of_items[~unknown] = group[place]
    numbers = range(int(group[-1]) + 1 if len(group) else 0)
    middles = np.array([np.median(values[~unknown][group[place] == each]) for each in numbers])
    return Imputed(column, unknown, of_items, middles)


def genre_flags(catalogue: Catalogue) -> tuple[np.ndarray, tuple[str, ...]]:
    """One 0/1 column per genre, float64 [items, genres], and the genres' names in alphabetical order.

    The genres are the metadata's if metadata were joined, else the rating source's own.
    """
    frame = catalogue.frame
    column = "metadata_genres" if frame["metadata_genres"].drop_nulls().list.len().sum() else "genres"
    lists = frame[column].cast(pl.List(pl.String))
    names = sorted(lists.explode().drop_nulls().unique())
    flags = [lists.list.contains(name).fill_null(value=False).to_numpy() for name in names]
    return np.array(flags, np.float64).reshape(len(names), len(frame)).T, tuple(names)
