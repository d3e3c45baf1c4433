"""Ratings from a database, SQLite or PostgreSQL: checked as files are, and sorted."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import polars as pl

from hierfed.data.ratings import SourceFile
from hierfed.data.reading.checks import Rules
from hierfed.data.reading.postgresql import SCHEMES, read_postgresql
from hierfed.data.reading.rating_files import RatingFile
from hierfed.data.reading.rating_part import RatingPart, checked_part
from hierfed.data.reading.repeats import without_repeats
from hierfed.data.reading.sqlite import BATCH, MAGIC, read_sqlite

_SQLITE_SCHEME = "sqlite:///"
SQLITE_ENDINGS = {".sqlite", ".sqlite3", ".db"}


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
    if path.suffix.lower() in SQLITE_ENDINGS:
        return True
    try:
        with path.open("rb") as file:
            return file.read(len(MAGIC)) == MAGIC
    except OSError:  # the reader refuses a file that may not be read
        return False


def read_database(source: str, query: str, rules: Rules) -> RatingFile:
    """The ratings that `query` selects, sorted by user and item; see `read_sqlite` and `read_postgresql`.

    A database promises no order of rows, so rows are sorted here: the same ratings make the same run. For the same
    reason, bytes and sha256 in the provenance are those of the rows as sorted CSV.

    source: the path of an SQLite file, `sqlite:///path` (a fourth slash for a path from the root), or
    `postgresql://...`.
    Raises DataError for a bad row, with its number as read (from 1) and its column.
    """
    if is_server(source):
        selected = read_postgresql(source, query, rules.how.columns)
    else:
        selected = read_sqlite(Path(source.removeprefix(_SQLITE_SCHEME)), query, rules.how.columns)

    def place(row: int) -> str:
        return f"{selected.name}, row {row + 1}"

    frame = selected.frame.rename({role: selected.columns[role] for role in selected.frame.columns}, strict=False)
    part = checked_part(frame.get_column, selected.columns, place, rules)
    # Among repeats the server's order must not decide, unless they are refused, which tells the rows as they came.
    ties = () if rules.how.kept_repeats == "error" else (part.value,)
    part = part.take(np.lexsort((*ties, part.item.numbers, part.user.numbers)))
    file = _as_file(selected.label, part)
    return RatingFile(without_repeats(part, rules.how.kept_repeats, ordered=False), file)


def _as_file(label: str, part: RatingPart) -> SourceFile:
    frame = pl.DataFrame(
        {
            "user": part.user.ids[part.user.numbers],
            "item": part.item.ids[part.item.numbers],
            "value": part.value,
        }
        | ({} if part.time is None else {"time": part.time})
    )
    digest, size = hashlib.sha256(), 0
    for start in range(0, frame.height, BATCH):
        text = frame.slice(start, BATCH).write_csv(include_header=start == 0).encode()
        digest.update(text)
        size += len(text)
    return SourceFile(label, size, digest.hexdigest(), part.rows_in)
