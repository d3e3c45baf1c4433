"""Item features for networks, prepared as in section 3.1 of the paper."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl

from hierfed.data.catalogue import NUMERIC_FEATURES, Catalogue
from hierfed.errors import DataError

_BY_MEDIAN: dict[str, Any] = {"strategy": "median", "keep_empty_features": True}
_BY_ZERO: dict[str, Any] = {"strategy": "constant", "fill_value": 0.0, "keep_empty_features": True}
_IMPUTED = {
    "popularity": _BY_ZERO,
    "runtime": _BY_MEDIAN,
    "vote_average": _BY_MEDIAN,
    "vote_count": _BY_ZERO,
    "revenue": _BY_ZERO,
}
UNMATCHED = "no_metadata"


@dataclass(frozen=True)
class Features:
    """One row of standardised features per item.

    matrix: float32 [items, features]. names: one per column. missing: those of the paper's features that the
    catalogue lacks (`genres` stands for all genre flags).
    """

    matrix: np.ndarray
    names: tuple[str, ...]
    missing: tuple[str, ...]


def prepare_features(catalogue: Catalogue, train_items: np.ndarray) -> Features:
    """Impute and standardise the catalogue's features, fitted on the training ratings only.

    train_items: int [training ratings], the item of each, so that an item weighs as often as it is rated. Genres
    are one flag each: the metadata's where metadata were joined, else the rating source's own. Unknown runtime
    and vote_average become the training median; popularity, vote_count and revenue become 0. Flags and numbers are
    then centred and divided by their training standard deviation. Where only some items have metadata, a last
    column `no_metadata` is 1 for the others and 0 else. Columns without variance are centred only, so 0 and not NaN
    in the training rows. Raises DataError where the catalogue has no features at all.

    Source: section 3.1 of the paper.
    """
    from sklearn.compose import ColumnTransformer  # noqa: PLC0415 - slow to import
    from sklearn.impute import SimpleImputer  # noqa: PLC0415
    from sklearn.preprocessing import StandardScaler  # noqa: PLC0415

    flags, genre_names = genre_flags(catalogue)
    numeric = catalogue.numeric_features
    if not genre_names and not numeric:
        raise DataError(
            "this source has no item features, and the network needs some: genres (movies.csv, u.item, movies.dat) "
            f"or {', '.join(NUMERIC_FEATURES)} (movies_metadata.csv, or the embedded data)"
        )
    if len(train_items) == 0:
        raise DataError("no training ratings to fit the features on")
    columns = [flags]
    if numeric:
        numbers = catalogue.frame.select(numeric).to_numpy()
        imputer = ColumnTransformer([(name, SimpleImputer(**_IMPUTED[name]), [i]) for i, name in enumerate(numeric)])
        columns.append(imputer.fit(numbers[train_items]).transform(numbers))
    raw = np.hstack(columns)
    # Weighing each item by its number of ratings equals repeating its row, without the memory.
    weights = np.bincount(train_items, minlength=len(catalogue)).astype(np.float64)
    matrix = StandardScaler().fit(raw, sample_weight=weights).transform(raw)
    names = [*genre_names, *numeric]
    matched = catalogue.frame["matched"].to_numpy()
    if matched.any() and not matched.all():
        matrix = np.column_stack([matrix, ~matched])
        names.append(UNMATCHED)
    lacking = [name for name in NUMERIC_FEATURES if name not in numeric]
    missing = tuple(lacking if genre_names else ["genres", *lacking])
    return Features(matrix.astype(np.float32), tuple(names), missing)


def genre_flags(catalogue: Catalogue) -> tuple[np.ndarray, tuple[str, ...]]:
    """One 0/1 column per genre and the genres' names in alphabetical order; float64 [items, genres].

    The genres are the metadata's where metadata were joined, else the rating source's own.
    """
    from sklearn.preprocessing import MultiLabelBinarizer  # noqa: PLC0415 - slow to import

    frame = catalogue.frame
    column = "metadata_genres" if frame["metadata_genres"].drop_nulls().list.len().sum() else "genres"
    lists = frame.select(pl.col(column).fill_null(pl.lit([], pl.List(pl.String)))).to_series().to_list()
    binarizer = MultiLabelBinarizer()
    flags = binarizer.fit_transform(lists)
    return flags.astype(np.float64), tuple(str(name) for name in binarizer.classes_)
