"""Folders of tables of unknown origin: ratings, and a table of items beside them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import polars as pl

from hierfed.data.ratings import SourceFile
from hierfed.data.reading.assembly import Source
from hierfed.data.reading.checks import Rules
from hierfed.data.reading.columns import ALIASES
from hierfed.data.reading.delimited import SEPARATORS, open_delimited
from hierfed.data.reading.editions import csv_edition
from hierfed.data.reading.files import read_bytes
from hierfed.data.reading.grouplens import films_of, read_csv, source_of, split_genres
from hierfed.data.reading.rating_files import RatingFile, read_delimited
from hierfed.errors import DataError

ITEM_TABLES = ("movies.csv", "items.csv", "books.csv", "anime.csv")
_ITEM_NAMES = (*ALIASES["item"], "id", "bookid", "animeid", "isbn")
_TITLE_NAMES = ("title", "name", "booktitle")
_GENRE_NAMES = ("genres", "genre")
_TXT_COLUMNS = ("user", "item", "rating", "time")
_RATING_PLACE = 2
# The rating scale is unknown.
_RULES = Rules()


def read_csv_folder(folder: Path, columns: Mapping[str, str] | None, test: str | None) -> Source:
    """Read a folder with ratings.csv, MovieLens' or another's.

    test: the path of a table with test ratings.
    """
    table = open_delimited(folder / "ratings.csv")
    edition = csv_edition(folder, table)
    if edition is not None:
        return read_csv(folder, table, edition, columns, test)
    train = read_delimited(table, columns, _RULES)
    held = None if test is None else read_delimited(open_delimited(Path(test)), columns, _RULES)
    return source_of(folder, None, train, held, *_described_items(folder))


def read_txt(folder: Path, columns: Mapping[str, str] | None, test: str | None) -> Source:
    """Read a folder with ratings.txt, as FilmTrust: user, item, rating and perhaps a time, with or without a header.

    test: the path of a table of that form with test ratings.
    """
    train = _read_txt(folder / "ratings.txt", columns)
    held = None if test is None else _read_txt(Path(test), columns)
    return source_of(folder, None, train, held, *_described_items(folder))


def _read_txt(path: Path, columns: Mapping[str, str] | None) -> RatingFile:
    line = read_bytes(path).lstrip(b"\xef\xbb\xbf").split(b"\n", 1)[0].decode("latin-1").strip()
    separator = None if any(each in line for each in SEPARATORS) else " "
    fields = line.split(separator or max(SEPARATORS, key=line.count))
    names = None
    if _is_number(fields[_RATING_PLACE : _RATING_PLACE + 1]):
        if columns:
            raise DataError(f"columns can't be mapped for {path.name}: it has no header")
        names = _TXT_COLUMNS[: len(fields)]
    return read_delimited(open_delimited(path, separator=separator, names=names), columns, _RULES)


def _is_number(field: Sequence[str]) -> bool:
    try:
        return bool(field) and np.isfinite(float(field[0]))
    except ValueError:
        return False


def _described_items(folder: Path) -> tuple[pl.DataFrame | None, tuple[SourceFile, ...], list[str]]:
    """Titles, years and genres from a table of items beside ratings of unknown origin; a note if it has no titles."""
    for name in ITEM_TABLES:
        path = folder / name
        if not path.is_file():
            continue
        table = open_delimited(path, encoding=None)
        item, title, genres = (_known(table.names, wanted) for wanted in (_ITEM_NAMES, _TITLE_NAMES, _GENRE_NAMES))
        if item is None or title is None:
            return None, (), [f"{name} is not used: it has no columns for the item and its title"]
        raw = table.strings()
        lists = split_genres(pl.Series([None] * raw.height, dtype=pl.String) if genres is None else raw[genres])
        if genres is None:
            lists = pl.Series([None] * raw.height, dtype=pl.List(pl.String))
        films = films_of(raw.rename({item: "movieId", title: "title"}), lists, table, item)
        return films, (table.source_file(films.height),), []
    return None, (), []


def _known(names: Sequence[str], wanted: Sequence[str]) -> str | None:
    """The first column that has one of these names, in any case."""
    return next((name for name in names if name.casefold().replace("_", "").replace(" ", "") in wanted), None)
