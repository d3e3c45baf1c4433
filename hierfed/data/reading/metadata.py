"""Kaggle's "The Movies Dataset": movies_metadata.csv, TMDB's data on 45,000 films in 2017."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import polars as pl

from hierfed.data.catalogue import NUMERIC_FEATURES
from hierfed.data.ids import compact
from hierfed.data.reading.columns import require
from hierfed.data.reading.delimited import open_delimited
from hierfed.data.reading.joins import Metadata
from hierfed.errors import DataError

FILE_NAME = "movies_metadata.csv"
_NUMBER = r"^[+-]?[0-9]+$"
_COLUMNS = ("id", "title", "release_date", "genres", *NUMERIC_FEATURES)
# Three rows of the published file are split in two by a newline outside quotes. The ids of the first halves are
# TMDB's, those of the second halves are dates; nothing else in the file is short.
_PUBLISHED_HALVES = {"82663", "1997-08-20", "122662", "2012-09-29", "249260", "2014-01-01"}


def read_metadata(path: Path) -> Metadata:
    """Read movies_metadata.csv: `id`, `title`, `year`, `metadata_genres` and the five numeric features.

    Rows whose id is no number are dropped, and of rows with the same id the first is kept. The notes count both. They
    also count genres that are no list, and numbers that are missing or not finite (null). Raises DataError for a
    missing column, for a file without any usable row, and for a row split over lines, except the three split rows of
    the published file.
    """
    table = open_delimited(path)
    require(table.names, _COLUMNS, path)
    position = table.names.index("id")

    def known_half(fields: Sequence[str]) -> bool:
        return len(fields) > position and fields[position] in _PUBLISHED_HALVES

    raw = table.strings(known_short=known_half)
    ids = raw["id"].str.strip_chars()
    ids = ids.set(~ids.str.contains(_NUMBER), None)
    numbers, notes = _numbers(raw)
    frame = raw.select(
        id=ids,
        title=pl.col("title"),
        year=pl.col("release_date").str.extract(r"^(\d{4})-").cast(pl.Int32),
        metadata_genres=_genre_names(pl.col("genres")),
    ).with_columns(numbers)
    good = frame.filter(pl.col("id").is_not_null()).with_columns(copies=pl.len().over("id"))
    films = good.unique("id", keep="first", maintain_order=True)
    if films.is_empty():
        raise DataError(f"{path}: no row has a whole number as id, expected TMDB ids")
    films = films.with_columns(compact(films["id"]))
    counted = (
        f"{path.name}: {raw.height} rows; {raw.height - good.height} dropped whose id is no number, "
        f"{good.height - films.height} dropped whose id stood before; {films.height} films left",
        *notes,
    )
    unlisted = raw.filter(pl.col("genres").is_not_null() & ~pl.col("genres").str.starts_with("["))
    if unlisted.height:
        counted += (f"{path.name}: {unlisted.height} rows where genres are no list, such as {unlisted['genres'][0]!r}",)
    return Metadata(films, table.source_file(raw.height), counted)


def _numbers(raw: pl.DataFrame) -> tuple[list[pl.Series], list[str]]:
    """The numeric columns as float64 with null for missing or non-finite numbers, and a note for each such kind."""
    columns, notes = [], []
    for name in NUMERIC_FEATURES:
        text = raw[name].str.strip_chars()
        text = text.set(text == "", None)
        values = text.cast(pl.Float64, strict=False).rename(name)
        unusable = text.is_not_null() & (values.is_null() | ~values.is_finite())
        columns.append(values.set(unusable, None))
        if missing := text.null_count():
            notes.append(f"{FILE_NAME}: {missing} rows without {name}")
        if unusable.any():
            example = text.filter(unusable)[0]
            notes.append(f"{FILE_NAME}: {unusable.sum()} rows where {name} is no finite number, such as {example!r}")
    return columns, notes


def _genre_names(raw: pl.Expr) -> pl.Expr:
    """Names out of "[{'id': 16, 'name': 'Animation'}, ...]", in its order; an empty list if there are none."""
    quoted = raw.fill_null("").str.extract_all(r"""['"]name['"]:\s*(?:'[^']*'|"[^"]*")""")
    return quoted.list.eval(pl.element().str.extract(r""":\s*['"](.*)['"]$"""))
