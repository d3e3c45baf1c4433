"""Ratings from a database, SQLite or PostgreSQL: checked as files are, and sorted."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path

import polars as pl

from hierfed.data.ratings import SourceFile
from hierfed.data.reading.checks import Rules, check_column
from hierfed.data.reading.postgresql import SCHEMES, read_postgresql
from hierfed.data.reading.rating_files import RatingFile
from hierfed.data.reading.rating_part import RatingPart
from hierfed.data.reading.sqlite import BATCH, MAGIC, read_sqlite

_SQLITE_SCHEME = "sqlite:///"
_SQLITE_ENDINGS = {".sqlite", ".sqlite3", ".db"}


def is_server(source: str) -> bool:
    """True if the source is the address of a PostgreSQL server."""
    return source.startswith(SCHEMES)


def is_database(source: str) -> bool:
    """True if the source is an address of a database, or an SQLite file by its first bytes or its ending."""
    if is_server(source) or source.startswith(_SQLITE_SCHEME):
        return True
    path = Path(source)
    if not path.is_file():
        return False
    if path.suffix.lower() in _SQLITE_ENDINGS:
        return True
    try:
        with path.open("rb") as file:
            return file.read(len(MAGIC)) == MAGIC
    except OSError:  # the reader refuses a file that may not be read
        return False


def read_database(source: str, query: str, mapping: Mapping[str, str] | None, rules: Rules) -> RatingFile:
    """The ratings that `query` selects, sorted by user and item; see `read_sqlite` and `read_postgresql`.

    A database promises no order of rows, so rows are sorted here: the same ratings make the same run. For the same
    reason, bytes and sha256 in the provenance are those of the rows as sorted CSV.

    source: the path of an SQLite file, `sqlite:///path` (a fourth slash for a path from the root), or
    `postgresql://...`.
    Raises DataError for a bad row, with its number as read (from 1) and its column.
    """
    if is_server(source):
        selected = read_postgresql(source, query, mapping)
    else:
        selected = read_sqlite(Path(source.removeprefix(_SQLITE_SCHEME)), query, mapping)

    def place(row: int) -> str:
        return f"{selected.name}, row {row + 1}"

    read = pl.DataFrame(
        {
            column.name: check_column(column.name, column, selected.columns[column.name], place, rules)
            for column in selected.frame
        }
    )
    order = read.select(pl.arg_sort_by("user", "item", maintain_order=True)).to_series()
    rows = read[order]
    part = RatingPart.of(rows.get_column, rows.columns, lambda row: place(order[row]))
    return RatingFile(part, _as_file(selected.label, rows.rename({"rating": "value"})))


def _as_file(label: str, frame: pl.DataFrame) -> SourceFile:
    digest, size = hashlib.sha256(), 0
    for start in range(0, frame.height, BATCH):
        text = frame.slice(start, BATCH).write_csv(include_header=start == 0).encode()
        digest.update(text)
        size += len(text)
    return SourceFile(label, size, digest.hexdigest(), frame.height)
