"""Folders of tables of unknown origin: ratings, and a table of items beside them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import polars as pl

from hierfed.data.ratings import SourceFile
from hierfed.data.reading.assembly import Source
from hierfed.data.reading.checks import Rules
from hierfed.data.reading.columns import plain, usual
from hierfed.data.reading.delimited import Delimited, open_delimited
from hierfed.data.reading.editions import csv_edition
from hierfed.data.reading.grouplens import films_of, read_csv, source_of, split_genres
from hierfed.data.reading.rating_files import read_delimited, read_raw
from hierfed.data.reading.tables import read_file
from hierfed.data.reading.text_tables import open_table
from hierfed.data.settings import TableSettings

# The tables of ratings that a folder may have, the first of them that is there; Kaggle's names among them.
RATING_TABLES = (
    "ratings.csv",
    "rating.csv",
    "Ratings.csv",
    "BX-Book-Ratings.csv",
    "ratings_small.csv",
    "ratings.csv.gz",
)
ITEM_TABLES = ("movies.csv", "movie.csv", "items.csv", "books.csv", "Books.csv", "BX-Books.csv", "anime.csv")
_TITLE_NAMES = ("title", "name", "booktitle")
_GENRE_NAMES = ("genres", "genre")


def read_csv_folder(folder: Path, how: TableSettings, test: str | None) -> Source:
    """Read a folder with ratings.csv, MovieLens' or another's, or with a table so named by Kaggle.

    test: the path of a table with test ratings.
    """
    there = [name for name in RATING_TABLES if (folder / name).is_file()]
    rules = Rules(how=how)
    table = open_table(folder / there[0], rules)
    edition = csv_edition(folder, table) if isinstance(table, Delimited) else None
    unused = [
        f"{there[0]} is read, and {name} is not"
        for name in there[1:]
        if not (folder / there[0]).samefile(folder / name)
    ]
    if edition is not None and isinstance(table, Delimited):
        source = read_csv(folder, table, edition, how, test)
        return replace(source, notes=(*source.notes, *unused))
    train = read_delimited(table, rules) if isinstance(table, Delimited) else read_raw(table, rules)
    held = None if test is None else read_file(Path(test), rules)
    films, files, notes = _described_items(folder, how)
    return source_of(folder, None, train, held, films, files, [*notes, *unused])


def read_txt(folder: Path, how: TableSettings, test: str | None) -> Source:
    """Read a folder with ratings.txt, as FilmTrust: user, item, rating and perhaps a time, with or without a header.

    test: the path of a table of that form with test ratings.
    """
    rules = Rules(how=how)
    train = read_file(folder / "ratings.txt", rules, may_lack_header=True)
    held = None if test is None else read_file(Path(test), rules, may_lack_header=True)
    return source_of(folder, None, train, held, *_described_items(folder, how))


def _described_items(folder: Path, how: TableSettings) -> tuple[pl.DataFrame | None, tuple[SourceFile, ...], list[str]]:
    """Titles, years and genres from a table of items beside ratings of unknown origin; a note if it has no titles."""
    for name in ITEM_TABLES:
        path = folder / name
        if not path.is_file():
            continue
        table = open_delimited(path, encoding=how.encoding or None)
        item = next(iter([*usual("item", table.names), *filter(None, [_known(table.names, ("id",))])]), None)
        title, genres = (_known(table.names, wanted) for wanted in (_TITLE_NAMES, _GENRE_NAMES))
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
    return next((name for name in names if plain(name) in wanted), None)
